"""Ranges as sets, against sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from torrentfs.metainfo.intervals import common, covers, each_of, groups, joined, total, without

RANGES = st.lists(
    st.builds(lambda start, size: range(start, start + size), st.integers(0, 60), st.integers(0, 9))
)


def numbers(ranges: list[range] | tuple[range, ...]) -> set[int]:
    return {number for each in ranges for number in each}


@given(RANGES, RANGES, st.integers(1, 7))
def test_they_are_sets(a: list[range], b: list[range], size: int) -> None:
    for found, expected in (
        (joined(a), numbers(a)),
        (without(a, b), numbers(a) - numbers(b)),
        (common(a, b), numbers(a) & numbers(b)),
        (groups(a, size), {number // size for number in numbers(a)}),
    ):
        assert list(each_of(found)) == sorted(expected)
        assert total(found) == len(expected)
        assert all(left.stop < right.start for left, right in pairwise(found))
        assert all(found)


@given(ranges=RANGES, start=st.integers(0, 60), size=st.integers(1, 20))
def test_what_is_covered(ranges: list[range], start: int, size: int) -> None:
    part = range(start, start + size)
    assert covers(joined(ranges), part) == (set(part) <= numbers(ranges))
