"""A dead torrent costs one full time-out, then fails fast until something arrives."""

from __future__ import annotations

from torrentfs.engine.breaker import FAST, LAST_RETRY, RETRY, Breaker


def test_closed_gives_the_whole_timeout() -> None:
    breaker = Breaker(120)
    assert breaker.allowance == 120
    assert not breaker.begin_trial(0)
    assert not breaker.is_open


def test_open_fails_fast_until_the_half_open_trial() -> None:
    breaker = Breaker(120)
    breaker.on_expired(1000)
    assert breaker.is_open
    assert breaker.allowance == FAST
    assert not breaker.begin_trial(1001)
    assert breaker.begin_trial(1000 + RETRY)  # one reader tries in full
    assert not breaker.begin_trial(1000 + RETRY)  # the others do not
    assert breaker.allowance == FAST


def test_the_pause_begins_when_the_trial_ends_and_grows_while_trials_are_in_vain() -> None:
    breaker = Breaker(120)
    breaker.on_expired(0)
    now = RETRY
    for pause in (60.0, 120.0, LAST_RETRY, LAST_RETRY):
        assert breaker.begin_trial(now)
        now += 120
        assert not breaker.begin_trial(now)  # however long it lasts
        assert breaker.is_trying
        breaker.on_expired(now)
        breaker.end_trial(now)
        assert breaker.retry_in(now) == pause
        assert not breaker.begin_trial(now + pause - 1)
        now += pause
    breaker.on_progress()
    breaker.on_expired(now)
    assert breaker.retry_in(now) == RETRY


def test_a_trial_that_brought_bytes_leaves_it_closed() -> None:
    breaker = Breaker(120)
    breaker.on_expired(0)
    assert breaker.begin_trial(RETRY)
    breaker.on_progress()
    breaker.end_trial(RETRY + 1)
    assert not breaker.is_open
    assert breaker.allowance == 120


def test_a_second_expiry_does_not_postpone_the_trial() -> None:
    breaker = Breaker(120)
    breaker.on_expired(0)
    breaker.on_expired(RETRY - 1)
    assert breaker.begin_trial(RETRY)


def test_progress_closes_it() -> None:
    breaker = Breaker(120)
    breaker.on_expired(0)
    breaker.on_progress()
    assert breaker.allowance == 120


def test_a_short_timeout_stays_short() -> None:
    breaker = Breaker(0.2)
    breaker.on_expired(0)
    assert breaker.allowance == 0.2
