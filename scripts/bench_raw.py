"""The least that a FUSE file system of Python can do: one file, out of memory, by pyfuse3.

What the kernel, libfuse, pyfuse3 and trio cost without a torrent: the yardstick of warm reads.
``python -m scripts.bench_raw FILE MOUNTPOINT`` takes FILE into memory, mounts, says so with one
JSON line and serves until stdin closes. Opens and answers as torrentfs does: the page cache is kept
and a reply is a view of the memory, without a copy.
"""

from __future__ import annotations

import errno
import json
import stat
import sys
from pathlib import Path

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext

NAME = b"film.bin"
FILE_INODE = pyfuse3.ROOT_INODE + 1
SPARE_TASKS = 8
"""As torrentfs: with pyfuse3's own choice of one, a request costs a new task, and half the rate."""


class OneFile(pyfuse3.Operations):
    """A directory with one file of `data`."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = memoryview(data)

    def _about(self, inode: int) -> EntryAttributes:
        about = EntryAttributes()
        about.st_ino = inode
        about.st_mode = stat.S_IFREG | 0o444 if inode == FILE_INODE else stat.S_IFDIR | 0o555
        about.st_size = len(self.data) if inode == FILE_INODE else 0
        about.entry_timeout = about.attr_timeout = 3600.0
        return about

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._about(inode)

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        if name != NAME:
            raise FUSEError(errno.ENOENT)
        return self._about(FILE_INODE)

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        if not start_id:
            pyfuse3.readdir_reply(token, NAME, self._about(FILE_INODE), 1)

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=inode, keep_cache=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return self.data[off : off + size]  # type: ignore[return-value]  # it takes any buffer


async def serve() -> None:
    """Answer the kernel until stdin closes."""

    async def until_closed() -> None:
        print(json.dumps({"mounted": True}), flush=True)
        await trio.lowlevel.wait_readable(0)  # nobody writes to it: this is its end
        pyfuse3.terminate()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_closed)
        await pyfuse3.main(min_tasks=SPARE_TASKS)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Mount and serve."""
    file, mountpoint = sys.argv[1:]
    options = {"fsname=bench_raw", "ro", "default_permissions", "nosuid", "nodev", "noatime"}
    pyfuse3.init(OneFile(Path(file).read_bytes()), mountpoint, options)
    try:
        trio.run(serve)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
