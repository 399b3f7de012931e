"""Reads of v2 torrents are answered block by block, where somebody gives the block hashes."""

from __future__ import annotations

from random import Random

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.engine.kit import KIB, FakePeer, Rig, rig
from tests.metainfo.torrents import Version, build
from tests.transports.torrents import Sample
from torrentfs.engine import leaves as leaves_module
from torrentfs.engine.leaves import Leaves
from torrentfs.errors import TransportError
from torrentfs.metainfo.merkle import leaf_hashes
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.wire import messages as m
from torrentfs.wire.leaf_exchange import LeafRuns

BLOCK = 16 * KIB
PIECE = 256 * KIB
LENGTH = 4 * PIECE + 5 * BLOCK + 99


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No threads: virtual time does not wait for them."""
    monkeypatch.setattr("torrentfs.engine.assembly.INLINE_HASH", PIECE)


def film(version: Version = "v2", length: int = LENGTH) -> Sample:
    """One file of a little more than four pieces."""
    data = Random(1).randbytes(length)
    torrent = build(version, {("film",): data}, piece_length=PIECE)
    return Sample(parse_torrent(torrent), data, {("film",): data})


class Giver:
    """A seeder; `gives` block hashes: rightly, "never", "rejects", or "lies"."""

    def __init__(self, peer: FakePeer, gives: str, lies: tuple[int, ...] = ()) -> None:
        self.peer = peer
        self.gives = gives
        self.lies = lies
        self.blocks: list[tuple[int, int]] = []
        self.asked: list[m.HashRequest] = []
        self.hold: trio.Event | None = None
        """While set, hashes are given only when it is."""
        self._runs = LeafRuns(peer.metainfo)

    async def serve(self) -> None:
        try:
            while True:
                event = await self.peer.next()
                if isinstance(event, m.Interested):
                    await self.peer.say(m.Unchoke())
                elif isinstance(event, m.Request):
                    await self._give_block(event)
                elif isinstance(event, m.HashRequest):
                    self.asked.append(event)
                    await self._give_hashes(event)
        except TransportError:
            return

    async def _give_block(self, request: m.Request) -> None:
        answer = self.peer.block(request)
        self.blocks.append((request.piece, request.begin // BLOCK))
        if request.begin // BLOCK in self.lies:
            answer = m.Piece(*answer[:2], bytes(len(answer.data)))
        await self.peer.say(answer)

    async def _give_hashes(self, request: m.HashRequest) -> None:
        fields = (request.pieces_root, request.base_layer, request.index, request.length)
        if self.hold is not None:
            await self.hold.wait()
        if self.gives == "rejects":
            await self.peer.say(m.HashReject(*fields, request.proof_layers))
        elif self.gives != "never":
            piece = self._runs.piece_of(request)
            assert piece is not None
            tree = self._runs.tree(piece)
            assert tree is not None
            data = self.peer.space[piece * PIECE : piece * PIECE + tree.size]
            row = leaf_hashes(bytes(len(data)) if self.gives == "lies" else data)
            await self.peer.say(self._runs.give(piece, request, row))


async def giver(
    r: Rig, gives: str = "rightly", lies: tuple[int, ...] = (), *, upgrades: bool = False
) -> Giver:
    v2 = r.sample.metainfo.hashes.v2
    assert v2 is not None
    if upgrades:
        peer = await r.connect(v2=True)
        assert peer.connection.theirs is not None
        assert peer.connection.theirs.info_hash == v2[:20]
    else:
        peer = await r.connect(info_hash=v2[:20])
    made = Giver(peer, gives, lies)
    r.nursery.start_soon(made.serve)
    await trio.testing.wait_all_tasks_blocked()
    return made


@pytest.mark.parametrize("version", ["v2", "hybrid"])
async def test_only_the_blocks_under_a_read_are_fetched(
    version: Version, autojump_clock: MockClock
) -> None:
    async with rig(film(version)) as r:
        seeder = await giver(r)
        for place, size in [(PIECE + 3 * BLOCK + 5, 40 * KIB), (LENGTH - 9, 9), (0, 1)]:
            assert await r.read(place, size) == r.sample.space[place : place + size]
        assert seeder.blocks == [(1, 3), (1, 4), (1, 5), (4, 5), (0, 0)]
        assert len(seeder.asked) == 3
        assert not len(r.store.have)
        # again, out of what was kept
        assert await r.read(PIECE + 4 * BLOCK, BLOCK) == r.sample.space[PIECE + 4 * BLOCK :][:BLOCK]
        assert len(seeder.blocks) == 5


async def test_a_v1_peer_of_a_hybrid_is_not_asked(autojump_clock: MockClock) -> None:
    async with rig(film("hybrid")) as r:
        peer = await r.seeder()
        assert await r.read(0, 10) == r.sample.space[:10]
        await trio.testing.wait_all_tasks_blocked()
        assert not [e for e in peer.sent if isinstance(e, m.HashRequest)]
        assert 0 in r.store.have


async def test_a_peer_that_can_upgrade_is_asked(autojump_clock: MockClock) -> None:
    async with rig(film("hybrid")) as r:
        seeder = await giver(r, upgrades=True)
        assert await r.read(0, 10) == r.sample.space[:10]
        assert seeder.blocks == [(0, 0)]


@pytest.mark.parametrize("gives", ["rejects", "never"])
async def test_who_gives_no_hashes_gives_whole_pieces(
    gives: str, autojump_clock: MockClock
) -> None:
    async with rig(film()) as r:
        seeder = await giver(r, gives)
        began = trio.current_time()
        assert await r.read(5, 10) == r.sample.space[5:15]
        assert trio.current_time() - began < 2.5
        assert sorted(seeder.blocks) == [(0, block) for block in range(16)]
        assert await r.read(PIECE, 10) == r.sample.space[PIECE : PIECE + 10]
        assert len(seeder.asked) == 1  # it is remembered
        await trio.sleep(leaves_module.REST + 1)
        seeder.gives = "rightly"
        assert await r.read(2 * PIECE, 10) == r.sample.space[2 * PIECE : 2 * PIECE + 10]
        assert seeder.blocks[-1] == (2, 0)


async def test_a_giver_that_is_busy_is_waited_for_and_a_late_answer_ends_its_rest(
    autojump_clock: MockClock,
) -> None:
    async with rig(film()) as r:
        seeder = await giver(r)
        assert await r.read(0, 10) == r.sample.space[:10]
        seeder.hold = trio.Event()
        reading = r.reading(PIECE, 10)
        await trio.sleep(3)
        seeder.hold.set()
        assert await reading.wait() == r.sample.space[PIECE:][:10]
        assert seeder.blocks == [(0, 0), (1, 0)]
        seeder.gives = "never"
        assert await r.read(2 * PIECE, 10) == r.sample.space[2 * PIECE :][:10]
        assert len(seeder.blocks) == 2 + 16
        seeder.gives = "rightly"
        await seeder._give_hashes(seeder.asked[-1])  # too late for that piece
        await trio.sleep(1.5)
        assert await r.read(3 * PIECE, 10) == r.sample.space[3 * PIECE :][:10]
        assert seeder.blocks[-1] == (3, 0)
        assert len(seeder.blocks) == 2 + 16 + 1


async def test_who_never_answers_is_asked_less_and_less_often(autojump_clock: MockClock) -> None:
    async with rig(film()) as r:
        seeder = await giver(r, "never")
        asked = []
        for piece in range(4):
            assert await r.read(piece * PIECE, 10) == r.sample.space[piece * PIECE :][:10]
            asked.append(len(seeder.asked))
            await trio.sleep(leaves_module.SHORT_REST + 1)
        assert asked == [1, 2, 2, 3]
        seeder.gives = "rightly"
        await seeder._give_hashes(seeder.asked[-1])  # it was busy all the time
        await trio.sleep(1.5)
        assert r.torrent.leaves._silences == {}
        await r.read(4 * PIECE, 10)
        assert len(seeder.asked) == 4


async def test_another_is_asked_for_the_hashes(autojump_clock: MockClock) -> None:
    async with rig(film()) as r:
        refuses, gives = await giver(r, "rejects"), await giver(r)
        for piece in range(4):
            assert await r.read(piece * PIECE, 10) == r.sample.space[piece * PIECE :][:10]
        assert len(refuses.asked) <= 1
        assert len(gives.asked) == 4
        assert len(refuses.blocks) + len(gives.blocks) == 4


async def test_hashes_from_one_prove_the_blocks_of_another(autojump_clock: MockClock) -> None:
    async with rig(film("hybrid")) as r:
        gives = await giver(r)
        gives.hold = trio.Event()
        reading = r.reading(0, 10)
        await trio.testing.wait_all_tasks_blocked()
        assert gives.blocks in ([], [(0, 0)])
        assert reading.data is None
        gives.hold.set()
        assert await reading.wait() == r.sample.space[:10]


async def test_a_wrong_block_names_its_giver(autojump_clock: MockClock) -> None:
    async with rig(film()) as r:
        await giver(r, lies=(2,))
        reading = r.reading(2 * BLOCK, 10)
        await trio.testing.wait_all_tasks_blocked()
        assert list(r.swarm.book.banned.values()) == ["sent wrong bytes in piece 0"]
        assert r.torrent.assembly.failures == 1
        honest = await giver(r)
        assert await reading.wait() == r.sample.space[2 * BLOCK : 2 * BLOCK + 10]
        assert honest.blocks == [(0, 2)]


async def test_a_wrong_block_that_came_before_its_hash(autojump_clock: MockClock) -> None:
    async with rig(film()) as r:
        liar = await giver(r, lies=(1,))
        liar.hold = trio.Event()
        reading = r.reading(BLOCK, 10)
        await trio.sleep(0.1)
        liar.hold.set()
        await trio.testing.wait_all_tasks_blocked()
        assert len(r.swarm.book.banned) == 1
        await giver(r)
        assert await reading.wait() == r.sample.space[BLOCK : BLOCK + 10]


async def test_who_lies_about_hashes_loses_the_connection(autojump_clock: MockClock) -> None:
    async with rig(film()) as r:
        await giver(r, "lies")
        reading = r.reading(0, 10)
        await trio.testing.wait_all_tasks_blocked()
        assert not r.torrent.peers()
        await giver(r)
        assert await reading.wait() == r.sample.space[:10]


async def test_a_piece_whose_blocks_were_all_proved_is_stored(autojump_clock: MockClock) -> None:
    async with rig(film()) as r:
        seeder = await giver(r)
        for block in Random(2).sample(range(16), 16):
            await r.read(block * BLOCK + 7, 3)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(seeder.blocks) == [(0, block) for block in range(16)]
        assert bytes(r.store.pieces[0]) == r.sample.space[:PIECE]
        assert "0 pieces" in repr(r.torrent.leaves)


async def test_a_sequential_reader_gets_all_of_it_once(autojump_clock: MockClock) -> None:
    async with rig(film("hybrid"), readahead=1 << 20) as r:
        seeder = await giver(r)
        for place in range(0, LENGTH, 128 * KIB):
            size = min(128 * KIB, LENGTH - place)
            assert await r.read(place, size) == r.sample.space[place : place + size]
        await trio.sleep(1)
        assert len(seeder.blocks) == len(set(seeder.blocks))
        assert len(r.store.have) >= 4


async def test_peers_that_come_late_are_asked(autojump_clock: MockClock) -> None:
    async with rig(film()) as r:
        await r.connect(have=[])
        reading = r.reading(0, 10)
        await trio.sleep(0.1)
        seeder = await giver(r)
        assert await reading.wait() == r.sample.space[:10]
        assert seeder.blocks == [(0, 0)]


async def test_a_giver_that_leaves(autojump_clock: MockClock) -> None:
    async with rig(film()) as r:
        goes = await giver(r, "never")
        reading = r.reading(0, 10)
        await trio.testing.wait_all_tasks_blocked()
        goes.peer.stream.abort()
        await trio.testing.wait_all_tasks_blocked()
        await giver(r)
        assert await reading.wait() == r.sample.space[:10]


async def test_what_is_kept_is_bounded(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaves_module, "MAX_PIECES", 2)
    async with rig(film()) as r:
        await giver(r)
        for piece in range(4):
            await r.read(piece * PIECE, 10)
        assert len(r.torrent.leaves._known) == 2


async def test_answers_that_nobody_asked_for_are_ignored(autojump_clock: MockClock) -> None:
    async with rig(film()) as r:
        seeder = await giver(r)
        root = r.sample.metainfo.files[0].pieces_root
        assert root is not None
        rejected = m.HashReject(root, 0, 0, 16, 0)
        await seeder.peer.say(m.Hashes(root, 0, 0, 16, 0, bytes(512)), rejected)
        await trio.testing.wait_all_tasks_blocked()
        assert await r.read(0, 10) == r.sample.space[:10]
        assert seeder.blocks == [(0, 0)]


@pytest.mark.parametrize("version", ["v2", "hybrid"])
async def test_we_give_block_hashes_of_what_we_have(version: Version) -> None:
    of = film(version)
    async with rig(of, have=[0, 4]) as r:
        v2 = of.metainfo.hashes.v2
        assert v2 is not None
        peer = await r.connect(info_hash=v2[:20], have=[])
        runs = LeafRuns(of.metainfo)
        await peer.say(runs.request(0, 0))  # still choked
        await peer.expect(m.HashReject)
        await peer.say(m.Interested())
        await peer.expect(m.Unchoke)
        for piece in (0, 4, 0):
            await peer.say(runs.request(piece, 0))
            row = runs.accept(piece, 0, await peer.expect(m.Hashes))
            data = of.space[piece * PIECE : (piece + 1) * PIECE]
            assert row.startswith(leaf_hashes(data))
        await peer.say(runs.request(1, 0))
        await peer.expect(m.HashReject)


async def test_padding_is_made_and_not_fetched(autojump_clock: MockClock) -> None:
    data = {("a",): Random(1).randbytes(3 * BLOCK + 5), ("b",): Random(2).randbytes(PIECE)}
    torrent = parse_torrent(build("hybrid", data, piece_length=PIECE))
    space = data["a",].ljust(PIECE, b"\0") + data["b",]
    async with rig(Sample(torrent, space, data)) as r:
        seeder = await giver(r)
        assert await r.read(0, 3 * BLOCK + 5) == data["a",]
        await trio.testing.wait_all_tasks_blocked()
        assert seeder.blocks == [(0, 0), (0, 1), (0, 2), (0, 3)]
        assert bytes(r.store.pieces[0]) == space[:PIECE]


def test_small_pieces_are_not_worth_it() -> None:
    data = {("film",): bytes(PIECE)}
    assert Leaves.are_of_use(film().metainfo)
    assert not Leaves.are_of_use(film("v1").metainfo)
    small = parse_torrent(build("v2", data, piece_length=64 * KIB))
    assert not Leaves.are_of_use(small)
