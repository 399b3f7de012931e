"""One connected peer: a task that receives, a task that sends, and the state between them.

The receiving task parses what came into events and hands them to the torrent's synchronous
methods; it never waits for anything but the socket (and the user's download limit). The sending
task (`sender`) takes what those methods queued. Requests are picked when blocks arrive, as many
as the queue has room for, and leave in one system call.

What a peer can make us do is bounded. Its messages are handled `BATCH` at a time, and others have
their turn between. While too much waits for a peer that does not read, nothing more is read from
it either (see `sender`); one that still does not read is silent to us, and goes as any silent one.
One that owes us blocks for `STALLED` seconds and brings none gives up its place.

Interest is kept up towards every peer that has a piece we lack, also while nobody reads: an
unchoked connection that is ready saves the first read a round trip, and costs no payload.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import trio

from torrentfs.engine import exchange
from torrentfs.engine.greeting import greeting
from torrentfs.engine.holepunch import Shares
from torrentfs.engine.sender import Sender
from torrentfs.engine.swarm import Ended
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling.picker import Request as BlockRequest
from torrentfs.scheduling.rates import Rate
from torrentfs.wire import messages as m
from torrentfs.wire.pex import Gossip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torrentfs.engine.torrent import Torrent
    from torrentfs.scheduling.picker import SourceId
    from torrentfs.transports.base import PeerStream
    from torrentfs.wire.connection import Connection

log = logging.getLogger(__name__)

KEEPALIVE = 100.0
"""Seconds of our silence after which a keep-alive goes out (peers close after 120, BEP 3)."""

SILENCE = 150.0
"""Seconds of their silence after which we close."""

BORED = 30.0
"""Seconds for which we keep up our interest in a peer that has nothing that we lack."""

STALLED = 60.0
"""Seconds for which a peer may owe us blocks and bring none; it lost them to others long before."""

BATCH = 1024
"""Messages of one peer handled in one go: 64 of them are blocks in a MiB of payload."""


class Peer:
    """A connection to a peer of `torrent`, over any kind of stream."""

    def __init__(
        self,
        torrent: Torrent,
        stream: PeerStream,
        connection: Connection,
        source: SourceId,
        address: tuple[str, int],
        now: float,
    ) -> None:
        self.torrent = torrent
        self.source = source
        self.address = address
        """As it was dialled: the host may be a name."""
        self.remote = stream.remote[:2]
        self.kind = stream.kind
        self.outgoing = False
        """Whether we dialled."""
        self.gossip = Gossip()
        self.shares = Shares(now)
        self.pieces = Bitfield(torrent.metainfo.geometry.num_pieces)
        self.sender = Sender(torrent, stream, connection, source, now)
        self.choked = True
        self.interested = False
        self._bored_since: float | None = None
        self.they_are_interested = False
        self.downloaded = 0
        self.down_rate = Rate()
        self.connected_at = now
        self.last_received = now
        self._stream = stream
        self._connection = connection
        self._owing_since: float | None = None
        self._announced: Bitfield | None = None
        self._closing: str | None = None

    # -- life ---------------------------------------------------------------------------------

    async def run(self) -> Ended:
        """Talk until the connection ends, and say why it did."""
        reason = "closed"
        self._greet()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.sender.run)
                await self._receive_loop()
        except* (RemoteProtocolError, TransportError) as group:
            reason = _first_words(group)
        useful = bool(self.downloaded or self.sender.uploads.uploaded)
        return Ended(self._closing or reason, useful)

    def close(self, reason: str) -> None:
        """End the connection from outside."""
        if self._closing is None:
            self._closing = reason
        self._stream.abort()

    async def _receive_loop(self) -> None:
        connection, stream = self._connection, self._stream
        limit = self.torrent.limits.download
        while True:
            # first what came in the same segment as the handshake, then what is yet to come
            while self._process(trio.current_time()):
                await trio.lowlevel.checkpoint()
            await self.sender.wait_for_room()
            buffer = connection.get_buffer()
            if limit.rate is not None:  # small bites, or a slow line would sleep long over each
                buffer = buffer[: max(BLOCK_LENGTH, limit.rate // 4)]
            received = await stream.receive_into(buffer)
            if not received:
                raise TransportError("closed the connection")
            connection.buffer_updated(received)
            self.last_received = trio.current_time()
            if limit.rate is not None:
                while self._process(self.last_received):  # a reader does not wait for the limit
                    await trio.lowlevel.checkpoint()
                await limit.take(received)

    def _process(self, now: float) -> bool:
        """Act on the next messages; True when there may be more. No checkpoint in here."""
        torrent = self.torrent
        blocks = 0
        interested = self.they_are_interested
        events = self._connection.events(BATCH)
        for event in events:
            if type(event) is m.Piece:
                if self.sender.kept:
                    self.sender.on_answered(event.piece, event.begin, len(event.data))
                torrent.on_block(self.source, event.piece, event.begin, event.data, now)
                blocks += len(event.data)
            else:
                handler = _HANDLERS.get(type(event))
                if handler is not None:
                    handler(self, event, now)
        if blocks:
            self.downloaded += blocks
            self.down_rate.add(blocks, now)
            self._owing_since = None
        if self.they_are_interested is not interested:
            torrent.serving.on_change(now)
        torrent.after_receiving(self, now)
        return len(events) >= BATCH

    # -- telling ------------------------------------------------------------------------------

    def wake(self) -> None:
        """The picker has something for this peer."""
        self.sender.wake()

    def cancel(self, request: BlockRequest) -> None:
        """Take back a request."""
        self.sender.cancel(request)

    def _greet(self) -> None:
        have = self.torrent.store.have
        self._connection.set_num_pieces(have.size)
        self._announced = have.copy()
        for message in greeting(self.torrent, self._connection, self.remote[0], self.kind):
            self.sender.send(message)
            if isinstance(message, m.AllowedFast):
                self.sender.uploads.allowed.add(message.piece)

    def tell_have(self, piece: int) -> None:
        """Queue a HAVE without waking the sending task: they go out with what comes next."""
        if self._announced is not None and self._announced.add(piece):
            self.sender.queue(m.Have(piece))

    def tell_dont_have(self, piece: int) -> None:
        """A piece was evicted: say so where BEP 54 is spoken."""
        if self._announced is None or not self._announced.discard(piece):
            return
        if "lt_donthave" in self._connection.their_extensions:
            self.sender.send(m.DontHave(piece))

    def wants_peers(self, now: float) -> bool:
        """Whether it speaks peer exchange, and may be told of others now."""
        return "ut_pex" in self._connection.their_extensions and self.gossip.is_due(now)

    def tell_peers(self, known: Mapping[tuple[str, int], int], now: float) -> None:
        """Tell what changed among `known` peers (addresses with flags) since it was told last."""
        message = self.gossip.next_message(known, now)
        if message is not None:
            self.sender.send(message)

    def _on_peer_exchange(self, event: m.PeerExchange, now: float) -> None:
        torrent = self.torrent
        if torrent.ways.peer_exchange and self.gossip.is_welcome(now):
            self.gossip.on_told(event)
            exchange.take(event, self.remote, torrent.swarm, torrent.listen_port)

    def _on_rendezvous(self, event: m.Rendezvous, now: float) -> None:
        self.torrent.punching.on_rendezvous(self, event.address, now)

    def _on_connect(self, event: m.Connect, now: float) -> None:
        self.torrent.punching.on_connect(self, event.address, now)

    def _on_rendezvous_failed(self, event: m.RendezvousFailed, now: float) -> None:
        self.torrent.punching.on_failed(self, event, now)

    def flush(self, now: float) -> None:
        """Once a second: send queued HAVEs, keep the connection alive, notice a dead one."""
        if self._bored_since is not None and now - self._bored_since > BORED:
            self._bored_since = None
            self.interested = False
            self.sender.send(m.NotInterested())
        if not self.torrent.picker.is_owing(self.source):
            self._owing_since = None
        elif self._owing_since is None:
            self._owing_since = now
        elif now - self._owing_since > STALLED:
            self.close(f"brought nothing of what it was asked for in {STALLED:.0f} s")
        if now - self.last_received > SILENCE:
            self.close(f"silent for {SILENCE:.0f} s")
        elif not self.sender.flush() and now - self.sender.last_sent > KEEPALIVE:
            self.sender.send(m.KeepAlive())

    # -- events -------------------------------------------------------------------------------

    def update_interest(self) -> None:
        """Say INTERESTED as soon as the peer has a piece that we lack.

        It is taken back only after `BORED` seconds (see `flush`): clients choke at once who loses
        interest, and libtorrent then waits 10 s before it unchokes again. That hits a reader
        when the cache gives up a piece of a torrent that was complete.
        """
        if not self.torrent.picker.is_interesting(self.source):
            if self.interested and self._bored_since is None:
                self._bored_since = trio.current_time()
            return
        self._bored_since = None
        if not self.interested:
            self.interested = True
            self.sender.send(m.Interested())

    def _on_pieces(self, pieces: Bitfield) -> None:
        self.pieces = pieces
        self.torrent.picker.on_bitfield(self.source, pieces)
        self.torrent.on_offer(self)
        self.update_interest()

    def _on_bitfield(self, event: m.BitfieldMessage, now: float) -> None:
        try:
            pieces = Bitfield.from_bytes(event.data, self.pieces.size)
        except ValueError as error:
            raise RemoteProtocolError(str(error)) from None
        self._on_pieces(pieces)

    def _on_have_all(self, event: m.HaveAll, now: float) -> None:
        self._on_pieces(Bitfield.full(self.pieces.size))

    def _on_have(self, event: m.Have, now: float) -> None:
        if self.pieces.add(event.piece):
            self.torrent.picker.on_have(self.source, event.piece)
            self.torrent.on_offer(self, event.piece)
            self.update_interest()

    def _on_dont_have(self, event: m.DontHave, now: float) -> None:
        if self.pieces.discard(event.piece):
            self.torrent.picker.on_dont_have(self.source, event.piece)

    def _on_choke(self, event: m.Choke, now: float) -> None:
        self.choked = True
        self.torrent.picker.on_choke(self.source, now, keeps_requests=self._connection.fast)

    def _on_unchoke(self, event: m.Unchoke, now: float) -> None:
        self.choked = False
        self.torrent.picker.on_unchoke(self.source, now)
        self.torrent.on_offer(self)

    def _on_interest(self, event: m.Interested | m.NotInterested, now: float) -> None:
        self.they_are_interested = isinstance(event, m.Interested)

    def _on_request(self, event: m.Request, now: float) -> None:
        self.sender.on_request(BlockRequest(*event))

    def _on_cancel(self, event: m.Cancel, now: float) -> None:
        self.sender.on_cancel(BlockRequest(event.piece, event.begin, event.length))

    def _on_reject(self, event: m.RejectRequest, now: float) -> None:
        request = BlockRequest(event.piece, event.begin, event.length)
        self.sender.on_answered(*request)
        self.torrent.picker.on_reject(self.source, request, now)

    def _on_allowed_fast(self, event: m.AllowedFast, now: float) -> None:
        self.torrent.picker.on_allowed_fast(self.source, event.piece)

    def _on_extension_handshake(self, event: m.ExtensionHandshake, now: float) -> None:
        if event.request_queue:
            self.torrent.picker.set_max_queue(self.source, event.request_queue)
        if event.your_ip:
            own = (event.your_ip, self.torrent.listen_port)
            self.torrent.swarm.book.on_told_own_address(own, self.remote[0])

    def _on_port(self, event: m.Port, now: float) -> None:
        if self.torrent.swarm.dht is not None:
            self.torrent.swarm.dht.on_node(self.remote[0], event.port)

    def _on_question(self, event: m.MetadataRequest | m.HashRequest, now: float) -> None:
        self.sender.on_question(event)

    def _on_hashes(self, event: m.Hashes, now: float) -> None:
        if event.base_layer and self.torrent.layers is not None:
            self.torrent.layers.on_hashes(self.source, event, now)
        else:
            self.torrent.leaves.on_hashes(self.source, event)

    def _on_hash_reject(self, event: m.HashReject, now: float) -> None:
        if event.base_layer and self.torrent.layers is not None:
            self.torrent.layers.on_reject(self.source, now)
        else:
            self.torrent.leaves.on_reject(self.source, event, now)
            self.torrent.schedule(now)

    @property
    def speaks_v2(self) -> bool:
        """Whether this connection is of the v2 torrent, so that hashes may be asked for (BEP 52):
        one side has named the v2 hash. libtorrent closes others where it is asked."""
        v2 = self.torrent.metainfo.hashes.v2
        hello = (self._connection.ours, self._connection.theirs)
        return v2 is not None and any(one is not None and one.info_hash == v2[:20] for one in hello)

    @property
    def punches(self) -> bool:
        """Whether it and we speak BEP 55 with each other."""
        speaks = "ut_holepunch" in self._connection.their_extensions
        return speaks and self.kind in exchange.KINDS and self.torrent.ways.hole_punching

    @property
    def listen_port(self) -> int | None:
        """Where it says that it can be called (BEP 10 `p`)."""
        theirs = self._connection.their_extension_handshake
        return (theirs.port or None) if theirs is not None else None

    @property
    def client(self) -> str:
        """The peer's program, from its extension handshake (BEP 10 `v`)."""
        theirs = self._connection.their_extension_handshake
        return (theirs.version if theirs is not None else None) or ""

    def __repr__(self) -> str:
        state = "choked" if self.choked else "open"
        return f"<Peer {self.kind} {self.address[0]}:{self.address[1]} {state} {self.pieces!r}>"


