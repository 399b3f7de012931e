"""aiortc's SCTP association with a data path of its own: `Inbound`, `Outbound`, flow control.

aiortc sets up, closes and resets streams, and speaks the data channel protocol. What it does with
data is replaced, since there it

* runs a dozen coroutines for each packet, sorts lists while packets are missing, walks through
  a message's fragments for each of them, and answers each packet with a SACK: 9 to 14 MB/s for a
  core, and Chromium at the other end paid twice that;
* counts a message as read when its callback was called, and sends whatever the peer's window.

A packet of DATA and SACK chunks is handled at once, in one function (`_take`). One with anything
else is aiortc's; that is coroutines, so it and all that comes behind it wait in `_slow` for a task.

A peer is stopped by the window: messages held by the application count (`hold`, `release`), and
chunks that there is no room for are dropped. A peer that cuts its data into tiny chunks, opens
more than a few channels or breaks the rules of fragments is no WebTorrent peer: the association
ends.

This needs names of aiortc that are not public; `tests/transports/webrtc/test_association.py`
holds each of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from aiortc.rtcsctptransport import (
    WEBRTC_BINARY,
    WEBRTC_DCEP,
    AbortChunk,
    RTCSctpTransport,
)
from OpenSSL import SSL

from torrentfs.errors import RemoteProtocolError
from torrentfs.transports.webrtc import sctp
from torrentfs.transports.webrtc.sctp_receive import Inbound
from torrentfs.transports.webrtc.sctp_send import Outbound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiortc.rtcdtlstransport import RTCDtlsTransport

log = logging.getLogger(__name__)

WINDOW = 1024 * 1024
"""Bytes that a peer may have sent us and nobody has read."""
MAX_CHANNELS = 4
SACK_DELAY = 0.02
"""Seconds that a lone packet waits for its SACK; RFC 9260 allows 0.2, but a peer that has just
lost packets has few under way and waits for each."""
FILL = 64
"""Chunks cut ahead of what may be sent; the messages behind them are the channel's buffer."""
_FAST = frozenset((sctp.DATA, sctp.SACK))
_LEAST_PACKET = sctp.HEADER_LENGTH + 4


