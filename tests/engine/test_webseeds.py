"""Web seeds as sources: chunks cut into blocks, pauses, missing files, wrong bytes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.engine.kit import PIECE, rig
from tests.transports.torrents import Sample, sample
from torrentfs.engine.webseeds import FIRST_RETRY, LANES, BlockCutter
from torrentfs.errors import DataUnavailable
from torrentfs.metainfo.geometry import BLOCK_LENGTH, Geometry
from torrentfs.transports.webseed import WebSeedError


class FakeSeed:
    """Gives bytes of a sample in odd chunks, one request a second; `fault` may raise instead."""

    url = "http://seed/"

    def __init__(self, of: Sample) -> None:
        self.of = of
        self.asked: list[tuple[int, int, float]] = []
        self.fault: Callable[[int, int], WebSeedError | None] = lambda start, length: None
        self.lies = False
        self.delay = 0.01

    def has(self, piece: int) -> bool:
        return True

    async def fetch(self, start: int, length: int) -> AsyncGenerator[bytes, None]:
        self.asked.append((start, length, trio.current_time()))
        await trio.sleep(self.delay)
        fault = self.fault(start, length)
        if fault is not None:
            raise fault
        for at in range(start, start + length, 5000):
            data = self.of.space[at : min(at + 5000, start + length)]
            yield bytes(len(data)) if self.lies else data


def seeds(number: int = 1, size: int = 10 * PIECE) -> tuple[Sample, list[FakeSeed]]:
    content = sample(size, piece_length=PIECE)
    return content, [FakeSeed(content) for _ in range(number)]


async def test_a_web_seed_alone_answers_reads(autojump_clock: MockClock) -> None:
    content, web = seeds(size=10 * PIECE + 77)
    async with rig(content, web_seeds=web) as r:
        assert await r.read(5, 9 * PIECE) == content.space[5 : 5 + 9 * PIECE]
        assert await r.read(10 * PIECE, 100) == content.space[10 * PIECE :]
        assert r.torrent.statistics().bytes_by_kind == {"http": 10 * PIECE + 77}
        assert r.torrent.statistics().wasted == 0


async def test_nothing_is_fetched_that_nobody_reads(autojump_clock: MockClock) -> None:
    content, web = seeds()
    async with rig(content, web_seeds=web):
        await trio.sleep(100)
        assert web[0].asked == []


async def test_peers_and_web_seeds_share_a_read(autojump_clock: MockClock) -> None:
    content, web = seeds(size=40 * PIECE)
    web[0].delay = 0.2
    async with rig(content, web_seeds=web) as r:
        await r.seeder(delay=0.01)
        await trio.sleep(1)
        assert await r.read(0, 40 * PIECE) == content.space
        kinds = r.torrent.statistics().bytes_by_kind
        assert min(kinds["http"], kinds["memory"]) > 0


async def test_a_seed_that_fails_is_asked_again_ever_more_rarely(
    autojump_clock: MockClock,
) -> None:
    content, web = seeds()
    web[0].fault = lambda start, length: WebSeedError("connection refused")
    async with rig(content, web_seeds=web, read_timeout=20) as r:
        with pytest.raises(DataUnavailable, match="web seed http://seed/: connection refused"):
            await r.read(0, 10)
        times = sorted({round(when) for _, _, when in web[0].asked})
        assert len(web[0].asked) <= 8
        assert times[-1] - times[0] >= 2 * FIRST_RETRY
        web[0].fault = lambda start, length: None
        await trio.sleep(120)
        assert await r.read(0, 10) == content.space[:10]


async def test_a_paused_seed_leaves_everything_to_peers(autojump_clock: MockClock) -> None:
    content, web = seeds(size=20 * PIECE)
    web[0].fault = lambda start, length: WebSeedError("429", retry_after=300.0)
    async with rig(content, web_seeds=web) as r:
        await r.seeder(delay=0.001)
        before = trio.current_time()
        assert await r.read(0, 20 * PIECE) == content.space
        assert trio.current_time() - before < 5
        asked = len(web[0].asked)
        assert asked <= LANES
        r.store.evict(0)
        await r.read(0, 10)
        assert len(web[0].asked) == asked
        await trio.sleep(300)
        web[0].fault = lambda start, length: None
        assert not r.torrent.peers()  # it was silent meanwhile
        r.store.evict(1)
        assert await r.read(PIECE, 10) == content.space[PIECE : PIECE + 10]


async def test_an_error_on_one_lane_does_not_stop_the_other(autojump_clock: MockClock) -> None:
    content, web = seeds(size=20 * PIECE)
    first: list[int] = []

    def fault(start: int, length: int) -> WebSeedError | None:
        if not first:
            first.append(start)
            return WebSeedError("hiccup")
        return None

    web[0].fault = fault
    async with rig(content, web_seeds=web) as r:
        assert await r.read(0, 20 * PIECE) == content.space


async def test_missing_pieces_come_from_elsewhere(autojump_clock: MockClock) -> None:
    content, web = seeds()
    web[0].fault = lambda start, length: (
        WebSeedError("404", missing=range(3)) if start < 3 * PIECE else None
    )
    async with rig(content, web_seeds=web) as r:
        reading = r.reading(0, 10)
        await trio.sleep(1)
        assert reading.data is None
        assert await r.read(5 * PIECE, 10) == content.space[5 * PIECE : 5 * PIECE + 10]
        await r.seeder()
        assert await reading.wait() == content.space[:10]


async def test_a_dead_seed_is_gone_and_the_read_fails_at_once(autojump_clock: MockClock) -> None:
    content, web = seeds()
    web[0].fault = lambda start, length: WebSeedError("no such host", permanent=True)
    async with rig(content, web_seeds=web) as r:
        reading = r.reading(0, 10)
        with pytest.raises(DataUnavailable, match="no such host"):
            await reading.wait()
        assert reading.seconds is not None
        assert reading.seconds <= 2
        assert r.torrent.sources == ()


async def test_a_seed_with_wrong_bytes_is_dropped(autojump_clock: MockClock) -> None:
    content, web = seeds(2)
    web[0].lies = True
    web[1].delay = 3.0
    async with rig(content, web_seeds=web) as r:
        assert await r.read(0, PIECE) == content.space[:PIECE]
        assert [source.seed for source in r.torrent.sources] == [web[1]]  # type: ignore[union-attr]


async def test_a_seek_aborts_what_nobody_wants(autojump_clock: MockClock) -> None:
    content, web = seeds()
    web[0].delay = 50.0
    async with rig(content, web_seeds=web) as r:
        reading = r.reading(0, 10)
        await trio.sleep(1)
        reading.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        (source,) = r.torrent.sources
        assert all(lane.span is None for lane in source._lanes)  # type: ignore[union-attr]
        assert r.torrent.downloaded == 0


@pytest.mark.expect_log("a bug while reading from")
async def test_a_bug_costs_one_seed(autojump_clock: MockClock) -> None:
    content, web = seeds()

    def fault(start: int, length: int) -> WebSeedError | None:
        raise RuntimeError("a bug")

    web[0].fault = fault
    async with rig(content, web_seeds=web) as r:
        reading = r.reading(0, 10)
        await trio.sleep(0.5)
        assert r.torrent.sources == ()
        await r.seeder()
        assert await reading.wait() == content.space[:10]


class Blocks:
    """What `BlockCutter` needs of a torrent; keeps the blocks it is told."""

    def __init__(self, geometry: Geometry) -> None:
        self.metainfo: Any = type("M", (), {"geometry": geometry})
        self.got: list[tuple[int, int, bytes]] = []

    def on_block(self, source: int, piece: int, begin: int, data: Any, now: float) -> None:
        self.got.append((piece, begin, bytes(data)))


@given(data=st.data())
@settings(deadline=None)
def test_any_chunks_of_any_span_become_the_right_blocks(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 150_000), min_size=1, max_size=4))
    aligned = data.draw(st.booleans())
    piece_length = BLOCK_LENGTH * data.draw(st.sampled_from([1, 2, 4]))
    geometry = Geometry(piece_length, lengths, aligned=aligned)
    if not geometry.num_pieces:
        return
    first = data.draw(st.integers(0, geometry.num_pieces - 1))
    last = data.draw(st.integers(first, geometry.num_pieces - 1))
    expected: list[tuple[int, int, bytes]] = []
    for piece in range(first, last + 1):
        for begin in range(0, geometry.piece_size(piece), BLOCK_LENGTH):
            length = geometry.block_length(piece, begin)
            expected.append((piece, begin, bytes([(piece * 7 + begin // 16384) % 251]) * length))
    space = b"".join(block for _, _, block in expected)
    torrent = Blocks(geometry)
    cutter = BlockCutter(torrent, 1, first * piece_length)  # type: ignore[arg-type]
    # a few sizes in turn: single bytes all the way would take half a minute
    sizes = itertools.cycle(data.draw(st.lists(st.integers(1, 70_000), min_size=1, max_size=12)))
    tiny = 100
    while space:
        size = next(sizes)
        if size < 1000:
            tiny -= 1
            size = size if tiny > 0 else 70_000
        cutter.feed(space[:size], 0.0)
        space = space[size:]
    assert torrent.got == expected
