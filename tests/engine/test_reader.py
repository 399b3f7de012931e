"""Reads that wait: what ends their wait, and what they then say."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from torrentfs.engine.breaker import RETRY
from torrentfs.engine.reader import HURRY, RECHECK, Reader
from torrentfs.errors import DataUnavailable
from torrentfs.metainfo.geometry import Geometry
from torrentfs.scheduling.readheads import ReadHeads

PIECE = 16 * 1024


class Store:
    """Has the pieces it is given, each made of one byte."""

    def __init__(self) -> None:
        self.have: set[int] = set()

    def read_nowait(self, piece: int, begin: int, length: int) -> bytes | None:
        return bytes([piece % 256]) * length if piece in self.have else None


class Supply:
    """A swarm that the test plays."""

    def __init__(self) -> None:
        self.progress: dict[int, float] = {}
        self.despair: str | None = None
        self.scheduled = 0

    def schedule(self, now: float) -> None:
        self.scheduled += 1

    def progress_of(self, piece: int) -> float | None:
        return self.progress.get(piece)

    def why_missing(self, piece: int) -> str:
        return "nobody has it"

    def is_held(self, piece: int) -> bool:
        return True

    def giver(self) -> str:
        return "tcp"

    def hopeless(self) -> str | None:
        return self.despair

    def is_proved(self, piece: int, begin: int, length: int) -> bool:
        return False

    def read_proved(self, piece: int, begin: int, length: int) -> None:
        return None


class Bench:
    """A reader of one file of eight pieces, with a time-out of 20 s."""

    def __init__(self, pieces: int = 8) -> None:
        self.store, self.supply = Store(), Supply()
        geometry = Geometry(PIECE, [pieces * PIECE])
        self.heads = ReadHeads(geometry)
        self.reader = Reader(
            "film",
            geometry,
            self.store,  # type: ignore[arg-type]
            self.heads,
            self.supply,  # type: ignore[arg-type]
            timeout=20.0,
        )

    def deliver(self, piece: int) -> None:
        self.store.have.add(piece)
        self.reader.on_piece(piece, bytearray([piece % 256]) * PIECE)

    async def fails(self, offset: int, match: str) -> float:
        """Read 100 bytes in vain; the seconds it took."""
        began = trio.current_time()
        with pytest.raises(DataUnavailable, match=match):
            await self.reader.read(0, offset, 100)
        return trio.current_time() - began


async def test_a_read_waits_for_its_pieces_and_joins_them(autojump_clock: object) -> None:
    bench = Bench()
    got: list[bytes] = []

    async def read() -> None:
        got.append(bytes(await bench.reader.read(0, PIECE - 1, 2)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.sleep(3)
        assert [want.piece for want in bench.heads.agenda(3.0).urgent] == [0, 1]
        bench.deliver(1)
        await trio.sleep(3)
        assert not got
        bench.deliver(0)
    assert got == [b"\0\1"]


async def test_who_knows_what_he_wants_gets_nothing_more(autojump_clock: object) -> None:
    bench = Bench(pieces=64)
    wanted: list[list[int]] = []

    async def read(offset: int, ahead: bool) -> None:
        await bench.reader.read(0, offset, 20 * PIECE, ahead=ahead)

    for start, ahead in ((0, False), (20, False), (40, True)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, start * PIECE, ahead)
            await trio.sleep(1)
            agenda = bench.heads.agenda(trio.current_time())
            assert [want.piece for want in agenda.urgent] == list(range(start, start + 20))
            wanted.append([want.piece for want in agenda.rest])
            for piece in range(start, start + 20):
                bench.deliver(piece)
    assert wanted[:2] == [[], []]
    assert wanted[2] != []  # a read head looks ahead


async def test_the_deadline_is_without_progress(autojump_clock: object) -> None:
    bench = Bench()
    bench.supply.progress[0] = trio.current_time() + 15
    assert await bench.fails(0, "no byte of it came in 20 s: nobody has it") == pytest.approx(35)
    assert await bench.fails(PIECE, "in 1 s") == pytest.approx(1)  # the breaker is open


async def test_a_scanner_gets_through_a_dead_torrent(autojump_clock: object) -> None:
    """24 files, 16 reads of each, one after the other, as a media server does."""
    bench = Bench(pieces=24 * 16)
    bench.reader.breaker.timeout = 120.0
    took = [await bench.fails(piece * PIECE, "no byte of it came in 1") for piece in range(24 * 16)]
    assert took[0] == pytest.approx(120)
    assert took.count(pytest.approx(1)) == 24 * 16 - 4
    assert sum(took) < 15 * 60
    in_ten_minutes = next(n for n in range(len(took)) if sum(took[:n]) >= 600)
    assert in_ten_minutes > 200


async def test_the_echo_of_a_failed_read_is_no_trial(autojump_clock: object) -> None:
    """Who reads on and on is followed by echoes, so the retry always falls due before one."""
    bench = Bench()
    await bench.fails(0, "in 20 s")
    await trio.sleep(RETRY - 0.5)
    assert await bench.fails(0, "in 1 s") == pytest.approx(1)
    assert bench.reader.breaker.retry_in(trio.current_time()) == 0
    assert await bench.fails(0, "in 1 s") == 0  # the kernel asks for the one page again
    assert await bench.fails(PIECE, "in 20 s") == pytest.approx(20)


async def test_a_trial_that_is_killed_does_not_leave_the_breaker_without_one(
    autojump_clock: object,
) -> None:
    bench = Bench()
    await bench.fails(0, "in 20 s")
    await trio.sleep(RETRY)
    with trio.move_on_after(5):
        await bench.reader.read(0, PIECE, 100)
    assert await bench.fails(2 * PIECE, "in 1 s") == pytest.approx(1)
    await trio.sleep(2 * RETRY)
    assert await bench.fails(3 * PIECE, "in 20 s") == pytest.approx(20)


async def test_despair_ends_a_wait_early(autojump_clock: object) -> None:
    bench = Bench()

    async def despair() -> None:
        await trio.sleep(5)
        bench.supply.despair = "all gone"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(despair)
        assert await bench.fails(0, "all gone") <= 5 + RECHECK


async def test_shutdown_fails_who_waits_and_who_would_wait(autojump_clock: object) -> None:
    bench = Bench()

    async def stop() -> None:
        await trio.sleep(5)
        bench.reader.fail_all("the end")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop)
        assert await bench.fails(0, "the end") == pytest.approx(5)
    assert await bench.fails(PIECE, "the end") == 0
    bench.deliver(2)
    assert await bench.reader.read(0, 2 * PIECE, 3) == b"\2\2\2"


async def test_in_a_hurry_only_reads_that_get_nothing_fail(autojump_clock: object) -> None:
    bench = Bench()
    served: list[bytes] = []

    async def read_what_comes() -> None:
        served.append(bytes(await bench.reader.read(0, 3 * PIECE, 1)))

    async def drip() -> None:
        for _ in range(60):
            await trio.sleep(0.1)
            bench.supply.progress[3] = trio.current_time()
        bench.deliver(3)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_what_comes)
        nursery.start_soon(drip)

        @nursery.start_soon
        async def hurry() -> None:
            await trio.sleep(5)
            bench.reader.hurry("somebody unmounts", 1.0)

        assert await bench.fails(0, "somebody unmounts") == pytest.approx(5 + HURRY)
        assert await bench.fails(0, "somebody unmounts") == 0.0  # the kernel asking again
        assert await bench.fails(PIECE, "somebody unmounts") == pytest.approx(HURRY)
    assert served == [b"\3"]
    # The moment is over: reads wait as ever, and nobody took the torrent for dead.
    assert not bench.reader.breaker.is_open
    assert await bench.fails(0, "no byte of it came in 20 s") == pytest.approx(20)
    assert bench.reader.waiting == 0
    assert not bench.heads.agenda(trio.current_time()).urgent


async def test_what_is_under_way_stays_wanted_when_a_read_comes_for_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Or its requests would be taken back, and sent again a moment later."""
    bench = Bench(pieces=2000)
    wanted: list[set[int]] = []

    def schedule(now: float) -> None:
        agenda = bench.heads.agenda(now)
        wanted.append({want.piece for want in (*agenda.urgent, *agenda.rest)})

    bench.supply.schedule = schedule  # type: ignore[method-assign]
    for piece in range(100, 300):  # behind the hint for the head of a file
        before = wanted[-1] if wanted else set()
        wanted.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.reader.read, 0, piece * PIECE, PIECE)
            await trio.testing.wait_all_tasks_blocked()
            assert wanted
            if piece in before:  # it was asked for ahead
                assert all(piece in each for each in wanted)
            bench.deliver(piece)


