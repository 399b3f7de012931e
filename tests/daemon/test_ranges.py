"""Many ranges and long ones: the right bytes, all wanted together, and never too much at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.daemon.ranges import CHUNK, Range, Ranges
from torrentfs.errors import DataUnavailable
from torrentfs.metainfo.geometry import BLOCK_LENGTH, Geometry

PIECE = 64 * 1024
MIB = 1024 * 1024


class Swarm:
    """A torrent whose bytes come after a second, or never."""

    def __init__(self, *lengths: int, has_v2: bool = False, dead: range = range(0)) -> None:
        geometry = Geometry(PIECE, list(lengths))
        self.metainfo: Any = SimpleNamespace(geometry=geometry, has_v2=has_v2)
        self.dead = dead
        self.asked: list[Range] = []
        self.under_way = self.most = 0

    async def read(self, file: int, offset: int, size: int, *, ahead: bool = True) -> bytes:
        assert not ahead  # who names ranges knows what he wants
        self.asked.append(Range(file, offset, size))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await trio.sleep(1)
        finally:
            self.under_way -= 1
        if offset in self.dead:
            raise DataUnavailable("nobody has it")
        return content(file, offset, min(size, self.metainfo.geometry.file_lengths[file] - offset))


def content(file: int, offset: int, size: int) -> bytes:
    first, last = offset // 4, (offset + max(size, 0)) // 4 + 1
    whole = b"".join((n * 31 + file).to_bytes(4, "big") for n in range(first, last))
    return whole[offset - first * 4 :][: max(size, 0)]


async def test_a_long_range_is_cut_at_borders_of_pieces(autojump_clock: object) -> None:
    swarm = Swarm(1000, 20 * MIB)
    assert await Ranges(swarm).read(1, 5, 9 * MIB) == content(1, 5, 9 * MIB)
    assert len(swarm.asked) == 3
    for asked in sorted(swarm.asked)[1:]:
        assert (1000 + asked.offset) % CHUNK == 0
    assert trio.current_time() < 2  # all of it was wanted together


async def test_ranges_are_fetched_together_and_answered_in_order(autojump_clock: object) -> None:
    swarm = Swarm(30 * MIB)
    ranges = [Range(0, n * PIECE * 7, 100) for n in range(60)]
    before = trio.current_time()
    answers = await Ranges(swarm).read_many(ranges)
    assert answers == [content(*wanted) for wanted in ranges]
    assert trio.current_time() - before == 1
    assert swarm.most == 60
    assert sorted(swarm.asked) == ranges


@pytest.mark.parametrize(("has_v2", "most"), [(False, 4), (True, 16)])
async def test_what_is_under_way_is_bounded(
    autojump_clock: object, has_v2: bool, most: int
) -> None:
    swarm = Swarm(30 * MIB, has_v2=has_v2)
    reads = Ranges(swarm, under_way=4 * PIECE)
    await reads.read_many([Range(0, n * PIECE, BLOCK_LENGTH) for n in range(40)])
    assert swarm.most == most  # counted by what is fetched as a whole
    first = sorted(asked.offset for asked in swarm.asked[:most])
    assert first == [n * PIECE for n in range(most)]  # first come, first served
    assert len(swarm.asked) == 40


async def test_one_larger_than_the_bound_goes_alone(autojump_clock: object) -> None:
    swarm = Swarm(30 * MIB)
    reads = Ranges(swarm, under_way=PIECE)
    assert await reads.read(0, 0, 8 * MIB) == content(0, 0, 8 * MIB)
    assert swarm.most == 1


async def test_a_range_that_fails_keeps_no_other(autojump_clock: object) -> None:
    swarm = Swarm(30 * MIB, dead=range(5 * PIECE, 6 * PIECE))
    reads = Ranges(swarm)
    answers = await reads.read_many([Range(0, n * PIECE, 10) for n in range(10)])
    assert [n for n, answer in enumerate(answers) if isinstance(answer, DataUnavailable)] == [5]
    with pytest.raises(DataUnavailable, match="nobody has it"):
        await reads.read(0, 5 * PIECE, 1)


async def test_who_gives_up_leaves_the_line(autojump_clock: object) -> None:
    swarm = Swarm(30 * MIB)
    reads = Ranges(swarm, under_way=PIECE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reads.read, 0, 0, PIECE)
        await trio.sleep(0.1)
        with trio.move_on_after(0.5):
            await reads.read(0, PIECE, PIECE)
        assert await reads.read(0, 2 * PIECE, PIECE) == content(0, 2 * PIECE, PIECE)
    assert [asked.offset for asked in swarm.asked] == [0, 2 * PIECE]
    with trio.move_on_after(0.5):
        await reads.read(0, 0, PIECE)
    assert repr(reads) == "<Ranges 0 bytes under way, 0 in line>"


@given(offset=st.integers(0, 3 * PIECE), size=st.integers(0, 4 * PIECE))
def test_any_range(offset: int, size: int) -> None:
    swarm = Swarm(77, 2 * PIECE + 5, 9)

    async def read() -> bytes:
        return await Ranges(swarm).read(1, offset, size)

    got = trio.run(read, clock=trio.testing.MockClock(autojump_threshold=0))
    assert got == content(1, 0, 2 * PIECE + 5)[offset : offset + size]
