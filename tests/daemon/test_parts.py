"""What the real parts decide by themselves: which files of a torrent are shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torrentfs.metainfo.magnet import file_numbers

RANGES = st.lists(st.builds(range, st.integers(0, 30), st.integers(0, 30)))


@given(ranges=RANGES, count=st.integers(0, 25))
def test_selected_files(ranges: list[range], count: int) -> None:
    wanted = {number for numbers in ranges for number in numbers if number < count}
    assert list(file_numbers(ranges, count)) == sorted(wanted)


def test_many_huge_ranges_cost_little() -> None:
    assert len(list(file_numbers([range(2**60)] * 10_000, 1000))) == 1000
