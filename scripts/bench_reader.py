"""The reader of the benchmark, in a process of its own: a mount that hangs takes it, not the bench.

Takes JSON lines ``{"path", "offset", "size"}``; answers ``{"seconds", "first", "sha256", "size"}``:
the time of the whole read from before `open`, and until its first 64 KiB were there.  The bytes go
into memory that was touched before, and are hashed after the clock has stopped.  Before it starts,
the kernel is told to drop its pages of the range: what is measured is the mount, not the kernel.
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


def read(path: str, offset: int, size: int) -> dict[str, Any]:
    """Read `size` bytes at `offset` in order, 1 MiB at a time."""
    buffer = bytearray(size)
    view = memoryview(buffer)
    for page in range(0, size, 4096):
        buffer[page] = 1
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    started = time.perf_counter()
    descriptor = os.open(path, os.O_RDONLY)
    first = 0.0
    position = 0
    while position < size:
        length = FIRST if not position else CHUNK
        got = os.preadv(descriptor, [view[position : position + length]], offset + position)
        if not got:
            break
        if not position:
            first = time.perf_counter() - started
        position += got
    seconds = time.perf_counter() - started
    os.close(descriptor)
    digest = hashlib.sha256(view[:position]).hexdigest()
    return {"seconds": seconds, "first": first, "sha256": digest, "size": position}


def main() -> None:
    """Serve until stdin closes."""
    for line in sys.stdin:
        try:
            answer = read(**json.loads(line))
        except OSError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
