"""What a torrent needs around it: its store, its swarm, and who finds peers for that.

The *outfit*, the swarm with its trackers and the web seeds, is where bytes come from. It outlives
the torrent that it was made for: when that one sleeps, its outfit keeps peers, bans and the
intervals of trackers for the next one (see `dormant`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from torrentfs.discovery.dht.source import DhtSource
from torrentfs.discovery.trackers import Totals, TrackerTiers
from torrentfs.engine.dormant import Outfit
from torrentfs.engine.privacy import is_private, trackers_of, ways
from torrentfs.engine.regulars import Regulars
from torrentfs.engine.swarm import Swarm
from torrentfs.engine.torrent import Torrent
from torrentfs.scheduling.peerbook import FORMER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from torrentfs.discovery.dht.node import DhtNode
    from torrentfs.engine.config import SessionConfig
    from torrentfs.engine.dialling import Dialler
    from torrentfs.engine.dormant import Dormant
    from torrentfs.engine.limits import Limits
    from torrentfs.engine.meters import ReadMeters
    from torrentfs.engine.signalling import Signalling
    from torrentfs.engine.swarm import Address, Places
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.base import PieceStore
    from torrentfs.storage.originals import Originals
    from torrentfs.storage.tiered import Cache
    from torrentfs.transports.http import HttpClient
    from torrentfs.transports.webseed import WebSeed


class Owner(Protocol):
    """What is needed of a session, as it is at that moment."""

    @property
    def config(self) -> SessionConfig: ...
    @property
    def cache(self) -> Cache: ...
    @property
    def client(self) -> HttpClient: ...
    @property
    def port(self) -> int: ...
    @property
    def announced_port(self) -> int: ...
    @property
    def dialler(self) -> Dialler: ...
    @property
    def dht(self) -> DhtNode | None: ...
    @property
    def meters(self) -> ReadMeters: ...
    @property
    def signalling(self) -> Signalling | None: ...
    async def close_torrent(self, torrent: Torrent) -> None: ...


class Outfitter:
    """Makes torrents for one session, and what is around them."""

    def __init__(
        self,
        session: Owner,
        *,
        rng: Random,
        peer_id: bytes,
        limits: Limits,
        places: Places,
        client_version: str,
    ) -> None:
        self._session = session
        self._rng = rng
        self._peer_id = peer_id
        self._limits = limits
        self._places = places
        self._client_version = client_version

    async def open(
        self,
        metainfo: Metainfo,
        added: float,
        select: Sequence[range],
        originals: Originals | None,
    ) -> Torrent:
        """A torrent with its store; it has no swarm yet."""
        running: Torrent | None = None

        def on_evicted(pieces: Sequence[int]) -> None:
            if running is not None:  # before that, what is gone is gone from `store.have` alone
                running.on_evicted(pieces)

        store: PieceStore
        if originals is None:
            store = await self._session.cache.open_torrent(metainfo, on_evicted)
        else:
            store = originals
            originals.on_evicted = on_evicted
        running = Torrent(
            metainfo,
            store,
            config=self._session.config,
            limits=self._limits,
            added=added,
            rng=self._rng,
            client_version=self._client_version,
            listen_port=self._session.announced_port,
            select=select,
        )
        running.reader.meters = self._session.meters
        if running.layers is not None:
            running.layers.keep = partial(self._session.cache.keep_metadata, added=added)
        if originals is not None:
            originals.on_regained = running.holdings.on_regained
        return running

    def outfit(
        self,
        metainfo: Metainfo,
        trackers: Sequence[str],
        web_seeds: Sequence[str],
        totals: Callable[[], Totals],
    ) -> Outfit:
        """Where the bytes of a torrent come from."""
        swarm = Swarm(
            metainfo.hashes,
            None,
            peer_id=self._peer_id,
            config=self._session.config,
            places=self._places,
        )
        swarm.dialler = self._session.dialler
        return self._fitted(swarm, metainfo, trackers, web_seeds, totals)

    def _fitted(
        self,
        swarm: Swarm,
        metainfo: Metainfo,
        trackers: Sequence[str],
        web_seeds: Sequence[str],
        totals: Callable[[], Totals],
    ) -> Outfit:
        """`swarm` with those who find peers for it; the peers that it knows stay."""
        more = [(url,) for url in trackers]
        tiers = trackers_of(metainfo.private, metainfo.trackers, more)
        swarm.trackers = self.trackers(tiers, swarm, totals, private=metainfo.private)
        swarm.dht = self.dht_source(swarm, metainfo.private, metainfo.nodes)
        return Outfit(swarm, self._web_seeds(metainfo, web_seeds))

    async def equip(self, torrent: Torrent, outfit: Outfit, *, is_new: bool) -> None:
        """Give a torrent its outfit; a new one is told who was useful in an earlier run."""
        swarm = outfit.swarm
        swarm.talk = torrent.talk
        torrent.attach_swarm(*outfit)
        hashes = torrent.metainfo.hashes
        torrent.regulars = Regulars(hashes, self._session.cache, swarm.book, torrent.peers)
        former = await torrent.regulars.recall()
        if is_new:
            swarm.add_peers(former, FORMER)

    def _web_seeds(self, metainfo: Metainfo, more: Sequence[str]) -> list[WebSeed]:
        getright = dict.fromkeys([*metainfo.web_seeds, *more])
        if not self._session.config.web_seeds or not (getright or metainfo.http_seeds):
            return []
        from torrentfs.transports.webseed import WebSeed  # most torrents have none

        seeds = [WebSeed(url, metainfo, self._session.client) for url in getright]
        seeds += [
            WebSeed(url, metainfo, self._session.client, flavour="hoffman")
            for url in dict.fromkeys(metainfo.http_seeds)
            if metainfo.has_v1
        ]
        return seeds

    def trackers(
        self,
        tiers: Sequence[Sequence[str]],
        swarm: Swarm,
        totals: Callable[[], Totals],
        *,
        private: bool | None,
    ) -> TrackerTiers | None:
        """Who finds peers for `swarm`; None if no tracker is named. `private` None: not known."""
        if not any(tiers):
            return None
        signalling = self._session.signalling
        trackers = TrackerTiers(
            tiers,
            swarm.hashes.wire,
            self._peer_id,
            self._session.port,
            client=self._session.client,
            totals=totals,
            rng=self._rng,
            on_peers=swarm.on_tracker_peers,
            single=is_private(self._session.config, private),
            beside=(signalling.announcer(tiers, swarm, totals) if signalling is not None else None),
        )
        trackers.announced_port = self._session.announced_port
        return trackers

    def dht_source(
        self, swarm: Swarm, private: bool | None, nodes: Sequence[Address] = ()
    ) -> DhtSource | None:
        """The DHT for `swarm`, unless it must not be asked; `private` None: not known yet."""
        if self._session.dht is None or not ways(self._session.config, private).dht:
            return None
        source = DhtSource(
            self._session.dht,
            swarm.hashes.wire,
            port=self._session.port or None,
            on_peers=swarm.add_peers,
            nodes=nodes,
            urgent=private is None,  # a magnet, which somebody waits for
        )
        source.announced_port = self._session.announced_port or None
        return source

    async def open_dormant(self, dormant: Dormant) -> Torrent:
        """The torrent of a dormant, which gets its outfit if it has none yet."""
        metainfo = dormant.metainfo
        torrent = await self.open(metainfo, dormant.added, dormant.select, None)
        is_new = dormant.outfit is None
        told = metainfo, dormant.trackers, dormant.web_seeds, dormant.totals
        if dormant.outfit is None:
            dormant.outfit = self.outfit(*told)
        elif dormant.is_outdated:
            dormant.outfit = self._fitted(dormant.outfit.swarm, *told)
        dormant.is_outdated = False
        try:
            await self.equip(torrent, dormant.outfit, is_new=is_new)
        except BaseException:
            await self._session.close_torrent(torrent)
            raise
        for address, origin in dormant.peers:
            torrent.swarm.add_peers([address], origin)
        dormant.peers.clear()
        return torrent


def totals_of(torrent: Torrent) -> Totals:
    """What trackers are told of a torrent that never sleeps."""
    have = torrent.store.have
    left = torrent.metainfo.geometry.length
    if have.size:
        left = left * (have.size - have.count) // have.size
    return Totals(uploaded=torrent.uploaded, downloaded=torrent.downloaded, left=left)
