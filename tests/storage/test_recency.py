"""Who goes first: least recent use, with lazily corrected entries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.storage.recency import IDLE, Entry, Recency


def test_stamps_rise_even_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    recency = Recency()
    clock = iter([5000, 5000, 1000, 9000])
    monkeypatch.setattr("time.time_ns", lambda: next(clock))
    stamps = [recency.stamp() for _ in range(4)]
    assert stamps == [5, 6, 7, 9]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.data())
def test_entries_come_out_by_their_true_last_use(pushed: list[int], data: st.DataObject) -> None:
    recency = Recency()
    later = data.draw(st.lists(st.integers(0, 50), min_size=len(pushed), max_size=len(pushed)))
    true = {}
    for extent, (use, more) in enumerate(zip(pushed, later, strict=True)):
        recency.push((use, 1, extent))
        true[extent] = use + more
    gone = set(data.draw(st.lists(st.sampled_from(sorted(true)))))

    def last_use(entry: Entry) -> int | None:
        extent = int(entry[2])
        return None if extent in gone else true[extent]

    order = []
    while (entry := recency.pop(last_use)) is not None:
        order.append(entry)
    assert [int(extent) for _, _, extent in order] == sorted(
        true.keys() - gone, key=lambda extent: (true[extent], extent)
    )
    assert len(recency) == 0


def test_idle_trees_and_open_extents_stand_in_one_line() -> None:
    recency = Recency()
    recency.push((20, 1, 0))
    recency.push((10, IDLE, "ab" * 20))
    assert recency.pop(lambda entry: entry[0]) == (10, IDLE, "ab" * 20)
    assert recency.pop(lambda entry: entry[0]) == (20, 1, 0)
    assert recency.pop(lambda entry: entry[0]) is None
