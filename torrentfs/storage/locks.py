"""Who may change what in a cache directory that several processes use.

Users mount several torrents with several commands, all on the default cache directory, and expect
each to find its own data again whatever else runs. A whole-directory lock would make the second
command fail; a private subdirectory per process would lose the data whenever the order of the
commands changes. So the unit of locking is the *torrent*: `torrents/<key>/lock` is held (flock)
by the process that has it open. A process that opens a torrent which another one has open gets a
tree of its own, `torrents/<key>.2`, and so on. The kernel drops the lock with the process, however
it ends. The catalog is one SQLite file for all; each row belongs to who holds the torrent's lock.

A fork hands the descriptors down, and with them the locks, to a child that knows nothing of it; it
lets go of them (`let_go_after_fork`), or the torrents would stay locked for as long as it lives.

`<dir>/lock` is held shared by every process that uses the directory; who replaces a damaged
catalog must have it alone.
"""

from __future__ import annotations

import fcntl
import os
import re
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakSet

if TYPE_CHECKING:
    from pathlib import Path

MOST_DOMAINS = 16
"""How many processes may have trees of one torrent."""

_DOMAIN = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})(\.\d{1,2})?")


class FileLock:
    """An flock on a file, held until `close` or the end of the process."""

    _held: ClassVar[WeakSet[FileLock]] = WeakSet()

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._held.add(self)

    @classmethod
    def let_go_after_fork(cls) -> None:
        """We are a child: what we hold is our parent's, who keeps it."""
        for lock in list(cls._held):
            lock.close()

    @classmethod
    def take(cls, path: Path, *, shared: bool = False) -> FileLock | None:
        """Lock `path`, made if missing; None when another holds it. `OSError` if it cannot be."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink == 0:  # removed between open and lock: a lock on nothing
                os.close(fd)
                return None
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        if not shared:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return cls(fd)

    def upgrade(self) -> bool:
        """Make a shared lock exclusive, if nobody else has it."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # a failed conversion may have dropped the shared lock (flock(2))
            fcntl.flock(self._fd, fcntl.LOCK_SH)
            return False
        return True

    def downgrade(self) -> None:
        """Make an exclusive lock shared."""
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._held.discard(self)


def domain_names(key: str) -> list[str]:
    """The names under which trees of one torrent may be found, in order of preference."""
    return [key, *(f"{key}.{number}" for number in range(2, MOST_DOMAINS + 1))]


def key_of(domain: str) -> str | None:
    """The torrent that a directory's name stands for; None for a name that is not ours."""
    match = _DOMAIN.fullmatch(domain)
    return match[1] if match else None
