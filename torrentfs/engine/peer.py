"""One connected peer: a task that receives, a task that sends, and the state between them.

The receiving task parses what came into events and hands them to the torrent's synchronous
methods; it never waits for anything but the socket (and the user's download limit). The sending
task takes what those methods queued: messages first, then blocks the peer asked for. Requests
are picked when blocks arrive, as many as the queue has room for, and leave in one system call.

Interest is kept up towards every peer that has a piece we lack, also while nobody reads: an
unchoked connection that is ready saves the first read a round trip, and costs no payload.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import trio

from torrentfs.engine.uploads import MAX_REQUEST_LENGTH, MAX_REQUESTS, UploadQueue
from torrentfs.engine.wakeup import Wakeup
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.scheduling.picker import Request as BlockRequest
from torrentfs.scheduling.rates import Rate
from torrentfs.wire import messages as m
from torrentfs.wire.extension import OUR_EXTENSIONS
from torrentfs.wire.fast import allowed_fast_set

if TYPE_CHECKING:
    from collections.abc import Callable

    from torrentfs.engine.torrent import Torrent
    from torrentfs.scheduling.picker import SourceId
    from torrentfs.transports.base import PeerStream
    from torrentfs.wire.connection import Connection

log = logging.getLogger(__name__)

KEEPALIVE = 100.0
"""Seconds of our silence after which a keep-alive goes out (peers close after 120, BEP 3)."""

SILENCE = 150.0
"""Seconds of their silence after which we close."""

UPLOAD_BATCH = 16
"""Blocks sent in one system call: 256 KiB, a socket buffer's worth."""


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
        self.kind = stream.kind
        self.pieces = Bitfield(torrent.metainfo.geometry.num_pieces)
        self.uploads = UploadQueue()
        self.choked = True
        self.interested = False
        self.they_are_interested = False
        self.downloaded = 0
        self.down_rate = Rate()
        self.up_rate = Rate()
        self.connected_at = now
        self.last_received = now
        self.last_sent = now
        self._stream = stream
        self._connection = connection
        self._outbox: list[bytes | memoryview] = []
        self._wakeup = Wakeup()
        self._must_pick = False
        self._announced: Bitfield | None = None
        self._closing: str | None = None

    # -- life ---------------------------------------------------------------------------------

    async def run(self) -> bool:
        """Talk until the connection ends; True when the peer gave us something.

        Raises `RemoteProtocolError` or `TransportError` with the reason.
        """
        self._greet()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_loop)
                await self._receive_loop()
        except* (RemoteProtocolError, TransportError) as group:
            raise _first(group) from None
        return self.downloaded > 0

    def close(self, reason: str) -> None:
        """End the connection from outside."""
        self._closing = reason
        self._stream.abort()

    async def _receive_loop(self) -> None:
        connection, stream = self._connection, self._stream
        limit = self.torrent.limits.download
        while True:
            # first what came in the same segment as the handshake, then what is yet to come
            self._process(trio.current_time())
            received = await stream.receive_into(connection.get_buffer())
            if not received:
                raise TransportError(self._closing or "closed the connection")
            connection.buffer_updated(received)
            self.last_received = trio.current_time()
            if limit.rate is not None:
                await limit.take(received)

    def _process(self, now: float) -> None:
        """Act on every message that is complete. No checkpoint in here."""
        torrent = self.torrent
        blocks = 0
        for event in self._connection.events():
            if type(event) is m.Piece:
                torrent.on_block(self.source, event.piece, event.begin, event.data, now)
                blocks += len(event.data)
            else:
                handler = _HANDLERS.get(type(event))
                if handler is not None:
                    handler(self, event, now)
        if blocks:
            self.downloaded += blocks
            self.down_rate.add(blocks, now)
        torrent.after_receiving(self, now)

    async def _send_loop(self) -> None:
        while True:
            if self._must_pick:
                self._must_pick = False
                self.request_more(trio.current_time())
            if self._outbox:
                buffers, self._outbox = self._outbox, []
                await self._stream.send_many(buffers)
                self.last_sent = trio.current_time()
            elif self.uploads:
                await self._upload()
            else:
                await self._wakeup.wait()

    # -- sending ------------------------------------------------------------------------------

    def send(self, message: Any) -> None:
        """Queue a message; the sending task takes it in the order of calls."""
        self._outbox.append(self._connection.send(message))
        self._wakeup.set()

    def wake(self) -> None:
        """The picker has something for this peer: let the sending task pick."""
        self._must_pick = True
        self._wakeup.set()

    def request_more(self, now: float) -> None:
        """Ask for as many blocks as the picker gives this peer now."""
        requests = self.torrent.picker.pick(self.source, now)
        if requests:
            self._outbox.append(self._connection.send_requests(requests))
            self._wakeup.set()

    def cancel(self, request: BlockRequest) -> None:
        """Take back a request."""
        self.send(m.Cancel(*request))

    def _greet(self) -> None:
        """What BEP 3, 6 and 10 want to be said first."""
        torrent, connection = self.torrent, self._connection
        have = torrent.store.have
        connection.set_num_pieces(have.size)
        self._announced = have.copy()
        if connection.fast and have.complete:
            self.send(m.HaveAll())
        elif connection.fast and not have:
            self.send(m.HaveNone())
        elif have:
            self.send(m.BitfieldMessage(bytes(have)))
        if connection.extensions:
            self.send(
                m.ExtensionHandshake(
                    extensions=OUR_EXTENSIONS,
                    version=torrent.client_version,
                    port=torrent.listen_port or None,
                    request_queue=MAX_REQUESTS,
                    metadata_size=len(torrent.metainfo.info),
                    upload_only=have.complete,
                    your_ip=self.address[0],
                )
            )
        if connection.fast and torrent.uploads_allowed:
            geometry = torrent.metainfo.geometry
            for piece in allowed_fast_set(
                self.address[0], torrent.metainfo.hashes.wire[0], geometry.num_pieces
            ):
                if piece in have:
                    self.send(m.AllowedFast(piece))

    def tell_have(self, piece: int) -> None:
        """Queue a HAVE without waking the sending task: they go out with what comes next."""
        if self._announced is not None and self._announced.add(piece):
            self._outbox.append(self._connection.send(m.Have(piece)))

    def tell_dont_have(self, piece: int) -> None:
        """A piece was evicted: say so where BEP 54 is spoken."""
        if self._announced is None or not self._announced.discard(piece):
            return
        if "lt_donthave" in self._connection.their_extensions:
            self.send(m.DontHave(piece))

    def flush(self, now: float) -> None:
        """Once a second: send queued HAVEs, keep the connection alive, notice a dead one."""
        if now - self.last_received > SILENCE:
            self.close(f"silent for {SILENCE:.0f} s")
        elif self._outbox:
            self._wakeup.set()
        elif now - self.last_sent > KEEPALIVE:
            self.send(m.KeepAlive())

    # -- uploading ----------------------------------------------------------------------------

    def choke(self) -> None:
        """Stop serving this peer; with BEP 6 every queued request is rejected."""
        if self.uploads.choking:
            return
        dropped = self.uploads.choke()
        self.send(m.Choke())
        if self._connection.fast:
            for request in dropped:
                self.send(m.RejectRequest(*request))

    def unchoke(self) -> None:
        """Serve this peer."""
        if self.uploads.choking:
            self.uploads.unchoke()
            self.send(m.Unchoke())

    async def _upload(self) -> None:
        """Answer the next requests; what was evicted meanwhile is rejected."""
        store, connection = self.torrent.store, self._connection
        buffers: list[bytes | memoryview] = []
        size = 0
        for request in self.uploads.take(UPLOAD_BATCH):
            data = await self.torrent.read_for_upload(store, request)
            if data is None:
                if connection.fast:
                    buffers.append(connection.send(m.RejectRequest(*request)))
                continue
            buffers.append(connection.piece_header(*request))
            buffers.append(data)
            size += len(data)
        limit = self.torrent.limits.upload
        if limit.rate is not None:
            await limit.take(size)
        if buffers:
            await self._stream.send_many(buffers)
            now = trio.current_time()
            self.last_sent = now
            self.uploads.uploaded += size
            self.up_rate.add(size, now)
            self.torrent.uploaded += size

    def _servable(self, request: BlockRequest) -> bool:
        have = self.torrent.store.have
        piece, begin, length = request
        return (
            piece in have
            and 0 < length <= MAX_REQUEST_LENGTH
            and begin + length <= self.torrent.metainfo.geometry.piece_size(piece)
        )

    # -- events -------------------------------------------------------------------------------

    def update_interest(self) -> None:
        """Say INTERESTED while the peer has a piece that we lack."""
        wanted = self.torrent.picker.is_interesting(self.source)
        if wanted != self.interested:
            self.interested = wanted
            self.send(m.Interested() if wanted else m.NotInterested())

    def _on_pieces(self, pieces: Bitfield) -> None:
        self.pieces = pieces
        self.torrent.picker.on_bitfield(self.source, pieces)
        self.torrent.on_source_gained(self)
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
            self.torrent.on_source_gained(self)
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

    def _on_interested(self, event: m.Interested, now: float) -> None:
        self.they_are_interested = True
        self.torrent.on_interest_changed(self)

    def _on_not_interested(self, event: m.NotInterested, now: float) -> None:
        self.they_are_interested = False
        self.torrent.on_interest_changed(self)

    def _on_request(self, event: m.Request, now: float) -> None:
        request = BlockRequest(event.piece, event.begin, event.length)
        if self.uploads.on_request(request, servable=self._servable):
            self._wakeup.set()
        elif self._connection.fast:
            self.send(m.RejectRequest(*request))

    def _on_cancel(self, event: m.Cancel, now: float) -> None:
        request = BlockRequest(event.piece, event.begin, event.length)
        if self.uploads.on_cancel(request) and self._connection.fast:
            self.send(m.RejectRequest(*request))

    def _on_reject(self, event: m.RejectRequest, now: float) -> None:
        request = BlockRequest(event.piece, event.begin, event.length)
        self.torrent.picker.on_reject(self.source, request, now)

    def _on_allowed_fast(self, event: m.AllowedFast, now: float) -> None:
        self.torrent.picker.on_allowed_fast(self.source, event.piece)

    def _on_extension_handshake(self, event: m.ExtensionHandshake, now: float) -> None:
        if event.request_queue:
            self.torrent.picker.set_max_queue(self.source, event.request_queue)

    def _on_metadata_request(self, event: m.MetadataRequest, now: float) -> None:
        self.send(self.torrent.metadata_server.answer(event))

    def _on_hash_request(self, event: m.HashRequest, now: float) -> None:
        self.send(self.torrent.answer_hashes(event))

    @property
    def client(self) -> str:
        """The peer's program, from its extension handshake (BEP 10 `v`)."""
        theirs = self._connection.their_extension_handshake
        return (theirs.version if theirs is not None else None) or ""

    def __repr__(self) -> str:
        state = "choked" if self.choked else "open"
        return f"<Peer {self.kind} {self.address[0]}:{self.address[1]} {state} {self.pieces!r}>"


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first leaf of an exception group: one reason is enough for the peer book."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


_HANDLERS: dict[type, Callable[[Peer, Any, float], None]] = {
    m.BitfieldMessage: Peer._on_bitfield,
    m.HaveAll: Peer._on_have_all,
    m.Have: Peer._on_have,
    m.DontHave: Peer._on_dont_have,
    m.Choke: Peer._on_choke,
    m.Unchoke: Peer._on_unchoke,
    m.Interested: Peer._on_interested,
    m.NotInterested: Peer._on_not_interested,
    m.Request: Peer._on_request,
    m.Cancel: Peer._on_cancel,
    m.RejectRequest: Peer._on_reject,
    m.AllowedFast: Peer._on_allowed_fast,
    m.ExtensionHandshake: Peer._on_extension_handshake,
    m.MetadataRequest: Peer._on_metadata_request,
    m.HashRequest: Peer._on_hash_request,
}
"""What happens on each message; one not listed (suggest, port, unknown) needs nothing."""