def _first_words(group: BaseExceptionGroup[BaseException]) -> str:
    """The words of an exception group's first leaf: one reason is enough for the peer book."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


_HANDLERS: dict[type, Callable[[Peer, Any, float], None]] = {
    m.BitfieldMessage: Peer._on_bitfield,
    m.HaveAll: Peer._on_have_all,
    m.Have: Peer._on_have,
    m.DontHave: Peer._on_dont_have,
    m.Choke: Peer._on_choke,
    m.Unchoke: Peer._on_unchoke,
    m.Interested: Peer._on_interest,
    m.NotInterested: Peer._on_interest,
    m.Request: Peer._on_request,
    m.Cancel: Peer._on_cancel,
    m.RejectRequest: Peer._on_reject,
    m.AllowedFast: Peer._on_allowed_fast,
    m.ExtensionHandshake: Peer._on_extension_handshake,
    m.Port: Peer._on_port,
    m.MetadataRequest: Peer._on_question,
    m.HashRequest: Peer._on_question,
    m.Hashes: Peer._on_hashes,
    m.PeerExchange: Peer._on_peer_exchange,
    m.Rendezvous: Peer._on_rendezvous,
    m.Connect: Peer._on_connect,
    m.RendezvousFailed: Peer._on_rendezvous_failed,
    m.HashReject: Peer._on_hash_reject,
}
"""What happens on each message; one not listed (suggest, unknown) needs nothing."""
