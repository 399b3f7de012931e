"""A session: what all torrents of one process share, and the nursery they live in.

It owns the cache, the one listener for all torrents, the HTTP client, the rate limits and the
peer id; `add` starts a torrent, `shelve` shows one that sleeps until it is read (see `dormant`),
`resolve` turns a magnet into its metainfo. Nothing is fetched for a torrent that is only added.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from random import Random
from types import EllipsisType
from typing import TYPE_CHECKING

import trio

from torrentfs import __version__
from torrentfs.discovery.dht.node import DhtNode
from torrentfs.discovery.lsd import LocalDiscovery
from torrentfs.discovery.trackers import Totals
from torrentfs.discovery.udp import resolve_datagram
from torrentfs.engine.dialling import HANDSHAKE_TIMEOUT, Dialler, exchange_hello
from torrentfs.engine.dormant import Dormant, Shelving, check_readable
from torrentfs.engine.dormitory import Dormitory
from torrentfs.engine.limits import Limits, RateLimit
from torrentfs.engine.meters import ReadMeters
from torrentfs.engine.outfit import Outfitter, totals_of
from torrentfs.engine.privacy import behind_proxy, proxy_words, ways
from torrentfs.engine.signalling import open_signalling
from torrentfs.engine.stats import SessionStatistics
from torrentfs.engine.succession import Succession, part
from torrentfs.engine.swarm import Places, Swarm
from torrentfs.engine.whereabouts import Whereabouts
from torrentfs.errors import (
    ConfigError,
    InvalidTorrent,
    MetadataTimeout,
    RemoteProtocolError,
    TransportError,
)
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.scheduling.turns import Turns
from torrentfs.storage.base import CacheConfig
from torrentfs.storage.store import TorrentStore
from torrentfs.storage.tiered import Cache, open_cache
from torrentfs.transports.encrypted import accept
from torrentfs.transports.http import HttpClient
from torrentfs.transports.listener import Listener
from torrentfs.transports.udp_port import UdpPort
from torrentfs.transports.utp import Utp
from torrentfs.wire.connection import Connection
from torrentfs.wire.peer_id import make_peer_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path

    from torrentfs.engine.config import SessionConfig
    from torrentfs.engine.signalling import Signalling
    from torrentfs.engine.swarm import Address
    from torrentfs.engine.torrent import Torrent
    from torrentfs.metainfo.hashes import InfoHashes
    from torrentfs.metainfo.magnet import Magnet
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.originals import Originals
    from torrentfs.transports.base import PeerStream

log = logging.getLogger(__name__)

MAX_RESOLVED = 1000
"""Magnets whose peers are remembered until they are added."""

MAX_HEARD = 200
"""Peers that a magnet's metadata search passes on to its torrent."""

DHT_NODES = "dht-nodes"
"""The file in the cache's directory with nodes of the last time."""

CLIENT_VERSION = f"torrentfs/{__version__}"


