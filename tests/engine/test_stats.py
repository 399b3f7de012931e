"""Numbers frozen at one moment."""

from __future__ import annotations

from torrentfs.engine.stats import TorrentStatistics


def test_progress_is_a_share_of_pieces() -> None:
    def of(have: int, total: int) -> float:
        return TorrentStatistics("n", "k", "ready", 1, have, total, 0, 0, 0, 0, 0, 0, 0).progress

    assert of(1, 4) == 0.25
    assert of(0, 0) == 1.0  # a torrent of empty files has everything
