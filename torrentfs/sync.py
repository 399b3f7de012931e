"""The Python door for code that does not await: scripts, notebooks, threads.

    torrent = torrentfs.sync.open("ubuntu.torrent")
    with torrent["ubuntu.iso"].open() as file:          # an ordinary binary file
        file.seek(32768)
        file.read(2048)

Everything here may be used from any thread, and is answered by the one that `torrentfs.portal`
keeps. A torrent that nobody refers to any more is closed; `close` and `with` do it at once.
"""

from __future__ import annotations

import errno
import io
import os
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from torrentfs.api import BaseFile, BaseTorrent, as_os_error, check_range, or_raise, source_of
from torrentfs.cli.settings import parse_settings
from torrentfs.daemon.ranges import Range
from torrentfs.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torrentfs.api import Given
    from torrentfs.engine.stats import TorrentStatistics
    from torrentfs.errors import DataUnavailable
    from torrentfs.portal import Lease

BUFFER = 64 * 1024
"""Bytes that an open file reads at least; hardly more than one piece has."""
STEP = 256 * 1024
"""Bytes of one step of a stream."""
STREAK = 128 * 1024
"""Bytes read in a row that make a reader one who reads on."""


def open(source: Given, **settings: Any) -> Torrent:
    """Open a torrent, and wait until its files are known.

    Arguments are those of `torrentfs.open`. Raises `ConfigError`, `InvalidTorrent` (both
    `ValueError`) or `MetadataTimeout`.
    """
    lease = Portal.of_process().open(source_of(source), parse_settings(settings))
    return Torrent(lease, source, settings)


class File(BaseFile):
    """A file of an open torrent."""

    _torrent: Torrent

    def read_at(self, offset: int, size: int) -> bytes:
        """The bytes `[offset, offset + size)`, fewer at the end of the file."""
        check_range(offset, size)
        lease = self._torrent._lease
        ranges = lease.check().ranges
        with as_os_error(self.path):
            return lease.call(ranges.read, self.number, offset, size)

    def read(self) -> bytes:
        """All of it."""
        return self.read_at(0, self.size)

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each `(offset, size)`; they are fetched together."""
        wanted = [(self.path, offset, size) for offset, size in ranges]
        with as_os_error(self.path):
            return list(map(or_raise, self._torrent.read_ranges(wanted)))

    def stream(self, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """The bytes from `offset` on, in order and with read-ahead."""
        check_range(offset, size or 0)
        left = self.size - offset if size is None else min(size, self.size - offset)
        with self.open(buffering=0) as raw:
            raw.seek(offset)
            while left > 0 and (data := raw.read(min(STEP, left))):
                left -= len(data)
                yield data

    def open(self, buffering: int = BUFFER) -> io.BufferedReader | RawFile:
        """A binary file object; `buffering` as of the builtin `open`, 0 for none."""
        self._torrent._lease.check()
        raw = RawFile(self)
        if buffering == 0:
            return raw
        return io.BufferedReader(raw, buffering if buffering > 1 else BUFFER)


class Torrent(BaseTorrent[File]):
    """An open torrent, for code that does not await."""

    _file = File

    def __init__(self, lease: Lease, source: Given, settings: dict[str, Any]) -> None:
        super().__init__(lease.opened)
        self._lease = lease
        self._again = partial(open, source, **settings)
        self._finalizer = weakref.finalize(self, lease.give_back)
        self._finalizer.atexit = False  # then all of them stop together

    def open_file(self, path: str) -> io.BufferedReader:
        """`torrent[path].open()`; with `FileNotFoundError` as of the builtin `open`."""
        file = self[path].open()
        assert isinstance(file, io.BufferedReader)
        return file

    def read_ranges(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes | DataUnavailable]:
        """The bytes of each `(path, offset, size)`, or why they cannot be had; fetched together."""
        opened = self._lease.check()
        number = opened.contents.number
        wanted = [Range(number(path), *check_range(offset, size)) for path, offset, size in ranges]
        return self._lease.call(opened.ranges.read_many, wanted)

    def statistics(self) -> TorrentStatistics:
        """What it has, what was fetched from whom, at this moment."""
        opened = self._lease.check()

        async def ask() -> TorrentStatistics:
            return opened.torrent.statistics()  # type: ignore[no-any-return]

        return self._lease.call(ask)

    def close(self) -> None:
        """Give it back; reads fail from now on. The last one of a session ends it."""
        self._finalizer.detach()
        self._lease.close()

    def __enter__(self) -> Torrent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._again, ()


class Following:
    """One reader of a file: he gets read-ahead once he reads on, and not before.

    Of a table a few ranges are read, each in one or two steps; what lies behind them is not
    wanted. Three steps in a row, of `STREAK` bytes together, are of a film or of a text.
    """

    def __init__(self, file: File) -> None:
        self.file = file
        self._lease = file._torrent._lease
        self._end = -1
        self._steps = self._run = 0
        self._is_open = False

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file; may be fewer than `size` while reading on."""
        if offset == self._end:
            self._steps += 1
            self._run += size
        else:
            self._steps, self._run = 1, size
        opened = self._lease.check()
        with as_os_error(self.file.path):
            if self._steps < 3 or self._run < STREAK:
                data = self._lease.call(opened.ranges.read, self.file.number, offset, size)
            else:
                if not self._is_open:
                    self._is_open = True
                    self._lease.post(opened.torrent.on_open, self.file.number)
                data = self._lease.call(opened.read_on, self.file.number, offset, size)
        self._end = offset + len(data)
        return data

    def close(self) -> None:
        """He reads no more."""
        if self._is_open:
            self._is_open = False
            self._lease.post(self._lease.opened.torrent.on_release, self.file.number)


class RawFile(io.RawIOBase):
    """A file of an open torrent as the `io` module has files."""

    def __init__(self, file: File) -> None:
        super().__init__()
        self.name = file.path
        self.mode = "rb"
        self._following = Following(file)
        self._size = file.size
        self._place = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """As of any file; past the end is allowed, and reads nothing."""
        self._check_open()
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}.get(whence)
        if start is None:
            raise ValueError(f"unknown whence {whence}")
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """Where the next read begins."""
        self._check_open()
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer as far as the file goes; `OSError` if that cannot be."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        size = min(len(view), self._size - self._place)
        if size <= 0:
            return 0
        data = self._following.read(self._place, size)
        view[: len(data)] = data
        self._place += len(data)
        return len(data)

    def readall(self) -> bytes:
        """The rest of the file."""
        self._check_open()
        left = self._size - self._place
        if left <= 0:
            return b""
        data = self._following.file.read_at(self._place, left)
        self._place += len(data)
        return data

    def close(self) -> None:
        """As of any file."""
        if not self.closed:
            self._following.close()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
