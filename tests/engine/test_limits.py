"""The long-run rate is the one asked for, and no limit costs no time."""

from __future__ import annotations

import pytest
import trio

from torrentfs.engine.limits import RateLimit


async def test_no_limit_never_sleeps(autojump_clock: trio.testing.MockClock) -> None:
    before = trio.current_time()
    await RateLimit(None).take(10**12)
    assert trio.current_time() == before


async def test_long_run_rate_is_exact(autojump_clock: trio.testing.MockClock) -> None:
    limit = RateLimit(1000)
    before = trio.current_time()
    for _ in range(100):
        await limit.take(500)
    # one second's worth may pass at once, the rest at 1000 bytes a second
    assert trio.current_time() - before == pytest.approx(49, abs=0.01)


async def test_a_pause_does_not_become_a_burst(autojump_clock: trio.testing.MockClock) -> None:
    limit = RateLimit(1000)
    await limit.take(1000)
    await trio.sleep(3600)
    before = trio.current_time()
    await limit.take(3000)
    assert trio.current_time() - before == pytest.approx(2, abs=0.01)


async def test_two_takers_share_it(autojump_clock: trio.testing.MockClock) -> None:
    limit = RateLimit(1000)

    async def taker() -> None:
        for _ in range(10):
            await limit.take(500)

    before = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(taker)
        nursery.start_soon(taker)
    assert trio.current_time() - before == pytest.approx(9, abs=0.01)


async def test_another_rate_from_now_on(autojump_clock: trio.testing.MockClock) -> None:
    limit = RateLimit(None)
    await limit.take(10**9)
    limit.set_rate(1000)
    before = trio.current_time()
    await limit.take(1000)
    assert trio.current_time() == before
    await limit.take(1000)
    assert trio.current_time() - before == pytest.approx(1, abs=0.01)
    limit.set_rate(None)
    await limit.take(10**9)
    assert trio.current_time() - before == pytest.approx(1, abs=0.01)
