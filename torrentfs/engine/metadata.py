"""From a magnet to its info dictionary: ask every peer at once, believe only the hash (BEP 9).

Each peer that speaks `ut_metadata` is asked for all of it, into an assembler of its own, so a
peer that lies about the size or sends rubbish spoils nothing but its own attempt; the first
whose bytes hash to the info-hash wins. For a v2-only torrent the piece layers are fetched from
the same peer by BEP 52 hash requests, so that whoever gets the metainfo can verify every piece.

Who was met over WebRTC is kept for the torrent (`Swarm.kept`), whoever gave the metadata: he cannot
be called, and an offer that reaches him before he has noticed the end is passed over, for half a
minute. What he said meanwhile is given back to the connection, for the torrent to hear.

Memory is bounded: an attempt at `LARGE` bytes or more needs one of `LARGE_ATTEMPTS` turns. Who has
a turn and delivers nothing for `STALL` seconds, or less than `SLOWEST` while others wait, loses
it and the connection.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from torrentfs.engine import exchange
from torrentfs.engine.privacy import ways
from torrentfs.engine.succession import part
from torrentfs.engine.swarm import Ended, Met, Swarm
from torrentfs.errors import InvalidTorrent, RemoteProtocolError, TransportError
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.metainfo.torrent_file import parse_info
from torrentfs.wire import messages as m
from torrentfs.wire.hash_exchange import LayerFetch
from torrentfs.wire.metadata import MetadataAssembler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torrentfs.discovery.trackers import TrackerTiers
    from torrentfs.engine.config import SessionConfig
    from torrentfs.engine.swarm import Address, Places
    from torrentfs.metainfo.hashes import InfoHashes
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.transports.base import PeerStream
    from torrentfs.wire.connection import Connection

log = logging.getLogger(__name__)

LARGE = 1024 * 1024
"""Bytes of metadata from which attempts take turns; most torrents have some 50 KB."""

LARGE_ATTEMPTS = 3
"""Large attempts at once: two liars do not stand in the way of the third, and memory stays below
three times the most that metadata may have."""

STALL = 20.0
"""Seconds without anything of use after which a peer is given up."""

SLOWEST = 32 * 1024
"""Bytes a second that a large attempt has to deliver while others wait for their turn."""

WANT = 2.0
"""Seconds without a connected peer after which others are wanted; who is asked keeps his pace."""

MAX_UNHEARD = 4096
"""Messages for the torrent that are kept of one peer; who says more is not kept."""

WAKE = 1.0
"""Seconds between two looks of an attempt at the clock and at whether it is its turn."""


_FOR_THE_TORRENT = (
    *(m.BitfieldMessage, m.HaveAll, m.HaveNone, m.Have, m.DontHave, m.AllowedFast),
    *(m.Choke, m.Unchoke, m.Interested, m.NotInterested, m.ExtensionHandshake),
)


class MetadataFetch:
    """Gets the metainfo that hashes to `hashes` from a swarm; `run` until `result` is set."""

    def __init__(
        self,
        hashes: InfoHashes,
        *,
        peer_id: bytes,
        config: SessionConfig,
        places: Places,
        trackers: TrackerTiers | None = None,
        client_version: str,
        listen_port: int,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        self.hashes = hashes
        self.result: Metainfo | None = None
        self.peers: list[Address] = []
        """Whom to ask for the payload, the connected ones first; once there is a result."""
        self.large = 0
        """Large attempts under way."""
        self.queued = 0
        """Large attempts that wait for their turn."""
        self._ways = ways(config, None)
        self._client_version = client_version
        self._listen_port = listen_port
        self._on_progress = on_progress
        self._failure: InvalidTorrent | None = None
        self._done = trio.Event()
        self.swarm = Swarm(
            hashes, self._talk, peer_id=peer_id, config=config, places=places, trackers=trackers
        )
        self.swarm.is_awaited = self._is_awaited

    async def run(self) -> Metainfo:
        """Return the verified metainfo, as soon as one peer has given it.

        Raises `InvalidTorrent` when what has the right hash is no torrent.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.swarm.run)
                nursery.start_soon(self._want_peers)
                if self._on_progress is not None:
                    nursery.start_soon(self._report)
                await self._done.wait()
                nursery.cancel_scope.cancel()
        except BaseException:
            part(self.swarm.kept)
            raise
        if self._failure is not None:
            raise self._failure
        assert self.result is not None
        return self.result

    @property
    def asked_strangers(self) -> bool:
        """Whether peers may come from others than the magnet's trackers."""
        told = self._ways
        return self.swarm.dht is not None or told.peer_exchange or told.local_discovery

    def words(self) -> str:
        """How it goes, in words for the person who waits."""
        trackers = self.swarm.trackers
        complaints = [
            f"tracker {tracker.url}: {tracker.last_error}"
            for tracker in (trackers.statistics() if trackers is not None else ())
            if tracker.last_error
        ]
        dht = self.swarm.dht
        if dht is not None:
            complaints.append(dht.words())
        if self.swarm.last_failure is not None:
            complaints.append(f"last peer {self.swarm.last_failure}")
        connected = len(self.swarm.connected)
        known = len(self.swarm.book)
        hopeful = trackers is not None or (dht is not None and dht.has_hope)
        if not hopeful and not known and not connected:
            return "no tracker and no peer is known: name one with --tracker or --peer"
        return "; ".join([f"{connected} of {known} known peers connected", *complaints])

    def _is_awaited(self) -> bool:
        return not self._done.is_set()

    async def _want_peers(self) -> None:
        """The peers that were named may all be gone: ask again while nobody is connected."""
        while True:
            await trio.sleep(WANT)
            if not self.swarm.connected:
                self.swarm.want_peers()

    def on_exchange(self, event: m.PeerExchange, host: str) -> None:
        """The peer at `host` names others."""
        if self._ways.peer_exchange:
            exchange.take(event, (host, 0), self.swarm, self._listen_port)

    async def _report(self) -> None:
        assert self._on_progress is not None
        while True:
            self._on_progress(self.words())
            await trio.sleep(0.5)

    async def _talk(
        self, stream: PeerStream, connection: Connection, address: Address, *, outgoing: bool
    ) -> Ended:
        if not connection.extensions:
            raise RemoteProtocolError("cannot give metadata (no BEP 10)")
        attempt = _Attempt(self, connection, stream.remote[0])
        in_step = False  # nothing half sent, nothing wrong: somebody else could go on
        hello = [connection.send(m.HaveNone())] if connection.fast else []
        ours = m.ExtensionHandshake(
            extensions=exchange.extensions(exchange=self._ways.peer_exchange, punching=False),
            version=self._client_version,
            port=self._listen_port or None,
        )
        try:
            await stream.send_many([*hello, connection.send(ours)])
            while not self._done.is_set():
                in_step = False
                answers = attempt.process(trio.current_time())
                if attempt.metainfo is not None and attempt.complete:
                    self._finish(attempt.metainfo)
                    in_step = not answers
                    break
                if answers:
                    with trio.move_on_after(STALL) as scope:
                        await stream.send_many(answers)
                    if scope.cancelled_caught:
                        raise RemoteProtocolError("does not read what we ask")
                in_step = True
                with trio.move_on_after(WAKE):
                    received = await stream.receive_into(connection.get_buffer())
                    if not received:
                        in_step = False
                        raise RemoteProtocolError("closed before it gave the metadata")
                    connection.buffer_updated(received)
        except InvalidTorrent as error:  # it has the right hash: nobody can give a better one
            self._failure = error
            self._done.set()
        except TransportError:
            in_step = False
            raise
        finally:
            attempt.end()
            if in_step and self.result is not None and stream.kind == "webrtc":
                self._keep(Met(stream, connection, outgoing), attempt.unheard)
        return Ended("we have the metadata", attempt.metainfo is not None)

    def _keep(self, met: Met, unheard: Sequence[m.Message]) -> None:
        if len(unheard) <= MAX_UNHEARD:
            met.connection.give_back(unheard)
            self.swarm.kept.append(met)

    def _finish(self, metainfo: Metainfo) -> None:
        if self.result is None:
            self.result = metainfo
            self.peers = self.swarm.book.addresses()
            if self.swarm.trackers is not None:  # the torrent announces itself in a moment
                self.swarm.trackers.says_stopped = False
            self._done.set()


