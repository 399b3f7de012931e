"""From a SOURCE to a torrent in a session: whoever is asked for what, in one order for everybody.

A publisher's link becomes the magnet of his newest torrent (BEP 46); a magnet's metadata comes from
the cache or from peers; a path or URL is read. What the user knows beside the torrent (trackers,
web seeds, peers) is joined to what a magnet says, his own peers first. `find` does all that and
starts nothing; `Found.add` starts the torrent, `Found.shelve` shows one that sleeps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import trio

from torrentfs.daemon.following import follow
from torrentfs.daemon.sources import MagnetSource, PublisherSource, load, shorten
from torrentfs.errors import MetadataTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torrentfs.daemon.following import Publications
    from torrentfs.daemon.sources import Fetcher, Source
    from torrentfs.metainfo.magnet import Magnet
    from torrentfs.metainfo.torrent_file import Metainfo


class Session(Protocol):
    """What is needed of a session (engine.session)."""

    @property
    def client(self) -> Fetcher: ...
    @property
    def dht(self) -> Publications | None: ...
    async def resolve(
        self,
        magnet: Magnet,
        *,
        timeout: float,
        on_progress: Callable[[str], None] | None = None,
    ) -> Metainfo: ...
    async def add(
        self,
        metainfo: Metainfo,
        *,
        trackers: Sequence[str] = (),
        web_seeds: Sequence[str] = (),
        peers: Sequence[tuple[str, int]] = (),
        select: Sequence[range] = (),
    ) -> Any: ...
    async def shelve(
        self,
        metainfo: Metainfo,
        *,
        trackers: Sequence[str] = (),
        web_seeds: Sequence[str] = (),
        peers: Sequence[tuple[str, int]] = (),
        select: Sequence[range] = (),
        eager: bool = False,
    ) -> Any: ...


@dataclass(frozen=True, slots=True)
class Beside:
    """Where to ask beside what the torrents themselves say."""

    trackers: tuple[str, ...] = ()
    web_seeds: tuple[str, ...] = ()
    peers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A torrent's metadata, and what is known beside it; the fields are arguments of `add`."""

    metainfo: Metainfo
    beside: Beside
    select: tuple[range, ...] = ()

    async def add(self, session: Session) -> Any:
        """Start it in `session`, or return the running one."""
        return await session.add(
            self.metainfo,
            trackers=self.beside.trackers,
            web_seeds=self.beside.web_seeds,
            peers=self.beside.peers,
            select=self.select,
        )

    async def shelve(self, session: Session, *, eager: bool) -> Any:
        """Show it in `session`: it sleeps until it is read, unless it is `eager`."""
        return await session.shelve(
            self.metainfo,
            trackers=self.beside.trackers,
            web_seeds=self.beside.web_seeds,
            peers=self.beside.peers,
            select=self.select,
            eager=eager,
        )


async def find(
    session: Session,
    source: Source,
    beside: Beside,
    *,
    timeout: float,
    private: bool = False,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Found:
    """The metadata of `source`, looked for `timeout` seconds at most.

    `private` holds a magnet back from the DHT. Raises `ConfigError`, `InvalidTorrent` and
    `MetadataTimeout`, which name the source.
    """
    if isinstance(source, PublisherSource):
        on_progress(f"looking for the publisher of {shorten(source.text)}")
        source = await follow(session.dht, source, timeout=timeout, private=private)
    if not isinstance(source, MagnetSource):
        return Found(await load(source, session.client, timeout=timeout), beside)
    magnet = replace(
        source.magnet,
        trackers=(*source.magnet.trackers, *beside.trackers),
        web_seeds=(*source.magnet.web_seeds, *beside.web_seeds),
        peers=(*beside.peers, *source.magnet.peers),
    )
    name = shorten(magnet.name or magnet.hashes.key)
    on_progress(f"looking for the metadata of {name}")
    try:
        metainfo = await session.resolve(
            magnet, timeout=timeout, on_progress=lambda text: on_progress(f"{name}: {text}")
        )
    except trio.TooSlowError:
        raise MetadataTimeout(f"{name}: no metadata in {timeout:g} s") from None
    known = Beside(magnet.trackers, magnet.web_seeds, magnet.peers)
    return Found(metainfo, known, tuple(magnet.select))
