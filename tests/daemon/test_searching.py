"""Magnets are looked for patiently, few at a time, and the new ones first."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from torrentfs.daemon.items import Item
from torrentfs.daemon.searching import (
    ATTEMPT_SECONDS,
    FIRST_AT_ONCE,
    LATER_AT_ONCE,
    RECALLED_AT_ONCE,
    Searches,
)
from torrentfs.errors import InvalidTorrent, MetadataTimeout
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.magnet import Magnet

MAGNET = Magnet(InfoHashes(v1=bytes(20)), name="film")


class Swarm:
    """Gives metadata from attempt number `after` on, each attempt taking a minute."""

    def __init__(self, after: int = 10**9, error: Exception | None = None) -> None:
        self.starts: list[float] = []
        self.running = 0
        self.most = 0
        self._after = after
        self._error = error

    async def resolve(self, magnet: Magnet, *, timeout: float, on_progress: Any = None) -> Any:
        self.starts.append(trio.current_time())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if len(self.starts) > self._after:
                return magnet
            if self._error is not None:
                raise self._error
            on_progress("asking 3 peers")
            await trio.sleep(timeout)
            raise MetadataTimeout("nobody has it")
        finally:
            self.running -= 1


def searches(swarm: Any) -> Searches:
    """Without a library."""

    async def found(item: Any, metainfo: Any) -> None:
        """Nobody listens."""

    nursery: Any = None
    return Searches(swarm, nursery, found, print)


async def test_attempts_become_rarer_and_never_end(autojump_clock: object) -> None:
    swarm, words = Swarm(after=6), list[str]()
    assert await searches(swarm).find(MAGNET, words.append) is MAGNET
    gaps = [b - a - ATTEMPT_SECONDS for a, b in zip(swarm.starts, swarm.starts[1:], strict=False)]
    assert gaps == [60, 300, 900, 3600, 3600, 3600]
    assert words[:4] == [
        "in line to be looked for",
        "looked for",
        "asking 3 peers",
        "nobody has it; looked for again in 1 min",
    ]


async def test_what_is_no_torrent_is_not_looked_for_again(autojump_clock: object) -> None:
    with pytest.raises(InvalidTorrent):
        await searches(Swarm(error=InvalidTorrent("no"))).find(MAGNET, print)


@pytest.mark.expect_log("failed")
async def test_a_failure_of_ours_ends_nothing(autojump_clock: object) -> None:
    swarm = Swarm(after=1, error=RuntimeError("a bug"))
    assert await searches(swarm).find(MAGNET, print) is MAGNET


@pytest.mark.expect_log("the metadata of film was found, and showing it failed")
async def test_a_failure_to_show_what_was_found_ends_nothing_either(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    async def found(item: Any, metainfo: Any) -> None:
        raise RuntimeError("a bug")

    item = Item("k", "film", "", 0.0, hints=MAGNET)
    Searches(Swarm(after=0), nursery, found, print).begin(item)
    await trio.testing.wait_all_tasks_blocked()
    assert item.trouble == "showing it failed: see the log"


async def test_few_at_a_time_and_new_ones_do_not_wait_for_old_ones(autojump_clock: object) -> None:
    dead, alive = Swarm(), Swarm(after=0)
    several = searches(dead)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(several.find, MAGNET, lambda words: None)
        await trio.sleep(40 * ATTEMPT_SECONDS)  # all had their first attempt
        assert dead.most <= FIRST_AT_ONCE + LATER_AT_ONCE
        assert len(dead.starts) >= 100
        several._session = alive
        started = trio.current_time()
        await several.find(MAGNET, lambda words: None)
        assert trio.current_time() - started < 1
        nursery.cancel_scope.cancel()


async def test_what_a_restart_brings_back_does_not_hold_up_what_is_added_now(
    autojump_clock: object,
) -> None:
    dead, alive = Swarm(), Swarm(after=0)
    several = searches(dead)
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(partial(several.find, MAGNET, lambda words: None, recalled=True))
        await trio.sleep(1)
        assert dead.running == RECALLED_AT_ONCE
        several._session = alive
        started = trio.current_time()
        await several.find(MAGNET, lambda words: None)
        assert trio.current_time() == started
        several._session = dead
        await trio.sleep(30 / RECALLED_AT_ONCE * ATTEMPT_SECONDS)
        assert len(dead.starts) >= 30  # all had their first attempt
        assert dead.most <= RECALLED_AT_ONCE + LATER_AT_ONCE
        nursery.cancel_scope.cancel()
