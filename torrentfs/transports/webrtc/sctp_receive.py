"""The receiving half of an SCTP association: DATA chunks in, messages and SACKs out. Pure.

Chunks are taken in the order of their TSNs, whatever their stream: those that come early wait in
`_ahead`. A sender numbers the fragments of a message one after the other, and the messages of a
stream in their order (RFC 9260, 6.9), so there is one unfinished message at any time, and a
stream's order needs no looking at. Several streams wait for each other's losses; a WebTorrent
peer has one. Unordered messages are delivered in order too, which they may be.

**Flow control.** The window that SACKs advertise is `capacity` less what is kept here: early
chunks, the unfinished message, and messages delivered that the application has not `release`d.
A peer that ignores the window is not acknowledged beyond `SLACK` more.

**When to acknowledge.** RFC 9260 wants a SACK for each second packet and each packet while
something is missing. Chromium's SCTP sends at most 4 packets for each SACK that comes (its
`max_burst`), so each fourth is the least that keeps it going, and each SACK costs it 30 µs.
"""

from __future__ import annotations

from bisect import bisect_right

from torrentfs.errors import RemoteProtocolError
from torrentfs.transports.webrtc.sctp import (
    FIRST,
    IMMEDIATE,
    LAST,
    MAX_GAPS,
    WRAP,
    sack_chunk,
    unwrap,
)

CAPACITY = 1 << 20
"""Bytes: the window when nothing is kept; what aiortc has."""
SLACK = 1 << 17
MAX_MESSAGE = 1 << 18
"""Bytes of one message: what our SDP says we take (`a=max-message-size`)."""
MAX_CHUNKS = 4096
"""Early, or of one message: the window in chunks of 256 bytes; tiny ones cost more."""
MAX_AHEAD = 0xFFFF
"""TSNs: as far as a gap block can tell."""
MAX_DUPLICATES = 16
SACK_EVERY = 4
"""Packets in order; see above."""
SACK_EVERY_EARLY = 2
EARLY = 500
"""Packets of a young association: its peer's window grows with each SACK (slow start). With four
times as many Chromium overshot on loopback, and sent a fifth of its packets twice."""
SACK_EVERY_LOSS = 2
"""Packets while some are missing. Each, says the RFC; the peer needs three to send again."""
SILLY = 1 << 13
"""Bytes: a smaller window is advertised as none (RFC 9260, 6.2: no silly windows)."""

Message = tuple[int, int, bytes]
"""Stream, payload protocol identifier, bytes."""


