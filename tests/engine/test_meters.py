"""Counting reads."""

from __future__ import annotations

from torrentfs.engine.meters import BOUNDS, DISK, Histogram, ReadMeters


def test_durations_fall_into_buckets() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.001, 0.0011, 119.0, 120.0, 121.0):
        histogram.add(seconds)
    assert histogram.total == 6
    assert histogram.counts[0] == 2  # a bound belongs to its bucket
    assert histogram.counts[1] == 1
    assert histogram.counts[len(BOUNDS) - 1 :] == [2, 1]
    assert abs(histogram.sum - 360.0021) < 1e-9


def test_what_the_cache_answers_is_a_hit() -> None:
    meters = ReadMeters()
    meters.memory_reads += 3
    meters.on_answer(DISK, 100, 0.002)
    meters.on_answer("tcp", 50, 0.2)
    meters.on_answer("tcp", 50, 0.3)
    meters.failed.add(5.0)
    assert (meters.hits, meters.misses) == (4, 3)
    assert meters.sizes == {DISK: 100, "tcp": 100}
