"""One table from exceptions to errnos, applied to every FUSE handler.

pyfuse3 ends the mount when a handler raises anything but `FUSEError`. So no handler is left
bare: `answered` turns what it raises into an errno by `errno_of`, and what nobody foresaw into
EIO and a traceback in the log. Cancellation passes: it is how the mount is taken down.
"""

from __future__ import annotations

import errno
import functools
import logging
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from pyfuse3 import FUSEError

from torrentfs.errors import DataUnavailable, StorageError, TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

ERRNOS: tuple[tuple[type[Exception], int], ...] = (
    (FileNotFoundError, errno.ENOENT),
    (NotADirectoryError, errno.ENOTDIR),
    (IsADirectoryError, errno.EISDIR),
    (StorageError, errno.EIO),
    (TransportError, errno.EIO),
    (MemoryError, errno.ENOMEM),
)
"""Foreseen errors in the order in which they are tried; `DataUnavailable` brings its own."""


def errno_of(error: Exception) -> int | None:
    """The errno that stands for `error`; None if nobody foresaw it."""
    if isinstance(error, FUSEError):
        return error.errno
    if isinstance(error, DataUnavailable):
        return error.errno if 0 < error.errno < 4096 else errno.EIO
    for kind, number in ERRNOS:
        if isinstance(error, kind):
            return number
    return None


def answered(
    handler: Callable[Concatenate[S, P], Awaitable[R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Make `handler` raise nothing but `FUSEError` (and cancellation)."""

    async def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except Exception as error:
            number = errno_of(error)
            if number is None:
                log.exception("%s failed for a reason nobody foresaw", handler.__name__)
                number = errno.EIO
            raise FUSEError(number) from None

    functools.update_wrapper(guarded, handler)
    return guarded