class Association(RTCSctpTransport):
    """SCTP over one DTLS transport, with flow control.

    All is sent reliably and in order, whatever a channel asks.
    """

    def __init__(self, transport: RTCDtlsTransport, port: int = 5000) -> None:
        super().__init__(transport, port)
        self._advertised_rwnd = WINDOW
        self._inbound: Inbound | None = None
        self._outbound: Outbound | None = None
        self._clock = asyncio.get_running_loop()
        self._tag = self._local_verification_tag.to_bytes(4, "big")
        self._prefix = b""
        self._slow: deque[Callable[[], Awaitable[None]]] = deque()
        self._slow_task: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._sack_timer: asyncio.TimerHandle | None = None
        self._pace_timer: asyncio.TimerHandle | None = None
        self._pumping = False

    def __repr__(self) -> str:
        return f"<Association {self._association_state.name} {self._inbound} {self._outbound}>"

    # -- flow control -----------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether the peer has acknowledged all that was sent."""
        outbound = self._outbound
        return not self._data_channel_queue and (outbound is None or outbound.is_idle)

    @property
    def window(self) -> int:
        """Bytes that the peer may still send."""
        return WINDOW if self._inbound is None else self._inbound.window

    def hold(self, count: int) -> None:
        """A message of `count` bytes was received and not yet read."""
        if self._inbound is not None:
            self._inbound.held += count

    def release(self, count: int) -> None:
        """It was read: the peer may send as much again."""
        if self._inbound is not None and self._inbound.release(count):
            self._send_now([self._inbound.sack()])

    # -- in ---------------------------------------------------------------------------------------

    async def _handle_data(self, data: bytes) -> None:
        self.packets_received((data,))

    def packets_received(self, packets: Sequence[bytes]) -> None:
        """Take in the packets that came in one turn of the loop."""
        heard = False
        try:
            for packet in packets:
                if self._slow or not self._is_plain(packet):
                    self._later(partial(super()._handle_data, packet))
                elif self._take(packet):
                    heard = True
            if not self._slow:
                self._after_packets()
        except RemoteProtocolError as error:
            self._give_up(error)
        if heard:
            self._pump()

    def _is_plain(self, packet: bytes) -> bool:
        """True if all its chunks are DATA and SACK, and it is for this association."""
        end = len(packet)
        if (
            end < _LEAST_PACKET
            or packet[4:8] != self._tag
            or self._association_state != self.State.ESTABLISHED
            or self._get_inbound() is None
        ):
            return False
        position = sctp.HEADER_LENGTH
        while position + 4 <= end:
            kind, _, length = sctp.CHUNK_HEADER.unpack_from(packet, position)
            if kind not in _FAST or length < sctp.DATA_HEADER_LENGTH or position + length > end:
                return False
            position += length + 3 & ~3
        return True

    def _take(self, packet: bytes) -> bool:
        """Read a plain packet; True if there was a SACK in it."""
        inbound = self._inbound
        if inbound is None or not sctp.is_sound(packet):
            return False
        heard = brought = False
        position, end = sctp.HEADER_LENGTH, len(packet)
        while position + sctp.DATA_HEADER_LENGTH <= end:
            kind, flags, length, tsn, stream, _, ppid = sctp.DATA_HEADER.unpack_from(
                packet, position
            )
            if kind == sctp.DATA:
                payload = packet[position + sctp.DATA_HEADER_LENGTH : position + length]
                inbound.on_data(flags, tsn, stream, ppid, payload)
                brought = True
            else:
                self._on_sack(packet[position : position + length])
                heard = True
            position += length + 3 & ~3
        if brought:
            inbound.on_packet()
            if inbound.sack_due:
                self._send_now([inbound.sack()])
        return heard

    def _get_inbound(self) -> Inbound | None:
        if self._inbound is None and self._last_received_tsn is not None:
            self._inbound = Inbound(self._last_received_tsn + 1, WINDOW)
        return self._inbound

    def _after_packets(self) -> None:
        """Deliver messages, and acknowledge what was not acknowledged yet."""
        inbound = self._get_inbound()
        if inbound is None:
            return
        for message in inbound.take_messages():
            self._deliver(*message)
        self._last_received_tsn = inbound.cumulative % sctp.WRAP
        reset = self._reconfig_deferred
        if (
            reset is not None
            and sctp.unwrap(reset.last_tsn, inbound.cumulative) <= inbound.cumulative
        ):
            self._later(self._reset_deferred_streams)
        if inbound.sack_due_at_rest:
            self._send_now([inbound.sack()])
        elif inbound.sack_wanted and self._sack_timer is None:
            self._sack_timer = self._clock.call_later(SACK_DELAY, self._on_sack_timer)

    def _deliver(self, stream: int, ppid: int, data: bytes) -> None:
        channel = self._data_channels.get(stream)
        if channel is None or ppid != WEBRTC_BINARY or self._slow:
            self._later(partial(self._data_channel_receive, stream, ppid, data))
        else:
            channel.emit("message", data)

    def _on_sack_timer(self) -> None:
        self._sack_timer = None
        if self._inbound is not None and self._inbound.sack_wanted:
            self._send_now([self._inbound.sack()])

    # -- the slow way -----------------------------------------------------------------------------

    def _later(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it after all else that could not be done at once."""
        self._slow.append(work)
        if self._slow_task is None:
            self._slow_task = asyncio.ensure_future(self._work_slowly())

    async def _work_slowly(self) -> None:
        try:
            while self._slow:
                await self._slow[0]()
                if self._slow:  # not if the association ended meanwhile
                    self._slow.popleft()
                if not self._slow:
                    self._after_packets()
            if len(self._data_channels) > MAX_CHANNELS:
                raise RemoteProtocolError("WebRTC: too many data channels")
        except Exception as error:  # aiortc's parsers and assertions say it in many ways
            self._give_up(error)
        finally:
            self._slow_task = None
        self._pump()

    def _give_up(self, error: Exception) -> None:
        log.info("a WebRTC peer is dropped: %s", error or type(error).__name__)
        self._slow.clear()
        self._send_now([bytes(AbortChunk())])
        self._set_state(self.State.CLOSED)

    async def _receive_data_chunk(self, chunk: Any) -> None:
        inbound = self._get_inbound()
        if inbound is not None:
            payload = chunk.user_data
            inbound.on_data(chunk.flags, chunk.tsn, chunk.stream_id, chunk.protocol, payload)
            inbound.on_packet()

    async def _receive_forward_tsn_chunk(self, chunk: Any) -> None:
        inbound = self._get_inbound()
        if inbound is not None:
            inbound.on_forward(chunk.cumulative_tsn)

    async def _receive_sack_chunk(self, chunk: Any) -> None:
        self._on_sack(bytes(chunk))

    async def _send_sack(self) -> None:
        self._sack_needed = False  # `_after_packets` does it

    # -- out --------------------------------------------------------------------------------------

    def _get_outbound(self) -> Outbound:
        if self._outbound is None:
            # aiortc puts the window of the peer's INIT there.
            window = getattr(self, "_ssthresh", WINDOW)
            self._outbound = Outbound(self._local_tsn, window, self._outbound_stream_seq)
        return self._outbound

    def _on_sack(self, chunk: bytes) -> None:
        outbound = self._get_outbound()
        sack = sctp.read_sack(chunk, outbound.cumulative)
        if sack is not None:
            outbound.on_sack(*sack, self._clock.time())

    async def _send(self, stream_id: int, pp_id: int, user_data: bytes, *_: Any, **__: Any) -> None:
        self._push(stream_id, pp_id, user_data)
        self._pump()

    async def _transmit(self) -> None:
        self._pump()

    async def _data_channel_flush(self) -> None:
        self._pump()

    def _push(self, stream: int, ppid: int, data: bytes) -> None:
        outbound = self._get_outbound()
        outbound.push(stream, ppid, data)
        self._local_tsn = outbound.next_tsn  # for stream resets

    def _pump(self) -> None:
        """Send what may be sent."""
        if self._association_state != self.State.ESTABLISHED or self._pumping:
            return
        self._pumping = True  # a channel that runs low asks for more, and that comes here
        try:
            outbound = self._get_outbound()
            self._fill(outbound)
            packets = outbound.take(self._clock.time())
            if packets:
                self._send_now(packets)
            if outbound.deadline is not None and self._timer is None:
                self._timer = self._clock.call_at(outbound.deadline, self._on_timer)
            if self._pace_timer is None and (pause := outbound.pause) is not None:
                self._pace_timer = self._clock.call_later(pause, self._on_pace_timer)
        finally:
            self._pumping = False
        if self._reconfig_queue and not self._reconfig_request and not self._data_channel_queue:
            self._later(self._transmit_reconfig)

    def _fill(self, outbound: Outbound) -> None:
        """Cut messages of the channels into chunks, as many as will be sent soon."""
        while self._data_channel_queue and outbound.waiting < FILL:
            channel, protocol, data = self._data_channel_queue.popleft()
            stream = channel.id
            if stream is None:
                stream = self._data_channel_id or 0
                while stream in self._data_channels:
                    stream += 2
                self._data_channels[stream] = channel
                channel._setId(stream)
            self._push(stream, protocol, data)
            if protocol != WEBRTC_DCEP:
                channel._addBufferedAmount(-len(data))

    def _send_now(self, packets: Sequence[bytes]) -> None:
        """Send packets, each given as its chunks; one that cannot be sent is lost."""
        prefix = self._prefix
        if not prefix:
            prefix = (
                self._local_port.to_bytes(2, "big")
                + (self._remote_port or 0).to_bytes(2, "big")
                + self._remote_verification_tag.to_bytes(4, "big")
            )
            if self._association_state == self.State.ESTABLISHED:
                self._prefix = prefix
        sealed = [sctp.seal(prefix, chunks) for chunks in packets]
        transport: Any = self.transport
        if not hasattr(transport, "send_packets"):
            task = asyncio.ensure_future(self._send_slowly(sealed))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            return
        try:
            transport.send_packets(sealed)
        except (ConnectionError, SSL.Error) as error:
            log.debug("not sent: %s", error)

    async def _send_slowly(self, packets: Sequence[bytes]) -> None:
        for packet in packets:
            try:
                await self.transport._send_data(packet)
            except (ConnectionError, SSL.Error) as error:
                log.debug("not sent: %s", error)

    # -- time -------------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        # The deadline moves with each SACK; the timer only when it is due.
        self._timer = None
        outbound = self._outbound
        if outbound is None or outbound.deadline is None:
            return
        now = self._clock.time()
        if now < outbound.deadline:
            self._timer = self._clock.call_at(outbound.deadline, self._on_timer)
            return
        outbound.on_deadline(now)
        self._pump()

    def _on_pace_timer(self) -> None:
        self._pace_timer = None
        self._pump()

    def _t3_cancel(self) -> None:
        """Called by aiortc when the association ends."""
        for timer in (self._timer, self._sack_timer, self._pace_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._sack_timer = self._pace_timer = None
