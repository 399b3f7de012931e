"""How fast bytes come: a plain rate meter, and the pace of one source.

`Pace` answers three questions about a source from nothing but "asked then, arrived now": how long
is its round trip, what does it deliver per second, and how much may be in flight to it.

* **Round trip**: the smallest time from a request to its block. The smallest, because a block that
  waited behind others says nothing about the path. It is forgotten after ten seconds; to learn it
  anew under constant load the depth is halved for one round trip (BBR's ProbeRTT, at a cost of
  about half a percent).
* **Rate**: bytes over intervals of a round trip (at least 10 ms), counted only while something was
  in flight, so that a source nobody asks does not look slow; silence while asked does count.
  `rate` is the average that arrival times are computed from: bytes over time of the last second,
  of a young source over the later half of its life. `peak` is the recent best.
* **Gap**: the longest recent silence while asked. A source whose owner limits its upload is fast
  for some milliseconds and then silent: libtorrent fills its bucket twice a second. Within its gap
  a source is not late.
* **Depth**: slow start as in TCP: `initial` blocks, one more for every block that arrives, which
  doubles per round trip; it ends when blocks begin to wait (HyStart) or the rate stops growing.
  From then on the depth is `peak x (round trip + slack)`, and no more than the average rate brings
  in a round trip and two and a half gaps. The slack bridges the pauses of an event
  loop (10 ms at 600 MB/s are 6 MB, several hundred blocks) yet is all that a seek can find queued
  ahead of it beyond what is already on the way.
* **Pause**: a source that was silent twice of late, and is fast between, sends in bursts. What a
  burst brings is what was asked before it, so the depth is what comes in one and a half pauses, by
  an average over several; each burst may so be greater than the last, until the limit is reached.
  One silence alone may be a pause of our own, and changes nothing.
* **Ramp**: what may be asked at once of a source that was idle is less, for one round trip: asked
  now or when the line could carry it, a block arrives at the same time, but a seek finds less ahead
  of it. (A CANCEL is no help: peers put what they are asked for into their socket at once.)
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

LONGEST_GAP = 1.0
"""Seconds of silence that may pass for a habit of the source."""

PAUSE = 0.1
"""Seconds of silence from which a source may be one that sends in bursts."""

PAUSES = 1.5
"""How many pauses of such a source the queue should last."""

RAMP = 8
"""Blocks of read-ahead asked at once of an idle source; the rest at the pace of its line."""

FORGIVEN = 4.0
"""How many times below what a source has just brought a rate is that of a pause. Closer to it, it
is the better estimate: of a source that sends in bursts it knows the time between them."""

_INTERVAL = 0.010
_AVERAGE_SECONDS = 1.0
_STEADY_SECONDS = 3.0
_GAP_SECONDS = 3.0


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
        "_age", "_asked_bytes", "_busy", "_bytes", "_end", "_flat", "_paused", "_paused_at",
        "_previous", "_probe_until", "_rtt_at", "_start", "_steadily_busy", "_steadily_weighed",
        "_told", "_total", "_waiting", "_weighed", "asked", "assumed", "gap", "growing", "last",
        "limit", "pause", "peak", "rate", "rtt", "steady", "window",
    )  # fmt: skip

    def __init__(self, *, initial: int, limit: int) -> None:
        self.rtt = 0.0
        """Smallest round trip, seconds; 0.0 while unknown."""
        self.rate = 0.0
        """Average bytes per second while asked; 0.0 while unknown."""
        self.peak = 0.0
        self.steady = 0.0
        """The same as `rate`, averaged over several pauses."""
        self.assumed = ASSUMED_RATE
        """Stands for `rate` while that is unknown; less the longer a first block is awaited."""
        self.gap = 0.0
        """Longest silence of late while asked, seconds."""
        self.pause = 0.0
        """The shorter of the last two long silences while asked; 0.0: it has none."""
        self.growing = True
        self.window = initial
        self.limit = limit
        self.last = 0.0
        """When data last came."""
        self.asked = 0.0
        """When it was asked after having had nothing to do."""
        self._waiting = True
        self._told = 0.0
        """`rate` when a block came last."""
        self._total = 0
        self._asked_bytes = 0
        self._start = 0.0
        self._end = 0.0
        self._bytes = 0
        self._age = 0.0
        self._busy = 0.0
        self._weighed = 0.0
        self._steadily_busy = 0.0
        self._steadily_weighed = 0.0
        self._paused = 0.0
        self._paused_at = float("-inf")
        self._flat = 0
        self._previous = 0.0
        self._rtt_at = 0.0
        self._probe_until = 0.0

    def on_asked(self, now: float) -> None:
        """It gets work after having had none: the interval goes on with its first block."""
        self._count_answers(1.0)
        self._asked_bytes = self._total
        self.asked = now
        self._waiting = True

    def on_idle(self) -> None:
        """All that it was asked for is here. No block will end the interval, so the rate would stay
        that of a pause before the last of them, and who is too slow to be asked is not measured."""
        if self.rate:
            self._count_answers(FORGIVEN)

    def _count_answers(self, times: float) -> None:
        """What came since it was last asked, round trip included: the rate is no less, and is
        mended if it is so many `times` less."""
        if self.last > self.asked:
            least = (self._total - self._asked_bytes) / (self.last - self.asked)
            if least > times * self.rate:
                self.rate = least
                self.peak = max(self.peak, least)

    def on_block(self, sent: float, length: int, now: float) -> None:
        """`length` bytes, asked at `sent`, are here."""
        latency = now - sent
        self._total += length
        if latency < self.rtt or not self.rtt:
            self.rtt = max(latency, 1e-5)
            self._rtt_at = now
        if self.growing:
            self.window += 1
        if self._waiting:
            # the first block after a pause marks a time, the ones behind it are measured
            self._resume(min(now, self.asked + self.rtt + SLACK))
        else:
            self._bytes += length
            if self.growing and latency > 1.5 * self.rtt + SLACK and self.window > 8:
                self.growing = False  # blocks begin to wait: the path is full
        silent = now - self.last
        if silent > self.gap:
            self.gap = min(silent, LONGEST_GAP)
        if silent > PAUSE:
            silent = min(silent, LONGEST_GAP)
            self.pause = min(self._paused, silent)
            self._paused = silent
            self._paused_at = now
        self.last = now
        if now >= self._end:
            self._measure(now, latency)
        self._told = self.rate

    def on_tick(self, now: float) -> None:
        """It has something to deliver: silence counts although no block came to end it."""
        if self._waiting:
            if not self._total:
                late = now - self.asked - ASSUMED_RTT
                self.assumed = min(self.assumed, BLOCK_LENGTH / max(late, SLACK))
                return
            due = self.asked + self.rtt + SLACK
            if now <= due:
                return
            self._resume(due)
        if now >= self._end:
            self._measure(now, None)

    def _resume(self, since: float) -> None:
        """The pause of having had nothing to do is over: it takes no part in the interval."""
        self._waiting = False
        if self._end:
            pause = since - max(self.last, self._start)
            self._start += pause
            self._end += pause
        else:
            self._begin(since)
        self.last = since

    def _begin(self, now: float) -> None:
        self._start = now
        self._end = now + min(max(self.rtt, _INTERVAL), MOST_QUEUED_SECONDS)
        self._bytes = 0

    def _measure(self, now: float, latency: float | None) -> None:
        """An interval is over: fold it into rate, peak and, in slow start, the verdict on it."""
        passed = now - self._start
        sample = self._bytes / passed
        self._age += passed
        young = max(0.5 * self._age, passed)
        keep = exp(-passed / min(_STEADY_SECONDS, young))
        self._steadily_busy = self._steadily_busy * keep + passed
        self._steadily_weighed = self._steadily_weighed * keep + self._bytes
        self.steady = self._steadily_weighed / self._steadily_busy
        if now - self._paused_at > _STEADY_SECONDS:
            self.pause = self._paused = 0.0
        keep = exp(-passed / min(_AVERAGE_SECONDS, young))
        self._busy = self._busy * keep + passed
        self._weighed = self._weighed * keep + self._bytes
        self.rate = max(self._weighed / self._busy, 1.0)
        self.gap *= exp(-passed / _GAP_SECONDS)
        if sample >= self.peak:
            self.peak = sample
        elif not self.growing:
            memory = max(10.0 * self.rtt, _AVERAGE_SECONDS)
            self.peak += (sample - self.peak) * min(1.0, passed / memory)
        if self.growing:
            self.rate = max(self.rate, sample)
            if latency is not None:
                self._flat = self._flat + 1 if sample < 1.25 * self._previous else 0
                self._previous = max(self._previous, sample)
                self.growing = self._flat < 3
        if latency is None:
            pass
        elif self._probe_until:
            if now >= self._probe_until:
                # this block was asked when the queue was already short
                self._probe_until = 0.0
                self._rtt_at = now
                self.rtt = max(latency, 1e-5)
        elif now - self._rtt_at > RTT_LIFETIME:
            self._probe_until = now + 2.0 * max(self.rtt, _INTERVAL)
        self._begin(now)

    @property
    def bursts(self) -> bool:
        """Whether it sends in bursts: it is silent again and again, and fast between."""
        return self.pause > PAUSE and self.peak > 2.0 * self.steady

    def depth(self) -> int:
        """Blocks that may be in flight now."""
        if self.growing or not self.rate:
            return min(self.window, self.limit)
        rtt = self.rtt or ASSUMED_RTT
        if self.bursts:
            most = PAUSES * self.steady * max(self.pause, rtt)
        else:
            most = min(
                self.peak * (rtt + SLACK),
                self.rate * (rtt + max(MOST_QUEUED_SECONDS, 2.5 * self.gap)),
            )
        if self._probe_until:
            most = self.peak * rtt * 0.5
        return max(MIN_DEPTH, min(int(most / BLOCK_LENGTH) + 2, self.limit))

    def ramp(self, queued: int, now: float) -> int:
        """Blocks that may be in flight now if they are read-ahead; less than `depth` for the one
        round trip after it was idle."""
        depth = self.depth()
        if self.growing or not self.rate or (queued and not self._waiting):
            return depth
        passed = now - self.asked if queued else 0.0
        return min(depth, RAMP + int(self.peak * passed / BLOCK_LENGTH))

    def arrival(self, queued: int, now: float) -> float:
        """Seconds until a block asked now would be here, behind `queued` others; of a source that
        sends in bursts at worst, or seeks would now and then wait for the next burst.

        While blocks flow, the queue drains within `queued / rate` and the round trip overlaps
        it; before the first block the round trip comes first.
        """
        rtt = self.rtt or ASSUMED_RTT
        rate = self.rate or self.assumed
        drain = queued * BLOCK_LENGTH / rate
        if queued:
            if self._waiting:
                drain += max(0.0, self.asked + rtt - now)
            drain = max(drain, self.silence(now))
        block = BLOCK_LENGTH / rate
        wait = self.pause if self.bursts else 0.5 * max(0.0, self.gap - block)
        return max(rtt, drain) + block + wait

    def silence(self, now: float) -> float:
        """Seconds that an answer is overdue (0.0: it is not), given that something is in flight."""
        rtt = self.rtt or ASSUMED_RTT
        # not `rate`: that falls with the silence, and the excuse would grow faster than the silence
        gap = max(BLOCK_LENGTH / (self._told or ASSUMED_RATE), self.gap)
        return max(0.0, now - max(self.last + gap, self.asked + rtt + gap))

    def __repr__(self) -> str:
        return f"<Pace {self.rate / 1e6:.2f} MB/s, {self.rtt * 1e3:.1f} ms, depth {self.depth()}>"
