"""From blocks to verified pieces, and what becomes of liars."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.engine.kit import KIB, PIECE, FakeStore, rig
from tests.transports.torrents import sample
from torrentfs.engine import assembly as assembly_module
from torrentfs.engine.assembly import Assembly
from torrentfs.errors import DataUnavailable
from torrentfs.metainfo.torrent_file import Metainfo
from torrentfs.scheduling.blame import Blame
from torrentfs.scheduling.picker import Level, Picker, SourceKind, Want
from torrentfs.wire import messages as m

BLOCK = 16384


async def test_a_lone_liar_is_banned_and_the_read_is_right(autojump_clock: MockClock) -> None:
    async with rig() as r:
        await r.seeder(lie=lambda request: request.begin == 0)
        reading = r.reading(0, PIECE)
        await trio.testing.wait_all_tasks_blocked()
        assert r.torrent.assembly.failures == 1
        assert not r.torrent.peers()
        assert list(r.swarm.book.banned.values()) == ["sent wrong bytes in piece 0"]
        await r.seeder()
        assert await reading.wait() == r.sample.space[:PIECE]
        assert 0 in r.store.have


async def test_of_two_sources_the_liar_is_found_by_comparing(autojump_clock: MockClock) -> None:
    async with rig() as r:
        liar = await r.connect(unchoke=True)
        honest = await r.connect()
        reading = r.reading(0, PIECE)
        request = await liar.expect(m.Request)
        await liar.expect(m.Request)
        await liar.say(m.Piece(request.piece, request.begin, bytes(BLOCK)), m.Choke())
        for refused in await liar.settle():
            assert not isinstance(refused, m.Request)
        await liar.say(m.RejectRequest(0, BLOCK - request.begin, BLOCK))
        await honest.say(m.Unchoke())
        r.nursery.start_soon(honest.serve)
        assert await reading.wait() == r.sample.space[:PIECE]
        await liar.closed()
        assert len(r.torrent.peers()) == 1
        assert r.torrent.assembly.failures == 1


async def test_blame_finds_a_liar_that_has_left(autojump_clock: MockClock) -> None:
    async with rig() as r:
        liar = await r.connect(unchoke=True, host="93.184.216.34")
        honest = await r.connect()
        reading = r.reading(0, PIECE)
        request = await liar.expect(m.Request)
        await liar.say(m.Piece(request.piece, request.begin, bytes(BLOCK)))
        await liar.settle()
        liar.stream.abort()
        await trio.testing.wait_all_tasks_blocked()
        await honest.say(m.Unchoke())
        r.nursery.start_soon(honest.serve)
        assert await reading.wait() == r.sample.space[:PIECE]
        assert r.swarm.book.is_banned(("93.184.216.34", 1))


async def test_addresses_of_those_that_left_are_bounded(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torrentfs.engine.torrent.MAX_REMEMBERED", 10)
    async with rig() as r:
        stays = await r.connect()
        for _ in range(20):
            (await r.connect()).stream.abort()
            await trio.testing.wait_all_tasks_blocked()
        assert len(r.torrent._addresses) <= 12
        assert r.torrent.peers()[0].source in r.torrent._addresses
        assert stays.stream.closed is False


async def test_a_partial_piece_outlives_the_read_that_wanted_it(autojump_clock: MockClock) -> None:
    async with rig() as r:
        peer = await r.connect(unchoke=True)
        reading = r.reading(0, 10)
        first, second = await peer.expect(m.Request), await peer.expect(m.Request)
        await peer.say(peer.block(first))
        await peer.settle()
        reading.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        again = r.reading(0, 10)
        assert await peer.expect(m.Request) == second
        await peer.say(peer.block(second))
        assert await again.wait() == r.sample.space[:10]


@pytest.mark.expect_log("a bug while finishing piece 1")
async def test_a_bug_costs_one_piece_and_no_more_than_the_time_out(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = assembly_module.check_piece

    def check(metainfo: object, piece: int, data: bytearray) -> bool:
        if piece == 1:
            raise RuntimeError("a bug")
        return right(metainfo, piece, data)  # type: ignore[arg-type]

    monkeypatch.setattr(assembly_module, "check_piece", check)
    async with rig(read_timeout=5) as r:
        await r.seeder(delay=0.1)
        reading = r.reading(PIECE, 10)
        with pytest.raises(DataUnavailable):
            await reading.wait()
        assert reading.seconds == pytest.approx(5, abs=0.5)
        assert await r.read(2 * PIECE, 10) == r.sample.space[2 * PIECE : 2 * PIECE + 10]


async def test_a_large_piece_is_hashed_off_the_main_thread() -> None:
    large = sample(3 * 256 * KIB + 5, piece_length=256 * KIB)
    async with rig(large) as r:
        await r.seeder()
        assert await r.read(100_000, 600_000) == large.space[100_000:700_000]


async def test_complete_is_told_once(autojump_clock: MockClock) -> None:
    told: list[None] = []

    class Trackers:
        last_error = None

        def announce_completed(self) -> None:
            told.append(None)

        def statistics(self) -> tuple[()]:
            return ()

    async with rig(4 * PIECE) as r:
        r.swarm.trackers = Trackers()  # type: ignore[assignment]
        await r.seeder()
        await r.read(0, 4 * PIECE)
        assert len(told) == 1
        r.store.evict(0)
        await r.read(0, 4 * PIECE)
        assert len(told) == 1


class Pieces:
    """An assembly with a real picker, to which one source has given whole pieces of 128 KiB."""

    def __init__(self, count: int) -> None:
        self.sample = sample(count * 128 * KIB, piece_length=128 * KIB)
        self.picker = Picker(self.sample.metainfo.geometry)
        self.store = FakeStore(count)
        self.verified: list[int] = []
        self.guilty: list[int] = []
        self.assembly = Assembly(
            self.sample.metainfo,
            self.picker,
            Blame(),
            self.store,  # type: ignore[arg-type]
            on_verified=lambda piece, data: self.verified.append(piece),
            on_proved=lambda piece: None,
            on_stored=lambda piece: None,
            on_guilty=lambda source, why: self.guilty.append(source),
        )
        self.picker.set_agenda([Want(n, Level.URGENT, 9.0) for n in range(count)], 0.0)

    def give(self, *, wrong: int | None = None) -> None:
        """A source gives all that is wanted; a block of piece `wrong` is not what it should be."""
        self.picker.add_source(1, SourceKind.PEER, 0.0, max_queue=1000)
        self.picker.on_have_all(1)
        self.picker.on_unchoke(1, 0.0)
        while requests := self.picker.pick(1, 0.0):
            for piece, begin, length in requests:
                start = piece * 128 * KIB + begin
                data = self.sample.space[start : start + length]
                if piece == wrong and not begin:
                    data = bytes(length)
                self.assembly.on_block(1, piece, begin, data, 0.0)


async def until(fact: Callable[[], object]) -> None:
    while not fact():  # noqa: ASYNC110 - what threads have done has no event
        await trio.sleep(0.001)


async def test_what_is_being_hashed_when_a_torrent_is_paused_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_on = threading.Event()
    hashed: list[int] = []
    check = assembly_module.check_piece

    def slowly(metainfo: Metainfo, piece: int, data: bytearray) -> bool:
        hashed.append(piece)
        assert goes_on.wait(20)
        return check(metainfo, piece, data)

    monkeypatch.setattr(assembly_module, "check_piece", slowly)
    pieces = Pieces(6)
    pieces.give()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pieces.assembly.run)
            await until(lambda: len(hashed) == 2)
            nursery.cancel_scope.cancel()
            goes_on.set()
        assert len(pieces.verified) < 6
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pieces.assembly.run)
            await until(lambda: pieces.store.have.count == 6)
            nursery.cancel_scope.cancel()
    assert sorted(pieces.verified) == list(range(6))
    assert not pieces.picker.ledger.open


async def test_a_bad_piece_is_asked_again_although_its_torrent_was_paused_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digests = assembly_module._digests_of
    scope = trio.CancelScope()

    async def after_the_pause(data: bytearray) -> list[bytes]:
        scope.cancel()
        return await digests(data)

    monkeypatch.setattr(assembly_module, "_digests_of", after_the_pause)
    pieces = Pieces(1)
    pieces.give(wrong=0)
    with trio.fail_after(30):
        with scope:
            await pieces.assembly.run()
        assert not pieces.picker.ledger.urgent.free
        monkeypatch.setattr(assembly_module, "_digests_of", digests)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pieces.assembly.run)
            await until(lambda: pieces.guilty)
            nursery.cancel_scope.cancel()
    assert pieces.assembly.failures == 1
    assert pieces.picker.ledger.urgent.free
