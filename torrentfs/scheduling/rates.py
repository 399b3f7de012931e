"""How fast bytes come: a plain rate meter, and the pace of one source.

`Pace` answers three questions about a source from nothing but "asked then, arrived now": how long
is its round trip, what does it deliver per second, and how much may be in flight to it.

* **Round trip**: the smallest time from a request to its block. The smallest, because a block that
  waited behind others says nothing about the path. It is forgotten after ten seconds; to learn it
  anew under constant load the depth is halved for one round trip (BBR's ProbeRTT, at a cost of
  about half a percent).
* **Rate**: bytes over intervals of a round trip (at least 10 ms), counted only while something was
  in flight, so that a source nobody asks does not look slow. `rate` is the average that arrival
  times are computed from, `peak` the recent best that the depth is computed from.
* **Depth**: slow start as in TCP: `initial` blocks, one more for every block that arrives, which
  doubles per round trip; it ends when blocks begin to wait (HyStart) or the rate stops growing.
  From then on the depth is `peak x (round trip + slack)`. The slack bridges the pauses of an event
  loop (10 ms at 600 MB/s are 6 MB, several hundred blocks) yet is all that a seek can find queued
  ahead of it beyond what is already on the way.
"""

from __future__ import annotations

from math import exp

from torrentfs.metainfo.geometry import BLOCK_LENGTH

SLACK = 0.010
"""Seconds of data that may wait at the source beyond a full path: a pause of the event loop."""

MOST_QUEUED_SECONDS = 0.250
"""No more than this beyond a round trip, by average rate: a source that sends in bursts has a
peak far above its average, and what is queued there is late for everybody."""

MIN_DEPTH = 2
"""Blocks: one on its way while the next is asked."""

RTT_LIFETIME = 10.0
"""Seconds until the smallest round trip is measured anew."""

ASSUMED_RTT = 0.100
"""Seconds; of a source never asked."""

ASSUMED_RATE = 1_000_000.0
"""Bytes per second of a source never measured: a home line's share, so that it is tried."""

_INTERVAL = 0.010
_AVERAGE_SECONDS = 1.0


class Rate:
    """Bytes per second, averaged exponentially over about `seconds`."""

    __slots__ = ("_start", "_sum", "_then", "seconds", "total")

    def __init__(self, seconds: float = 5.0) -> None:
        self.seconds = seconds
        self.total = 0
        self._sum = 0.0
        self._start: float | None = None
        self._then = 0.0

    def add(self, amount: int, now: float) -> None:
        """`amount` bytes have moved."""
        if self._start is None:
            self._start = self._then = now
        self.total += amount
        self._sum = self._sum * exp(min(0.0, self._then - now) / self.seconds) + amount
        self._then = now

    def per_second(self, now: float) -> float:
        """The rate at `now`; 0.0 before the first byte. Young meters are not biased low."""
        if self._start is None:
            return 0.0
        value = self._sum * exp(min(0.0, self._then - now) / self.seconds)
        # the weight of the time seen so far; at least a tenth of a second, so that a first
        # packet is not taken for an infinite rate
        age = max(now - self._start, 0.1)
        return value / (self.seconds * (1.0 - exp(-age / self.seconds)))

    def __repr__(self) -> str:
        return f"<Rate {self.total} bytes>"


