"""When one tracker may be asked again."""

from __future__ import annotations

import random

import pytest

from torrentfs.discovery.tracker import (
    ANEW_GAP,
    MAX_BACKOFF,
    MAX_INTERVAL,
    SCRAPE_GAP,
    Tracker,
)
from torrentfs.wire.announce import AnnounceReply, SwarmCounts

HASH = bytes(20)


def answered(**reply: object) -> Tracker:
    tracker = Tracker("HTTP://t.example/announce", 0)
    tracker.on_announce(HASH)
    tracker.on_reply(AnnounceReply(**reply), HASH, 3, now=1000.0)  # type: ignore[arg-type]
    return tracker


@pytest.mark.parametrize(
    ("reply", "not_before", "due"),
    [
        ({"interval": 1800}, 60, 1800),
        ({"interval": 1800, "min_interval": 900}, 900, 1800),
        ({"interval": 1800, "min_interval": 0}, 60, 1800),
        ({"interval": 0}, 60, 60),
        ({"interval": 120, "min_interval": 86400}, 120, 120),
        ({"interval": 10**9, "min_interval": 10**9}, MAX_INTERVAL, MAX_INTERVAL),
    ],
)
def test_intervals_are_kept_within_bounds(
    reply: dict[str, int], not_before: float, due: float
) -> None:
    tracker = answered(**reply)
    assert (tracker.not_before - 1000, tracker.due - 1000) == (not_before, due)


def test_back_off_doubles_with_jitter_and_an_answer_ends_it() -> None:
    tracker = Tracker("udp://t.example:1/", 2)
    rng = random.Random(1)
    waits = []
    for _ in range(12):
        tracker.on_announce(HASH)
        tracker.on_failure(HASH, "torrent not registered", 0.0, rng)
        waits.append(tracker.not_before)
    for n, wait in enumerate(waits):
        assert 0.75 <= wait / min(MAX_BACKOFF, 10 * 2**n) <= 1.25
    assert tracker.statistics(0.0).last_error == "torrent not registered"
    assert tracker.statistics(0.0).failures == 12
    assert not tracker.contacted
    tracker.on_reply(AnnounceReply(), HASH, 0, 0.0)
    assert (tracker.failures, tracker.last_error) == (0, None)


def test_statistics_in_seconds_from_now() -> None:
    shown = answered(interval=600, seeders=5, leechers=6, warning="soon down").statistics(1100.0)
    assert (shown.next_announce, shown.peers, shown.seeders, shown.leechers) == (500.0, 3, 5, 6)
    assert shown.warning == "soon down"
    assert Tracker("http://[bad", 0).scheme == ""
    assert Tracker("x", 0).statistics(0.0).next_announce is None


def test_a_refusal_that_says_when_to_retry() -> None:
    tracker, rng = answered(interval=600), random.Random(1)
    tracker.on_failure(HASH, "busy", 2000.0, rng, retry_in=1200.0)
    assert (tracker.not_before, tracker.due) == (3200.0, 3200.0)
    tracker.on_failure(HASH, "busy", 2000.0, rng, retry_in=0.0)
    assert tracker.due == 2060.0  # never at once
    tracker.on_failure(HASH, "unknown", 2000.0, rng, retry_in=float("inf"))
    assert tracker.wanted([HASH, b"2" * 20]) == [b"2" * 20]
    tracker.give_up()
    assert tracker.statistics(2000.0).next_announce is None
    assert not tracker.may_scrape(9000.0)


def test_counts_of_announces_and_scrapes() -> None:
    tracker = answered(seeders=5, leechers=6)
    tracker.on_counts(HASH, SwarmCounts(7, None, 90), 1050.0)
    tracker.on_counts(b"2" * 20, SwarmCounts(1, 20, 3), 1060.0)
    tracker.on_counts(HASH, SwarmCounts(), 1080.0)  # says nothing
    shown = tracker.statistics(1100.0)
    assert (shown.seeders, shown.leechers, shown.downloaded) == (7, 20, 90)
    assert shown.counted == 40.0
    fresh = Tracker("udp://t.example:1/", 0).statistics(0.0)
    assert (fresh.seeders, fresh.downloaded, fresh.counted, fresh.scrape_error) == (None,) * 4


def test_scrapes_are_seldom_and_not_of_who_is_down() -> None:
    tracker = answered()
    assert tracker.may_scrape(1000.0)
    tracker.on_scrape(1000.0)
    assert not tracker.may_scrape(1000.0 + SCRAPE_GAP - 1)
    assert tracker.may_scrape(1000.0 + SCRAPE_GAP)
    assert tracker.statistics(1000.0).scrape_error == "no answer yet"
    tracker.on_scraped(None)
    assert tracker.statistics(1000.0).scrape_error is None
    tracker.on_failure(HASH, "down", 2000.0, random.Random(1))
    assert not tracker.may_scrape(9000.0)


def test_asked_anew_soon_after_its_answer_and_not_if_it_was_given_up() -> None:
    tracker = answered(interval=1800, min_interval=1800)
    tracker.ask_anew(1002.0)
    assert tracker.not_before == tracker.due == 1000.0 + ANEW_GAP
    tracker.ask_anew(1500.0)
    assert tracker.not_before == 1000.0 + ANEW_GAP  # it is due already
    tracker.give_up()
    tracker.ask_anew(2000.0)
    assert tracker.not_before == float("inf")
    fresh = Tracker("udp://t.example:1/", 0)
    fresh.on_failure(HASH, "the interface vpn0 is gone", 10.0, random.Random(1))
    fresh.ask_anew(11.0)
    assert (fresh.not_before, fresh.failures) == (11.0, 0)
