"""What the control server needs of a mount, and no more: the seam that its tests replace.

The real things are `daemon.library.Library`, `engine.session.Session` and `vfs.mount.Mount`.
Everything here is used in the trio thread of the mount.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from torrentfs.daemon.sources import Source
    from torrentfs.engine.meters import Histogram
    from torrentfs.engine.stats import TorrentStatistics
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.records import Pin


class Volume(Protocol):
    """A torrent of the mount, awake or not (engine.dormant.Dormant)."""

    @property
    def metainfo(self) -> Metainfo: ...
    @property
    def added(self) -> float: ...
    @property
    def state(self) -> str: ...
    @property
    def torrent(self) -> Any:
        """The living torrent (engine.torrent.Torrent) while it is opened, else None."""

    async def read(self, file: int, offset: int, size: int) -> bytes | bytearray | memoryview: ...
    def on_open(self, file: int) -> None: ...
    def on_release(self, file: int) -> None: ...
    def statistics(self) -> TorrentStatistics: ...
    @property
    def pins(self) -> Sequence[Pin]: ...
    @property
    def errands(self) -> Any:
        """What is fetched although nobody reads it (engine.errands.Errands)."""

    async def why(self, file: int, offset: int) -> Any:
        """An engine.why.Why."""

    async def wake(self) -> Any: ...
    def awake(self) -> AbstractAsyncContextManager[Any]:
        """Opened, and held open for the time of a `with` block."""


class Item(Protocol):
    """A torrent that the library knows, with or without metadata (daemon.library.Item)."""

    @property
    def key(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def origin(self) -> str: ...
    @property
    def folder(self) -> tuple[str, ...]: ...
    @property
    def added(self) -> float: ...
    @property
    def metainfo(self) -> Metainfo | None: ...
    @property
    def volume(self) -> Volume | None: ...
    @property
    def path(self) -> tuple[str, ...] | None: ...
    @property
    def trouble(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def published(self) -> Sequence[Any]:
        """The daemon.publications.Publication that it is an edition of."""


class Library(Protocol):
    """The torrents of a mount (daemon.library.Library).

    `find` and `locate` raise `ConfigError` for what is not there.
    """

    @property
    def items(self) -> Mapping[str, Item]: ...
    async def add(
        self,
        source: Source,
        *,
        folder: Sequence[str] = (),
        origin: str = "added",
        paused: bool = False,
    ) -> Item: ...
    async def add_torrent(self, data: bytes, *, folder: Sequence[str] = ()) -> Item: ...
    async def remove(self, key: str, *, evict: bool = False) -> None: ...
    async def pin(self, key: str, pins: Sequence[Pin]) -> None: ...
    async def unpin(self, key: str, pins: Sequence[Pin]) -> None: ...
    async def evict(self, key: str, file: int | None = None, *, pinned: bool = False) -> int: ...
    async def pause(self, key: str) -> None: ...
    async def resume(self, key: str) -> None: ...
    def by_hash(self, text: str) -> Item | None: ...
    def find(self, text: str) -> Item: ...
    def locate(self, path: tuple[str, ...]) -> tuple[Item, int | None]: ...


class Gate(Protocol):
    """A torrent's slots for reads (vfs.admission.Gate)."""

    def enter_nowait(self) -> bool: ...
    async def enter(self) -> bool: ...
    def leave(self) -> None: ...


class Admission(Protocol):
    """The read slots of a mount (vfs.admission.Admission)."""

    def gate(self, key: str) -> Gate: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """What is controlled: one mount. `session` is an engine.session.Session."""

    mountpoint: Path
    library: Library
    session: Any
    tree: Any
    """The names of the mount (vfs.tree.Tree)."""
    admission: Admission
    first_bytes: Histogram
    """How long the first read of each opening of a file took."""
    http: str = ""
    """Where it listens on TCP, in words."""
    line_timeout: float = 120.0
    """Seconds that a stream waits in line for a read slot."""
    started: float = field(default_factory=time.time)
