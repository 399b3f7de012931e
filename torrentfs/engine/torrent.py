"""One torrent alive: it owns the state, and joins sources, scheduling, store and readers.

Every fact (a block came, a peer unchoked, a read parked, a piece was evicted) is a synchronous
method here; it updates the one state there is and says who should act next. Tasks do the waiting
and nothing else. No checkpoint lies between a decision and its effect, so no lock is needed.

Tasks of a torrent, all in its own nursery: the swarm (dialling, trackers, peers), the web seed
lanes, the verifying workers, the scheduling timer and a tick once a second. They are its *active*
life (`run`), which may end and begin again. Without it a torrent is only *open*: it answers what
the store has, and says by `on_demand` that it lacks something (see `dormant`).
"""

from __future__ import annotations

import itertools
import logging
from functools import cached_property
from typing import TYPE_CHECKING

import trio

from torrentfs.discovery.scrape import SCRAPE_TIME, scrape
from torrentfs.engine import exchange
from torrentfs.engine.assembly import Assembly
from torrentfs.engine.crowding import make_place
from torrentfs.engine.holdings import Holdings
from torrentfs.engine.holepunch import HolePunching
from torrentfs.engine.layers import Layers
from torrentfs.engine.leaves import Leaves
from torrentfs.engine.peer import Peer
from torrentfs.engine.privacy import ways
from torrentfs.engine.reader import Reader
from torrentfs.engine.report import (
    state_of,
    statistics_of,
    why_hopeless,
    why_missing,
    xattrs_of,
)
from torrentfs.engine.serving import Serving
from torrentfs.engine.wakeup import Wakeup
from torrentfs.engine.webseeds import LANES, WebSeedSource
from torrentfs.metainfo.siblings import pieces_of_siblings
from torrentfs.scheduling.background import WINDOW, Background
from torrentfs.scheduling.blame import Blame
from torrentfs.scheduling.picker import Picker, SourceKind
from torrentfs.scheduling.readheads import ReadAheadConfig, ReadHeads
from torrentfs.scheduling.turns import Need

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from torrentfs.engine.config import SessionConfig
    from torrentfs.engine.limits import Limits
    from torrentfs.engine.regulars import Regulars
    from torrentfs.engine.stats import TorrentStatistics
    from torrentfs.engine.swarm import Address, Ended, Swarm
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.scheduling.picker import SourceId
    from torrentfs.storage.base import PieceStore
    from torrentfs.transports.base import PeerStream
    from torrentfs.transports.webseed import WebSeed
    from torrentfs.wire import messages as m
    from torrentfs.wire.connection import Connection

log = logging.getLogger(__name__)

MAX_REMEMBERED = 1024
"""Addresses kept of peers that left: a lie may come to light after the liar has gone."""

ASSUMED_QUEUE = 250
"""Requests a peer holds until it says its `reqq` (BEP 10): what libtorrent assumes."""


