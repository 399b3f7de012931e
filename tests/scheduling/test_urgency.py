"""Sharing a piece, and lateness."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling.urgency import finish_time, is_late, share

LINES = st.tuples(st.floats(0.001, 2.0), st.floats(1e4, 1e8))


def test_two_equals_halve_it() -> None:
    assert share(64, (0.05, 1e6), [(0.05, 1e6)]) in (32, 33)


def test_alone_takes_all_and_the_hopeless_nothing() -> None:
    assert share(64, (9.0, 1e4), []) == 64
    assert share(64, (9.0, 1e4), [(0.01, 1e7)]) == 0


@given(st.integers(1, 2000), st.lists(LINES, min_size=1, max_size=12))
def test_shares_cover_the_piece_and_all_finish_together(
    blocks: int, lines: list[tuple[float, float]]
) -> None:
    done = finish_time(blocks, lines)
    carried = sum(max(0.0, done - latency) * rate for latency, rate in lines)
    assert carried == pytest.approx(blocks * BLOCK_LENGTH, rel=1e-6)
    shares = [share(blocks, mine, lines[:n] + lines[n + 1 :]) for n, mine in enumerate(lines)]
    assert blocks <= sum(shares) <= blocks + len(lines)


def test_twins_do_not_hedge_each_other() -> None:
    assert not is_late(0.09, 0.05)
    assert is_late(0.5, 0.05)
