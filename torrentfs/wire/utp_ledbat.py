"""How much uTP may have in flight: LEDBAT (RFC 6817, BEP 29), which yields to everybody else.

Each packet tells how long the one before took one way, on two clocks that are not set to each
other. The least value of the last minutes is taken for an empty line (`DelayBase`); what is above
it is the time spent in queues. The window grows while that is below 100 ms, and shrinks above, in
proportion: a line shared with a video call is left to the call.

Until the first sign of a queue or a loss the window doubles per round trip (slow start), or a fast
line would take minutes to fill. A loss halves it, at most once per round trip (the caller sees to
that), and a timeout sets it back to one packet.
"""

from __future__ import annotations

from torrentfs.wire.utp import MASK32

TARGET = 100_000
"""Microseconds of queue that we make at most (BEP 29)."""

GAIN = 3000
"""Bytes that the window grows in a round trip on an empty line (BEP 29)."""

FIRST_WINDOW = 10
"""Packets to begin with, as TCP has it (RFC 6928)."""

MAX_WINDOW = 4 << 20
"""Bytes; 3000 packets, more than a peer's receive window has."""

_HISTORY = 3
"""Minutes over which the least delay is sought."""


class DelayBase:
    """The least one-way delay of the last minutes; delays are 32-bit numbers that wrap around."""

    __slots__ = ("_began", "_minima")

    def __init__(self) -> None:
        self._minima: list[int] = []  # of each minute, the current one last
        self._began = 0.0

    def add(self, delay: int, now: float) -> int:
        """Note one; how much longer than the least it is, in microseconds."""
        minima = self._minima
        if not minima or now - self._began >= 60:
            self._began = now
            minima.append(delay)
            del minima[:-_HISTORY]
        elif (minima[-1] - delay) & MASK32 < 1 << 31:  # delay is less
            minima[-1] = delay
        queue = 0
        for least in minima:
            above = (delay - least) & MASK32
            if queue < above < 1 << 31:
                queue = above
        return queue


class Ledbat:
    """The congestion window of one direction; sizes in bytes, `queue` in microseconds."""

    __slots__ = ("packet", "slow_start", "threshold", "window")

    def __init__(self, packet: int) -> None:
        self.packet = packet
        """Bytes of a packet; may change."""
        self.window = float(FIRST_WINDOW * packet)
        self.threshold = float(MAX_WINDOW)
        """Where slow start ends."""
        self.slow_start = True

    def on_ack(self, acked: int, queue: int, *, is_full: bool) -> None:
        """`acked` bytes arrived; `is_full` when the window, not our data, was the limit."""
        if self.slow_start and (queue > TARGET // 2 or self.window >= self.threshold):
            self.slow_start = False
        off = (TARGET - queue) / TARGET
        if off > 0 and not is_full:
            return
        if self.slow_start:
            self.window += acked
        else:
            self.window += GAIN * max(off, -1.0) * acked / self.window
        self.window = min(max(self.window, float(self.packet)), float(MAX_WINDOW))

    def on_loss(self) -> None:
        """A packet was lost for the first time in this round trip."""
        self.window = max(self.window / 2, 2.0 * self.packet)
        self.threshold = self.window
        self.slow_start = False

    def on_timeout(self) -> None:
        """Nothing comes back any more."""
        self.threshold = max(self.window / 2, 2.0 * self.packet)
        self.window = float(self.packet)
        self.slow_start = True

    def __repr__(self) -> str:
        return f"<Ledbat {self.window:.0f} bytes{', slow start' if self.slow_start else ''}>"
