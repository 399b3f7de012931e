"""Any number of sets before a wait are one wake-up, and none is lost."""

from __future__ import annotations

import trio
import trio.testing

from torrentfs.engine.wakeup import Wakeup


async def test_set_before_wait_returns_at_once() -> None:
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    await wakeup.wait()
    with trio.move_on_after(0) as scope:
        await wakeup.wait()
    assert scope.cancelled_caught


async def test_set_wakes_the_sleeper(autojump_clock: trio.testing.MockClock) -> None:
    wakeup = Wakeup()
    woken: list[int] = []

    async def sleeper() -> None:
        for number in range(3):
            await wakeup.wait()
            woken.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper)
        for expected in range(1, 4):
            await trio.testing.wait_all_tasks_blocked()
            wakeup.set()
            await trio.testing.wait_all_tasks_blocked()
            assert len(woken) == expected


async def test_a_cancelled_wait_leaves_it_usable() -> None:
    wakeup = Wakeup()
    with trio.move_on_after(0):
        await wakeup.wait()
    wakeup.set()
    await wakeup.wait()
