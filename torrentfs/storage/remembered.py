"""Which files were found to be what a torrent says: they need not be read again at the next start.

A *record* is about one path and one purpose (the options that a torrent is made with, or the
torrent that a path is checked against). It has the stamps that the files had before they were
hashed, and names the .torrent file and its SHA-256. A file is *sure* while it has that stamp, which
whoever changes it cannot give back: ctime is the kernel's own.

A clock ticks some hundred times a second, so a file that was changed a moment before it was read
may change once more within the tick. Where that was possible the stamp is not kept. Who writes
through a mapping changes the stamp once, and then no more until the kernel has written that page to
the disk, half a minute later: so young files are written out before they are read (`write_out`).
(A disk that rots changes no stamp: who distrusts it has everything read again.)

Each record is a file of its own, replaced as a whole and closed by a digest. One that is damaged,
of another version, or of another path or purpose is as if it were not there: then files are hashed,
which is always right. All of them together are bounded; those that were not used for longest go.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import struct
from typing import TYPE_CHECKING, NamedTuple

from torrentfs.metainfo import limits
from torrentfs.storage.payload import Stamp, open_original

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torrentfs.storage.payload import Payload

MAX_RECORDS = 1000
MAX_BYTES = 64 * limits.MIB
"""Of all records together; a file of a torrent takes 40 bytes."""
SETTLED_NS = 2_000_000_000
"""A file that was changed less than so long before it was read is not remembered: the coarsest
clock of a file system in use is that of FAT, of two seconds."""

YOUNG_NS = 120_000_000_000
"""Within this time all that was written through mappings has been written out, unless the disk is
very busy (Linux: `vm.dirty_expire_centisecs`, 30 s, and a look every 5 s)."""

_MAGIC = b"torrentfs remembered 1\n"
_SUFFIX = ".remembered"
_STAMP = struct.Struct("<QQqqq")
_NO_STAMP = _STAMP.pack(0, 0, -1, -1, -1)
_MAX_HEAD = 64 * 1024
_MAX_RECORD = len(_MAGIC) + _MAX_HEAD + limits.MAX_FILES * _STAMP.size + 32


class Known(NamedTuple):
    """What a record says of the files as they are now."""

    torrent: str
    """Where the .torrent was."""
    sha256: str
    """Of the .torrent, in hex."""
    sure: frozenset[int]
    """Files of the payload that look as when they were hashed, by their place in it."""


class Remembered:
    """The records in `directory`, which need not exist."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def find(self, payload: Payload, purpose: str) -> Known | None:
        """What is known of these very files, None for nothing."""
        try:
            with open(self._place(payload, purpose), "rb") as file:
                data = file.read(_MAX_RECORD + 1)
        except OSError:
            return None
        body, digest = data[:-32], data[-32:]
        if not body.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
            return None
        head, _, stamps = body[len(_MAGIC) :].partition(b"\n")
        said = _parse(head)
        if any(said.get(key) != value for key, value in _about(payload, purpose)):
            return None
        if len(stamps) != len(payload.files) * _STAMP.size:
            return None
        then = _STAMP.iter_unpack(stamps)
        pairs = enumerate(zip(payload.files, then, strict=True))
        sure = frozenset(number for number, (file, stamp) in pairs if file.stamp == Stamp(*stamp))
        return Known(said.get("torrent", ""), said.get("sha256", ""), sure)

    def keep(
        self, payload: Payload, purpose: str, place: Path, torrent: bytes, began_ns: int
    ) -> None:
        """Remember that these files are what `torrent` (at `place`) says; `OSError`.

        `began_ns` is a Unix time before they were listed.
        """
        said = {
            **dict(_about(payload, purpose)),
            "torrent": str(place),
            "sha256": hashlib.sha256(torrent).hexdigest(),
        }
        head = json.dumps(said).encode()
        if len(head) > _MAX_HEAD:
            return
        stamps = b"".join(_pack(file.stamp, began_ns) for file in payload.files)
        body = b"".join((_MAGIC, head, b"\n", stamps))
        self.directory.mkdir(parents=True, exist_ok=True)
        beside = self.directory / f".{os.getpid()}-{secrets.token_hex(4)}"
        try:
            with open(beside, "xb") as file:
                file.write(body)
                file.write(hashlib.sha256(body).digest())
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self._place(payload, purpose))
        finally:
            with contextlib.suppress(OSError):
                os.unlink(beside)
        self._prune()

    def _place(self, payload: Payload, purpose: str) -> Path:
        name = hashlib.sha256(json.dumps([payload.root, purpose]).encode()).hexdigest()[:32]
        return self.directory / f"{name}{_SUFFIX}"

    def _prune(self) -> None:
        """Drop the oldest records over the bounds, but not the newest one."""
        found = []
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    with contextlib.suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        found.append((status.st_mtime_ns, status.st_size, entry.path))
        found.sort(reverse=True)
        total = 0
        for number, (_, size, path) in enumerate(found):
            total += size
            if number and (number >= MAX_RECORDS or total > MAX_BYTES):
                with contextlib.suppress(OSError):
                    os.unlink(path)


def write_out(payload: Payload, now_ns: int) -> None:
    """Write files that changed a while before `now_ns` (Unix time) to their disk.

    To be done between listing and reading: whatever is written through a mapping from then on
    changes the stamp. (But not on a tmpfs, where it never does.)
    """
    for number, file in enumerate(payload.files):
        if file.length and file.stamp.ctime_ns > now_ns - YOUNG_NS:
            with contextlib.suppress(OSError):  # who reads it says what is wrong
                fd = open_original(payload.place(number))
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)


def _about(payload: Payload, purpose: str) -> Iterator[tuple[str, str]]:
    """What a record must say to be about these files."""
    listing = hashlib.sha256()
    for file in payload.files:
        mode = b"x" if file.executable else b"-"
        listing.update(b"/".join(map(os.fsencode, file.path)) + b"\0" + mode)
    yield "root", payload.root
    yield "purpose", purpose
    yield "listing", listing.hexdigest()


def _parse(head: bytes) -> dict[str, str]:
    """What a record says beside the stamps; nothing of one that we cannot have written."""
    try:
        said = json.loads(head)
    except (ValueError, RecursionError):
        return {}
    is_ours = isinstance(said, dict) and all(isinstance(value, str) for value in said.values())
    return said if is_ours else {}


def _pack(stamp: Stamp, began_ns: int) -> bytes:
    settled = began_ns - SETTLED_NS
    # some file systems have no ctime, and anybody may set an mtime that is yet to come
    if stamp.ctime_ns > settled or settled < stamp.mtime_ns <= began_ns:
        return _NO_STAMP
    try:
        return _STAMP.pack(*stamp)
    except struct.error:  # a time that takes more than 64 bits
        return _NO_STAMP
