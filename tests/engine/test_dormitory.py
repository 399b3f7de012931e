"""Who is woken: places, queue, turns and clean ends, with real torrents in virtual time."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from tests.engine.kit import PIECE
from tests.engine.test_dormant import failure, read
from tests.engine.ward import ward
from torrentfs.engine.dormant import Dormant
from torrentfs.errors import DataUnavailable
from torrentfs.scheduling.turns import PATIENCE, TURN


async def test_one_place_serves_many_in_turn(autojump_clock: MockClock) -> None:
    async with ward(places=1) as w:
        torrents = [w.shelve(f"t{number}") for number in range(8)]
        async with trio.open_nursery() as nursery:
            for torrent in torrents:
                nursery.start_soon(read, w, torrent)
        assert w.most_active == 1


async def test_the_dead_hold_up_nobody_for_long(autojump_clock: MockClock) -> None:
    async with ward(places=2, timeout=100) as w:
        dead = [w.shelve(f"dead{number}", alive=False) for number in range(4)]
        seconds = []

        async def fail(dormant: Dormant) -> None:
            words, waited = await failure(dormant)
            assert words
            seconds.append(waited)

        async with trio.open_nursery() as nursery:
            for dormant in dead:
                nursery.start_soon(fail, dormant)
            await trio.sleep(3 * PATIENCE)
            began = trio.current_time()
            await read(w, w.shelve("alive"))
            assert trio.current_time() - began <= PATIENCE
        assert max(seconds) <= 100


async def test_a_read_that_waits_for_a_place_says_so(autojump_clock: MockClock) -> None:
    async with ward(places=1, timeout=5) as w:
        a, b = w.shelve("a", alive=False), w.shelve("b")

        async def fail() -> None:
            words, _ = await failure(a)
            assert "no peers connected" in words

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep(0.1)
            words, seconds = await failure(b)
        assert seconds == pytest.approx(5)
        assert "waits for one of 1 places" in words


async def test_long_films_take_turns(autojump_clock: MockClock) -> None:
    async with ward(places=1) as w:
        w.delay = 0.1
        films = [w.shelve("one"), w.shelve("other")]
        ended = trio.current_time() + 3 * TURN

        async def watch(film: Dormant) -> None:
            while trio.current_time() < ended:
                w.stores[film.key].evict(0)
                w.stores[film.key].evict(1)
                await read(w, film, PIECE - 50)
                await trio.sleep(0.5)

        async with trio.open_nursery() as nursery:
            for film in films:
                nursery.start_soon(watch, film)
        runs = [event for event in w.take() if event.startswith("run")]
        assert len(runs) >= 3
        assert all(one != next_one for one, next_one in pairwise(runs))


async def test_eager_ones_are_active_as_long_as_places_are_free(autojump_clock: MockClock) -> None:
    async with ward(places=2) as w:
        torrents = [w.shelve(name) for name in "abc"]
        for torrent in torrents:
            await w.dormitory.start_eagerly(torrent)
        assert w.take() == ["open a", "run a", "open b", "run b"]
        assert [t.state for t in torrents] == ["ready", "ready", "asleep"]
        await read(w, torrents[2])  # nobody reads a and b
        await trio.sleep(400)
        assert all(torrent.torrent is None for torrent in torrents)


@pytest.mark.expect_log("a: it cannot be opened")
@pytest.mark.expect_log("a cannot be opened")
async def test_an_eager_one_that_cannot_be_opened_costs_nothing_else(
    autojump_clock: MockClock,
) -> None:
    async with ward() as w:
        w.error = RuntimeError("a bug")
        a = w.shelve("a")
        await w.dormitory.start_eagerly(a)
        w.error = None
        await read(w, a)


@pytest.mark.expect_log("a bug ended its active life")
async def test_a_bug_in_a_life_costs_a_turn(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a, b = w.shelve("a"), w.shelve("b")
        torrent = await a.wake()
        run, torrent.run = torrent.run, None  # type: ignore[method-assign, assignment]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, w, a)
            await trio.sleep(0.1)
            torrent.run = run  # type: ignore[method-assign]
            await read(w, b)
            await read(w, a)


@pytest.mark.expect_log("a bug ended its active life")
async def test_a_bug_in_the_life_of_an_eager_one_costs_its_turn(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a, b = w.shelve("a"), w.shelve("b")
        torrent = await a.wake()
        run, torrent.run = torrent.run, None  # type: ignore[method-assign, assignment]
        await w.dormitory.start_eagerly(a)
        torrent.run = run  # type: ignore[method-assign]
        await read(w, b)
        await read(w, a)


async def test_an_eager_one_that_is_paused_at_once(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a")
        await a.wake()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.dormitory.start_eagerly, a)
            while a.life is None:
                await trio.lowlevel.checkpoint()
            await a.pause()
        assert a.state == "paused"
        a.resume()
        await read(w, a)


async def test_one_that_is_sent_to_sleep_before_its_life_begins(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a")
        await a.wake()
        w.dormitory._start(a)
        await a.sleep()  # before the task of that life has run
        assert a.torrent is None
        assert a.life is None
        assert await a.read(0, 0, 10)


async def test_forgotten_its_reads_fail_and_nothing_is_left(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", alive=False)
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                assert await failure(a) == ("removed", 3)

            nursery.start_soon(fail)
            await trio.sleep(3)
            await w.dormitory.forget(a, "removed")
        assert w.take() == ["open a", "run a", "rest a", "close a"]
        assert not w.dormitory.volumes
        assert len(w.dormitory.turns) == 0
        with pytest.raises(DataUnavailable, match="removed"):
            await a.read(0, 0, 1)
        assert w.take() == []


async def test_asleep_it_holds_no_task_and_no_torrent(autojump_clock: MockClock) -> None:
    async with ward(places=3) as w:
        await trio.testing.wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        torrents = [w.shelve(f"t{number}") for number in range(20)]
        alive = []
        for _ in range(3):
            for torrent in torrents:
                await read(w, torrent)
                assert torrent.torrent is not None
                alive.append(weakref.ref(torrent.torrent))
                await torrent.sleep()
        await trio.sleep(1)  # the seeders' ends notice
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert len(w.dormitory.turns) == 0
        assert w.dormitory.turns.next_change(0) is None
        gc.collect()
        assert not [ref for ref in alive if ref() is not None]


async def test_more_places_serve_who_queues_at_once(autojump_clock: MockClock) -> None:
    async with ward(places=1) as w:
        w.delay = 1e9
        a, b = w.shelve("a"), w.shelve("b")
        for torrent in (a, b):
            w.nursery.start_soon(failure, torrent)
            await trio.sleep(0.5)
        assert (a.state, b.state) == ("fetching", "queued")
        w.dormitory.turns.places = 2
        w.dormitory.look()
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        assert b.state == "fetching"
        for torrent in (a, b):
            torrent.fail_reads("the end")
