"""Pins and prefetches in virtual time: fetched a few torrents at a time, below all that is read."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.engine.kit import PIECE
from tests.engine.ward import Ward, ward
from torrentfs.engine.errands import Pin
from torrentfs.engine.porter import FIRST_PAUSE, LAST_PAUSE, PATIENCE
from torrentfs.errors import ConfigError, DataUnavailable


def have(w: Ward, dormant: object) -> list[int]:
    return list(w.stores[dormant.key].have)  # type: ignore[attr-defined]


async def test_a_pinned_torrent_is_fetched_and_goes_back_to_sleep(
    autojump_clock: MockClock,
) -> None:
    async with ward() as w:
        a = w.shelve("a", pieces=20)
        await a.pin(0, 3 * PIECE, 9 * PIECE + 1)
        assert w.cache.pins[a.key] == (range(3, 13),)
        await trio.sleep(30)
        assert have(w, a) == list(range(3, 13))
        assert w.take() == ["open a", "run a"]
        await trio.sleep(400)
        assert w.take() == ["rest a", "close a"]
        assert a.pins == (Pin(0, 3 * PIECE, 9 * PIECE + 1),)
        await trio.sleep(10_000)
        assert w.take() == []  # no more is to be done


async def test_what_is_here_is_not_opened_for_its_pins(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", have=True)
        await a.pin()
        await trio.sleep(1000)
        assert w.take() == []


async def test_many_are_fetched_a_few_at_a_time(autojump_clock: MockClock) -> None:
    async with ward(places=8) as w:
        all_of_them = [w.shelve(f"{number}", pieces=8) for number in range(20)]
        for each in all_of_them:
            await each.pin()
        most = 0
        for _ in range(300):
            await trio.sleep(0.2)
            at_work = sum(w.dormitory.porter.is_at_work(each) for each in all_of_them)
            most = max(most, at_work)
        assert most == 2
        assert all(w.stores[each.key].have.complete for each in all_of_them)


async def test_the_pin_of_a_dead_torrent_does_not_spin_nor_hold_up_others(
    autojump_clock: MockClock,
) -> None:
    async with ward(places=1) as w:
        dead, alive = w.shelve("dead", alive=False), w.shelve("alive")
        await dead.pin()
        await alive.pin()
        await trio.sleep(PATIENCE + 10)
        assert w.stores[alive.key].have.complete
        assert "no byte came in 60 s; the next try is in 60 s" in dead.errands.trouble
        await trio.sleep(24 * 3600)
        runs = [event for event in w.take() if event == "run dead"]
        assert 24 < len(runs) < 24 + 10  # twice the pause each time, up to an hour
        w.alive.add(dead.key)
        await trio.sleep(LAST_PAUSE + 100)
        assert w.stores[dead.key].have.complete
        assert dead.errands.trouble == ""


async def test_a_read_takes_the_place_of_a_pin(autojump_clock: MockClock) -> None:
    async with ward(places=1) as w:
        dead, alive = w.shelve("dead", alive=False), w.shelve("alive")
        await dead.pin()
        await trio.sleep(10)
        assert dead.state == "ready"
        began = trio.current_time()
        await alive.read(0, 0, 10)
        assert trio.current_time() - began < 2


async def test_a_prefetch_can_be_looked_at_and_cancelled(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", pieces=40)
        w.delay = 5.0
        first = a.prefetch(0, 0, 4 * PIECE)
        second = a.prefetch(0, 10 * PIECE)
        assert (first.total, first.missing, second.total) == (4, 4, 30)
        await trio.sleep(1)
        second.cancel()
        assert second.cancelled
        await first.done.wait()
        assert not first.cancelled
        assert first.missing == 0
        assert have(w, a) == list(range(4))
        assert a.errands.prefetches == {}
        await trio.sleep(1000)
        assert have(w, a) == list(range(4))
        again = a.prefetch(0, 0, 4 * PIECE)
        with trio.fail_after(5):
            await again.done.wait()


async def test_a_pause_stops_pins_and_resuming_goes_on(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", pieces=400)
        w.delay = 1.0
        await a.pin()
        await a.pause()
        await trio.sleep(500)
        assert have(w, a) == []
        assert not w.dormitory.porter.is_at_work(a)
        a.resume()
        await trio.sleep(60)
        assert w.stores[a.key].have.complete


async def test_trouble_with_the_disk_puts_pins_off(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", pieces=400)
        w.delay = 3.0
        await a.pin()
        await trio.sleep(1)
        w.cache.trouble = "no space left on device"
        await trio.sleep(2 * FIRST_PAUSE)
        assert have(w, a) == []
        assert "no space left" in a.errands.trouble
        w.cache.trouble = None
        await trio.sleep(20 * FIRST_PAUSE)
        assert w.stores[a.key].have.complete


async def test_a_pinned_piece_that_is_lost_is_fetched_again(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a")
        await a.pin()
        await trio.sleep(20)
        w.stores[a.key].evict(2)
        await trio.sleep(2 * FIRST_PAUSE)
        assert w.stores[a.key].have.complete


async def test_a_store_without_room_does_not_make_it_a_circle(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", pieces=40)
        w.stores[a.key].capacity = 5
        await a.pin()
        await trio.sleep(FIRST_PAUSE / 2)
        assert a.torrent is not None
        assert a.torrent.downloaded == 40 * PIECE
        assert "pieces were lost again" in a.errands.trouble
        await trio.sleep(FIRST_PAUSE)
        assert a.torrent.downloaded < 81 * PIECE


async def test_what_does_not_fit_is_refused_in_words(autojump_clock: MockClock) -> None:
    async with ward() as w:
        w.config = w.config.__class__(**{**vars_of(w), "cache_size": 64 * PIECE})
        a, b = w.shelve("a", pieces=40), w.shelve("b", pieces=40)
        await a.pin()
        with pytest.raises(ConfigError) as refused:
            await b.pin()
        assert str(refused.value) == (
            "no room to pin 1.2 MiB: 512 KiB are left of the 1.8 MiB that pins may take of the "
            "cache (--cache-size 2.0 MiB)"
        )
        assert b.pins == ()
        with pytest.raises(ConfigError, match="no room to prefetch"):
            b.prefetch(0)
        await b.pin(0, 0, 16 * PIECE)
        await a.unpin()
        await b.pin()
        await a.pin_all([Pin(0)], even_without_room=True)
        assert a.pins == b.pins == (Pin(),)


async def test_prefetches_have_room_together_or_none_begins(autojump_clock: MockClock) -> None:
    async with ward() as w:
        w.config = w.config.__class__(**{**vars_of(w), "cache_size": 64 * PIECE})
        a, b = w.shelve("a", pieces=100), w.shelve("b", pieces=100)
        w.delay = 5.0
        parts = [Pin(0, n * 20 * PIECE, 20 * PIECE) for n in range(4)]
        with pytest.raises(ConfigError, match=r"no room to prefetch 2.5 MiB: 1.8 MiB are left"):
            a.prefetch_all(parts)
        assert a.errands.prefetches == {}
        first = a.prefetch_all(parts[:2], "a/part")
        assert (first.total, first.path) == (40, "a/part")
        a.prefetch_all([Pin(0, 10 * PIECE, 10 * PIECE)])  # which is under way
        for other, most in ((a, 16), (b, 16)):
            with pytest.raises(ConfigError, match=r"that pins and prefetches may take"):
                other.prefetch(0, 50 * PIECE, (most + 1) * PIECE)
        second = b.prefetch(0, 50 * PIECE, 16 * PIECE)
        with trio.fail_after(1000):
            await first.done.wait()
            await second.done.wait()
        a.prefetch(0, 60 * PIECE, 40 * PIECE)


def vars_of(w: Ward) -> dict[str, object]:
    return {name: getattr(w.config, name) for name in w.config.__dataclass_fields__}


async def test_evicting_spares_pins_unless_asked(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", pieces=8, have=True)
        await a.pin(0, 0, 2 * PIECE)
        assert await a.evict(0) == 6 * PIECE
        assert have(w, a) == [0, 1]
        assert await a.evict(pinned=True) == 2 * PIECE
        assert a.pins == ()
        await trio.sleep(500)
        assert have(w, a) == []


async def test_removing_a_torrent_unpins_it(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", alive=False)
        await a.pin()
        await trio.sleep(5)
        await w.dormitory.forget(a, "removed")
        assert w.cache.pins[a.key] == ()
        await trio.sleep(1000)
        with pytest.raises(DataUnavailable, match="removed"):
            await a.read(0, 0, 1)
