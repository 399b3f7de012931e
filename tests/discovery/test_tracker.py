"""When one tracker may be asked again."""

from __future__ import annotations

import random

import pytest

from torrentfs.discovery.tracker import MAX_BACKOFF, MAX_INTERVAL, Tracker
from torrentfs.wire.announce import AnnounceReply

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
