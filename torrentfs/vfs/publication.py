"""Changes that inotify reports: made through the mount, by ourselves. `--inotify`.

The kernel tells watchers of a directory what programs do in it, and never what a FUSE daemon does
behind its back. So a torrent that joins is made to appear by a `mkdir` (or `mknod`, `symlink`) of
its entry in our own mount, and to go by a `rmdir` (or `unlink`): the kernel asks us to do it, we
agree, and it tells all who watch. Until then the entry is hidden. Everybody else gets EROFS.

**Whose it is.** We agree to what we expect, by parent, name and kind, and only from the thread
that was started to do it; the kernel says whose request it is.

**It cannot hang.** The thread waits for the kernel, which may wait for a lock of the directory,
whose holder waits for an answer of ours at most; the task of no request waits for the thread.

**It cannot hit anything else.** A mount may be taken away at any moment, and then the path leads to
the directory below it. So the root is opened first, what was opened must be of our own device, and
everything is done relative to it. While it is open, which takes less than a millisecond, `umount`
says busy.

**The price.** The mount has to be writable for the kernel, and the kernel must leave permissions to
us (`default_permissions` would refuse our own `mkdir` in a directory of mode 0555, and tell others
EACCES). So everybody who may use the mount may read all of it, and `umask` must not forbid that.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Step(NamedTuple):
    """An entry that comes or goes: its directory's inode, its own, its path, its kind and, of a
    symlink, where it points."""

    parent: int
    inode: int
    path: tuple[bytes, ...]
    mode: int
    target: bytes = b""


class Publication:
    """The step that is being made, and the thread that makes it: who else asks is refused."""

    def __init__(self, root: str, device: int) -> None:
        self._root = root
        self._device = device
        self._step: Step | None = None
        self._thread = 0

    def expects(self, parent: int, name: bytes, kind: int, thread: int) -> int | None:
        """The inode that `thread` may make or remove as `name`, of that kind; None if it may not.

        `kind` is of the bits `stat.S_IFMT`.
        """
        step = self._step
        if step is None or thread != self._thread:
            return None
        if (parent, name, kind) != (step.parent, step.path[-1], stat.S_IFMT(step.mode)):
            return None
        return step.inode

    def make(self, step: Step) -> None:
        """In a thread: make the entry appear. Raises `OSError`."""
        path = b"/".join(step.path)
        with self._doing(step) as root:
            if stat.S_ISDIR(step.mode):
                os.mkdir(path, 0o555, dir_fd=root)
            elif stat.S_ISLNK(step.mode):
                os.symlink(step.target, path, dir_fd=root)
            else:
                os.mknod(path, 0o444 | stat.S_IFREG, dir_fd=root)

    def remove(self, step: Step) -> None:
        """In a thread: make the entry go. Raises `OSError`."""
        path = b"/".join(step.path)
        with self._doing(step) as root:
            if stat.S_ISDIR(step.mode):
                os.rmdir(path, dir_fd=root)
            else:
                os.unlink(path, dir_fd=root)

    @contextmanager
    def _doing(self, step: Step) -> Iterator[int]:
        """The root of the mount, open, while `step` is expected of this thread."""
        root = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if os.fstat(root).st_dev != self._device:
                raise FileNotFoundError(f"the mount is not at {self._root} any more")
            self._thread = threading.get_native_id()
            self._step = step
            yield root
        finally:
            self._step = None
            os.close(root)
