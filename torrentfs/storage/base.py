"""What the rest of torrentfs may know of the cache: its settings, its stores, its one error.

A *store* keeps the verified pieces of one torrent. It has one promise that everything above
relies on: bytes that come out of `read` or `read_nowait` are the bytes that were verified, or
they do not come out at all. Whatever goes wrong below (a full disk, a file changed by hand, a
catalog that is gone) makes pieces *lost*, which costs a fetch, and never makes a wrong answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torrentfs.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from torrentfs.metainfo.bitfield import Bitfield

MIB = 1 << 20


class PieceLost(StorageError):
    """A piece that was here is gone or damaged: fetch it again. It is no longer in `have`."""


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Limits of the cache, in bytes.

    `size` bounds the disk space of all torrents in `directory`, `memory_limit` the bytes of
    pieces held in memory by this process, `min_free` is left free on the file system.
    """

    directory: Path
    size: int = 10 * 1024 * MIB
    memory_limit: int = 256 * MIB
    min_free: int = 512 * MIB


@dataclass(frozen=True, slots=True)
class StoredMetadata:
    """What the catalog remembers of a torrent: a .torrent file, and when it was first added."""

    torrent: bytes
    added: float


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Pieces and bytes of one torrent's store."""

    have: int
    on_disk: int
    unsure: int
    unwritten: int
    disk_bytes: int
    memory_hits: int
    disk_hits: int
    lost: int
    disk_trouble: str | None


@dataclass(frozen=True, slots=True)
class Use:
    """What the disk has of one torrent: bytes, and whether some process has it open."""

    key: str
    used: int
    open: bool


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Bytes of the whole cache; `others_bytes` belong to other running processes."""

    memory_bytes: int
    unwritten_bytes: int
    disk_bytes: int
    idle_bytes: int
    others_bytes: int
    written_bytes: int
    evicted_pieces: int
    disk_trouble: str | None


class PieceStore(Protocol):
    """The verified pieces of one torrent; all methods belong to the trio thread."""

    @property
    def have(self) -> Bitfield:
        """Pieces that can be read. Owned by the store: look, never change."""
        ...

    def read_nowait(self, piece: int, begin: int, length: int) -> memoryview | bytes | None:
        """The bytes if no disk has to be waited for, else `None`: then `read` may have them."""
        ...

    async def read(self, piece: int, begin: int, length: int) -> memoryview | bytes:
        """The bytes; `PieceLost` when the piece is not here (any more), or not undamaged."""
        ...

    async def put(self, piece: int, data: bytearray) -> None:
        """Keep a whole *verified* piece; `data` belongs to the store from now on.

        It is readable when the call begins to wait, and it waits only while too much is
        unwritten. Trouble with the disk never raises.
        """
        ...

    def statistics(self) -> StoreStatistics:
        """Counters, now."""
        ...
