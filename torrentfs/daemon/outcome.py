"""How a run ends: one exit code and one line of text for every way that it can.

0 done, 1 usage or bad input, 2 cannot mount, 3 metadata not found in time (DESIGN, command line);
128 + N when signal N ended it before it was mounted, as shells have it. trio wraps what tasks
raise in exception groups; the cause that a user can act on is the first declared error inside.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from torrentfs.errors import MetadataTimeout, MountError, TorrentFSError

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE = 0
BAD_INPUT = 1
CANNOT_MOUNT = 2
NO_METADATA = 3

HOW_TO_REPORT = "this is a bug in torrentfs; TORRENTFS_DEBUG=1 shows where"


class Interrupted(TorrentFSError):
    """A signal ended the work before there was anything to keep."""

    def __init__(self, signum: int, left: str = "nothing is mounted") -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}; {left}")
        self.signum = signum


def cause_of(error: BaseException) -> BaseException:
    """The one exception to tell about: the first declared one in a group, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = list(_leaves(error))
    declared = (leaf for leaf in leaves if isinstance(leaf, TorrentFSError))
    return next(declared, leaves[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def exit_code(error: BaseException) -> int:
    """The exit code that `error` ends the process with."""
    match cause_of(error):
        case MountError():
            return CANNOT_MOUNT
        case MetadataTimeout():
            return NO_METADATA
        case Interrupted(signum=signum):
            return 128 + signum
        case KeyboardInterrupt():
            return 128 + signal.SIGINT
        case _:
            return BAD_INPUT


def one_line(error: BaseException) -> str:
    """What to say on stderr: printable, one line, for a person who can act on it."""
    cause = cause_of(error)
    match cause:
        case TorrentFSError():
            text = str(cause) or type(cause).__name__
        case KeyboardInterrupt():
            text = "interrupted"
        case OSError(strerror=str(reason), filename=filename):
            text = f"{filename}: {reason.lower()}" if filename else reason.lower()
        case _:
            text = f"{type(cause).__name__}: {cause} ({HOW_TO_REPORT})"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
