"""How long reads take, counted so cheaply that every read can be.

A `Histogram` has fixed bounds and counts per bucket, as Prometheus wants them in the end; adding
is one search among ten numbers. What memory answers at once is not even timed: such a read takes
some microseconds, and counts into the first bucket.

`ReadMeters` are a session's: they outlive torrents that go to sleep.
"""

from __future__ import annotations

from bisect import bisect_left

BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
"""Upper bounds of the buckets, in seconds; one more bucket has the rest."""

MEMORY, DISK, NOBODY = "memory", "disk", "nobody"
"""Who answered, beside the kinds of sources (`tcp`, `utp`, `webrtc`, `web seed`)."""


class Histogram:
    """Durations in seconds, counted by bucket."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(self.counts)

    def __repr__(self) -> str:
        return f"<Histogram of {self.total}, {self.sum:.3f} s in all>"


class ReadMeters:
    """Reads by who answered them: memory, disk, or the kind of source that gave the last of it."""

    __slots__ = ("answered", "failed", "memory_bytes", "memory_reads", "sizes")

    def __init__(self) -> None:
        self.memory_reads = 0
        self.memory_bytes = 0
        self.answered: dict[str, Histogram] = {}
        self.sizes: dict[str, int] = {}
        """Bytes by who answered, but for memory."""
        self.failed = Histogram()

    def on_answer(self, who: str, size: int, seconds: float) -> None:
        """A read that memory alone could not answer was answered."""
        histogram = self.answered.get(who)
        if histogram is None:
            histogram = self.answered[who] = Histogram()
        histogram.add(seconds)
        self.sizes[who] = self.sizes.get(who, 0) + size

    @property
    def hits(self) -> int:
        """Reads that the cache answered."""
        disk = self.answered.get(DISK)
        return self.memory_reads + (disk.total if disk is not None else 0)

    @property
    def misses(self) -> int:
        """Reads that had to wait for the swarm, in vain too."""
        waited = sum(one.total for who, one in self.answered.items() if who != DISK)
        return waited + self.failed.total

    def __repr__(self) -> str:
        return f"<ReadMeters {self.hits} hits, {self.misses} misses>"
