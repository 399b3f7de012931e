"""Round trips: mean, variation, and the patience that follows from them."""

from __future__ import annotations

import pytest

from torrentfs.wire.utp_round_trip import (
    FIRST_TIMEOUT,
    LONGEST_TIMEOUT,
    SHORTEST_TIMEOUT,
    RoundTrip,
)


def test_it_learns_what_a_steady_line_takes() -> None:
    trip = RoundTrip()
    assert (trip.bound, trip.timeout) == (FIRST_TIMEOUT, FIRST_TIMEOUT)
    assert repr(trip) == "<RoundTrip unknown>"
    trip.on_progress()
    assert trip.timeout == FIRST_TIMEOUT
    for _ in range(50):
        trip.on_sample(0.3)
    assert trip.mean == pytest.approx(0.3)
    assert trip.bound == pytest.approx(0.31, abs=0.001)
    trip.on_progress()
    assert trip.timeout == SHORTEST_TIMEOUT
    assert repr(trip) == "<RoundTrip 300.0 ms>"


def test_a_line_that_varies_is_waited_for() -> None:
    trip = RoundTrip()
    for sample in (0.2, 1.4) * 20:
        trip.on_sample(sample)
    trip.on_progress()
    assert trip.timeout > 1.4
    assert trip.bound > 1.4


def test_each_silence_doubles_the_patience_up_to_a_bound() -> None:
    trip = RoundTrip()
    for _ in range(10):
        before = trip.timeout
        trip.on_timeout()
        assert trip.timeout == min(2 * before, LONGEST_TIMEOUT)
    assert trip.timeout == LONGEST_TIMEOUT
    trip.on_sample(60.0)
    trip.on_progress()
    assert trip.timeout == LONGEST_TIMEOUT
