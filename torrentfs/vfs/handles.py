"""Open files and directories, by the numbers that the kernel knows them by.

A handle carries what a read needs, looked up once at open: the torrent, the file's index and
size, and the torrent's gate (see admission.py). Handles are otherwise worthless as identity
(players open a file seven times), so read-ahead state lives with the torrent, per file; the
torrent is told of every open and every release, exactly once each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import trio

if TYPE_CHECKING:
    from torrentfs.vfs.admission import Gate
    from torrentfs.vfs.branch import Volume
    from torrentfs.vfs.listing import Listing


class FileHandle(NamedTuple):
    """An open file."""

    volume: Volume
    file: int
    size: int
    gate: Gate
    key: str


class Handles:
    """The open handles of a mount. Numbers are never used twice."""

    def __init__(self) -> None:
        self.files: dict[int, FileHandle] = {}
        self.listings: dict[int, Listing] = {}
        self._last = 0
        self._closing: dict[int, trio.Event] = {}

    def __repr__(self) -> str:
        return f"<Handles {len(self.files)} files, {len(self.listings)} directories>"

    def open_file(self, handle: FileHandle) -> int:
        """Number `handle` and tell its torrent."""
        handle.volume.on_open(handle.file)
        self._last += 1
        self.files[self._last] = handle
        return self._last

    def release_file(self, number: int) -> None:
        """Forget a file handle and tell its torrent; an unknown number is no error."""
        handle = self.files.pop(number, None)
        if handle is not None:
            handle.volume.on_release(handle.file)
            if id(handle.volume) in self._closing and not self._has(handle.volume):
                self._closing.pop(id(handle.volume)).set()

    def _has(self, volume: Volume) -> bool:
        return any(handle.volume is volume for handle in self.files.values())

    async def wait_closed(self, volume: Volume) -> None:
        """Wait until no file of a torrent is open."""
        while self._has(volume):
            await self._closing.setdefault(id(volume), trio.Event()).wait()

    def open_listing(self, listing: Listing) -> int:
        """Number an open directory."""
        self._last += 1
        self.listings[self._last] = listing
        return self._last

    def release_listing(self, number: int) -> None:
        """Forget an open directory; an unknown number is no error."""
        self.listings.pop(number, None)

    def release_all(self) -> None:
        """The mount is gone: release what the kernel could not release any more."""
        self.listings.clear()
        while self.files:
            _, handle = self.files.popitem()
            handle.volume.on_release(handle.file)
