"""Reads, as transcripts: what a waiting read makes the torrent say, and when it gives up."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.engine.kit import PIECE, rig
from torrentfs.engine.breaker import FAST
from torrentfs.engine.reader import ECHO, UNHELD
from torrentfs.errors import DataUnavailable
from torrentfs.wire import messages as m

BLOCK = 16384


async def test_a_read_asks_for_its_piece_and_returns_when_it_is_verified(
    autojump_clock: MockClock,
) -> None:
    async with rig() as r:
        peer = await r.connect()
        await peer.expect(m.Interested)
        reading = r.reading(PIECE + 100, 1000)
        await trio.testing.wait_all_tasks_blocked()
        assert not any(isinstance(message, m.Request) for message in await peer.settle())
        await peer.say(m.Unchoke())
        first = await peer.expect(m.Request)
        second = await peer.expect(m.Request)
        assert {first, second} == {m.Request(1, 0, BLOCK), m.Request(1, BLOCK, BLOCK)}
        await peer.say(peer.block(first))
        await trio.testing.wait_all_tasks_blocked()
        assert reading.data is None  # half a piece cannot be verified
        await peer.say(peer.block(second))
        assert await reading.wait() == r.sample.space[PIECE + 100 : PIECE + 1100]
        assert await peer.expect(m.Have) == m.Have(1)


async def test_what_is_stored_is_answered_without_a_word_to_anybody(
    autojump_clock: MockClock,
) -> None:
    async with rig(have=[0, 1]) as r:
        peer = await r.connect(unchoke=True)
        await peer.settle()
        assert await r.read(10, PIECE) == r.sample.space[10 : 10 + PIECE]
        assert await peer.settle() == []


async def test_a_read_is_clamped_to_the_end_of_its_file(autojump_clock: MockClock) -> None:
    async with rig(PIECE + 5, have=None) as r:
        assert await r.read(PIECE, 1000) == r.sample.space[PIECE:]
        assert await r.read(PIECE + 5, 1) == b""
        assert await r.read(10 * PIECE, 1) == b""


async def test_a_choke_in_the_middle_only_delays(autojump_clock: MockClock) -> None:
    async with rig() as r:
        peer = await r.connect(unchoke=True, fast=False)
        reading = r.reading(0, 10)
        first = await peer.expect(m.Request)
        await peer.expect(m.Request)
        await peer.say(peer.block(first), m.Choke())
        await peer.settle()
        await peer.say(m.Unchoke())
        again = await peer.expect(m.Request)
        assert again.begin != first.begin  # what came is not asked twice
        await peer.say(peer.block(again))
        assert await reading.wait() == r.sample.space[:10]


async def test_a_rejected_request_goes_to_another_peer(autojump_clock: MockClock) -> None:
    async with rig() as r:
        refuser = await r.connect(unchoke=True)
        reading = r.reading(0, 10)
        for _ in range(2):
            request = await refuser.expect(m.Request)
            await refuser.say(m.RejectRequest(*request))
        await r.seeder()
        assert await reading.wait() == r.sample.space[:10]


async def test_a_peer_that_dies_is_replaced(autojump_clock: MockClock) -> None:
    async with rig() as r:
        mortal = await r.connect(unchoke=True)
        reading = r.reading(0, PIECE)
        request = await mortal.expect(m.Request)
        await mortal.say(mortal.block(request))
        mortal.stream.abort()
        await r.seeder()
        assert await reading.wait() == r.sample.space[:PIECE]
        assert r.torrent.downloaded == PIECE  # nothing was fetched twice


async def test_a_cancelled_read_withdraws_its_demand(autojump_clock: MockClock) -> None:
    async with rig() as r:
        peer = await r.connect(unchoke=True)
        reading = r.reading(0, 10)
        await peer.expect(m.Request)
        reading.scope.cancel()
        assert await peer.expect(m.Cancel)
        assert r.torrent.reader.waiting == 0
        assert r.torrent.heads.statistics().parked == 0
        assert not r.torrent.reader._waiters


async def test_two_reads_of_a_piece_are_one_demand_and_either_may_go(
    autojump_clock: MockClock,
) -> None:
    async with rig() as r:
        peer = await r.connect(unchoke=True)
        one, two = r.reading(0, 10), r.reading(100, 10)
        requests = [await peer.expect(m.Request) for _ in range(2)]
        one.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        await peer.say(*map(peer.block, requests))
        assert await two.wait() == r.sample.space[100:110]
        assert not any(isinstance(message, m.Cancel) for message in peer.sent)


async def test_a_silent_swarm_fails_the_read_at_its_time_out(autojump_clock: MockClock) -> None:
    async with rig(read_timeout=30) as r:
        await r.connect(unchoke=True)
        reading = r.reading(0, 10)
        with pytest.raises(DataUnavailable, match="no byte of it came in 30 s: asked 1 peers"):
            await reading.wait()
        assert reading.seconds == pytest.approx(30)


async def test_progress_on_the_piece_extends_the_time(autojump_clock: MockClock) -> None:
    async with rig(read_timeout=30) as r:
        peer = await r.connect(unchoke=True)
        reading = r.reading(0, 10)
        requests = [await peer.expect(m.Request) for _ in range(2)]
        await trio.sleep(25)
        await peer.say(peer.block(requests[0]))
        await trio.sleep(25)
        await peer.say(peer.block(requests[1]))
        assert await reading.wait() == r.sample.space[:10]
        assert reading.seconds == pytest.approx(50, abs=1)


async def test_a_choked_read_says_so(autojump_clock: MockClock) -> None:
    async with rig(read_timeout=30) as r:
        await r.connect()
        with pytest.raises(DataUnavailable, match="choked by all 1 peers that have it"):
            await r.read(0, 10)


async def test_a_piece_that_nobody_has_fails_sooner(autojump_clock: MockClock) -> None:
    async with rig(read_timeout=120) as r:
        await r.connect(have=[1], unchoke=True)
        reading = r.reading(0, 10)
        with pytest.raises(DataUnavailable, match="none of 1 peers has it"):
            await reading.wait()
        assert reading.seconds == pytest.approx(UNHELD)


async def test_without_any_source_a_read_fails_at_once(autojump_clock: MockClock) -> None:
    async with rig() as r:
        reading = r.reading(0, 10)
        with pytest.raises(DataUnavailable, match="no peer, tracker or web seed is left"):
            await reading.wait()
        assert reading.seconds == 0


async def test_after_one_expiry_reads_fail_fast_until_a_source_offers_the_piece(
    autojump_clock: MockClock,
) -> None:
    async with rig(read_timeout=30) as r:
        stuck = await r.connect()
        with pytest.raises(DataUnavailable):
            await r.read(0, 10)
        echo = r.reading(0, 10)  # the kernel asks again after a failed read-ahead
        with pytest.raises(DataUnavailable):
            await echo.wait()
        assert echo.seconds == 0.0
        await trio.sleep(ECHO)
        fast = r.reading(0, 10)
        with pytest.raises(DataUnavailable):
            await fast.wait()
        assert fast.seconds == pytest.approx(FAST)
        await trio.sleep(ECHO)
        await r.connect(have=[5])  # of no use for what is missing
        assert r.torrent.reader.breaker.is_open
        assert r.torrent.statistics().state == "stalled"
        reading = r.reading(0, 10)
        await stuck.say(m.Unchoke())
        await trio.testing.wait_all_tasks_blocked()
        assert not r.torrent.reader.breaker.is_open
        await r.seeder()
        assert await reading.wait() == r.sample.space[:10]


async def test_a_peer_that_serves_nobody_does_not_revive_it_by_loading_other_pieces(
    autojump_clock: MockClock,
) -> None:
    async with rig(read_timeout=30) as r:
        stuck = await r.connect(have=[0])
        with pytest.raises(DataUnavailable):
            await r.read(0, 10)
        await stuck.say(m.Have(5))
        await trio.testing.wait_all_tasks_blocked()
        assert r.torrent.reader.breaker.is_open
        other = await r.connect(have=[6])
        assert r.torrent.reader.breaker.is_open
        await other.say(m.Have(0))
        await trio.testing.wait_all_tasks_blocked()
        assert not r.torrent.reader.breaker.is_open


async def test_stored_pieces_are_read_while_the_rest_is_stalled(autojump_clock: MockClock) -> None:
    async with rig(read_timeout=30, have=[3]) as r:
        await r.connect()
        with pytest.raises(DataUnavailable):
            await r.read(0, 10)
        assert await r.read(3 * PIECE, 10) == r.sample.space[3 * PIECE : 3 * PIECE + 10]


async def test_fail_all_fails_waiting_reads_and_those_that_would_wait(
    autojump_clock: MockClock,
) -> None:
    async with rig(have=[1]) as r:
        await r.connect()
        readings = [r.reading(n * 100, 10) for n in range(200)]
        await trio.testing.wait_all_tasks_blocked()
        assert r.torrent.reader.waiting == 200
        r.torrent.fail_reads("torrentfs is shutting down")
        for reading in readings:
            with pytest.raises(DataUnavailable, match="shutting down"):
                await reading.wait()
            assert reading.seconds == 0
        with pytest.raises(DataUnavailable, match="shutting down"):
            await r.read(0, 10)
        assert await r.read(PIECE, 10) == r.sample.space[PIECE : PIECE + 10]


async def test_a_slow_disk_does_not_delay_the_reader(autojump_clock: MockClock) -> None:
    async with rig() as r:
        r.store.gate = trio.Event()
        await r.seeder()
        assert await r.read(0, 10) == r.sample.space[:10]


async def test_a_store_that_keeps_nothing_still_answers_reads(autojump_clock: MockClock) -> None:
    async with rig(capacity=0) as r:
        await r.seeder()
        assert await r.read(0, 3 * PIECE) == r.sample.space[: 3 * PIECE]


async def test_a_damaged_piece_is_fetched_again(autojump_clock: MockClock) -> None:
    async with rig(have=None) as r:
        r.store.damaged.add(2)
        await r.seeder()
        assert await r.read(2 * PIECE, 10) == r.sample.space[2 * PIECE : 2 * PIECE + 10]
        assert r.torrent.downloaded == PIECE


async def test_an_evicted_piece_is_fetched_again(autojump_clock: MockClock) -> None:
    async with rig(capacity=2) as r:
        await r.seeder()
        for _ in range(2):
            for piece in range(5):
                expected = r.sample.space[piece * PIECE : piece * PIECE + 10]
                assert await r.read(piece * PIECE, 10) == expected
        assert r.store.have.count == 2


async def test_a_piece_evicted_while_its_read_waits_for_another_is_asked_again(
    autojump_clock: MockClock,
) -> None:
    async with rig(have=[1]) as r:
        peer = await r.connect(unchoke=True)
        reading = r.reading(0, 2 * PIECE)
        requests = [await peer.expect(m.Request, piece=0) for _ in range(2)]
        r.store.evict(1)
        await peer.say(*map(peer.block, requests))
        for _ in range(2):
            await peer.say(peer.block(await peer.expect(m.Request, piece=1)))
        assert await reading.wait() == r.sample.space[: 2 * PIECE]


async def test_what_a_read_holds_already_is_not_fetched_again_for_it(
    autojump_clock: MockClock,
) -> None:
    async with rig(capacity=0) as r:
        peer = await r.connect(unchoke=True)
        reading = r.reading(0, 2 * PIECE)
        requests = [await peer.expect(m.Request) for _ in range(4)]
        for request in requests:
            if request.piece == 0:
                await peer.say(peer.block(request))
        # piece 0 is with its reader now; the store could not keep it
        assert not [e for e in await peer.settle() if isinstance(e, m.Request)]
        await trio.sleep(5)
        assert not [e for e in await peer.settle() if isinstance(e, m.Request)]
        for request in requests:
            if request.piece == 1:
                await peer.say(peer.block(request))
        assert await reading.wait() == r.sample.space[: 2 * PIECE]