class Torrent:
    """A torrent whose files can be read. Made by `Session.add`; `run` is its life."""

    def __init__(
        self,
        metainfo: Metainfo,
        store: PieceStore,
        *,
        config: SessionConfig,
        limits: Limits,
        added: float,
        rng: Random,
        client_version: str,
        listen_port: int,
        select: Sequence[range] = (),
    ) -> None:
        self.metainfo = metainfo
        self.store = store
        self.config = config
        self.limits = limits
        self.added = added
        self.select = tuple(select)
        self.client_version = client_version
        self.listen_port = listen_port
        self.ways = ways(config, metainfo.private)
        self.swarm: Swarm
        self.downloaded = 0
        self.inactive: str | None = None
        """Why nothing is asked of anybody now, in words, where that is known to end."""
        self.paused = False
        """Nothing is asked of anybody until the user wants it: no read waits for that."""
        self.on_demand: Callable[[], None] = lambda: None
        """Called while `inactive` when bytes are wanted that are not here."""
        self._in_vain = False
        self.picker = Picker(metainfo.geometry, stored=store.have)
        cache = max(config.cache_size, config.memory_limit)  # pieces beyond it stay in memory
        self.leaves = Leaves(
            metainfo,
            self.picker,
            on_leaves=lambda piece: self.assembly.on_leaves(piece),
            on_provable=lambda: self.heads.on_provable(),
        )
        by_block = Leaves.are_of_use(metainfo)
        self.heads = ReadHeads(
            metainfo.geometry,
            ReadAheadConfig.within(cache, config.readahead),
            self.leaves.is_provable if by_block else None,
        )
        self.background = Background(metainfo.geometry, min(WINDOW, cache // 8))
        """What is prefetched and pinned; `schedule` after a change."""
        self.reader = Reader(
            metainfo.name, metainfo.geometry, store, self.heads, self, timeout=config.read_timeout
        )
        self.holdings = Holdings(store, self.picker, self.peers, self._on_completed)
        self.assembly = Assembly(
            metainfo,
            self.picker,
            Blame(),
            store,
            on_verified=self.reader.on_piece,
            on_proved=self.reader.on_proved,
            on_stored=self._on_stored,
            on_guilty=self._on_guilty,
        )
        if by_block:
            self.assembly.leaves = self.leaves
        self.layers = Layers(metainfo, self._on_layers) if Layers.are_missing(metainfo) else None
        self.serving = Serving(
            metainfo, store, rng, allowed=config.upload, peers=self.peers, on_lost=self.lost
        )
        self._ids = itertools.count(1)
        self._sources: dict[SourceId, Peer | WebSeedSource] = {}
        self._addresses: dict[SourceId, Address] = {}
        self.seeds: list[WebSeed] = []
        """Those asked at the next `run`: a liar is taken out."""
        self.web_seeds: list[WebSeedSource] = []
        self.regulars: Regulars | None = None
        """Given by the session, which has the catalog."""
        self._agenda_versions = (-1, -1)
        self._timer = Wakeup()
        self._timer_at = float("inf")
        self._bytes_by_kind: dict[str, int] = {}

    # -- life ---------------------------------------------------------------------------------

    def attach_swarm(self, swarm: Swarm, seeds: Sequence[WebSeed]) -> None:
        """Give the torrent where its bytes come from; before `run`."""
        self.swarm = swarm
        swarm.is_awaited = self._is_awaited
        swarm.on_crowded = lambda: make_place(self.store.have, self.peers())
        self.punching = HolePunching(swarm, self.peers, self.listen_port)
        self.seeds = list(seeds)

    def _is_awaited(self) -> bool:
        return self.reader.waiting > 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be active until cancelled; may be called again then."""
        self.web_seeds = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.assembly.run)
            nursery.start_soon(self._timer_loop)
            nursery.start_soon(self._tick_loop)
            if self.regulars is not None:
                nursery.start_soon(self.regulars.run)
            if self.layers is not None:
                nursery.start_soon(self.layers.run)
            for seed in self.seeds:
                source = WebSeedSource(self, seed, next(self._ids))
                self.web_seeds.append(source)
                self._attach(source, SourceKind.WEB_SEED)
                nursery.start_soon(source.run)
            await nursery.start(self.swarm.run)
            self.schedule(trio.current_time())  # what was wanted before
            task_status.started()

    def rest(self, why: str) -> None:
        """Its active life is about to end, for now; `why` in words."""
        waits = self.reader.waiting > 0
        self._in_vain = self.inactive is None and waits and not self._sources
        self.inactive = why

    @property
    def need(self) -> Need:
        """What it lacks at this moment."""
        if self.reader.waiting or self.picker.lacks_urgent:
            return Need.READ
        return Need.AHEAD if self.picker.lacks_anything else Need.NOTHING

    def carry(self, past: TorrentStatistics) -> None:
        """Count on from what was counted before a nap."""
        self.downloaded = past.downloaded
        self.serving.uploaded = past.uploaded
        self.assembly.failures = past.hash_failures
        self._bytes_by_kind = dict(past.bytes_by_kind)

    async def talk(
        self, stream: PeerStream, connection: Connection, address: Address, *, outgoing: bool
    ) -> Ended:
        """The swarm connected a peer: make it a source until it goes (see `swarm.Talk`)."""
        peer = Peer(self, stream, connection, next(self._ids), address, trio.current_time())
        peer.outgoing = outgoing
        self._attach(peer, SourceKind.PEER)
        self._remember(peer.source, address)
        log.debug("%s: %r connected", self.metainfo.name, peer)
        try:
            return await peer.run()
        finally:
            self.detach(peer)

    def _attach(self, source: Peer | WebSeedSource, kind: SourceKind) -> None:
        now = trio.current_time()
        self._sources[source.source] = source
        most = LANES if kind is SourceKind.WEB_SEED else ASSUMED_QUEUE
        self.picker.add_source(source.source, kind, now, max_queue=most)
        if kind is SourceKind.WEB_SEED:
            self.schedule(now)

    def _remember(self, source: SourceId, address: Address) -> None:
        """Note who a source is, also for later; of those that left the oldest is forgotten."""
        self._addresses[source] = address
        if len(self._addresses) > MAX_REMEMBERED + len(self._sources):
            del self._addresses[next(old for old in self._addresses if old not in self._sources)]

    def detach(self, source: Peer | WebSeedSource) -> None:
        """A source is gone: what it was asked for is free for others."""
        if self._sources.pop(source.source, None) is None:
            return
        now = trio.current_time()
        self._bytes_by_kind[source.kind] = (
            self._bytes_by_kind.get(source.kind, 0) + source.downloaded
        )
        self.picker.remove_source(source.source, now)
        self.leaves.on_gone(source.source, now)
        if self.layers is not None:
            self.layers.on_gone(source.source)
        if isinstance(source, Peer):
            if not source.sender.uploads.choking:
                self.serving.on_change(now)
            if source.downloaded:
                self.swarm.book.on_gave(source.address)
            if self.regulars is not None:
                self.regulars.on_gone(source)
        self.schedule(now)

    # -- reading ------------------------------------------------------------------------------

    async def read(self, file: int, offset: int, size: int) -> bytes | memoryview:
        """Bytes of a file; see `reader.Reader.read`."""
        return await self.reader.read(file, offset, size)

    def on_open(self, file: int) -> None:
        """A program opened a file; nothing is fetched for that alone."""
        self.heads.on_open(file, trio.current_time())

    def on_release(self, file: int) -> None:
        """The last handle of one open is closed."""
        now = trio.current_time()
        self.heads.on_release(file, now)
        self.schedule(now)

    def fail_reads(self, reason: str) -> None:
        """Fail every waiting read now, and those to come that would wait (shutdown)."""
        self.reader.fail_all(reason)

    def hurry_reads(self, reason: str, seconds: float) -> None:
        """For so many seconds, fail reads for which nothing comes: somebody wants to unmount."""
        self.reader.hurry(reason, seconds)

    def schedule(self, now: float) -> None:
        """Bring demand to the picker, cancels and wake-ups to the sources."""
        self.leaves.check(now)
        for file in self.heads.take_played():
            siblings = pieces_of_siblings(self.metainfo, file, self.select)
            if siblings:
                self.background.begin(("siblings", file), siblings)
        while (self.heads.version, self.background.version) != self._agenda_versions:
            self.holdings.tell_lost()
            self._agenda_versions = self.heads.version, self.background.version
            agenda = self.background.below(self.heads.agenda(now), self.store.have)
            self.picker.set_agenda(agenda, now)
            for piece in self.picker.take_dropped():
                self.assembly.drop(piece)
            if self.assembly.leaves is not None:
                self.leaves.follow(agenda, now)  # who gives none of a piece makes it wanted whole
        if self.inactive is not None:
            if self.picker.lacks_anything:
                self.on_demand()
            return
        self.dispatch(now)

    def dispatch(self, now: float) -> None:
        """Bring cancels and wake-ups to the sources, and set the timer."""
        for source, request in self.picker.take_cancels():
            if source in self._sources:
                self._sources[source].cancel(request)
        for source in self.picker.to_wake(now):
            if source in self._sources:
                self._sources[source].wake()
        due = min(
            self.picker.next_wakeup(now) or float("inf"),
            self.heads.next_change(now) or float("inf"),
            self.leaves.next_check(),
        )
        if due < self._timer_at:
            self._timer_at = due
            self._timer.set()

    async def _timer_loop(self) -> None:
        """Call `schedule` when time alone changes what should be done (hedges, idle cursors)."""
        while True:
            with trio.move_on_at(self._timer_at) as scope:
                await self._timer.wait()
            if scope.cancelled_caught:
                self._timer_at = float("inf")
                try:
                    self.schedule(trio.current_time())
                except Exception:  # a bug of ours must cost this moment, not the mount
                    log.exception("%s: a bug while scheduling", self.metainfo.name)

    # -- facts from sources -------------------------------------------------------------------

    def on_block(
        self, source: SourceId, piece: int, begin: int, data: m.Buffer, now: float
    ) -> None:
        """A source delivered a block."""
        if self.assembly.on_block(source, piece, begin, data, now):
            self.downloaded += len(data)
            if self.reader.breaker.is_open:
                self.reader.breaker.on_progress()

    def after_receiving(self, peer: Peer, now: float) -> None:
        """A batch of events is done: ask for more where there is room now."""
        peer.sender.request_more(now)
        self.dispatch(now)

    def on_offer(self, peer: Peer, piece: int | None = None) -> None:
        """A peer has more (this piece), or serves us now: a dead torrent may be alive again."""
        if self.reader.breaker.is_open and piece is not None:
            self.reader.breaker.on_offer_of(piece)
        elif self.reader.breaker.is_open:
            self.reader.breaker.on_offer(peer.pieces)
        if self.assembly.leaves is not None:
            self.leaves.on_offer(peer, trio.current_time())
        if self.layers is not None:
            self.layers.on_offer(peer, trio.current_time())

    def _on_layers(self, metainfo: Metainfo) -> None:
        """Piece layers came, of a hybrid torrent that was read as v1: blocks can be proved."""
        self.metainfo = metainfo
        self.serving.on_layers(metainfo)
        self.leaves.on_layers(metainfo)
        self.schedule(trio.current_time())

    def is_held(self, piece: int) -> bool:
        """Whether a connected peer or a web seed has a piece. Where nobody was asked yet: maybe."""
        if self.inactive is not None:
            return not self._in_vain
        return any(
            piece in source.pieces if isinstance(source, Peer) else source.seed.has(piece)
            for source in self._sources.values()
        )

    def is_proved(self, piece: int, begin: int, length: int) -> bool:
        """Whether bytes of a piece that is not whole are proved."""
        return self.assembly.is_proved(piece, begin, length)

    def read_proved(self, piece: int, begin: int, length: int) -> bytes | memoryview | None:
        """Proved bytes of a piece that is not whole, or None."""
        return self.assembly.read_proved(piece, begin, length)

    def giver(self) -> str:
        """The kind of source that gave the last of what the reader is told of just now."""
        source = self._sources.get(self.assembly.giver or 0)
        return source.kind if source is not None else "gone"

    def progress_of(self, piece: int) -> float | None:
        """When bytes of a partial piece last came."""
        return self.assembly.progress_of(piece)

    def lost(self, piece: int) -> None:
        """The store no longer has a piece."""
        self.on_evicted([piece])

    def on_evicted(self, pieces: Sequence[int]) -> None:
        """The cache gave up pieces to make room, or found them damaged."""
        self.holdings.on_evicted(pieces)

    def _on_stored(self, piece: int) -> None:
        self.holdings.on_stored(piece)
        if self.background.on_stored(piece):
            self.schedule(trio.current_time())

    def _on_completed(self) -> None:
        if self.swarm.trackers is not None:
            self.swarm.trackers.announce_completed()

    def _on_guilty(self, source_id: SourceId, reason: str) -> None:
        """A source sent wrong bytes: never again."""
        source = self._sources.get(source_id)
        address = self._addresses.get(source_id)
        if address is not None:
            log.info("%s: banned %s:%d: %s", self.metainfo.name, *address, reason)
            self.swarm.ban(address, reason)
            if isinstance(source, Peer) and source.remote != address:  # dialled by name
                self.swarm.ban(source.remote, reason)
        if source is not None:
            if isinstance(source, WebSeedSource):
                log.info("%s: web seed %s dropped: %s", self.metainfo.name, source.seed.url, reason)
                self.seeds.remove(source.seed)
            source.close(reason)

    # -- time ---------------------------------------------------------------------------------

    async def _tick_loop(self) -> None:
        downloaded = 0
        while True:
            await trio.sleep(1)
            now = trio.current_time()
            try:
                for peer in self.peers():
                    peer.flush(now)
                self.serving.tick(now)
                self.leaves.tick(self.peers(), now)
                if self.ways.peer_exchange:
                    exchange.tell(self.peers(), now)
                    self.punching.tick(now)
                if self.layers is not None:
                    self.layers.tick(self.peers(), now)
                if self.holdings.lost:
                    self.holdings.tell_lost()
                    self.dispatch(now)
                if self.reader.waiting and self.downloaded == downloaded:
                    self.swarm.want_peers()
                downloaded = self.downloaded
            except Exception:  # a bug of ours must cost this second, not the mount
                log.exception("%s: a bug in the tick", self.metainfo.name)

    # -- words --------------------------------------------------------------------------------

    @cached_property
    def size(self) -> int:
        """Bytes of all files, padding left out; looked at often, and 100,000 files take 0.1 s."""
        return sum(file.length for file in self.metainfo.files if not file.pad)

    @property
    def uploaded(self) -> int:
        """Bytes of blocks sent to peers."""
        return self.serving.uploaded

    @property
    def sources(self) -> Sequence[Peer | WebSeedSource]:
        """Everything that can give bytes now."""
        return tuple(self._sources.values())

    def peers(self) -> list[Peer]:
        """The connected peers."""
        return [s for s in self._sources.values() if isinstance(s, Peer)]

    def bytes_by_kind(self) -> dict[str, int]:
        """Bytes received by kind of source, those that left included."""
        found = dict(self._bytes_by_kind)
        for source in self._sources.values():
            found[source.kind] = found.get(source.kind, 0) + source.downloaded
        return found

    def hopeless(self) -> str | None:
        """Why no missing byte can ever come, or None while one may (see `Supply`)."""
        return why_hopeless(self)

    def why_missing(self, piece: int) -> str:
        """Why a piece is not here, in words."""
        return why_missing(self, piece)

    def xattrs(self) -> Mapping[str, str]:
        """What `--xattrs` shows of this torrent, by name without the `user.torrentfs.` prefix."""
        return xattrs_of(self.statistics())

    @property
    def state(self) -> str:
        """stalled, fetching, complete or ready."""
        return state_of(self)

    async def scrape(self, *, within: float = SCRAPE_TIME) -> None:
        """Ask the trackers for their counts of peers, for `statistics` (see `discovery.scrape`).

        Returns within so many seconds. For several torrents at once give their trackers to that.
        """
        await scrape(filter(None, [self.swarm.trackers]), within=within)

    def statistics(self) -> TorrentStatistics:
        """Everything worth knowing at this moment."""
        return statistics_of(self)

    def __repr__(self) -> str:
        return f"<Torrent {self.metainfo.name!r} {self.store.have!r} {len(self._sources)} sources>"