async def test_what_waits_is_told_with_its_age(autojump_clock: object) -> None:
    bench = Bench()
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(bench.reader.read, 0, 100, 50)
        await trio.sleep(2)
        nursery.start_soon(bench.reader.read, 0, 3 * PIECE, 10)
        await trio.sleep(1)
        assert bench.reader.waits() == [
            (0, 100, 50, began, began + 20),
            (3, 0, 10, began + 2, began + 22),
        ]
        bench.deliver(0)
        bench.deliver(3)
    assert bench.reader.waits() == []


async def test_reads_are_counted_by_who_answered_them(autojump_clock: object) -> None:
    bench = Bench()
    meters = bench.reader.meters
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.reader.read, 0, 100, 50)
        await trio.sleep(2)
        bench.deliver(0)
    await bench.fails(3 * PIECE, "nobody has it")
    assert meters.answered["tcp"].sum == pytest.approx(2)
    assert meters.sizes == {"tcp": 50}
    assert (meters.failed.total, meters.failed.sum) == (1, pytest.approx(20))
    assert (meters.hits, meters.misses) == (0, 2)
    bench.store.have.add(1)
    await bench.reader.read(0, PIECE, 10)
    assert (meters.memory_reads, meters.memory_bytes, meters.hits) == (1, 10, 1)
