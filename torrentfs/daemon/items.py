"""One torrent as a library knows it, and what is told when one comes, goes or changes.

An item may be backed by several *claims* at once: it was added to stay, it was named on the command
line, a file in a watch directory names it, or a publication that was claimed in one of these ways
stands for it. It goes with the last of them. `origin` is the strongest one. An item without
metadata (a magnet that is still looked for) is not in the mount; neither is one that stands for a
file in a watch directory that is no torrent, which is here to be told about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import trio

from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from torrentfs.daemon.publications import Publication
    from torrentfs.daemon.sources import PublisherSource
    from torrentfs.engine.dormant import Dormant
    from torrentfs.metainfo.magnet import Magnet
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.records import Pin

MAX_CHANGES = 1000
"""Changes that one listener may be behind before it is cut off."""

Origin = Literal["command line", "watch", "added"]
Kind = Literal["added", "removed", "changed"]


class LibraryError(ConfigError):
    """What was asked of the library cannot be done; one line says why."""


class NotFound(LibraryError):
    """The library has no such torrent or path."""


@dataclass(frozen=True, slots=True)
class Change:
    """A torrent came into the mount, went from it, or something else about it changed.

    `added` and `removed` are about what the mount shows; a magnet whose metadata is looked for is
    only `changed`. `path` is its place in the mount, or was.
    """

    kind: Kind
    key: str
    name: str = ""
    path: tuple[str, ...] | None = None


@dataclass(slots=True, eq=False)
class Item:
    """One torrent. Only the library changes it; others look."""

    key: str
    name: str
    source: str
    """What it was named by: a link, a URL, the path of a file."""
    added: float
    """Unix seconds; what its files have for a date, for good."""
    folder: tuple[str, ...] = ()
    hints: Magnet | None = None
    """Trackers, web seeds, peers and the selection that came with it."""
    metainfo: Metainfo | None = None
    volume: Dormant | None = None
    path: tuple[str, ...] | None = None
    """Where it is in the mount, when it is listed."""
    trouble: str = ""
    """Why it is not listed, or what goes wrong, in words; empty when nothing does."""
    recalled: bool = False
    """It was here in an earlier run, and nobody has asked for it since."""
    paused: bool = False
    pins: tuple[Pin, ...] = ()
    kept: bool = False
    given: bool = False
    watched: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The files of watch directories that name it, and the folder that each puts it in."""
    said: dict[str, str] = field(default_factory=dict)
    """Where the .torrent files among these said to ask the last time (`Advice.fingerprint`)."""
    is_renewed: bool = False
    """Whether there are others to ask than its volume knows of."""
    published: list[Publication] = field(default_factory=list)
    """The publications that it is an edition of."""
    is_placeholder: bool = False
    """It stands for a publication of which no torrent is known."""
    instead_of: Item | None = None
    """Whose place it is to take when it is shown."""
    is_replaced: bool = False
    """Another has taken its place: nothing of it is to be remembered."""

    @property
    def origin(self) -> Origin:
        """The strongest reason why it is here."""
        claims: list[Item | Publication] = [self, *self.published]
        if any(one.kept for one in claims):
            return "added"
        return "watch" if any(one.watched for one in claims) else "command line"

    @property
    def is_claimed(self) -> bool:
        """False once nothing backs it any more."""
        return self.kept or self.given or bool(self.watched) or bool(self.published)

    @property
    def state(self) -> str:
        """`metadata` while that is looked for, `failed`, or that of its volume."""
        if self.volume is not None:
            return self.volume.state
        if self.paused:
            return "paused"
        is_sought = self.hints is not None and self.metainfo is None
        return "metadata" if is_sought or self.is_placeholder else "failed"

    def __repr__(self) -> str:
        return f"<Item {self.key[:8]} {self.name!r} {self.origin}, {self.state}>"


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """What a file of a watch directory names: a torrent, a magnet, a publisher, or nothing
    (`trouble`)."""

    path: str
    folder: tuple[str, ...]
    metainfo: Metainfo | None = None
    magnet: Magnet | None = None
    trouble: str = ""
    publisher: PublisherSource | None = None


class Listeners:
    """Who is told of changes."""

    def __init__(self) -> None:
        self._channels: list[trio.MemorySendChannel[Change]] = []

    def add(self) -> trio.MemoryReceiveChannel[Change]:
        """What happens from now on. Who is `MAX_CHANGES` behind is cut off, and looks anew."""
        sender, receiver = trio.open_memory_channel[Change](MAX_CHANGES)
        self._channels.append(sender)
        return receiver

    def tell(self, change: Change) -> None:
        """Tell all; never waits."""
        for channel in list(self._channels):
            try:
                channel.send_nowait(change)
            except (trio.WouldBlock, trio.BrokenResourceError):
                self._channels.remove(channel)
                channel.close()

    def tell_of(self, kind: Kind, item: Item, path: tuple[str, ...] | None = None) -> None:
        """Tell of an item, that it is at `path` or wherever it is."""
        self.tell(Change(kind, item.key, item.name, path if path is not None else item.path))
