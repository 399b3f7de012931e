"""A peer connection, as transcripts: interest, requests, bounds, and how it ends."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.engine.kit import PIECE, rig
from torrentfs.engine import peer as peer_module
from torrentfs.engine.limits import Limits, RateLimit
from torrentfs.wire import messages as m

BLOCK = 16384


async def test_interest_is_kept_up_without_any_read(autojump_clock: MockClock) -> None:
    async with rig(have=[0]) as r:
        peer = await r.connect(have=[0])
        assert m.Interested() not in await peer.settle()
        await peer.say(m.Have(1))
        await peer.expect(m.Interested)
        await peer.say(m.Unchoke())
        assert await peer.settle() == []  # and nothing is fetched for that


async def test_interest_ends_when_we_have_all_that_it_has(autojump_clock: MockClock) -> None:
    async with rig() as r:
        peer = await r.connect(have=[0], unchoke=True)
        reading = r.reading(0, 10)
        for _ in range(2):
            await peer.say(peer.block(await peer.expect(m.Request)))
        await reading.wait()
        await peer.expect(m.NotInterested)


async def test_allowed_fast_pieces_are_asked_of_a_choking_peer(autojump_clock: MockClock) -> None:
    async with rig() as r:
        peer = await r.connect()
        await peer.say(m.AllowedFast(4))
        reading = r.reading(4 * PIECE, 10)
        for _ in range(2):
            await peer.say(peer.block(await peer.expect(m.Request, piece=4)))
        assert await reading.wait() == r.sample.space[4 * PIECE : 4 * PIECE + 10]


async def test_dont_have_takes_a_piece_back(autojump_clock: MockClock) -> None:
    async with rig() as r:
        peer = await r.connect(extensions=True, unchoke=True)
        await peer.expect(m.ExtensionHandshake)
        reading = r.reading(0, 10)
        await peer.expect(m.Request, piece=0)
        await peer.say(m.DontHave(0))
        await peer.settle()
        assert not r.torrent.is_held(0)
        await r.seeder()
        assert await reading.wait() == r.sample.space[:10]


async def test_webtorrent_is_asked_for_a_block_once(autojump_clock: MockClock) -> None:
    """It would lose a request that comes again, after a cancel or not, and never say so."""
    async with rig() as r:
        page = await r.connect(unchoke=True, peer_id=b"-WW0303-000000000001")
        reading = r.reading(0, 10)
        asked = [message for message in await page.settle() if isinstance(message, m.Request)]
        assert asked
        reading.scope.cancel()  # nobody wants them any more
        assert not [message for message in await page.settle() if isinstance(message, m.Cancel)]
        (ours,) = r.torrent.peers()
        assert len(ours.sender.kept) == len(asked)
        reading = r.reading(0, 10)
        again = [message for message in await page.settle() if isinstance(message, m.Request)]
        assert not set(asked) & set(again)
        for request in [*asked, *again]:
            await page.say(page.block(request))
        assert await reading.wait() == r.sample.space[:10]
        assert not ours.sender.kept


async def test_a_request_that_webtorrent_rejected_may_come_again(
    autojump_clock: MockClock,
) -> None:
    async with rig() as r:
        page = await r.connect(unchoke=True, peer_id=b"-WW0303-000000000001")
        reading = r.reading(0, 10)
        asked = [message for message in await page.settle() if isinstance(message, m.Request)]
        reading.scope.cancel()
        for request in asked:
            await page.say(m.RejectRequest(*request))
        await page.settle()
        reading = r.reading(0, 10)
        again = [message for message in await page.settle() if isinstance(message, m.Request)]
        assert set(asked) <= set(again)


async def test_the_queue_length_of_the_peer_is_obeyed(autojump_clock: MockClock) -> None:
    async with rig() as r:
        peer = await r.connect(extensions=True)
        await peer.say(m.ExtensionHandshake(request_queue=1), m.Unchoke())
        reading = r.reading(0, PIECE)
        await trio.testing.wait_all_tasks_blocked()
        requests = [e for e in await peer.settle() if isinstance(e, m.Request)]
        assert len(requests) == 1
        await peer.say(peer.block(requests[0]))
        await peer.say(peer.block(await peer.expect(m.Request)))
        await reading.wait()


async def test_a_peer_that_owes_blocks_for_long_gives_up_its_place(
    autojump_clock: MockClock,
) -> None:
    async with rig() as r:
        peer = await r.connect(unchoke=True)
        r.reading(0, 10)
        await peer.expect(m.Request)

        async def chatter() -> None:
            while True:
                await trio.sleep(10)
                await peer.say(m.KeepAlive())

        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chatter)
            await peer.closed()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - before == pytest.approx(peer_module.STALLED, abs=3)


async def test_garbage_closes_the_connection_and_nothing_else(autojump_clock: MockClock) -> None:
    async with rig() as r:
        bad = await r.connect(unchoke=True)
        await r.seeder()
        await bad.stream.send_all(b"\xff" * 100)
        await bad.closed()
        assert await r.read(0, 10) == r.sample.space[:10]
        assert len(r.torrent.peers()) == 1


async def test_a_silent_peer_is_closed_and_a_quiet_one_is_kept_alive(
    autojump_clock: MockClock,
) -> None:
    async with rig() as r:
        peer = await r.connect()
        await peer.settle()
        before = trio.current_time()
        await peer.expect(m.KeepAlive)
        assert trio.current_time() - before == pytest.approx(peer_module.KEEPALIVE, abs=2)
        await peer.closed()
        assert trio.current_time() - before == pytest.approx(peer_module.SILENCE, abs=2)


async def test_a_peer_that_leaves_is_forgotten(autojump_clock: MockClock) -> None:
    async with rig() as r:
        for _ in range(5):
            peer = await r.connect(unchoke=True)
            peer.stream.abort()
        await trio.testing.wait_all_tasks_blocked()
        assert r.torrent.sources == ()
        assert r.swarm.connected == {}
        assert not r.torrent.picker.statistics().sources
        assert r.swarm._places.taken == 0
        assert not r.swarm._by_peer_id


async def test_unasked_blocks_are_waste_and_nothing_more(autojump_clock: MockClock) -> None:
    async with rig() as r:
        peer = await r.connect(unchoke=True)
        await peer.say(m.Piece(3, 0, bytes(BLOCK)), m.Piece(9, 5, b"x"), m.Piece(0, 1 << 31, b""))
        await peer.settle()
        assert r.torrent.downloaded == 0
        assert r.torrent.statistics().wasted == BLOCK + 1
        assert r.torrent.peers()


async def test_a_download_limit_holds_and_does_not_delay_what_came(
    autojump_clock: MockClock,
) -> None:
    limits = Limits(download=RateLimit(BLOCK))
    async with rig(limits=limits) as r:
        await r.seeder()
        first = r.reading(0, 10)
        await first.wait()
        assert first.seconds is not None
        assert first.seconds < 3  # two blocks at one a second
        before = trio.current_time()
        await r.read(PIECE, 4 * PIECE)
        assert trio.current_time() - before == pytest.approx(8, abs=2)


async def test_an_evicted_piece_is_taken_back(autojump_clock: MockClock) -> None:
    async with rig(have=[0, 1]) as r:
        modern = await r.connect(have=[0], extensions=True)
        plain = await r.connect(have=[0])
        await modern.settle()
        await plain.settle()
        r.store.evict(0)
        assert await modern.expect(m.DontHave) == m.DontHave(0)
        await modern.expect(m.Interested)  # it has what we lack now
        assert await plain.settle() == [m.Interested()]


async def test_what_a_peer_calls_us_goes_to_the_peer_book(autojump_clock: MockClock) -> None:
    async with rig() as r:
        told: list[object] = []
        r.torrent.swarm.book.on_told_own_address = lambda own, by: told.append(own)
        peer = await r.connect(extensions=True)
        await peer.say(m.ExtensionHandshake(your_ip="192.0.2.7"))
        await peer.settle()
    assert told == [("192.0.2.7", r.torrent.listen_port)]
