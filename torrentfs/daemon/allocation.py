"""What the C library does with memory that the process has freed.

Buffers of pieces and of answers to the kernel are 128 KiB to 16 MiB, and live for milliseconds.
By default glibc returns such memory to the kernel when it is freed and takes it again for the next
one, page by page, each zeroed anew: a quarter of the CPU time of a cold read, and two thirds of a
warm one at 1 MiB a request. Its thresholds would rise by themselves, but to twice the largest
buffer seen, which a stream exceeds. So they are set to what they may reach at most.
"""

from __future__ import annotations

import ctypes

MMAP_THRESHOLD = 32 << 20
"""Bytes from which memory comes from and goes to the kernel directly; glibc takes no more."""
TRIM_THRESHOLD = 32 << 20
"""Unused bytes at the end of the heap that the process may keep."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> bool:
    """Let the process use freed memory again; False where the C library has no such setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    wanted = ((_M_MMAP_THRESHOLD, MMAP_THRESHOLD), (_M_TRIM_THRESHOLD, TRIM_THRESHOLD))
    taken = [mallopt(name, value) == 1 for name, value in wanted]
    return all(taken)
