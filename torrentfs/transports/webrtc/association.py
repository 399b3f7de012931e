"""aiortc's SCTP with the flow control that it lacks (RFC 9260, sections 6.1 and 6.2).

aiortc gives a message to its callback and counts it as read; it sends as fast as its congestion
window allows, whatever the peer's receive window; and it takes what a peer sends past the window
it was told. Here:

* messages held by the application count (`hold`, `release`), so the window that the peer is told
  closes while nobody reads; when it opens again by a quarter, the peer is told at once and need
  not probe for it;
* chunks that the window has no room for are dropped, as a peer that ignores it must expect;
* no more than the peer's window is under way. One chunk always may be: it is the probe by which
  the sender learns that a closed window has opened, should the peer's word be lost.

A peer that sends its data in tiny chunks costs us far more than the bytes it is charged for, so
the chunks that wait for their message are counted too. A peer that opens more than a few data
channels is no WebTorrent peer: the association ends.

This needs names of aiortc that are not public; `tests/transports/webrtc/test_association.py`
holds each of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiortc import rtcsctptransport as aiortc_sctp
from aiortc.rtcsctptransport import RTCSctpTransport
from aiortc.utils import uint32_gt

if TYPE_CHECKING:
    from aiortc.rtcdtlstransport import RTCDtlsTransport

WINDOW = 1024 * 1024
"""Bytes that a peer may have sent us and nobody has read."""
MAX_CHUNKS = 4096
"""Chunks that may wait for the rest of their message: the window in chunks of 256 bytes."""
MAX_CHANNELS = 4


class Association(RTCSctpTransport):
    """SCTP over one DTLS transport, with flow control."""

    def __init__(self, transport: RTCDtlsTransport) -> None:
        super().__init__(transport)
        self._advertised_rwnd = WINDOW
        self._peer_window = WINDOW
        self._told_window = WINDOW
        self._updating: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether the peer has acknowledged all that was sent."""
        return not (self._data_channel_queue or self._outbound_queue or self._sent_queue)

    @property
    def window(self) -> int:
        """Bytes that the peer may still send."""
        return max(0, self._advertised_rwnd)

    def hold(self, count: int) -> None:
        """A message of `count` bytes was received and not yet read."""
        self._advertised_rwnd -= count

    def release(self, count: int) -> None:
        """It was read: the peer may send as much again."""
        self._advertised_rwnd += count
        if (
            self._told_window <= WINDOW // 2
            and self._advertised_rwnd - self._told_window >= WINDOW // 4
            and self._updating is None
            and self._association_state == self.State.ESTABLISHED
        ):
            self._updating = asyncio.ensure_future(self._tell_window())

    async def _tell_window(self) -> None:
        try:
            await self._send_sack()
        except ConnectionError:
            pass
        finally:
            self._updating = None

    async def stop(self) -> None:
        """End the association."""
        await super().stop()
        if self._updating is not None:
            self._updating.cancel()

    async def _send_sack(self) -> None:
        self._told_window = self.window
        await super()._send_sack()

    async def _receive_chunk(self, chunk: aiortc_sctp.Chunk) -> None:
        if isinstance(chunk, aiortc_sctp.InitChunk | aiortc_sctp.InitAckChunk):
            self._peer_window = chunk.advertised_rwnd
        await super()._receive_chunk(chunk)

    async def _receive_data_chunk(self, chunk: aiortc_sctp.DataChunk) -> None:
        if len(chunk.user_data) > self._advertised_rwnd:
            self._sack_needed = True
            return
        await super()._receive_data_chunk(chunk)
        stream = self._inbound_streams.get(chunk.stream_id)
        if (
            (stream is not None and len(stream.reassembly) > MAX_CHUNKS)
            or len(self._inbound_streams) > MAX_CHANNELS
            or len(self._data_channels) > MAX_CHANNELS
        ):
            await self._abort()
            self._set_state(self.State.CLOSED)

    async def _receive_sack_chunk(self, chunk: aiortc_sctp.SackChunk) -> None:
        if not uint32_gt(self._last_sacked_tsn, chunk.cumulative_tsn):
            self._peer_window = chunk.advertised_rwnd
        await super()._receive_sack_chunk(chunk)

    async def _transmit(self) -> None:
        congestion = self._cwnd
        room = max(self._peer_window, aiortc_sctp.USERDATA_MAX_LENGTH)
        if room >= congestion:
            await super()._transmit()
            return
        self._cwnd = room
        try:
            await super()._transmit()
        finally:
            self._cwnd = congestion
