"""A dead torrent costs one full time-out, then fails fast until something arrives."""

from __future__ import annotations

from torrentfs.engine.breaker import FAST, RETRY, Breaker


def test_closed_gives_the_whole_timeout() -> None:
    breaker = Breaker(120)
    assert breaker.allowance(0) == 120
    assert not breaker.is_open


def test_open_fails_fast_until_the_half_open_retry() -> None:
    breaker = Breaker(120)
    breaker.on_expired(1000)
    assert breaker.is_open
    assert breaker.allowance(1001) == FAST
    assert breaker.allowance(1000 + RETRY) == 120  # one reader tries in full
    assert breaker.allowance(1000 + RETRY) == FAST  # the others do not
    assert breaker.allowance(1000 + 2 * RETRY) == 120


def test_a_second_expiry_does_not_postpone_the_retry() -> None:
    breaker = Breaker(120)
    breaker.on_expired(0)
    breaker.on_expired(RETRY - 1)
    assert breaker.allowance(RETRY) == 120


def test_progress_closes_it() -> None:
    breaker = Breaker(120)
    breaker.on_expired(0)
    breaker.on_progress()
    assert breaker.allowance(1) == 120


def test_a_short_timeout_stays_short() -> None:
    breaker = Breaker(0.2)
    breaker.on_expired(0)
    assert breaker.allowance(1) == 0.2
