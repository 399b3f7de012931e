"""A torrent's own part: evictions, statistics in words, and tasks that a bug must not end."""

from __future__ import annotations

from typing import NoReturn

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.engine.kit import PIECE, rig
from tests.transports.torrents import sample
from torrentfs.wire import messages as m


async def test_read_ahead_follows_a_sequential_reader_and_ends_with_it(
    autojump_clock: MockClock,
) -> None:
    async with rig(200 * PIECE, readahead=64 * PIECE) as r:
        await r.seeder()
        for offset in range(0, 20 * PIECE, PIECE // 2):
            await r.read(offset, PIECE // 2)
        await trio.sleep(1)
        ahead = r.store.have.count
        assert 20 < ahead <= 20 + 64 + 64
        await trio.sleep(100)
        assert r.store.have.count == ahead


async def test_opening_and_closing_fetch_nothing(autojump_clock: MockClock) -> None:
    async with rig() as r:
        await r.seeder()
        r.torrent.on_open(0)
        await trio.sleep(10)
        r.torrent.on_release(0)
        await trio.sleep(10)
        assert r.torrent.downloaded == 0


@pytest.mark.expect_log("a bug while scheduling", "a bug in the tick")
async def test_bugs_in_the_loops_cost_a_moment(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig() as r:
        await r.seeder()

        def broken(*_: object) -> NoReturn:
            raise RuntimeError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(r.torrent, "schedule", broken)
            patch.setattr(r.torrent.serving, "tick", broken)
            r.torrent._timer_at = trio.current_time() + 1
            r.torrent._timer.set()
            await trio.sleep(3)
        assert await r.read(0, 10) == r.sample.space[:10]


async def test_who_plays_a_film_has_its_subtitles_soon(autojump_clock: MockClock) -> None:
    names = (("film.mkv", 90), ("film.srt", 2), ("other.srt", 2))
    content = sample([((name,), pieces * PIECE) for name, pieces in names], piece_length=PIECE)
    subtitles = set(content.metainfo.geometry.pieces_of_file(1))
    async with rig(content, readahead=2 * PIECE) as r:
        await r.seeder()
        r.torrent.on_open(0)
        await r.read(0, 100)
        await r.read(80 * PIECE, 100)
        await trio.sleep(5)
        assert not subtitles & set(r.store.have)  # that was a look at it
        for offset in range(0, 40 * PIECE, PIECE):
            await r.read(offset, PIECE)
        await trio.sleep(1)
        assert subtitles <= set(r.store.have)
        assert not set(content.metainfo.geometry.pieces_of_file(2)[1:]) & set(r.store.have)


async def test_reads_come_before_what_is_prefetched(autojump_clock: MockClock) -> None:
    async with rig(400 * PIECE) as r:
        r.torrent.background.begin("all", [range(400)])
        r.torrent.schedule(trio.current_time())
        peer = await r.connect()
        await peer.say(m.Unchoke())
        requests = await peer.settle()
        assert {e.piece for e in requests if isinstance(e, m.Request)} <= set(range(32))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(r.read, 390 * PIECE, 10)
            await trio.sleep(0.01)
            asked: list[int] = []
            for number in range(3):
                await peer.say(
                    m.Piece(number, 0, r.sample.space[number * PIECE : number * PIECE + 16384])
                )
                events = await peer.settle()
                asked += [e.piece for e in events if isinstance(e, m.Request)]
            assert asked
            assert asked[0] == 390
            nursery.cancel_scope.cancel()
