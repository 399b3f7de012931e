"""From a SOURCE to a torrent in a session: whoever is asked for what, in one order for everybody.

A publisher's link becomes the magnet of his newest torrent (BEP 46); a magnet's metadata comes from
the cache or from peers; a path or URL is read. What the user knows beside the torrent (trackers,
web seeds, peers) is joined to what a magnet says, his own peers first. `find` does all that and
starts nothing; `Found.add` starts the torrent, `Found.shelve` shows one that sleeps. `open_source`
is for who reads without a mount.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import trio

from torrentfs.daemon.config import Beside
from torrentfs.daemon.contents import Contents
from torrentfs.daemon.following import dht_is_off, follow
from torrentfs.daemon.ranges import CHUNK, Ranges
from torrentfs.daemon.sources import MagnetSource, PublisherSource, load, shorten
from torrentfs.engine.privacy import trackers_of
from torrentfs.errors import MetadataTimeout
from torrentfs.metainfo.magnet import file_numbers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from torrentfs.daemon.config import OpenConfig
    from torrentfs.daemon.following import Publications
    from torrentfs.daemon.sources import DataSource, Fetcher, Source
    from torrentfs.metainfo.magnet import Magnet
    from torrentfs.metainfo.torrent_file import Metainfo


STREAMED = 256 * 1024
"""Bytes of one step of a stream."""


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
class Found:
    """A torrent's metadata, and what is known beside it; the fields are arguments of `add`."""

    metainfo: Metainfo
    beside: Beside
    select: tuple[range, ...] = ()
    magnet: Magnet | None = None
    """What the source itself said, if that is a magnet link."""

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

    async def open(self, session: Session) -> Opened:
        """Have it in `session` to be read; it meets its peers at once, and sleeps when idle."""
        torrent = await self.shelve(session, eager=True)
        # naming 200,000 files takes a second: the loop goes on meanwhile
        return await trio.to_thread.run_sync(Opened, torrent)


async def find(
    session: Session,
    source: Source | DataSource,
    beside: Beside,
    *,
    timeout: float,
    private: bool = False,
    dht_off: str = "",
    on_progress: Callable[[str], None] = lambda text: None,
) -> Found:
    """The metadata of `source`, looked for `timeout` seconds at most, publisher included.

    `private` takes a magnet for private until it is known; `dht_off` is the option that keeps it
    from the DHT, if any. Raises `ConfigError`, `InvalidTorrent` and `MetadataTimeout`, which name
    the source.
    """
    deadline = trio.current_time() + timeout
    if isinstance(source, PublisherSource):
        on_progress(f"looking for the publisher of {shorten(source.text)}")
        source = await follow(session.dht, source, timeout=timeout, off=dht_off)
    if not isinstance(source, MagnetSource):
        return Found(await load(source, session.client, timeout=timeout), beside)
    named = source.magnet.trackers
    magnet = replace(
        source.magnet,
        trackers=tuple(trackers_of(private, named, beside.trackers)),
        web_seeds=(*source.magnet.web_seeds, *beside.web_seeds),
        peers=(*beside.peers, *source.magnet.peers),
    )
    name = shorten(magnet.name or magnet.hashes.key)
    on_progress(f"looking for the metadata of {name}")
    try:
        metainfo = await session.resolve(
            magnet,
            timeout=max(deadline - trio.current_time(), 0.0),
            on_progress=lambda text: on_progress(f"{name}: {text}"),
        )
    except trio.TooSlowError:
        raise MetadataTimeout(f"{name}: no metadata in {timeout:g} s") from None
    trackers = tuple(trackers_of(metainfo.private, named, beside.trackers))
    known = Beside(trackers, magnet.web_seeds, magnet.peers)
    return Found(metainfo, known, tuple(magnet.select), source.magnet)


class Opened:
    """A torrent that is read without a mount: its files by path, and their bytes."""

    def __init__(self, torrent: Any) -> None:
        self.torrent = torrent
        metainfo = torrent.metainfo
        selected = file_numbers(torrent.select, len(metainfo.files))
        self.contents = Contents(metainfo, frozenset(selected))
        self.ranges = Ranges(torrent)

    @property
    def key(self) -> str:
        """The info-hash in hex, that of v2 where there are two."""
        return str(self.torrent.metainfo.hashes.key)

    async def read_on(self, file: int, offset: int, size: int) -> bytes:
        """Read as one who goes on reading from there: with read-ahead, as a mount has it."""
        return bytes(await self.torrent.read(file, offset, min(size, CHUNK)))

    async def stream(
        self, file: int, offset: int = 0, size: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes from `offset` on, `size` of them or all, in order; close it when done."""
        left = self.torrent.metainfo.geometry.file_lengths[file] - offset
        left = left if size is None else min(size, left)
        self.torrent.on_open(file)
        try:
            while left > 0:
                data = await self.read_on(file, offset, min(STREAMED, left))
                offset += len(data)
                left -= len(data)
                yield data
        finally:
            self.torrent.on_release(file)


async def open_source(
    session: Session,
    source: Source | DataSource,
    config: OpenConfig,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Opened:
    """Open the torrent of `source` in `session`; the errors are those of `find`."""
    return await (await find_to_read(session, source, config, on_progress)).open(session)


async def find_to_read(
    session: Session,
    source: Source | DataSource,
    config: OpenConfig,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Found:
    """The first half of `open_source`, which may take long; `Found.open` is the second."""
    return await find(
        session,
        source,
        config.beside,
        timeout=config.metadata_timeout,
        private=config.session.private,
        dht_off=dht_is_off(config.session),
        on_progress=on_progress,
    )
