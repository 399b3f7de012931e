"""A torrent's own part: evictions, statistics in words, and tasks that a bug must not end."""

from __future__ import annotations

from typing import NoReturn

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.engine.kit import PIECE, rig


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
