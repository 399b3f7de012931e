"""A hybrid torrent without piece layers is read as v1 until a peer has given them."""

from __future__ import annotations

from random import Random

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.engine.kit import KIB, FakePeer, Rig, rig
from tests.metainfo.torrents import build
from tests.transports.torrents import Sample
from torrentfs.engine.layers import PATIENCE, REST, Layers
from torrentfs.errors import TransportError
from torrentfs.metainfo.merkle import leaf_hashes
from torrentfs.metainfo.torrent_file import Metainfo, parse_info, parse_torrent
from torrentfs.wire import messages as m
from torrentfs.wire.hash_exchange import HashServer
from torrentfs.wire.leaf_exchange import LeafRuns

BLOCK = 16 * KIB
PIECE = 256 * KIB


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No threads: virtual time does not wait for them."""
    monkeypatch.setattr("torrentfs.engine.assembly.INLINE_HASH", PIECE)


def films() -> tuple[Sample, Metainfo]:
    """Two files of some pieces, as a magnet tells them; and what the .torrent file would tell."""
    data = [Random(n).randbytes(length) for n, length in enumerate((4 * PIECE, 3 * PIECE))]
    files = {("a",): data[0], ("b",): data[1]}
    whole = parse_torrent(build("hybrid", files, piece_length=PIECE))
    return Sample(parse_info(whole.info, whole.hashes), b"".join(data), files), whole


class Giver:
    """A seeder of the v2 torrent; `gives` piece layers: "rightly", "never", "rejects" or "lies"."""

    def __init__(self, peer: FakePeer, whole: Metainfo, gives: str, most: int) -> None:
        self.peer = peer
        self.gives = gives
        self.most = most
        self.blocks: list[tuple[int, int]] = []
        self.asked: list[m.HashRequest] = []
        """For piece layers."""
        self._server = HashServer(whole)
        self._runs = LeafRuns(whole)

    async def serve(self) -> None:
        try:
            while True:
                event = await self.peer.next()
                if isinstance(event, m.Interested):
                    await self.peer.say(m.Unchoke())
                elif isinstance(event, m.Request):
                    self.blocks.append((event.piece, event.begin // BLOCK))
                    await self.peer.say(self.peer.block(event))
                elif isinstance(event, m.HashRequest):
                    await self._give(event)
        except TransportError:
            return

    async def _give(self, request: m.HashRequest) -> None:
        if not request.base_layer:
            piece = self._runs.piece_of(request)
            assert piece is not None
            row = leaf_hashes(self.peer.space[piece * PIECE : (piece + 1) * PIECE])
            await self.peer.say(self._runs.give(piece, request, row))
            return
        self.asked.append(request)
        fields = (request.pieces_root, request.base_layer, request.index, request.length)
        if self.gives == "rejects":
            await self.peer.say(m.HashReject(*fields, request.proof_layers))
        elif self.gives == "lies":
            await self.peer.say(m.Hashes(*fields, request.proof_layers, bytes(32 * request.length)))
        elif self.gives == "rightly" and len(self.asked) <= self.most:
            await self.peer.say(self._server.answer(request))


async def giver(r: Rig, whole: Metainfo, gives: str = "rightly", most: int = 9) -> Giver:
    v2 = whole.hashes.v2
    assert v2 is not None
    made = Giver(await r.connect(info_hash=v2[:20]), whole, gives, most)
    r.nursery.start_soon(made.serve)
    await trio.testing.wait_all_tasks_blocked()
    return made


async def assert_by_block(r: Rig, seeder: Giver) -> None:
    """A read fetches the blocks under it and no more."""
    await trio.sleep(2)
    seeder.blocks.clear()
    place = 5 * PIECE + 3 * BLOCK
    assert await r.read(place - 4 * PIECE, 10, file=1) == r.sample.space[place : place + 10]
    assert seeder.blocks == [(5, 3)]


async def test_it_is_read_as_v1_and_by_the_block_when_the_layers_came(
    autojump_clock: MockClock,
) -> None:
    sample, whole = films()
    async with rig(sample) as r:
        kept = []

        async def keep(metainfo: Metainfo) -> None:
            kept.append(metainfo)

        assert r.torrent.layers is not None
        r.torrent.layers.keep = keep
        seeder = await giver(r, whole, "rejects")
        assert await r.read(0, 10) == sample.space[:10]
        assert len(seeder.blocks) == 16
        seeder.gives = "rightly"
        await trio.sleep(REST)  # who has none is asked again later
        await assert_by_block(r, seeder)
        assert [metainfo.missing_layers() for metainfo in kept] == [[]]
        assert kept[0].to_torrent() == whole.to_torrent()
        assert r.torrent.metainfo is kept[0]
        # and it gives them, to others who came by magnet
        root = whole.files[0].pieces_root
        assert root is not None
        request = m.HashRequest(root, 4, 0, 4, 1)
        answer = await r.torrent.serving.answer(request, served=False)
        assert isinstance(answer, m.Hashes)


async def test_a_peer_of_the_v1_torrent_is_not_asked(autojump_clock: MockClock) -> None:
    sample, _ = films()
    async with rig(sample) as r:
        peer = await r.seeder()
        await trio.sleep(5)
        assert await r.read(0, 10) == sample.space[:10]
        assert not [event for event in peer.sent if isinstance(event, m.HashRequest)]


@pytest.mark.parametrize("gives", ["never", "rejects", "lies"])
async def test_another_is_asked(gives: str, autojump_clock: MockClock) -> None:
    sample, whole = films()
    async with rig(sample) as r:
        bad = await giver(r, whole, gives)
        good = await giver(r, whole)
        await trio.sleep(PATIENCE + 2)
        assert r.torrent.metainfo.missing_layers() == []
        assert len(bad.asked) == 2
        assert len(good.asked) == 2
        assert len(r.torrent.peers()) == (1 if gives == "lies" else 2)


async def test_what_came_before_it_left_is_kept(autojump_clock: MockClock) -> None:
    sample, whole = films()
    async with rig(sample) as r:
        first = await giver(r, whole, most=1)
        await trio.sleep(2)
        assert r.torrent.metainfo.missing_layers() == [1]
        first.peer.stream.abort()
        await trio.sleep(2)
        second = await giver(r, whole)
        await assert_by_block(r, second)
        assert len(second.asked) == 1


async def test_late_answers_of_who_was_given_up_harm_nobody(autojump_clock: MockClock) -> None:
    sample, whole = films()
    async with rig(sample) as r:
        slow = await giver(r, whole, "never")
        await trio.sleep(PATIENCE + 2)
        for request in slow.asked:
            await slow.peer.say(HashServer(whole).answer(request))
        await trio.sleep(2 * REST)
        assert len(slow.asked) == 2
        assert len(r.torrent.peers()) == 1


async def test_some_layers_are_kept_when_the_mount_ends(autojump_clock: MockClock) -> None:
    sample, whole = films()
    kept = []

    async def keep(metainfo: Metainfo) -> None:
        kept.append(metainfo.missing_layers())

    async with rig(sample) as r:
        assert r.torrent.layers is not None
        r.torrent.layers.keep = keep
        await giver(r, whole, most=1)
        await trio.sleep(2)
        assert not kept
    assert kept == [[1]]


def test_what_has_them_all_fetches_none() -> None:
    sample, whole = films()
    assert Layers.are_missing(sample.metainfo)
    assert not Layers.are_missing(whole)
    assert "0 there, nobody asked" in repr(Layers(sample.metainfo, lambda metainfo: None))
