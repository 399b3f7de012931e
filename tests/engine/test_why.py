"""Why a read waits: each cause by its words."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.engine.kit import PIECE, Rig, rig
from tests.engine.ward import ward
from torrentfs.engine.why import Why, why
from torrentfs.errors import ConfigError
from torrentfs.wire import messages as m


def ask(r: Rig, offset: int) -> Why:
    return why(r.torrent, 0, offset, trio.current_time())


async def test_what_is_here_is_here(autojump_clock: MockClock) -> None:
    async with rig(4 * PIECE, have=[1]) as r:
        found = ask(r, PIECE + 5)
        assert (found.state, found.piece, found.block, found.words) == ("here", 1, 0, "it is here")
        assert ask(r, 2 * PIECE - 1).block == 1


@pytest.mark.parametrize(("file", "offset"), [(1, 0), (-1, 0), (0, 4 * PIECE), (0, -1)])
async def test_a_byte_that_there_is_not(file: int, offset: int, autojump_clock: MockClock) -> None:
    async with rig(4 * PIECE) as r:
        with pytest.raises(ConfigError):
            why(r.torrent, file, offset, 0.0)


async def test_nobody_reads_it(autojump_clock: MockClock) -> None:
    async with rig() as r:
        await r.seeder()
        found = ask(r, 0)
        assert found.state == "idle"
        assert found.words == "nobody reads it, so it is not asked for; 1 sources have it"
        assert found.waits is None


async def test_who_has_it_chokes_us_or_does_not_have_it(autojump_clock: MockClock) -> None:
    async with rig(tcp=True) as r:
        r.swarm.add_peers([("10.9.9.9", 9)], "user")
        reading = r.reading(3 * PIECE, 10)
        await trio.sleep(1)
        found = ask(r, 3 * PIECE)
        assert found.state == "no peers"
        assert "no peers connected" in found.words
        assert "1 addresses are known" in found.words
        await r.connect(have=[1])
        found = ask(r, 3 * PIECE)
        assert (found.state, found.peers, found.holders) == ("unheld", 1, ())
        assert "none of 1 peers has it" in found.words
        await r.connect()
        await trio.sleep(2)
        found = ask(r, 3 * PIECE)
        assert found.state == "choked"
        assert "choked by all 1 peers that have it" in found.words
        (holder,) = found.holders
        assert (holder.choked, holder.interested, holder.asked) == (True, True, 0)
        assert found.waits == pytest.approx(3)
        assert found.deadline == pytest.approx(r.torrent.config.read_timeout - 3)
        reading.scope.cancel()


async def test_who_was_asked_and_when(autojump_clock: MockClock) -> None:
    async with rig() as r:
        peer = await r.connect(unchoke=True)
        reading = r.reading(3 * PIECE, 10)
        await trio.sleep(2.5)
        found = ask(r, 3 * PIECE)
        assert found.state == "asked"
        assert found.words == "10.0.0.1:40001 was asked 2.5 s ago for 2 blocks, nothing came yet"
        assert [holder.name for holder in found.asked] == ["10.0.0.1:40001"]
        await peer.say(m.Piece(3, 0, r.sample.space[3 * PIECE : 3 * PIECE + 16384]))
        await trio.sleep(1.5)
        found = ask(r, 3 * PIECE)
        assert found.received == 16384
        assert found.words == (
            "10.0.0.1:40001 was asked 4.0 s ago for 1 blocks, 16384 of 32768 bytes of its piece "
            "are here; the last byte of its piece came 1.5 s ago"
        )
        assert found.deadline == pytest.approx(r.torrent.config.read_timeout - 1.5, abs=1.1)
        reading.scope.cancel()


async def test_after_a_read_in_vain_and_with_a_full_disk(autojump_clock: MockClock) -> None:
    async with rig(read_timeout=20) as r:
        r.store.trouble = "no space left on device"
        await r.connect(have=[1])
        reading = r.reading(3 * PIECE, 10)
        await trio.sleep(25)
        assert reading.error is not None
        found = ask(r, 3 * PIECE)
        assert found.retry == pytest.approx(25)
        assert "the next full try may be in 25 s" in found.words
        assert "the cache: no space left on device" in found.words


async def test_of_torrents_that_sleep_queue_or_are_paused(autojump_clock: MockClock) -> None:
    async with ward(places=1) as w:
        a, b = w.shelve("a", alive=False), w.shelve("b", alive=False)
        found = why(a, 0, 0, trio.current_time())
        assert (found.state, found.words) == (
            "asleep",
            "it is asleep: nobody reads it; 0 of 4 pieces are in the cache",
        )
        assert (await a.why(0, 0)).state == "idle"
        assert w.take() == ["open a"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.read, 0, 0, 10)
            await trio.sleep(1)
            nursery.start_soon(b.read, 0, 0, 10)
            await trio.sleep(1)
            assert (await a.why(0, 0)).state == "no peers"
            found = await b.why(0, 0)
            assert found.state == "queued"
            assert "waits for one of 1 places" in found.words
            nursery.cancel_scope.cancel()
        await b.pause()
        found = await b.why(0, 0)
        assert (found.state, found.words) == ("paused", "the torrent is paused")
        await b.sleep()
        assert why(b, 0, 0, 0.0).words == (
            "it is paused and asleep; 0 of 4 pieces are in the cache"
        )


async def test_pins_that_are_put_off_say_so(autojump_clock: MockClock) -> None:
    async with ward() as w:
        a = w.shelve("a", alive=False)
        await a.pin()
        await trio.sleep(70)
        found = await a.why(0, 0)
        assert found.state in ("idle", "no peers")
        assert "pins: no byte came in 60 s" in found.words
