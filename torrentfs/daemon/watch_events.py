"""When to look at a watch directory again: inotify where that can be had, else a timer.

inotify tells nothing of changes that other machines make on a network file system, nor of those
behind a FUSE file system; the kernel limits how many directories a user may watch. In all these
cases the directory is looked at every few seconds instead. Events are never interpreted: they only
say that something happened, so that it does no harm when some are lost.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from typing import TYPE_CHECKING

import trio

from torrentfs.vfs.mountpoint import mount_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inotify_simple import INotify

log = logging.getLogger(__name__)

REMOTE = (
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "afs", "gfs2", "ocfs2"}
    | {"glusterfs", "lustre", "davfs", "vboxsf", "prl_fs", "ncpfs", "coda", "fuse", "fuseblk"}
)  # fmt: skip
"""File systems whose changes the kernel here may not hear of; with all `fuse.*`."""


def is_remote(path: str, table: Iterable[tuple[str, str]] | None = None) -> bool:
    """Whether changes below `path` may come from where inotify does not reach.

    `table` are (mount point, type of file system) of all mounts, later ones on top.
    """
    if table is None:
        table = [(mount.path, mount.fstype) for mount in mount_table()]
    here, kind = "", ""
    for place, fstype in table:
        inside = place == "/" or path == place or path.startswith(place + "/")
        if inside and len(place) >= len(here):
            here, kind = place, fstype
    return kind in REMOTE or kind.startswith("fuse.")


class Events:
    """Whether something has changed in some directories. Close it at the end."""

    def __init__(self) -> None:
        self._inotify: INotify | None = None
        self._numbers: set[int] = set()
        self._missed: set[str] = set()
        self.reason = ""
        """Why there are no events, in words; empty when there are."""

    def open(self, root: str) -> None:
        """Begin, if that makes sense for `root`. Blocks: for a thread."""
        # imported where it is used: a mount without watch directories never needs it
        from inotify_simple import INotify

        if is_remote(os.path.realpath(root)):
            self.reason = "it is on a file system whose changes are not told of"
            return
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            self._give_up(error)

    def watch(self, directories: Iterable[str]) -> bool:
        """Hear of changes in exactly these; True if some were not watched yet, or went before they
        could be, so that what happened in them before is not known. Blocks: for a thread.
        """
        inotify = self._inotify
        if inotify is None:
            return False
        mask = _mask()
        before, now = self._numbers, set()
        missed = set()
        for path in directories:
            try:
                now.add(inotify.add_watch(path, mask))
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.ENOMEM):
                    return self._give_up(error)
                missed.add(path)
        is_new = bool(now - before or missed - self._missed)
        for number in before - now:
            with contextlib.suppress(OSError):  # it went with its directory
                inotify.rm_watch(number)
        self._numbers, self._missed = now, missed
        return is_new

    def _give_up(self, error: OSError) -> bool:
        self.close()
        self.reason = f"the kernel gives no more watches ({os.strerror(error.errno or 0).lower()})"
        return False

    async def wait(self) -> None:
        """Wait until something has happened; for ever when there are no events."""
        if self._inotify is not None:
            await trio.lowlevel.wait_readable(self._inotify.fileno())
            list(self._inotify.read(timeout=0))
        else:
            await trio.sleep_forever()

    def close(self) -> None:
        """End."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
            self._numbers = set()


def _mask() -> int:
    from inotify_simple import flags

    return int(
        flags.CREATE
        | flags.CLOSE_WRITE
        | flags.ATTRIB
        | flags.MOVED_FROM
        | flags.MOVED_TO
        | flags.DELETE
        | flags.DELETE_SELF
        | flags.MOVE_SELF
        | flags.ONLYDIR
    )
