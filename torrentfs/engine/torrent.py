"""One torrent alive: it owns the state, and joins sources, scheduling, store and readers.

Every fact (a block came, a peer unchoked, a read parked, a piece was evicted) is a synchronous
method here; it updates the one state there is and says who should act next. Tasks do the waiting
and nothing else. No checkpoint lies between a decision and its effect, so no lock is needed.

Tasks of a torrent, all in its own nursery: the swarm (dialling, trackers, peers), the web seed
lanes, the verifying workers, the scheduling timer and a tick once a second.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

import trio

from torrentfs.engine.assembly import Assembly
from torrentfs.engine.peer import Peer
from torrentfs.engine.reader import Reader
from torrentfs.engine.stats import PeerStatistics, TorrentStatistics
from torrentfs.engine.wakeup import Wakeup
from torrentfs.engine.webseeds import LANES, WebSeedSource
from torrentfs.errors import StorageError
from torrentfs.scheduling.blame import Blame
from torrentfs.scheduling.choker import RECHOKE_SECONDS, Choker, ChokerPeer
from torrentfs.scheduling.picker import Picker, SourceKind
from torrentfs.scheduling.readheads import ReadAheadConfig, ReadHeads
from torrentfs.wire.hash_exchange import HashServer
from torrentfs.wire.metadata import MetadataServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from torrentfs.engine.config import SessionConfig
    from torrentfs.engine.limits import Limits
    from torrentfs.engine.swarm import Address, Swarm
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.scheduling.picker import Request, SourceId
    from torrentfs.storage.tiered import TorrentStore
    from torrentfs.transports.base import PeerStream
    from torrentfs.transports.webseed import WebSeed
    from torrentfs.wire import messages as m
    from torrentfs.wire.connection import Connection

log = logging.getLogger(__name__)

ASSUMED_QUEUE = 250
"""Requests a peer holds until it says its `reqq` (BEP 10): what libtorrent assumes."""


class Torrent:
    """A torrent whose files can be read. Made by `Session.add`; `run` is its life."""

    def __init__(
        self,
        metainfo: Metainfo,
        store: TorrentStore,
        *,
        config: SessionConfig,
        limits: Limits,
        added: float,
        rng: Random,
        client_version: str,
        listen_port: int,
        select: Sequence[range] = (),
    ) -> None:
        now = trio.current_time()
        self.metainfo = metainfo
        self.store = store
        self.config = config
        self.limits = limits
        self.added = added
        self.select = tuple(select)
        self.client_version = client_version
        self.listen_port = listen_port
        self.swarm: Swarm
        self.uploaded = 0
        self.downloaded = 0
        self.picker = Picker(metainfo.geometry, stored=store.have)
        self.heads = ReadHeads(metainfo.geometry, ReadAheadConfig(readahead=config.readahead))
        self.assembly = Assembly(
            metainfo,
            self.picker,
            Blame(),
            store,
            on_verified=self._on_verified,
            on_guilty=self._on_guilty,
        )
        self.reader = Reader(
            metainfo.name,
            metainfo.geometry,
            store,
            self.heads,
            self,
            timeout=config.read_timeout,
        )
        self.metadata_server = MetadataServer(metainfo.info)
        self._hash_server = HashServer(metainfo)
        self._choker = Choker()
        self._rng = rng
        self._ids = itertools.count(1)
        self._sources: dict[SourceId, Peer | WebSeedSource] = {}
        self._addresses: dict[SourceId, Address] = {}
        self._seeds: list[WebSeed] = []
        self._web_seeds: list[WebSeedSource] = []
        self._agenda_version = -1
        self._timer = Wakeup()
        self._timer_at = float("inf")
        self._bytes_by_kind: dict[str, int] = {}
        self._started = now

    # -- life ---------------------------------------------------------------------------------

    def attach_swarm(self, swarm: Swarm, seeds: Sequence[WebSeed]) -> None:
        """Give the torrent where its bytes come from; before `run`."""
        self.swarm = swarm
        self._seeds = list(seeds)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.assembly.run)
            nursery.start_soon(self._timer_loop)
            nursery.start_soon(self._tick_loop)
            for seed in self._seeds:
                source = WebSeedSource(self, seed, next(self._ids))
                self._web_seeds.append(source)
                self._attach(source, SourceKind.WEB_SEED)
                nursery.start_soon(source.run)
            await nursery.start(self.swarm.run)
            task_status.started()

    async def talk(
        self, stream: PeerStream, connection: Connection, address: Address, *, outgoing: bool
    ) -> bool:
        """The swarm connected a peer: make it a source until it goes (see `swarm.Talk`)."""
        peer = Peer(self, stream, connection, next(self._ids), address, trio.current_time())
        self._attach(peer, SourceKind.PEER)
        self._addresses[peer.source] = address
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

    def detach(self, source: Peer | WebSeedSource) -> None:
        """A source is gone: what it was asked for is free for others."""
        if self._sources.pop(source.source, None) is None:
            return
        now = trio.current_time()
        self._bytes_by_kind[source.kind] = (
            self._bytes_by_kind.get(source.kind, 0) + source.downloaded
        )
        self.picker.remove_source(source.source, now)
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
        if self.heads.version != self._agenda_version:
            self._agenda_version = self.heads.version
            self.picker.set_agenda(self.heads.agenda(now), now)
            for piece in self.picker.take_dropped():
                self.assembly.drop(piece)
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
                self.schedule(trio.current_time())

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
        peer.request_more(now)
        self.dispatch(now)

    def on_source_gained(self, source: Peer) -> None:
        """A peer said what it has: a dead torrent may be alive again."""
        self.reader.breaker.on_progress()
        self.dispatch(trio.current_time())

    def progress_of(self, piece: int) -> float | None:
        """When bytes of a partial piece last came."""
        return self.assembly.progress_of(piece)

    def lost(self, piece: int) -> None:
        """The store no longer has a piece."""
        self._on_evicted([piece])

    def _on_evicted(self, pieces: Sequence[int]) -> None:
        for piece in pieces:
            self.picker.on_lost(piece)
            for source in self._sources.values():
                if isinstance(source, Peer):
                    source.tell_dont_have(piece)
        for source in self._sources.values():
            if isinstance(source, Peer):
                source.update_interest()
        self.schedule(trio.current_time())

    on_evicted = _on_evicted

    def _on_verified(self, piece: int) -> None:
        self.reader.on_piece(piece)
        if self.store.have.complete and self.swarm.trackers is not None:
            self.swarm.trackers.announce_completed()
        for source in self._sources.values():
            if isinstance(source, Peer):
                source.tell_have(piece)
                source.update_interest()

    def _on_guilty(self, source_id: SourceId, reason: str) -> None:
        """A source sent wrong bytes: never again."""
        source = self._sources.get(source_id)
        address = self._addresses.get(source_id)
        if address is not None:
            log.info("%s: banned %s:%d: %s", self.metainfo.name, *address, reason)
            self.swarm.ban(address, reason)
        if source is not None:
            if isinstance(source, WebSeedSource):
                log.info("%s: web seed %s dropped: %s", self.metainfo.name, source.seed.url, reason)
            source.close(reason)

    # -- uploading ----------------------------------------------------------------------------

    @property
    def uploads_allowed(self) -> bool:
        """Whether the user lets us serve."""
        return self.config.upload

    def on_interest_changed(self, peer: Peer) -> None:
        """A peer wants, or no longer wants, pieces: a free slot may be used at once."""
        self._rechoke(trio.current_time())

    def _rechoke(self, now: float) -> None:
        if not self.config.upload:
            return
        peers = {p.source: p for p in self._sources.values() if isinstance(p, Peer)}
        facts = {
            source: ChokerPeer(
                interested=peer.they_are_interested,
                download_rate=peer.down_rate.per_second(now),
                upload_rate=peer.up_rate.per_second(now),
                connected_at=peer.connected_at,
            )
            for source, peer in peers.items()
        }
        self._choker.seeding = self.store.have.complete
        unchoked = self._choker.rechoke(facts, now, self._rng)
        for source, peer in peers.items():
            if source in unchoked:
                peer.unchoke()
            else:
                peer.choke()

    async def read_for_upload(
        self, store: TorrentStore, request: Request
    ) -> bytes | memoryview | None:
        """The bytes of a block a peer asked for, or None when they are gone."""
        if request.piece not in store.have:
            return None
        data = store.read_nowait(*request)
        if data is not None:
            return data
        try:
            return await store.read(*request)
        except StorageError:
            self.lost(request.piece)
            return None

    def answer_hashes(self, request: m.HashRequest) -> m.Hashes | m.HashReject:
        """Answer a BEP 52 hash request from the layers we know."""
        return self._hash_server.answer(request)

    async def _tick_loop(self) -> None:
        for second in itertools.count(1):
            await trio.sleep(1)
            now = trio.current_time()
            for source in list(self._sources.values()):
                if isinstance(source, Peer):
                    source.flush(now)
            if second % RECHOKE_SECONDS == 0:
                self._rechoke(now)

    # -- words --------------------------------------------------------------------------------

    def _peers(self) -> list[Peer]:
        return [s for s in self._sources.values() if isinstance(s, Peer)]

    def hopeless(self) -> str | None:
        """Why no missing byte can ever come, or None while one may (see `Supply`)."""
        if self._sources or len(self.swarm.book):
            return None
        if self.swarm.trackers is not None and self.config.tcp:
            return None
        return "; ".join(filter(None, ["no peer, tracker or web seed is left", self._complaints()]))

    def why_missing(self, piece: int) -> str:
        """Why a piece is not here, in words."""
        peers = self._peers()
        holders = [peer for peer in peers if piece in peer.pieces]
        choked = sum(peer.choked for peer in holders)
        words = []
        if not peers:
            words.append("no peers connected")
        elif not holders:
            words.append(f"none of {len(peers)} peers has it")
        elif choked == len(holders):
            words.append(f"choked by all {choked} peers that have it")
        else:
            words.append(f"asked {len(holders) - choked} peers, none delivered")
        return "; ".join(filter(None, [*words, self._complaints()]))

    def _complaints(self) -> str:
        """What trackers, web seeds and peers last complained of."""
        words = [
            f"web seed {source.seed.url}: {source.failure}"
            for source in self._web_seeds
            if source.failure
        ]
        if self.swarm.trackers is not None:
            words += [
                f"tracker {tracker.url}: {tracker.last_error}"
                for tracker in self.swarm.trackers.statistics()
                if tracker.last_error
            ]
        if self.swarm.last_failure is not None and not self._peers():
            words.append(f"last peer {self.swarm.last_failure}")
        return "; ".join(words)

    def xattrs(self) -> Mapping[str, str]:
        """What `--xattrs` shows of this torrent, by name without the `user.torrentfs.` prefix."""
        now = self.statistics()
        return {
            "infohash": now.key,
            "progress": f"{now.progress:.4f}",
            "state": now.state,
            "peers": str(len(now.peers)),
            "downloaded": str(now.downloaded),
            "wasted": str(now.wasted),
            "hash_failures": str(now.hash_failures),
        }

    def statistics(self) -> TorrentStatistics:
        """Everything worth knowing at this moment."""
        now = trio.current_time()
        sources = tuple(_describe(source, now) for source in self._sources.values())
        by_kind = dict(self._bytes_by_kind)
        for source in self._sources.values():
            by_kind[source.kind] = by_kind.get(source.kind, 0) + source.downloaded
        have = self.store.have
        if self.reader.breaker.is_open:
            state = "stalled"
        elif self.reader.waiting:
            state = "fetching"
        else:
            state = "complete" if have.complete else "ready"
        trackers = self.swarm.trackers.statistics() if self.swarm.trackers is not None else ()
        return TorrentStatistics(
            name=self.metainfo.name,
            key=self.metainfo.hashes.key,
            state=state,
            size=sum(file.length for file in self.metainfo.files if not file.pad),
            pieces_have=have.count,
            pieces_total=have.size,
            download_rate=sum(source.download_rate for source in sources),
            upload_rate=sum(source.upload_rate for source in sources),
            downloaded=self.downloaded,
            uploaded=self.uploaded,
            wasted=sum(by_kind.values()) - self.downloaded,
            hash_failures=self.assembly.failures,
            waiting_reads=self.reader.waiting,
            peers=sources,
            bytes_by_kind=by_kind,
            trackers=tuple(str(tracker) for tracker in trackers),
        )

    def __repr__(self) -> str:
        return f"<Torrent {self.metainfo.name!r} {self.store.have!r} {len(self._sources)} sources>"


def _describe(source: Peer | WebSeedSource, now: float) -> PeerStatistics:
    if isinstance(source, WebSeedSource):
        return PeerStatistics(
            address=source.seed.url,
            kind=source.kind,
            client="web seed",
            progress=1.0,
            downloaded=source.downloaded,
            uploaded=0,
            download_rate=source.down_rate.per_second(now),
            upload_rate=0.0,
            flags=source.failure or "D",
        )
    flags = ("d" if source.choked else "D") if source.interested else ""
    if source.they_are_interested:
        flags += "u" if source.uploads.choking else "U"
    return PeerStatistics(
        address=f"{source.address[0]}:{source.address[1]}",
        kind=source.kind,
        client=source.client,
        progress=source.pieces.count / source.pieces.size if source.pieces.size else 1.0,
        downloaded=source.downloaded,
        uploaded=source.uploads.uploaded,
        download_rate=source.down_rate.per_second(now),
        upload_rate=source.up_rate.per_second(now),
        flags=flags,
    )
