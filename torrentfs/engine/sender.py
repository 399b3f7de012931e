"""The sending half of a peer connection: one task, and everything that waits for it.

Others queue and never wait: messages in the order of calls, then the answers to questions about
metadata and hashes, then the blocks that the peer asked for. Requests are picked at the last
moment, so that they fit what is wanted now.

Each queue is bounded, for a peer may ask and never read. Answers are made only when there is room
to send them, and while more than `MAX_UNSENT` bytes of messages wait, nothing more is read from
the peer (`wait_for_room`). The user's upload limit delays blocks only: a request of ours never
waits for what we upload.

WebTorrent loses requests (bittorrent-protocol 5.0): of one that came twice, or again after a
cancel, it takes the first for the second while it reads its store, and then answers neither nor
says so. To such a peer no cancel is sent; what was taken back is `kept`, since its answer comes
all the same, and what is kept is not asked for again.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import trio

from torrentfs.engine.uploads import UploadQueue
from torrentfs.engine.wakeup import Wakeup
from torrentfs.scheduling.picker import Request
from torrentfs.scheduling.rates import Rate
from torrentfs.wire import messages as m

if TYPE_CHECKING:
    from torrentfs.engine.torrent import Torrent
    from torrentfs.scheduling.picker import SourceId
    from torrentfs.transports.base import PeerStream
    from torrentfs.wire.connection import Connection

MAX_UNSENT = 1 << 20
"""Bytes that may wait for a peer besides blocks: 60,000 requests, 100,000 HAVEs."""

LOSES_REQUESTS = b"-WW"
"""Peer ids of WebTorrent begin so."""

MAX_QUESTIONS = 512
"""Metadata and hash requests of one peer that wait for an answer: 8 MiB of metadata. What is
over it is rejected."""


class Sender:
    """Sends to the peer `source` of `torrent`."""

    def __init__(
        self,
        torrent: Torrent,
        stream: PeerStream,
        connection: Connection,
        source: SourceId,
        now: float,
    ) -> None:
        self.uploads = UploadQueue()
        self.rate = Rate()
        self.last_sent = now
        self.kept: set[Request] = set()
        """Requests that we took back without a word: their answers are still to come."""
        theirs = connection.theirs
        self._cancels = theirs is None or not theirs.peer_id.startswith(LOSES_REQUESTS)
        self._torrent = torrent
        self._stream = stream
        self._connection = connection
        self._source = source
        self._outbox: list[bytes | memoryview] = []
        self._unsent = 0
        self._questions: deque[m.MetadataRequest | m.HashRequest] = deque()
        self._wakeup = Wakeup()
        self._drained = Wakeup()
        self._must_pick = False

    # -- queueing: never waits ------------------------------------------------------------------

    def send(self, message: Any) -> None:
        """Queue a message and see that it goes out now."""
        self.queue(message)
        self._wakeup.set()

    def queue(self, message: Any) -> None:
        """Queue a message that may wait for what comes next."""
        self._put(self._connection.send(message))

    def _put(self, data: bytes) -> None:
        self._outbox.append(data)
        self._unsent += len(data)

    def flush(self) -> bool:
        """See that what is queued goes out now; False when nothing is."""
        if self._outbox:
            self._wakeup.set()
        return bool(self._outbox)

    async def wait_for_room(self) -> None:
        """Wait while too much is unsent; at once, with no checkpoint, when it is not."""
        while self._unsent > MAX_UNSENT:
            await self._drained.wait()

    def wake(self) -> None:
        """The picker has something for this peer: let the sending task pick."""
        self._must_pick = True
        self._wakeup.set()

    def request_more(self, now: float) -> None:
        """Ask for as many blocks as the picker gives this peer now."""
        requests = self._torrent.picker.pick(self._source, now)
        if self.kept and requests:
            under_way = self.kept.intersection(requests)
            self.kept -= under_way
            requests = [request for request in requests if request not in under_way]
        if requests:
            self._put(self._connection.send_requests(requests))
            self._wakeup.set()

    def cancel(self, request: Request) -> None:
        """Take back a request."""
        if self._cancels:
            self.send(m.Cancel(*request))
        else:
            self.kept.add(request)

    def on_answered(self, piece: int, begin: int, length: int) -> None:
        """A block came, or was rejected: it may be asked for again."""
        self.kept.discard(Request(piece, begin, length))

    def on_question(self, question: m.MetadataRequest | m.HashRequest) -> None:
        """The peer asks for metadata or hashes: answered in order, when there is room."""
        if len(self._questions) < MAX_QUESTIONS:
            self._questions.append(question)
            self._wakeup.set()
        elif isinstance(question, m.MetadataRequest):
            self.send(m.MetadataReject(question.piece))
        else:
            self.send(
                m.HashReject(
                    question.pieces_root,
                    question.base_layer,
                    question.index,
                    question.length,
                    question.proof_layers,
                )
            )

    def on_request(self, request: Request) -> None:
        """The peer asks for a block: queued, or rejected where BEP 6 is spoken."""
        if self.uploads.on_request(request, servable=self._torrent.serving.is_servable):
            self._wakeup.set()
        else:
            self._reject(request)

    def on_cancel(self, request: Request) -> None:
        """The peer takes a request back; BEP 6 wants an answer all the same."""
        if self.uploads.on_cancel(request):
            self._reject(request)

    def choke(self) -> None:
        """Stop serving; with BEP 6 every dropped request is rejected."""
        if self.uploads.choking:
            return
        dropped = self.uploads.choke()
        self.send(m.Choke())
        for request in dropped:
            self._reject(request)

    def unchoke(self) -> None:
        """Serve this peer."""
        if self.uploads.choking:
            self.uploads.unchoke()
            self.send(m.Unchoke())

    def _reject(self, request: Request) -> None:
        if self._connection.fast:
            self.send(m.RejectRequest(*request))

    # -- sending --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send until cancelled or the stream breaks (`TransportError`)."""
        while True:
            if await self._send_messages():
                continue
            if self._questions:
                await self._answer()
            elif self.uploads:
                await self._upload()
            else:
                await self._wakeup.wait()

    async def _send_messages(self) -> bool:
        """Pick if told to, then send what is queued; False when nothing was."""
        if self._must_pick:
            self._must_pick = False
            self.request_more(trio.current_time())
        if not self._outbox:
            return False
        buffers, self._outbox = self._outbox, []
        await self._stream.send_many(buffers)
        self._unsent -= sum(map(len, buffers))
        self._drained.set()
        self.last_sent = trio.current_time()
        return True

    async def _answer(self) -> None:
        question = self._questions.popleft()
        answer = await self._torrent.serving.answer(question, served=not self.uploads.choking)
        await self._stream.send_all(self._connection.send(answer))
        self.last_sent = trio.current_time()

    async def _upload(self) -> None:
        """Answer the next requests; what was evicted meanwhile is rejected."""
        connection = self._connection
        buffers: list[bytes | memoryview] = []
        size = 0
        for request in self.uploads.take():
            data = await self._torrent.serving.read(request)
            if data is None:
                self._reject(request)
                continue
            buffers.append(connection.piece_header(*request))
            buffers.append(data)
            size += len(data)
        await self._sit_out_limit(size)
        if buffers:
            await self._stream.send_many(buffers)
            self.last_sent = now = trio.current_time()
            self.uploads.uploaded += size
            self.rate.add(size, now)
            self._torrent.serving.uploaded += size

    async def _sit_out_limit(self, size: int) -> None:
        """Wait until the upload limit allows `size` bytes; messages go out meanwhile."""
        limit = self._torrent.limits.upload
        if limit.rate is None or not size:
            return
        end = trio.current_time() + limit.reserve(size)
        while trio.current_time() < end:
            if await self._send_messages():
                continue
            with trio.move_on_at(end):
                await self._wakeup.wait()

    def __repr__(self) -> str:
        return f"<Sender {len(self._outbox)} messages, {self.uploads!r}>"