class Session:
    """Torrents that share one process. Made by `open_session`."""

    def __init__(
        self,
        config: SessionConfig,
        cache: Cache,
        client: HttpClient,
        nursery: trio.Nursery,
        signalling: Signalling | None = None,
    ) -> None:
        self.config = config
        self.cache = cache
        self.client = client
        self.torrents: dict[str, Torrent] = {}
        self.port = 0
        self.whereabouts = Whereabouts(self)
        self.listener: Listener | None = None
        self.udp: UdpPort | None = None
        self.dialler = Dialler(config)
        self.lsd: LocalDiscovery | None = None
        self.dht: DhtNode | None = None
        self.meters = ReadMeters()
        """Reads of all torrents, those that sleep by now too."""
        self.signalling = signalling
        """Browsers as peers; None: the user wants none."""
        self._nursery = nursery
        self._rng = Random(os.urandom(16))
        self._peer_id = make_peer_id(os.urandom(12))
        self.limits = Limits(RateLimit(config.download_limit), RateLimit(config.upload_limit))
        self._places = Places(config.max_connections)
        self._swarms: dict[bytes, Swarm] = {}
        if signalling is not None:
            signalling.swarms = self._swarms
        self._heard: dict[str, list[Address]] = {}
        self._succession = Succession(nursery)
        self._adding = trio.Lock()
        self._outfitter = Outfitter(
            self,
            rng=self._rng,
            peer_id=self._peer_id,
            limits=self.limits,
            places=self._places,
            client_version=CLIENT_VERSION,
        )
        turns = Turns(config.max_active, config.idle_timeout or float("inf"))
        self.dormitory = Dormitory(self, turns, nursery)
        self.volumes: dict[str, Dormant] = self.dormitory.volumes
        """The torrents of `shelve`."""
        nursery.start_soon(self.dormitory.run)

    async def start_listening(self) -> None:
        """Open the port for incoming peers; before anything is added."""
        self.listener = Listener(self.config.port, bind=self.config.bind, blocks=self._blocks)
        await self._nursery.start(self.listener.serve, self._on_incoming)
        self.port = self.whereabouts.announced_port = self.listener.port

    async def start_datagrams(self) -> None:
        """Open the UDP port, of the same number if that is free; after `start_listening`."""
        try:
            self.udp = UdpPort(self.port or self.config.port, bind=self.config.bind)
        except ConfigError:
            if self.config.port:  # the user asked for this one
                raise
            self.udp = UdpPort(0, bind=self.config.bind)
        await self._nursery.start(self.udp.serve)

    async def start_utp(self) -> None:
        """Dial and be dialled over uTP as well; after `start_datagrams`."""
        assert self.udp is not None
        utp = Utp(self.udp)
        utp.blocks = self._blocks
        await self._nursery.start(utp.run, self._on_incoming)
        self.dialler = Dialler(self.config, utp, self.udp.port)
        if not self.port:
            self.port = self.whereabouts.announced_port = self.udp.port

    async def start_lsd(self) -> None:
        """Greet the local network; after the ports are open."""
        self.lsd = LocalDiscovery(self.port, bind=self.config.bind)
        await self._nursery.start(self.lsd.run)

    async def start_dht(self, keep: Path | None) -> None:
        """Become a node of the DHT; `keep` is where nodes are kept for the next time."""
        assert self.config.dht is not None
        assert self.udp is not None
        bootstrap, read_only = self.config.dht.bootstrap, self.config.dht.read_only
        self.dht = DhtNode(
            self.udp,
            bootstrap=bootstrap,
            keep=keep,
            read_only=read_only,
            blocks=self._blocks,
            resolve=partial(resolve_datagram, bind=self.config.bind),
        )
        await self._nursery.start(self.dht.run)

    def _blocks(self, host: str) -> bool:
        """Whether the user never wants to talk to this IP address."""
        return self.config.ip_filter is not None and self.config.ip_filter.blocks(host)

    def start_following(self) -> None:
        """Be where our interface is, and have the gateway let peers in; once the ports are open."""
        self._nursery.start_soon(self.whereabouts.follow)
        if self.config.port_mapping and self.port:
            self._nursery.start_soon(self.whereabouts.map_ports, self._rng)

    @property
    def announced_port(self) -> int:
        """Where peers reach our port from outside: another one behind some gateways."""
        return self.whereabouts.announced_port

    @property
    def swarms(self) -> Iterable[Swarm]:
        """Those that run now, each once."""
        return dict.fromkeys(self._swarms.values())

    async def resolve(
        self,
        magnet: Magnet,
        *,
        timeout: float,
        on_progress: Callable[[str], None] | None = None,
    ) -> Metainfo:
        """The metainfo of a magnet, from the cache or from the swarm.

        Raises `MetadataTimeout` after `timeout` seconds, saying what stood in the way, and
        `InvalidTorrent` when what has this hash is no torrent.
        """
        wanted = set(magnet.hashes.wire)
        for known in self._all():
            if wanted <= set(known.metainfo.hashes.wire):
                return known.metainfo
        stored = await self.cache.metadata(magnet.hashes)
        if stored is not None:
            try:
                return parse_torrent(stored.torrent)
            except InvalidTorrent as error:
                log.warning("the cached metadata of %s is damaged: %s", magnet.hashes, error)
        from torrentfs.engine.metadata import MetadataFetch  # a mount of files needs none

        fetch = MetadataFetch(
            magnet.hashes,
            peer_id=self._peer_id,
            config=self.config,
            places=self._places,
            client_version=CLIENT_VERSION,
            listen_port=self.announced_port,
            on_progress=on_progress,
        )
        tiers = [(url,) for url in magnet.trackers]
        trackers = self._outfitter.trackers
        fetch.swarm.trackers = trackers(tiers, fetch.swarm, lambda: Totals(0, 0, 1), private=None)
        fetch.swarm.dialler = self.dialler
        fetch.swarm.dht = self._outfitter.dht_source(fetch.swarm, None)
        fetch.swarm.add_peers(magnet.peers, "user")
        self._register(magnet.hashes, fetch.swarm)
        try:
            with trio.fail_after(timeout):
                metainfo = await fetch.run()
        except trio.TooSlowError:
            raise MetadataTimeout(
                f"no peer gave the metadata of {magnet.hashes} within {timeout:.0f} s "
                f"({fetch.words()})"
            ) from None
        finally:
            self._unregister(fetch.swarm)
        # peers of a torrent that turns out to be private came from who must not know of it
        if metainfo.private and fetch.asked_strangers:
            part(fetch.swarm.kept)
            heard = list(magnet.peers)
        else:
            self._succession.leave(metainfo.hashes.key, fetch.swarm.kept)
            heard = fetch.peers
        self._heard[metainfo.hashes.key] = list(heard[:MAX_HEARD])
        if len(self._heard) > MAX_RESOLVED:
            del self._heard[next(iter(self._heard))]
        return metainfo

    async def add(
        self,
        metainfo: Metainfo,
        *,
        trackers: Sequence[str] = (),
        web_seeds: Sequence[str] = (),
        peers: Iterable[Address] = (),
        select: Sequence[range] = (),
        originals: Originals | None = None,
    ) -> Torrent:
        """Start a torrent, or return the running one of the same info-hash.

        `trackers`, `web_seeds` and `peers` are used beside those of the torrent itself. With
        `originals` it is seeded from files in place, and nothing of it goes into the cache.
        Raises `InvalidTorrent` for a v2 torrent whose hashes are not all there.
        """
        check_readable(metainfo)
        if metainfo.hashes.key in self.volumes:
            raise ValueError(f"{metainfo.name} is shelved: wake it")
        async with self._adding:  # so that nobody adds the same torrent meanwhile
            torrent = self.torrents.get(metainfo.hashes.key)
            if torrent is None:
                torrent = await self._start(metainfo, trackers, web_seeds, select, originals)
        torrent.swarm.add_peers(peers, "user")
        torrent.swarm.add_peers(self._heard.pop(metainfo.hashes.key, ()), "metadata")
        return torrent

    async def _start(
        self,
        metainfo: Metainfo,
        trackers: Sequence[str],
        web_seeds: Sequence[str],
        select: Sequence[range],
        originals: Originals | None,
    ) -> Torrent:
        added = time.time()
        if originals is None:
            added = await self.cache.keep_metadata(metainfo, added)
        torrent = await self._outfitter.open(metainfo, added, select, originals)
        outfit = self._outfitter.outfit(metainfo, trackers, web_seeds, lambda: totals_of(torrent))
        await self._outfitter.equip(torrent, outfit, is_new=True)
        await self._nursery.start(self.run_torrent, torrent)
        self.torrents[metainfo.hashes.key] = torrent
        return torrent

    # -- torrents that sleep --------------------------------------------------------------------

    async def shelve(
        self,
        metainfo: Metainfo,
        *,
        added: float | None = None,
        trackers: Sequence[str] = (),
        web_seeds: Sequence[str] = (),
        peers: Sequence[Address] = (),
        select: Sequence[range] = (),
        eager: bool = False,
    ) -> Dormant:
        """A torrent that sleeps until it is read, or the known one of the same info-hash.

        `added` (Unix seconds) is when it came first; None: what the cache knows of that, or now.
        With `eager` it is active from the start, if a place is free, and when this returns.
        Raises `InvalidTorrent` for a v2 torrent whose hashes are not all there.
        """
        shelving = Shelving(
            metainfo=metainfo,
            added=added,
            trackers=trackers,
            web_seeds=web_seeds,
            peers=peers,
            select=select,
            eager=eager,
        )
        return (await self.shelve_many([shelving]))[0]

    async def shelve_many(self, shelvings: Sequence[Shelving]) -> list[Dormant]:
        """Shelve many at once, see `shelve`: one transaction of the catalog, no file is opened.

        Raises before anything is done if one of them cannot be read (`check_readable`).
        """
        for each in shelvings:
            if each.metainfo.hashes.key in self.torrents:
                raise ValueError(f"{each.metainfo.name} was added")
        found = await self.dormitory.shelve_many(shelvings)
        for dormant in found:
            dormant.add_peers(self._heard.pop(dormant.key, ()), "metadata")
        return found

    async def forget(self, key: str) -> None:
        """Stop a torrent of `shelve` and drop it; its reads fail. The cache keeps its pieces.

        Nothing happens if there is none of this info-hash.
        """
        self._heard.pop(key, None)
        dormant = self.volumes.get(key)
        if dormant is not None:
            await self.dormitory.forget(dormant, "the torrent was removed")

    def set_limits(
        self,
        *,
        download: int | EllipsisType | None = ...,
        upload: int | EllipsisType | None = ...,
        max_active: int | EllipsisType = ...,
    ) -> None:
        """Change what is given: rates in bytes a second (None: no limit), and places."""
        if not isinstance(download, EllipsisType):
            self.limits.download.set_rate(download)
        if not isinstance(upload, EllipsisType):
            self.limits.upload.set_rate(upload)
        if not isinstance(max_active, EllipsisType):
            self.dormitory.turns.places = max_active
            self.dormitory.look()

    async def open_dormant(self, dormant: Dormant) -> Torrent:
        """See `dormitory.Host`."""
        return await self._outfitter.open_dormant(dormant)

    async def close_torrent(self, torrent: Torrent) -> None:
        """See `dormitory.Host`."""
        assert isinstance(torrent.store, TorrentStore)
        await self.cache.close_torrent(torrent.store)

    async def run_torrent(
        self, torrent: Torrent, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Be active until cancelled: reach peers, and be reached by them."""
        swarm = torrent.swarm
        if swarm.trackers is not None:
            swarm.trackers.announced_port = self.announced_port
        if swarm.dht is not None:
            swarm.dht.announced_port = self.announced_port or None
        swarm.guests += self._succession.claim(torrent.metainfo.hashes.key)
        torrent.listen_port = self.announced_port
        self._register(torrent.metainfo.hashes, swarm, torrent.metainfo.private)
        try:
            await torrent.run(task_status)
        finally:
            part(swarm.guests)  # unless it took them
            self._unregister(swarm)

    @property
    def trouble(self) -> str:
        """What does not work as asked although everything goes on, in words; else empty."""
        troubles = [self.whereabouts.trouble] if self.whereabouts.trouble else []
        if self.cache.trouble is not None:
            place = self.cache.config.directory
            troubles.append(f"nothing is kept in the cache {place} for now: {self.cache.trouble}")
        return "; ".join(troubles)

    def fail_reads(self, reason: str) -> None:
        """Fail the blocked reads of every torrent, before an unmount."""
        for torrent in self._all():
            torrent.fail_reads(reason)

    def _all(self) -> list[Torrent | Dormant]:
        """What was added and what was shelved."""
        return [*self.torrents.values(), *self.volumes.values()]

    def statistics(self) -> SessionStatistics:
        """All torrents at this moment."""
        return SessionStatistics(
            port=self.port,
            proxy=proxy_words(self.config),
            dht=self.dht.statistics() if self.dht is not None else None,
            mapping=self.whereabouts.statistics(),
            webrtc=self.signalling.statistics() if self.signalling is not None else None,
            torrents=tuple(torrent.statistics() for torrent in self._all()),
        )

    def _register(self, hashes: InfoHashes, swarm: Swarm, private: bool | None = None) -> None:
        for form in hashes.wire:
            self._swarms[form] = swarm
        if self.lsd is not None and ways(self.config, private).local_discovery:
            self.lsd.add(hashes.wire, swarm.add_peers)
            swarm.is_local = self.lsd.works

    def _unregister(self, swarm: Swarm) -> None:
        for form in [form for form, known in self._swarms.items() if known is swarm]:
            del self._swarms[form]
            if self.lsd is not None:
                self.lsd.remove([form])
        swarm.is_local = False

    async def _on_incoming(self, stream: PeerStream) -> None:
        """A peer connected to our port: read its hello and hand it to its swarm."""
        connection = Connection()
        try:
            if self.config.encryption != "off":
                with trio.fail_after(HANDSHAKE_TIMEOUT):
                    stream = await accept(stream, self._swarms, policy=self.config.encryption)
            theirs = await exchange_hello(stream, connection, None)
        except trio.TooSlowError:
            stream.abort()
            return
        except (RemoteProtocolError, TransportError) as error:
            log.debug("incoming %s: %s", stream.remote, error)
            stream.abort()
            return
        swarm = self._swarms.get(theirs.info_hash)
        if swarm is None or not swarm.accept(stream, connection, theirs):
            stream.abort()

    def __repr__(self) -> str:
        return f"<Session port {self.port}, {len(self.torrents) + len(self.volumes)} torrents>"


@asynccontextmanager
async def open_session(config: SessionConfig, *, cached: bool = True) -> AsyncIterator[Session]:
    """Open cache, port and HTTP client; on leaving, stop torrents first and the cache last.

    Raises `ConfigError` when the port cannot be used. Without its directory the cache works from
    memory, and `Session.trouble` says so; with `cached` False it was never meant to have one.
    """
    config = behind_proxy(config)
    cache_config = CacheConfig(
        directory=config.cache_dir,
        size=config.cache_size,
        memory_limit=config.memory_limit,
        min_free=config.min_free,
    )
    async with (
        open_cache(cache_config) if cached else nullcontext(Cache(cache_config)) as cache,
        HttpClient(bind=config.bind, proxy=config.proxy, allow_local=config.allow_local) as client,
        open_signalling(config, client, Random(os.urandom(16))) as signalling,
        trio.open_nursery() as nursery,
    ):
        session = Session(config, cache, client, nursery, signalling)
        if config.tcp and config.listen:
            await session.start_listening()
        if config.utp or (config.tcp and config.dht is not None):
            await session.start_datagrams()
        if config.utp:
            await session.start_utp()
        if config.lsd and session.port:
            await session.start_lsd()
        if config.dht is not None and session.udp is not None:
            await session.start_dht(config.cache_dir / DHT_NODES if cached else None)
        session.start_following()
        try:
            yield session
        finally:
            session.fail_reads("torrentfs is shutting down")
            nursery.cancel_scope.cancel()
