"""The two system calls that Python 3.11 has no name for: `fallocate` in its hole punching mode,
and `syncfs`. Both release the GIL (ctypes does around every call) and are for threads.
"""

from __future__ import annotations

import ctypes
import errno
import os

_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    _fallocate.restype = ctypes.c_int
_syncfs = getattr(_libc, "syncfs", None)


def punch_hole(fd: int, offset: int, length: int) -> bool:
    """Give `length` bytes at `offset` back to the file system; they read as zeros.

    The file keeps its size. Partial blocks at the ends are zeroed and stay allocated.
    False when this file system cannot do it; other errors are `OSError`.
    """
    if _fallocate is None:
        return False
    if _fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, length) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code))


def sync_file_system(fd: int) -> None:
    """Write everything of the file system that `fd` is on to its disk."""
    if _syncfs is None:
        os.sync()
    elif _syncfs(ctypes.c_int(fd)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
