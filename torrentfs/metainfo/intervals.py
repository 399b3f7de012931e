"""Sets of whole numbers as sorted ranges that do not touch: pinned bytes, and the pieces of them.

A pin of a whole torrent of a million pieces is one range, so all of it is cheap to keep and write.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def joined(ranges: Iterable[range]) -> tuple[range, ...]:
    """The same numbers as sorted ranges with gaps between them; each range has step 1."""
    found: list[range] = []
    for each in sorted((r for r in ranges if len(r)), key=lambda r: r.start):
        if found and each.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, each.stop))
        else:
            found.append(each)
    return tuple(found)


def without(ranges: Iterable[range], gone: Iterable[range]) -> tuple[range, ...]:
    """The numbers of `ranges` that are not in `gone`."""
    left: list[range] = []
    holes = joined(gone)
    first = 0
    for each in joined(ranges):
        while first < len(holes) and holes[first].stop <= each.start:
            first += 1
        start, place = each.start, first
        while place < len(holes) and holes[place].start < each.stop:
            if start < holes[place].start:
                left.append(range(start, holes[place].start))
            start = holes[place].stop
            place += 1
        if start < each.stop:
            left.append(range(start, each.stop))
    return tuple(left)


def common(ranges: Iterable[range], others: Iterable[range]) -> tuple[range, ...]:
    """The numbers that are in both."""
    known = joined(ranges)
    return without(known, without(known, others))


def groups(ranges: Iterable[range], size: int) -> tuple[range, ...]:
    """The numbers of the groups of `size` that hold one of the numbers: pieces of bytes."""
    return joined(range(r.start // size, (r.stop - 1) // size + 1) for r in ranges if len(r))


def covers(ranges: Sequence[range], part: range) -> bool:
    """Whether all of `part`, which is not empty, is in joined ranges."""
    place = bisect_right(ranges, part.start, key=lambda r: r.start) - 1
    return place >= 0 and part.stop <= ranges[place].stop


def total(ranges: Sequence[range]) -> int:
    """How many numbers they are, if they do not overlap."""
    return sum(len(each) for each in ranges)


def each_of(ranges: Iterable[range]) -> Iterator[int]:
    """All numbers, ascending if the ranges are."""
    for part in ranges:
        yield from part
