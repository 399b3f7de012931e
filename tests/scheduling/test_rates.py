"""The rate meter and the pace of a source."""

from __future__ import annotations

import pytest

from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling.rates import MIN_DEPTH, RAMP, Pace, Rate


def test_a_steady_rate_is_measured_young_and_old() -> None:
    rate = Rate(5.0)
    assert rate.per_second(0.0) == 0.0
    for n in range(1, 3000):
        rate.add(1000, n * 0.01)
        if n > 100:
            assert rate.per_second(n * 0.01) == pytest.approx(100_000, rel=0.05)
    assert rate.total == 2999 * 1000
    assert rate.per_second(60.0) < 1000


def flow(pace: Pace, rtt: float, rate: float, seconds: float, now: float = 0.0) -> float:
    """A source serving a queue kept at the pace's depth, block by block."""
    queue = []
    free_at = now
    end = now + seconds
    pace.on_asked(now)
    while now < end:
        while len(queue) < pace.depth():
            free_at = max(free_at, now + rtt) + BLOCK_LENGTH / rate
            queue.append((free_at, now))
        now, sent = queue.pop(0)
        pace.on_block(sent, BLOCK_LENGTH, now)
    return now


@pytest.mark.parametrize(
    ("rtt", "rate"), [(0.05, 12.5e6), (0.0005, 600e6), (0.2, 1e6), (0.02, 50e3)]
)
def test_the_depth_settles_at_bandwidth_times_delay(rtt: float, rate: float) -> None:
    pace = Pace(initial=8, limit=2048)
    now = flow(pace, rtt, rate, 5.0)
    assert pace.rate == pytest.approx(rate, rel=0.1)
    path = rtt * rate / BLOCK_LENGTH
    assert pace.depth() >= max(MIN_DEPTH, path)
    if rate > 1e6:
        assert pace.depth() * BLOCK_LENGTH / rate < 1.3 * rtt + 0.015
    flow(pace, rtt, rate, 25.0 if rate < 1e8 else 21.0, now)
    assert pace.rate == pytest.approx(rate, rel=0.1), "and stays there"
    assert pace.depth() <= 2.0 * path + 0.02 * rate / BLOCK_LENGTH + 12, "without creeping up"


def test_a_longer_path_is_learned_within_seconds() -> None:
    pace = Pace(initial=8, limit=2048)
    now = flow(pace, 0.01, 5e6, 2.0)
    flow(pace, 0.1, 5e6, 30.0, now)
    assert pace.rtt == pytest.approx(0.1, rel=0.2)
    assert pace.rate > 4e6


def test_arrival_grows_with_the_queue_and_with_silence() -> None:
    pace = Pace(initial=8, limit=2048)
    now = flow(pace, 0.05, 1e6, 3.0)
    assert pace.arrival(0, now) == pytest.approx(0.05 + 2 * BLOCK_LENGTH / 1e6, rel=0.1)
    assert pace.arrival(100, now) == pytest.approx(101 * BLOCK_LENGTH / 1e6, rel=0.15)
    assert pace.silence(now) == 0.0
    assert pace.silence(now + 3.0) > 2.5
    assert pace.arrival(1, now + 3.0) > 2.5


def test_a_source_that_only_gets_bursts_is_measured_too() -> None:
    pace = Pace(initial=8, limit=500)
    for n in range(10):
        pace.on_asked(n * 1.0)
        for _ in range(4):
            pace.on_block(n * 1.0, BLOCK_LENGTH, n + 0.1)
    assert pace.rate == pytest.approx(4 * BLOCK_LENGTH / 0.1, rel=0.1)


def test_a_source_with_bursts_is_as_fast_as_its_average() -> None:
    pace = Pace(initial=8, limit=500)
    now = 0.0
    pace.on_asked(now)
    for burst in range(8):
        now = 0.5 * burst + 0.5
        for n in range(120):
            pace.on_block(now - 0.4, BLOCK_LENGTH, now + n * 1e-5)
        for tick in range(1, 24):
            pace.on_tick(now + 0.02 * tick)
        if burst:
            assert pace.rate < 2.0 * 120 * BLOCK_LENGTH / 0.5
    assert pace.rate == pytest.approx(120 * BLOCK_LENGTH / 0.5, rel=0.5)
    assert pace.gap == pytest.approx(0.5, rel=0.2)
    assert pace.silence(now + 0.4) == 0.0, "it is silent out of habit"
    assert pace.silence(now + 1.0) > 0.4
    assert pace.depth() >= 120, "all that it may send at once is asked in time"


def test_a_burst_may_be_greater_than_the_last() -> None:
    """Each brings what was asked before it, so the queue must grow from one to the next."""
    pace = Pace(initial=8, limit=500)
    pace.on_asked(0.0)
    asked = []
    for burst in range(1, 12):
        asked.append(pace.depth())
        for n in range(asked[-1]):
            pace.on_block(0.5 * burst - 0.4, BLOCK_LENGTH, 0.5 * burst + n * 1e-5)
        for tick in range(1, 24):
            pace.on_tick(0.5 * burst + 0.02 * tick)
    assert pace.bursts
    assert asked[-1] == 500, "and it did not stop before the limit"


def test_one_silence_makes_no_bursts() -> None:
    pace = Pace(initial=8, limit=500)
    now = flow(pace, 0.05, 12.5e6, 2.0)
    before = pace.depth()
    for tick in range(15):
        pace.on_tick(now + 0.02 * tick)
    for n in range(200):  # what came meanwhile is read at once
        pace.on_block(now, BLOCK_LENGTH, now + 0.3 + n * 1e-5)
    assert not pace.bursts
    now = flow(pace, 0.05, 12.5e6, 4.0, now + 0.31)
    assert pace.depth() <= 1.5 * before


def test_silence_counts_before_a_block_ends_it() -> None:
    pace = Pace(initial=8, limit=500)
    now = flow(pace, 0.05, 10e6, 2.0)
    for tick in range(100):
        pace.on_tick(now + tick * 0.02)
    assert pace.rate < 3e6


def test_nothing_is_expected_of_a_source_that_never_answered() -> None:
    pace = Pace(initial=8, limit=500)
    fresh = pace.arrival(0, 0.0)
    pace.on_asked(0.0)
    for tick in range(100):
        pace.on_tick(tick * 0.02)
    assert pace.arrival(0, 2.0) > 1.0 > fresh, "not even when its queue was given to others"
    pace.on_block(0.0, BLOCK_LENGTH, 2.0)
    assert pace.rtt == 2.0


def test_an_idle_source_is_asked_for_read_ahead_at_the_pace_of_its_line() -> None:
    pace = Pace(initial=8, limit=500)
    now = flow(pace, 0.05, 12.5e6, 2.0) + 1.0
    assert pace.depth() > 40
    assert pace.ramp(0, now) == RAMP
    pace.on_asked(now)
    assert RAMP + 14 < pace.ramp(RAMP, now + 0.02) < RAMP + 20
    pace.on_block(now, BLOCK_LENGTH, now + 0.05)
    assert pace.ramp(RAMP, now + 0.05) == pace.depth()