class Pace:
    """Round trip, rate and depth of one source. `queued` arguments are blocks in flight to it."""

    __slots__ = (
        "_asked_bytes", "_bytes", "_end", "_flat", "_previous", "_probe_until", "_rtt_at",
        "_start", "_total", "_waiting", "asked", "growing", "last", "limit", "peak", "rate",
        "rtt", "window",
    )  # fmt: skip

    def __init__(self, *, initial: int, limit: int) -> None:
        self.rtt = 0.0
        """Smallest round trip, seconds; 0.0 while unknown."""
        self.rate = 0.0
        """Average bytes per second while asked; 0.0 while unknown."""
        self.peak = 0.0
        self.growing = True
        self.window = initial
        self.limit = limit
        self.last = 0.0
        """When data last came."""
        self.asked = 0.0
        """When it was asked after having had nothing to do."""
        self._start = 0.0
        self._waiting = True
        self._total = 0
        self._asked_bytes = 0
        self._end = 0.0
        self._bytes = 0
        self._flat = 0
        self._previous = 0.0
        self._rtt_at = 0.0
        self._probe_until = 0.0

    def on_asked(self, now: float) -> None:
        """It gets work after having had none: the interval goes on with its first block."""
        if self.last > self.asked:
            # what came since it was last asked, round trip included: the rate is no less
            least = (self._total - self._asked_bytes) / (self.last - self.asked)
            if least > self.rate:
                self.rate = least
                self.peak = max(self.peak, least)
        self._asked_bytes = self._total
        self.asked = now
        self._waiting = True

    def on_block(self, sent: float, length: int, now: float) -> None:
        """`length` bytes, asked at `sent`, are here."""
        latency = now - sent
        self._total += length
        if latency < self.rtt or not self.rtt:
            self.rtt = max(latency, 1e-5)
            self._rtt_at = now
        if self._waiting:
            # the first block after a pause marks a time, the ones behind it are measured
            self._waiting = False
            if self._bytes:
                pause = now - self.last
                self._start += pause
                self._end += pause
            else:
                self._begin(now)
            self.last = now
            if self.growing:
                self.window += 1
            return
        self.last = now
        self._bytes += length
        if self.growing:
            self.window += 1
            if latency > 1.5 * self.rtt + SLACK and self.window > 8:
                self._settle(now)
        if now >= self._end:
            self._measure(now, latency)

    def _begin(self, now: float) -> None:
        self._start = now
        self._end = now + min(max(self.rtt, _INTERVAL), MOST_QUEUED_SECONDS)
        self._bytes = 0

    def _measure(self, now: float, latency: float) -> None:
        """An interval is over: fold it into rate, peak and, in slow start, the verdict on it."""
        passed = now - self._start
        sample = self._bytes / passed
        if self.growing or not self.rate:
            self.rate = max(sample, self.rate)
            self.peak = max(sample, self.peak)
            self._flat = self._flat + 1 if sample < 1.25 * self._previous else 0
            self._previous = max(self._previous, sample)
            if self._flat >= 3:
                self.growing = False
        else:
            self.rate += (sample - self.rate) * (1.0 - exp(-passed / _AVERAGE_SECONDS))
            if sample >= self.peak:
                self.peak = sample
            else:
                memory = max(10.0 * self.rtt, _AVERAGE_SECONDS)
                self.peak += (sample - self.peak) * min(1.0, passed / memory)
        if self._probe_until:
            if now >= self._probe_until:
                # this block was asked when the queue was already short
                self._probe_until = 0.0
                self._rtt_at = now
                self.rtt = max(latency, 1e-5)
        elif now - self._rtt_at > RTT_LIFETIME:
            self._probe_until = now + 2.0 * max(self.rtt, _INTERVAL)
        self._begin(now)

    def _settle(self, now: float) -> None:
        """Blocks begin to wait: the path is full, slow start is over."""
        self.growing = False
        if now > self._start:
            sample = self._bytes / max(now - self._start, 0.001)
            self.rate = max(self.rate, sample)
            self.peak = max(self.peak, sample)

    def depth(self) -> int:
        """Blocks that may be in flight now."""
        if self.growing or not self.rate:
            return min(self.window, self.limit)
        rtt = self.rtt or ASSUMED_RTT
        most = min(
            self.peak * (1.1 * rtt + SLACK),
            self.rate * (rtt + MOST_QUEUED_SECONDS),
        )
        if self._probe_until:
            most = self.peak * rtt * 0.5
        return max(MIN_DEPTH, min(int(most / BLOCK_LENGTH) + 2, self.limit))

    def arrival(self, queued: int, now: float) -> float:
        """Seconds until a block asked now would be here, behind `queued` others.

        While blocks flow, the queue drains within `queued / rate` and the round trip overlaps
        it; before the first block the round trip comes first.
        """
        rtt = self.rtt or ASSUMED_RTT
        rate = self.rate or ASSUMED_RATE
        drain = queued * BLOCK_LENGTH / rate
        if queued:
            if self._waiting:
                drain += max(0.0, self.asked + rtt - now)
            drain = max(drain, self.silence(now))
        return max(rtt, drain) + BLOCK_LENGTH / rate

    def silence(self, now: float) -> float:
        """Seconds that an answer is overdue (0.0: it is not), given that something is in flight."""
        rtt = self.rtt or ASSUMED_RTT
        gap = BLOCK_LENGTH / (self.rate or ASSUMED_RATE)
        return max(0.0, now - max(self.last + gap, self.asked + rtt + gap))

    def __repr__(self) -> str:
        return f"<Pace {self.rate / 1e6:.2f} MB/s, {self.rtt * 1e3:.1f} ms, depth {self.depth()}>"
