"""A watcher of directories, by inotify(7)."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
NAMES = {
    0x100: "CREATE", 0x200: "DELETE", 0x400: "DELETE_SELF", 0x40: "MOVED_FROM", 0x80: "MOVED_TO",
    0x2: "MODIFY", 0x4: "ATTRIB", 0x8000: "IGNORED",
}  # fmt: skip
WANTED = 0x100 | 0x200 | 0x400 | 0x40 | 0x80 | 0x2 | 0x4
IS_DIRECTORY = 0x40000000


class Watcher:
    """What inotify says of the directories watched, as lines like `CREATE DIR films/new`."""

    def __init__(self) -> None:
        self._fd = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._fd >= 0
        self._places: dict[int, str] = {}

    def watch(self, path: Path, name: str = "") -> None:
        number = LIBC.inotify_add_watch(self._fd, os.fsencode(path), WANTED)
        assert number >= 0, os.strerror(ctypes.get_errno())
        self._places[number] = name

    def events(self, at_least: int = 1, timeout: float = 5.0) -> list[str]:
        """What came since, once there are `at_least` of them or the time is over."""
        found: list[str] = []
        deadline = time.monotonic() + timeout
        while len(found) < at_least and time.monotonic() < deadline:
            select.select([self._fd], [], [], max(0, deadline - time.monotonic()))
            found += self._read()
        return found

    def _read(self) -> list[str]:
        try:
            data = os.read(self._fd, 1 << 20)
        except BlockingIOError:
            return []
        found = []
        while data:
            number, mask, _, size = struct.unpack_from("iIII", data)
            name = data[16 : 16 + size].rstrip(b"\0").decode()
            data = data[16 + size :]
            kind = " ".join(text for bit, text in NAMES.items() if mask & bit)
            kind += " DIR" * bool(mask & IS_DIRECTORY)
            path = "/".join(part for part in (self._places[number], name) if part)
            found.append(f"{kind} {path}")
        return found

    def close(self) -> None:
        os.close(self._fd)
