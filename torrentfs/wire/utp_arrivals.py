"""What of one uTP connection has arrived: bytes in order, and packets ahead of what is missing.

Packets in order go to a buffer that `read_into` empties; those ahead wait for what is missing, and
are named in selective acknowledgements. All of it counts against the window that the peer is told;
what comes beyond that is dropped. Numbers are unwrapped: plain integers.
"""

from __future__ import annotations

from torrentfs.wire.utp import selective_mask

RECEIVE_CAPACITY = 1 << 20
"""Bytes received and not yet read, at most: 80 Mbit/s at a round trip of 100 ms."""

MAX_AHEAD = 2048
"""Packets that may wait for one that is missing; they may be small, so their number is bounded."""


class Arrivals:
    """The receiving half of a connection."""

    __slots__ = ("_ahead", "_ahead_bytes", "_buffer", "_discarding", "ack", "last")

    def __init__(self) -> None:
        self.ack = 0
        """The number of the last packet in order."""
        self.last: int | None = None
        """The number of the peer's FIN, once it came."""
        self._buffer = bytearray()
        self._ahead: dict[int, bytes] = {}
        self._ahead_bytes = 0
        self._discarding = False

    @property
    def readable(self) -> int:
        """Bytes that `read_into` would give now."""
        return len(self._buffer)

    @property
    def ended(self) -> bool:
        """The peer sent all it had, and all of it was read."""
        return self.last is not None and self.ack >= self.last and not self._buffer

    @property
    def window(self) -> int:
        """Bytes that there is room for."""
        return max(0, RECEIVE_CAPACITY - len(self._buffer) - self._ahead_bytes)

    @property
    def ahead(self) -> int:
        """Packets that wait for one that is missing."""
        return len(self._ahead)

    def mask(self) -> bytes:
        """Which these are, as a selective acknowledgement has it."""
        return selective_mask(self.ack, self._ahead)

    def read_into(self, buffer: memoryview) -> int:
        """Move received bytes to the front of `buffer`; how many."""
        count = min(len(buffer), len(self._buffer))
        with memoryview(self._buffer) as received:
            buffer[:count] = received[:count]
        del self._buffer[:count]
        return count

    def discard(self) -> None:
        """What was received and will be is of no interest."""
        self._discarding = True
        self._buffer.clear()

    def on_data(self, seq: int, payload: memoryview) -> None:
        """A packet came, maybe again, maybe before others."""
        size = len(payload)
        if self.last is not None and seq > self.last:
            return
        if seq == self.ack + 1:
            if len(self._buffer) + size > RECEIVE_CAPACITY:
                return
            if not self._discarding:
                self._buffer += payload
            self.ack = seq
            if self._ahead:
                self._take_ahead()
        elif self.ack < seq <= self.ack + MAX_AHEAD and seq not in self._ahead:
            if self.window < size:
                return
            self._ahead[seq] = bytes(payload)
            self._ahead_bytes += size

    def _take_ahead(self) -> None:
        while (payload := self._ahead.pop(self.ack + 1, None)) is not None:
            if not self._discarding:
                self._buffer += payload
            self._ahead_bytes -= len(payload)
            self.ack += 1

    def on_end(self, seq: int) -> None:
        """The peer's FIN came: nothing has a greater number."""
        if self.last is None and seq > self.ack:
            self.last = seq
        self.on_data(seq, memoryview(b""))

    def __repr__(self) -> str:
        return f"<Arrivals {self.readable} unread, {self.ahead} ahead>"
