"""A dead torrent costs one full time-out, then fails fast until something arrives."""

from __future__ import annotations

from torrentfs.engine.breaker import FAST, LAST_RETRY, MOST_MISSING, RETRY, Breaker
from torrentfs.metainfo.bitfield import Bitfield


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


def test_an_offer_of_anything_that_was_waited_for_closes_it() -> None:
    """A scan waits for one file after the other; a peer may have the first of them alone."""
    breaker = Breaker(120)
    breaker.on_expired(0, 3)
    for piece in range(10, 20):
        breaker.on_expired(1, piece)
    first, other = Bitfield(1000), Bitfield(1000)
    first.add(3)
    other.add(4)
    breaker.on_offer(other)
    assert breaker.is_open
    breaker.on_offer(first)
    assert not breaker.is_open


def test_what_was_offered_is_not_offered_again_by_other_pieces() -> None:
    """A peer that chokes us and loads others' pieces tells of one after the other."""
    breaker = Breaker(120)
    breaker.on_expired(0, 3)
    breaker.on_offer_of(4)
    assert breaker.is_open
    breaker.on_offer_of(3)
    assert not breaker.is_open


def test_of_very_many_pieces_the_latest_are_remembered() -> None:
    breaker = Breaker(120)
    for piece in range(MOST_MISSING + 1):
        breaker.on_expired(0, piece)
    breaker.on_offer_of(0)
    assert breaker.is_open
    breaker.on_offer_of(1)
    assert not breaker.is_open


def test_what_was_missing_before_it_closed_is_forgotten() -> None:
    breaker = Breaker(120)
    breaker.on_expired(0, 3)
    breaker.on_progress()
    breaker.on_expired(0, 4)
    breaker.on_offer_of(3)
    assert breaker.is_open