class Inbound:
    """What came from the peer, from its `initial` TSN on."""

    def __init__(self, initial: int, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.held = 0
        """Bytes delivered that the application has yet to consume."""
        self._next = initial
        self._messages: list[Message] = []
        self._messages_size = 0
        self._parts: list[bytes] = []
        self._parts_size = 0
        self._ahead: dict[int, tuple[int, int, int, bytes]] = {}
        self._ahead_size = 0
        self._blocks: list[tuple[int, int]] = []
        self._duplicates: list[int] = []
        self._packets = 0
        self._all_packets = 0
        self._urgent = True  # the first packet is acknowledged at once (RFC 9260, 5.1)
        self._advertised = capacity

    def __repr__(self) -> str:
        return (
            f"<Inbound next {self._next % WRAP} ahead {len(self._ahead)} "
            f"unfinished {self._parts_size} held {self.held} of {self.capacity}>"
        )

    @property
    def cumulative(self) -> int:
        """The last TSN up to which all came."""
        return self._next - 1

    @property
    def _kept(self) -> int:
        return self._parts_size + self._ahead_size + self._messages_size + self.held

    @property
    def window(self) -> int:
        """Bytes that may come now."""
        left = self.capacity - self._kept
        return left if left >= SILLY else 0

    def take_messages(self) -> list[Message]:
        """The whole messages that came since the last time."""
        messages, self._messages = self._messages, []
        self._messages_size = 0
        return messages

    # -- chunks -----------------------------------------------------------------------------------

    def on_data(self, flags: int, tsn: int, stream: int, ppid: int, payload: bytes) -> None:
        """A DATA chunk came. RemoteProtocolError: the peer breaks the rules of fragments."""
        if flags & IMMEDIATE:
            self._urgent = True
        if tsn != self._next % WRAP:
            self._on_early(flags, unwrap(tsn, self._next), stream, ppid, payload)
            return
        if self._is_full(len(payload)):
            return
        self._next += 1
        self._take(flags, stream, ppid, payload)
        if self._blocks and self._blocks[0][0] == self._next:
            self._urgent = True
            self._take_ahead()

    def on_packet(self) -> None:
        """A packet with DATA chunks has been taken in."""
        self._packets += 1
        self._all_packets += 1

    def on_forward(self, tsn: int) -> None:
        """FORWARD TSN (RFC 3758): what is missing up to `tsn` will never come."""
        target = unwrap(tsn, self._next) + 1
        self._urgent = True
        while self._next < target:
            if self._blocks and self._blocks[0][0] < target:
                first = self._blocks[0][0]
                if first > self._next:
                    self._drop_parts()
                self._next = first
                self._take_ahead()
            else:
                self._drop_parts()
                self._next = target
        if self._blocks and self._blocks[0][0] == self._next:
            self._take_ahead()

    def _is_full(self, size: int) -> bool:
        return self._kept + size > self.capacity + SLACK

    def _on_early(self, flags: int, tsn: int, stream: int, ppid: int, payload: bytes) -> None:
        self._urgent = True
        if tsn < self._next or tsn in self._ahead:
            if len(self._duplicates) < MAX_DUPLICATES:
                self._duplicates.append(tsn)
            return
        too_far = tsn - self._next >= MAX_AHEAD or len(self._ahead) >= MAX_CHUNKS
        if too_far or self._is_full(len(payload)):
            return
        self._ahead[tsn] = (flags, stream, ppid, payload)
        self._ahead_size += len(payload)
        blocks = self._blocks
        at = bisect_right(blocks, (tsn, tsn))
        first = last = tsn
        if at < len(blocks) and blocks[at][0] == tsn + 1:
            last = blocks.pop(at)[1]
        if at and blocks[at - 1][1] == tsn - 1:
            at -= 1
            first = blocks.pop(at)[0]
        blocks.insert(at, (first, last))

    def _take_ahead(self) -> None:
        _, last = self._blocks.pop(0)
        for tsn in range(self._next, last + 1):
            flags, stream, ppid, payload = self._ahead.pop(tsn)
            self._ahead_size -= len(payload)
            self._take(flags, stream, ppid, payload)
        self._next = last + 1

    def _take(self, flags: int, stream: int, ppid: int, payload: bytes) -> None:
        kind = flags & (FIRST | LAST)
        if not payload:
            raise RemoteProtocolError("SCTP: a DATA chunk without data")
        if kind & FIRST:
            if self._parts:
                raise RemoteProtocolError("SCTP: a message begins within another")
            if kind & LAST:
                self._messages.append((stream, ppid, payload))
                self._messages_size += len(payload)
                return
        elif not self._parts:
            return  # the rest of a message whose beginning was given up (FORWARD TSN)
        self._parts.append(payload)
        self._parts_size += len(payload)
        if self._parts_size > MAX_MESSAGE or len(self._parts) > MAX_CHUNKS:
            raise RemoteProtocolError("SCTP: a message that is too large, or in too many chunks")
        if kind & LAST:
            self._messages.append((stream, ppid, b"".join(self._parts)))
            self._messages_size += self._parts_size
            self._drop_parts()

    def _drop_parts(self) -> None:
        self._parts = []
        self._parts_size = 0

    # -- acknowledgements -------------------------------------------------------------------------

    @property
    def sack_due(self) -> bool:
        """True if the peer should hear of what came now, even in the middle of a batch."""
        if self._blocks:
            return self._packets >= SACK_EVERY_LOSS
        return self._packets >= (SACK_EVERY if self._all_packets > EARLY else SACK_EVERY_EARLY)

    @property
    def sack_due_at_rest(self) -> bool:
        """True if it should when nothing more is at hand to be read."""
        return self._urgent or self._packets >= 2

    @property
    def sack_wanted(self) -> bool:
        """True if it should sooner or later (200 ms at most, RFC 9260, 6.2)."""
        return self._urgent or self._packets > 0

    def release(self, size: int) -> bool:
        """The application is done with so many of the held bytes; True if the peer must hear."""
        self.held -= size
        return (
            self._advertised <= self.capacity // 2
            and self.window - self._advertised >= self.capacity // 4
        )

    def sack(self) -> bytes:
        """The SACK chunk of now."""
        window = self._advertised = self.window
        chunk = sack_chunk(self._next - 1, window, self._blocks[:MAX_GAPS], self._duplicates)
        self._duplicates.clear()
        self._packets = 0
        self._urgent = False
        return chunk
