"""The FUSE handlers: a thin adapter from pyfuse3 to the tree and the torrents.

Three rules, each measured, hold the mount up:

* **Only `read` may wait.** Every other handler answers from memory without a checkpoint on
  anything outside: a caller of any other operation sleeps unkillably until it is answered.
* **Full bytes or an errno.** A reply shorter than asked in mid-file makes the kernel believe
  that the file ends there, so a torrent that returns too little becomes EIO here.
* **Nothing but `FUSEError` leaves a handler** (errnos.py): pyfuse3 would end the mount.

Files are opened with `keep_cache` and never `direct_io`: the page cache keeps readers of a stuck
torrent killable, and without `keep_cache` a second open of a file with a stuck read sleeps
unkillably. Content is named by its hash, so nothing ever needs to be invalidated.

Inodes follow from the torrents (tree.py), so lookup counts need not be kept: `forget` is free.

Of a torrent that was removed nothing is found any more (ENOENT); reads through handles that were
open fail with ESTALE, those that wait at once.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, StatvfsData

from torrentfs.engine.meters import Histogram
from torrentfs.errors import DataUnavailable
from torrentfs.vfs.admission import Admission
from torrentfs.vfs.errnos import answered
from torrentfs.vfs.handles import FileHandle, Handles
from torrentfs.vfs.tree import NAME_MAX
from torrentfs.vfs.xattrs import xattrs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfuse3 import ReaddirToken, RequestContext

    from torrentfs.vfs.publication import Publication
    from torrentfs.vfs.tree import Attributes, Tree, Volume

log = logging.getLogger(__name__)

BLOCK_SIZE = 4096
"""`st_blksize` and the unit of statfs: the page size, the kernel's default for FUSE."""
SAME_COMPLAINT = 10.0
"""Seconds for which a torrent's failed reads are logged once per reason."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT


@dataclass(frozen=True, slots=True)
class OperationsOptions:
    """Timeouts in seconds that the kernel may keep names and attributes for (they never change;
    additions and removals invalidate), whether `user.torrentfs.*` exist, and for how long a
    read may wait in line before it fails."""

    entry_timeout: float = 3600.0
    negative_timeout: float = 10.0
    xattrs: bool = False
    line_timeout: float = 120.0


class Operations(pyfuse3.Operations):
    """What the kernel asks of the mount of `tree`."""

    def __init__(
        self,
        tree: Tree,
        options: OperationsOptions | None = None,
        admission: Admission | None = None,
    ) -> None:
        super().__init__()
        self.tree = tree
        self.options = options or OperationsOptions()
        self.admission = admission or Admission()
        self.handles = Handles()
        self.first_bytes = Histogram()
        """How long the first read of each opening of a file took, when it was answered."""
        self._unread: set[int] = set()
        """Handles that nothing was read from yet."""
        self.publication: Publication | None = None
        self._complaints: dict[tuple[str, str], tuple[float, int]] = {}

    def __repr__(self) -> str:
        return f"<Operations {self.tree!r} {self.handles!r} {self.admission!r}>"

    def expel(self, volume: Volume) -> None:
        """Fail every read of a torrent that is no longer in the tree, now and later (ESTALE)."""
        self.admission.drop(volume.metainfo.hashes.key)
        volume.fail_reads("the torrent was removed")

    def shut(self) -> None:
        """Let no further read begin and fail those in line; running ones are the torrents'."""
        self.admission.close()

    # -- names and attributes

    @answered
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        try:
            inode = self.tree.lookup(parent_inode, name)
        except FileNotFoundError:
            absent = EntryAttributes()  # inode 0: the kernel remembers that it is not there
            absent.st_ino = 0
            absent.entry_timeout = self.options.negative_timeout
            return absent
        return self._stat(self.tree.attributes(inode))

    @answered
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._stat(self.tree.attributes(inode))

    @answered
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        target = self.tree.link_target(inode)
        if target is None:
            raise FUSEError(errno.EINVAL)
        if len(target) >= 4096:
            raise FUSEError(errno.ENAMETOOLONG)
        return target

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Nothing is kept per lookup."""

    @answered
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        self.tree.attributes(inode)
        if mode & os.W_OK:
            raise FUSEError(errno.EROFS)
        return True

    @answered
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        _, files, size = self.tree.totals()
        answer = StatvfsData()
        answer.f_bsize = answer.f_frsize = BLOCK_SIZE
        answer.f_blocks = -(-size // BLOCK_SIZE)
        answer.f_bfree = answer.f_bavail = 0
        answer.f_files = files
        answer.f_ffree = answer.f_favail = 0
        answer.f_namemax = NAME_MAX
        return answer

    # -- directories

    @answered
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        return self.handles.open_listing(self.tree.listing(inode))

    @answered
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        listing = self.handles.listings.get(fh)
        if listing is None:
            raise FUSEError(errno.EBADF)
        reply = pyfuse3.readdir_reply
        answer = self._stat(self.tree.attributes(pyfuse3.ROOT_INODE))
        for name, about, next_id in listing.entries(start_id):
            # One answer serves all: pyfuse3 copies it before it returns.
            answer.st_ino = about.inode
            answer.st_mode = about.mode
            answer.st_nlink = about.nlink
            answer.st_size = about.size
            answer.st_blocks = about.blocks
            answer.st_mtime_ns = answer.st_atime_ns = answer.st_ctime_ns = about.time_ns
            answer.generation = about.generation
            if not reply(token, name, answer, next_id):
                break

    @answered
    async def releasedir(self, fh: int) -> None:
        self.handles.release_listing(fh)

    # -- files

    @answered
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        if flags & _WRITING:
            raise FUSEError(errno.EROFS)
        volume, file, size = self.tree.file(inode)
        key = volume.metainfo.hashes.key
        handle = FileHandle(volume, file, size, self.admission.gate(key), key)
        number = self.handles.open_file(handle)
        self._unread.add(number)
        return FileInfo(fh=number, keep_cache=True, direct_io=False)

    @answered
    async def read(self, fh: int, off: int, size: int) -> bytes:
        handle = self.handles.files.get(fh)
        if handle is None:
            raise FUSEError(errno.EBADF)
        size = min(size, handle.size - off)
        if size <= 0:
            return b""
        began = trio.current_time() if fh in self._unread else None
        gate = handle.gate
        if not gate.enter_nowait():
            await self._wait_in_line(handle)
        try:
            data = await handle.volume.read(handle.file, off, size)
        except DataUnavailable as error:
            if gate.closed:
                raise FUSEError(errno.ESTALE) from None
            self._complain(handle, off, str(error))
            raise
        finally:
            gate.leave()
        if len(data) != size:
            self._complain(handle, off, f"the torrent gave {len(data)} bytes of {size}: a bug")
            raise FUSEError(errno.EIO)
        if began is not None and fh in self._unread:
            self._unread.discard(fh)
            self.first_bytes.add(trio.current_time() - began)
        return data  # type: ignore[return-value]  # pyfuse3 takes any buffer

    @answered
    async def release(self, fh: int) -> None:
        self._unread.discard(fh)
        self.handles.release_file(fh)

    # -- extended attributes

    @answered
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        if not self.options.xattrs:
            raise FUSEError(errno.ENOSYS)
        value = xattrs_of(self.tree, inode).get(name)
        if value is None:
            raise FUSEError(pyfuse3.ENOATTR)
        return value

    @answered
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        if not self.options.xattrs:
            raise FUSEError(errno.ENOSYS)
        return list(xattrs_of(self.tree, inode))

    # -- changes: ours are made through the mount (publication.py), all others are refused

    @answered
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        return self._come(parent_inode, name, stat.S_IFDIR, ctx)

    @answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        return self._come(parent_inode, name, stat.S_IFREG, ctx)

    @answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        return self._come(parent_inode, name, stat.S_IFLNK, ctx)

    @answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._go(parent_inode, name, (stat.S_IFDIR,), ctx)

    @answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._go(parent_inode, name, (stat.S_IFREG, stat.S_IFLNK), ctx)

    # -- inside

    def _stat(self, about: Attributes) -> EntryAttributes:
        answer = EntryAttributes()
        options, owner = self.options, self.tree.options
        answer.entry_timeout = answer.attr_timeout = options.entry_timeout
        answer.st_ino = about.inode
        answer.st_mode = about.mode
        answer.st_nlink = about.nlink
        answer.st_uid = owner.uid
        answer.st_gid = owner.gid
        answer.st_size = about.size
        answer.st_blocks = about.blocks
        answer.st_blksize = BLOCK_SIZE
        answer.st_mtime_ns = answer.st_atime_ns = answer.st_ctime_ns = about.time_ns
        answer.generation = about.generation
        return answer

    def _come(self, parent: int, name: bytes, kind: int, ctx: RequestContext) -> EntryAttributes:
        """Show what was hidden until somebody made it; EROFS if that is not us."""
        inode = self._expected(parent, name, (kind,), ctx)
        self.tree.hidden.discard(inode)
        return self._stat(self.tree.attributes(inode))

    def _go(self, parent: int, name: bytes, kinds: tuple[int, ...], ctx: RequestContext) -> None:
        """Hide what is about to be removed; EROFS if somebody else removes it."""
        self.tree.hidden.add(self._expected(parent, name, kinds, ctx))

    def _expected(
        self, parent: int, name: bytes, kinds: tuple[int, ...], ctx: RequestContext
    ) -> int:
        if self.publication is not None:
            for kind in kinds:
                inode = self.publication.expects(parent, name, kind, ctx.pid)
                if inode is not None:
                    return inode
        raise FUSEError(errno.EROFS)

    async def _wait_in_line(self, handle: FileHandle) -> None:
        """Get a slot, or fail: nobody waits longer than `line_timeout` for it."""
        timeout = self.options.line_timeout
        with trio.move_on_after(timeout):
            if await handle.gate.enter():
                return
            # the torrent was removed, or the mount is being taken down
            raise FUSEError(errno.ESTALE if handle.gate.closed else errno.EIO)
        self._complain(handle, 0, f"{timeout:g} s in line behind other reads of this torrent")
        raise FUSEError(errno.EIO)

    def _complain(self, handle: FileHandle, offset: int, reason: str) -> None:
        """Log why a read failed: each reason of a torrent once, then how often it came again."""
        now = trio.current_time()
        since, again = self._complaints.get((handle.key, reason), (-SAME_COMPLAINT, 0))
        if now - since < SAME_COMPLAINT:
            self._complaints[handle.key, reason] = (since, again + 1)
            return
        if len(self._complaints) >= 1000:
            self._complaints.clear()
        self._complaints[handle.key, reason] = (now, 0)
        metainfo = handle.volume.metainfo
        path = "/".join((metainfo.name, *metainfo.files[handle.file].path))
        more = f" (and {again} reads before it)" if again else ""
        log.warning("cannot read %s at %d: %s%s", path, offset, reason, more)


def _refuse(name: str) -> Any:
    """A handler that answers EROFS."""

    async def refuse(self: Operations, *args: object) -> NoReturn:
        raise FUSEError(errno.EROFS)

    refuse.__name__ = name
    refuse.__doc__ = f"`{name}` changes something: the mount is read-only."
    return refuse


WRITES = ("setattr", "rename", "link", "create", "write", "setxattr", "removexattr")
"""Handlers that only refuse. `flush`, `fsync`, `fsyncdir` and `poll` stay pyfuse3's ENOSYS, after
which the kernel does without them."""
for _name in WRITES:
    setattr(Operations, _name, _refuse(_name))
