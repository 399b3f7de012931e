"""A torrent asleep: what a read wakes, what a nap keeps, what ends cleanly."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.engine.kit import PIECE
from tests.engine.ward import Ward, ward
from torrentfs.engine.breaker import FAST
from torrentfs.engine.dormant import LET_GO, REMEMBERED, Dormant, Shelving, check_readable
from torrentfs.engine.reader import HURRY
from torrentfs.engine.report import PAUSED
from torrentfs.errors import DataUnavailable, InvalidTorrent
from torrentfs.metainfo.torrent_file import build_torrent, parse_info, parse_torrent


async def read(w: Ward, dormant: Dormant, offset: int = 0, size: int = 100) -> None:
    got = await dormant.read(0, offset, size)
    assert bytes(got) == w.space(dormant)[offset : offset + size]


async def failure(dormant: Dormant, offset: int = 0) -> tuple[str, float]:
    """Why a read fails, and after how many seconds."""
    began = trio.current_time()
    with pytest.raises(DataUnavailable) as caught:
        await dormant.read(0, offset, 100)
    return str(caught.value), trio.current_time() - began


async def test_it_sleeps_until_it_is_read(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a")
        await trio.sleep(1000)
        assert w.take() == []
        assert (a.state, a.torrent) == ("asleep", None)
        await read(w, a)
        assert w.take() == ["open a", "run a"]
        assert a.state == "ready"


async def test_cached_bytes_open_it_and_call_nobody(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", have=True)
        assert (a.state, a.statistics().progress) == ("asleep", 1.0)
        await read(w, a)
        assert w.take() == ["open a"]
        assert a.state == "complete"
        await trio.sleep(300.1)
        assert w.take() == ["close a"]
        assert a.state == "asleep"


async def test_unused_it_goes_back_to_sleep_and_wakes_again(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a")
        await read(w, a)
        await trio.sleep(200)
        await read(w, a)
        w.take()
        await trio.sleep(250)
        assert w.take() == []
        await trio.sleep(100)
        assert w.take() == ["rest a", "close a"]
        assert a.torrent is None
        await read(w, a, 3 * PIECE)
        assert w.take() == ["open a", "run a"]


async def test_counters_survive_naps(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a")
        for piece in range(3):
            await read(w, a, piece * PIECE)
            await a.sleep()
            now = a.statistics()
            assert now.downloaded == (piece + 1) * PIECE
            assert now.bytes_by_kind == {"memory": (piece + 1) * PIECE}
            assert (now.pieces_have, now.peers, now.state) == (piece + 1, (), "asleep")
        assert a.xattrs()["downloaded"] == str(3 * PIECE)
        assert a.totals().left == PIECE


async def test_trackers_hear_of_what_came_since_it_woke(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a")
        await read(w, a)
        assert a.totals().downloaded == PIECE
        await a.sleep()
        await read(w, a, PIECE)
        assert a.totals().downloaded == PIECE


async def test_bans_and_peers_survive_naps(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a")
        await a.wake()
        assert a.outfit is not None
        swarm = a.outfit.swarm
        swarm.ban(("10.1.1.1", 1), "lied")
        a.add_peers([(f"10.2.{n}.1", 5) for n in range(200)], "tracker")
        await a.sleep()
        assert swarm.talk is None
        torrent = await a.wake()
        assert torrent.swarm is swarm
        assert swarm.book.is_banned(("10.1.1.1", 1))
        assert len(swarm.book) == REMEMBERED
        assert swarm.book.knows(("10.9.9.9", 9))  # the user's own


async def test_who_reads_while_others_are_named_goes_on(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a")
        w.delay = 5
        new = parse_torrent(build_torrent(a.metainfo.info, trackers=[["http://new/"]]))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, w, a)
            await trio.sleep(1)
            assert await a.renew(Shelving(metainfo=new, trackers=["http://more/"]))
        assert w.take() == ["open a", "run a", "rest a", "close a", "open a", "run a"]
        assert a.metainfo.trackers == new.trackers
        assert (a.trackers, w.cache.kept) == (("http://more/",), [a.metainfo])


async def test_who_was_active_is_active_again(autojump_clock: MockClock) -> None:
    """Else a torrent that is only uploaded would be told to no tracker until somebody reads it."""
    async with ward() as w:
        a = w.shelve("a")
        await read(w, a)
        w.take()
        w.delay = 1000.0  # no other seeder, that an end would surprise
        assert await a.renew(Shelving(metainfo=a.metainfo, trackers=["http://new/"]))
        assert w.take() == ["rest a", "close a", "open a", "run a"]
        a.paused = True
        assert await a.renew(Shelving(metainfo=a.metainfo))
        assert w.take() == ["rest a", "close a"]


async def test_pins_go_on_when_others_are_named(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", alive=False)
        await a.pin(0)
        await trio.sleep(1)
        assert w.take() == ["open a", "run a"]
        w.alive.add(a.key)
        assert await a.renew(Shelving(metainfo=a.metainfo, web_seeds=["http://w/"]))
        await trio.sleep(60)
        assert a.statistics().progress == 1.0


async def test_a_dead_torrent_does_not_get_the_whole_timeout_again_because_it_slept(
    autojump_clock: MockClock,
) -> None:
    async with ward(timeout=40) as w:
        a = w.shelve("a", alive=False)
        words, seconds = await failure(a)
        assert seconds == pytest.approx(40)
        assert "no peers connected" in words
        await a.sleep()
        _, seconds = await failure(a, PIECE)
        assert seconds == pytest.approx(FAST)
        assert a.state == "stalled"


async def test_many_reads_open_it_once(autojump_clock: MockClock) -> None:
    async with ward() as w:
        w.gate = trio.Event()
        a = w.shelve("a")
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(read, w, a, number * 1000)
            await trio.sleep(1)
            w.gate.set()
        assert w.take() == ["open a", "run a"]


async def test_a_disk_that_hangs_costs_a_read_its_timeout(autojump_clock: MockClock) -> None:
    async with ward(timeout=10) as w:
        w.gate = trio.Event()
        words, seconds = await failure(w.shelve("a"))
        assert (words, seconds) == ("the cache did not open it in 10 s", 10)


@pytest.mark.expect_log("a cannot be opened")
async def test_what_cannot_be_opened_fails_and_is_tried_again(autojump_clock: MockClock) -> None:
    async with ward() as w:
        w.error = RuntimeError("a bug")
        a = w.shelve("a")
        assert await failure(a) == ("it cannot be opened: a bug", 0)
        w.error = None
        await read(w, a)


@pytest.mark.parametrize("stage", ["opening", "queued"])
async def test_failed_and_hurried_reads(autojump_clock: MockClock, stage: str) -> None:
    async with ward(places=1) as w:
        a, b = w.shelve("a", alive=False), w.shelve("b")
        if stage == "opening":
            w.gate = trio.Event()
        else:
            w.delay = 1e9
            w.nursery.start_soon(failure, b)
            await trio.sleep(0.1)
        failures: list[tuple[str, float]] = []

        async def fail() -> None:
            failures.append(await failure(a))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep(1)
            assert a.state == ("asleep" if stage == "opening" else "queued")
            a.hurry_reads("hurry", 2)
        assert failures[0] == ("hurry", pytest.approx(1 + HURRY / 2, abs=HURRY / 2 + 0.01))
        await trio.sleep(3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep(1)
            a.fail_reads("the end")
        assert failures[1][0] == "the end"
        assert await failure(a) == ("the end", 0)
        b.fail_reads("the end")


async def test_a_pause_stops_traffic_and_answers_what_is_here(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a")
        await read(w, a)
        await a.pause()
        assert w.take() == ["open a", "run a", "rest a"]
        assert a.state == a.statistics().state == "paused"
        await read(w, a)
        assert await failure(a, PIECE) == (PAUSED, 0)
        await trio.sleep(400)
        assert a.torrent is None
        assert a.statistics().state == "paused"
        assert await failure(a, PIECE) == (PAUSED, 0)
        a.resume()
        await read(w, a, PIECE)


async def test_a_pause_ends_reads_that_wait(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", alive=False)
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                assert await failure(a) == (PAUSED, 5)

            nursery.start_soon(fail)
            await trio.sleep(5)
            await a.pause()


async def test_sent_to_sleep_a_read_that_waits_begins_again(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", alive=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, w, a)
            await trio.sleep(5)
            w.alive.add(a.key)
            await a.sleep()
        assert w.take() == ["open a", "run a", "rest a", "close a", "open a", "run a"]


async def test_sent_to_sleep_it_sleeps_though_a_read_waited_for_the_end_of_a_nap(
    autojump_clock: MockClock,
) -> None:
    """Else who names others to ask would change what is being opened with those of before."""
    async with ward() as w:
        a = w.shelve("a")

        async def send_to_sleep() -> None:
            await a.sleep()
            assert not a.is_busy

        for number in range(10):  # both wait for the same event: chance says who is first
            await read(w, a)
            async with trio.open_nursery() as nursery, a.awake():
                nursery.start_soon(a.sleep)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(read, w, a, PIECE * (number % 4))
                nursery.start_soon(send_to_sleep)
                await trio.testing.wait_all_tasks_blocked()


async def test_open_files_are_known_after_a_nap(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", have=True)
        a.on_open(0)
        a.on_open(0)
        torrent = await a.wake()
        await a.sleep()
        again = await a.wake()
        assert again is not torrent
        assert again.heads._files[0].opens == 2
        a.on_release(0)
        a.on_release(0)
        assert again.heads._files[0].opens == 0


async def test_held_awake_it_is_not_closed(autojump_clock: MockClock) -> None:
    async with ward(idle=10) as w:
        a = w.shelve("a", have=True)
        async with a.awake() as torrent:
            await trio.sleep(100)
            assert a.torrent is torrent
        await trio.sleep(100)
        assert a.torrent is None


async def test_who_holds_it_does_not_keep_it_from_being_closed(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", have=True)
        async with a.awake():
            began = trio.current_time()
            await a.sleep()
            assert trio.current_time() - began == LET_GO
            assert w.take() == ["open a", "close a"]
        await read(w, a)


async def test_a_v2_torrent_without_hashes_is_refused(autojump_clock: MockClock) -> None:
    from tests.metainfo.torrents import build

    with pytest.raises(InvalidTorrent, match="lacks its piece layers"):
        check_readable(parse_info(parse_torrent(build("v2")).info))


async def test_words(autojump_clock: MockClock) -> None:
    async with ward() as w:
        assert repr(w.shelve("a")) == "<Dormant 'a' asleep>"
        assert repr(w.dormitory).startswith("<Dormitory of 1: <Turns 0 of 2")
