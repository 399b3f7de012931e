"""What went through WebSocket trackers, counted for a torrent and for a session."""

from __future__ import annotations

from torrentfs.discovery.websocket_statistics import SignallingStatistics, Tally, tracker_statistics


def test_a_session_counts_along_and_never_goes_down() -> None:
    total = Tally()
    one, other = Tally(total), Tally(total)
    one.count("offers_sent", 5)
    one.count("answers_received")
    other.count("offers_received", 2)
    other.count("answers_sent")
    other.count("dropped")
    assert one.statistics() == SignallingStatistics(5, 1, 0, 0, 0)
    assert other.statistics() == SignallingStatistics(0, 0, 2, 1, 1)
    del one, other
    assert total.statistics() == SignallingStatistics(5, 1, 2, 1, 1)
    assert "offers_sent=5" in repr(total)


def test_a_tracker_that_is_not_asked() -> None:
    row = tracker_statistics("wss://t.example/", 1, (), 7.0)
    assert (row.url, row.tier, row.announces, row.counted) == ("wss://t.example/", 1, 0, None)
    assert "only 10 WebSocket trackers" in str(row.last_error)