class _Attempt:
    """What one peer has given so far. `process` is synchronous: messages in, messages out."""

    def __init__(self, fetch: MetadataFetch, connection: Connection, host: str) -> None:
        self.metainfo: Metainfo | None = None
        """Known and verified, piece layers apart."""
        self.unheard: list[m.Message] = []
        """What it said that matters to the torrent only."""
        self._fetch = fetch
        self._connection = connection
        self._host = host
        self._offer: int | None = None
        self._assembler: MetadataAssembler | None = None
        self._layers: LayerFetch | None = None
        self._since = self._useful_at = trio.current_time()
        self._received = 0
        self._is_large = False
        self._is_queued = False

    @property
    def complete(self) -> bool:
        """Whether nothing is missing any more."""
        return self.metainfo is not None and (self._layers is None or self._layers.done)

    def process(self, now: float) -> list[bytes]:
        """Act on what came; returns what to send. Raises `RemoteProtocolError`."""
        answers: list[m.Message] = []
        for event in self._connection.events():
            if isinstance(event, m.ExtensionHandshake):
                if event.metadata_size and "ut_metadata" in event.extensions:
                    self._offer = self._offer or event.metadata_size
            elif isinstance(event, m.PeerExchange):
                self._fetch.on_exchange(event, self._host)
            elif isinstance(event, m.MetadataData):
                self._on_data(event, now)
            elif isinstance(event, m.MetadataRequest):
                answers.append(m.MetadataReject(event.piece))
            elif isinstance(event, m.MetadataReject):
                raise RemoteProtocolError("does not have the metadata either")
            elif isinstance(event, m.Port):
                if self._fetch.swarm.dht is not None:
                    self._fetch.swarm.dht.on_node(self._host, event.port)
            elif isinstance(event, m.Hashes) and self._layers is not None:
                self._layers.on_hashes(event)
                self._useful_at = now
            elif isinstance(event, m.HashReject) and self._layers is not None:
                raise RemoteProtocolError("does not have the piece layers")
            if isinstance(event, _FOR_THE_TORRENT) and len(self.unheard) <= MAX_UNHEARD:
                self.unheard.append(event)
        self._begin(now)
        if self._assembler is not None:
            answers += self._assembler.requests()
        if self._layers is not None:
            answers += self._layers.requests()
            if self._layers.done and self.metainfo is not None:
                self.metainfo = self.metainfo.with_piece_layers(self._layers.layers)
        if not self.complete:
            self._check_pace(now)
        return [self._connection.send(answer) for answer in answers]

    def _on_data(self, event: m.MetadataData, now: float) -> None:
        assembler = self._assembler
        if assembler is None:
            return
        before = assembler.received
        assembler.on_data(event.piece, event.total_size, event.data)
        if assembler.received > before:
            self._received += len(event.data)
            self._useful_at = now
        if assembler.result is not None and self.metainfo is None:
            self.metainfo = parse_info(assembler.result, self._fetch.hashes)
            if not self.metainfo.has_v1:
                self._connection.set_num_pieces(self.metainfo.geometry.num_pieces)
                self._layers = LayerFetch(self.metainfo)

    def _begin(self, now: float) -> None:
        """Start when the peer has said a size, and it is this attempt's turn."""
        if self._offer is None or self._assembler is not None:
            return
        fetch = self._fetch
        if self._offer >= LARGE and fetch.large >= LARGE_ATTEMPTS:
            if not self._is_queued:
                self._is_queued = True
                fetch.queued += 1
            self._useful_at = now  # it is not the peer's fault
            return
        self._assembler = MetadataAssembler(self._offer, fetch.hashes)
        self._leave_queue()
        self._is_large = self._offer >= LARGE
        fetch.large += self._is_large
        self._since = self._useful_at = now

    def _check_pace(self, now: float) -> None:
        if now - self._useful_at > STALL:
            raise RemoteProtocolError(f"gave no metadata for {STALL:.0f} s")
        lasted = now - self._since
        if (
            self._is_large
            and self._fetch.queued
            and lasted > STALL
            and self._received + BLOCK_LENGTH < SLOWEST * lasted
        ):
            raise RemoteProtocolError("gives metadata too slowly, and others wait")

    def _leave_queue(self) -> None:
        self._fetch.queued -= self._is_queued
        self._is_queued = False

    def end(self) -> None:
        """Over: the next one may have the turn."""
        self._leave_queue()
        self._fetch.large -= self._is_large
        self._is_large = False
