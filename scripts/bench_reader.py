"""The reader of the benchmark, in a process of its own: a mount that hangs takes it, not the bench.

Takes JSON lines, in this order:

* ``{"do": "prepare", "path", "offset", "size", "drop"}``: touch the memory that will take the
  bytes; with `drop`, make the kernel drop its pages of the range: what is measured then is the
  mount, not the kernel;
* ``{"do": "read"}``: `open` the file and read the range in order, 1 MiB at a time; gives `began`
  (before the `open`), `first` (seconds until the first 64 KiB were there), `ended` and `size`;
* ``{"do": "digest"}``: hash what came; a step of its own, for other readers may still be reading.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from typing import Any

FIRST = 64 * 1024
CHUNK = 1 << 20


class Reading:
    """One range of a file, and what came of it."""

    def __init__(self, path: str, offset: int, size: int, drop: bool) -> None:
        self.path = path
        self.offset = offset
        self.buffer = bytearray(size)
        for page in range(0, size, 4096):
            self.buffer[page] = 1
        self.size = 0
        if drop:
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    def read(self) -> dict[str, Any]:
        """Read it; the clock is the machine's, the same for all processes."""
        view = memoryview(self.buffer)
        began = time.monotonic()
        first = 0.0
        descriptor = os.open(self.path, os.O_RDONLY)
        while self.size < len(view):
            length = CHUNK if self.size else FIRST
            part = view[self.size : self.size + length]
            got = os.preadv(descriptor, [part], self.offset + self.size)
            if not got:
                break
            first = first or time.monotonic() - began
            self.size += got
        ended = time.monotonic()
        os.close(descriptor)
        return {"began": began, "first": first, "ended": ended, "size": self.size}

    def digest(self) -> dict[str, Any]:
        """SHA-256 of the bytes that came."""
        return {"sha256": hashlib.sha256(memoryview(self.buffer)[: self.size]).hexdigest()}


def main() -> None:
    """Serve until stdin closes."""
    reading: Reading | None = None
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        try:
            if do == "prepare":
                reading = None  # first let go of the memory of the one before
                reading = Reading(**request)
                answer: dict[str, Any] = {}
            else:
                assert reading is not None
                answer = reading.read() if do == "read" else reading.digest()
        except OSError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
