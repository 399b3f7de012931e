"""From the search for a magnet's metadata to its torrent: WebRTC peers stay connected."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.engine.kit import OUR_ID, PIECE, FakePeer, Rig, rig
from tests.streams import MemoryStream, memory_stream_pair
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.metadata import MAX_UNHEARD, MetadataFetch
from torrentfs.engine.succession import SUCCESSION, Succession
from torrentfs.engine.swarm import Met, Places, Swarm
from torrentfs.errors import TransportError
from torrentfs.wire import messages as m
from torrentfs.wire.extension import OUR_EXTENSIONS

KEY = "a torrent"


class Search:
    """A search for the metadata of a rig's torrent, and the pages that it meets."""

    def __init__(self, r: Rig, nursery: trio.Nursery) -> None:
        self.rig = r
        self.metainfo = r.sample.metainfo
        self.fetch = MetadataFetch(
            self.metainfo.hashes,
            peer_id=OUR_ID,
            config=SessionConfig(cache_dir=Path("/nonexistent"), tcp=False),
            places=Places(100),
            client_version="torrentfs/test",
            listen_port=0,
        )
        self.over = trio.Event()
        self._met = 0
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        await self.fetch.run()
        self.over.set()

    async def meets(self, *, fast: bool = True, kind: str = "webrtc") -> FakePeer:
        """A page whose channel has just opened; it says what it has before it is asked anything."""
        await trio.testing.wait_all_tasks_blocked()
        self._met += 1
        mine, theirs = memory_stream_pair(other=("198.51.100.7", 50_000 + self._met))
        mine.kind = kind  # type: ignore[misc]
        peer = FakePeer(theirs, self.metainfo, self.rig.sample.space)
        await peer.hello(peer_id=b"-WW0303-%012d" % self._met, fast=fast)
        info_hash = self.metainfo.hashes.wire[0]
        met = await self.fetch.swarm.meet(mine, info_hash, outgoing=False)
        assert met is not None
        assert self.fetch.swarm.take(met)
        await peer.meet()
        await peer.have()
        size = len(self.metainfo.info)
        await peer.say(m.ExtensionHandshake(extensions=OUR_EXTENSIONS, metadata_size=size))
        await trio.testing.wait_all_tasks_blocked()
        return peer

    async def ends_by(self, peer: FakePeer) -> None:
        """`peer` gives the metadata."""
        info = self.metainfo.info
        await peer.expect(m.MetadataRequest)
        await peer.say(m.MetadataData(0, len(info), info))
        await self.over.wait()

    def pass_on(self, nursery: trio.Nursery) -> None:
        """What a session does: the torrent follows."""
        succession = Succession(nursery)
        succession.leave(KEY, self.fetch.swarm.kept)
        for one in succession.claim(KEY):
            assert self.rig.swarm.take(one)


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
async def test_all_pages_go_on_whoever_gave_the_metadata(
    fast: bool, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery, rig() as r:
        search = Search(r, nursery)
        giver, other = await search.meets(fast=fast), await search.meets(fast=fast)
        await other.say(m.Unchoke())
        await search.ends_by(giver)
        search.pass_on(nursery)
        await trio.testing.wait_all_tasks_blocked()
        assert len(r.torrent.peers()) == 2
        for peer in (giver, other):
            nursery.start_soon(peer.serve)
        assert await r.read(0, PIECE) == r.sample.space[:PIECE]
        assert r.torrent.bytes_by_kind() == {"webrtc": PIECE}
        for peer in (giver, other):
            said = [type(event) for event in peer.sent]
            assert said.count(m.HaveNone) == (1 if fast else 0)
            assert said.count(m.ExtensionHandshake) == 2
            assert m.Interested in said
        nursery.cancel_scope.cancel()


async def test_what_came_into_the_store_meanwhile_is_said_piece_by_piece(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery, rig(have=[1, 3]) as r:
        search = Search(r, nursery)
        giver = await search.meets()
        await search.ends_by(giver)
        search.pass_on(nursery)
        said = await giver.settle()
        assert [event.piece for event in said if type(event) is m.Have] == [1, 3]
        nursery.cancel_scope.cancel()


async def test_who_says_nonsense_about_pieces_is_found_out_then(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, rig() as r:
        search = Search(r, nursery)
        giver = await search.meets()
        await giver.say(m.Have(1_000_000))
        await search.ends_by(giver)
        search.pass_on(nursery)
        await giver.closed()
        assert "a piece 1000000" in (r.swarm.last_failure or "")
        nursery.cancel_scope.cancel()


async def test_who_has_too_much_to_say_is_not_kept(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, rig() as r:
        search = Search(r, nursery)
        giver = await search.meets()
        for _ in range(MAX_UNHEARD // 64 + 1):
            await giver.say(*[m.Have(1)] * 64)
        await search.ends_by(giver)
        assert search.fetch.swarm.kept == []
        await giver.closed()
        nursery.cancel_scope.cancel()


async def test_who_can_be_dialled_is_not_kept(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, rig() as r:
        search = Search(r, nursery)
        giver = await search.meets(kind="tcp")
        await search.ends_by(giver)
        assert search.fetch.swarm.kept == []
        await giver.closed()
        nursery.cancel_scope.cancel()


async def test_who_left_is_not_kept(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, rig() as r:
        search = Search(r, nursery)
        giver, other = await search.meets(), await search.meets()
        other.stream.abort()
        await search.ends_by(giver)
        assert len(search.fetch.swarm.kept) == 1
        search.pass_on(nursery)
        nursery.cancel_scope.cancel()


def met(r: Rig) -> tuple[Met, MemoryStream]:
    mine, theirs = memory_stream_pair()
    return Met(mine, None, False), theirs  # type: ignore[arg-type]


async def test_nobody_follows(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, rig() as r:
        succession = Succession(nursery)
        one, end = met(r)
        succession.leave(KEY, [one])
        assert repr(succession) == "<Succession of 1 torrents>"
        await trio.sleep(SUCCESSION - 0.1)
        with trio.move_on_after(0) as waiting:
            await end.receive_into(memoryview(bytearray(1)))
        assert waiting.cancelled_caught
        await trio.sleep(0.2)
        with pytest.raises(TransportError):
            await end.receive_into(memoryview(bytearray(1)))


async def test_the_end_of_all_closes_what_waits(autojump_clock: MockClock) -> None:
    async with rig() as r:
        async with trio.open_nursery() as nursery:
            one, end = met(r)
            Succession(nursery).leave(KEY, [one])
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with pytest.raises(TransportError):
            await end.receive_into(memoryview(bytearray(1)))


async def test_guests_are_taken_when_the_swarm_begins(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, rig() as r:
        search = Search(r, nursery)
        giver = await search.meets()
        await search.ends_by(giver)
        follower = Swarm(
            r.sample.metainfo.hashes,
            r.swarm.talk,
            peer_id=OUR_ID,
            config=SessionConfig(cache_dir=Path("/nonexistent"), tcp=False),
            places=Places(100),
        )
        (one,) = search.fetch.swarm.kept
        assert not follower.take(one)  # it has not begun
        follower.guests.append(one)
        nursery.start_soon(follower.run)
        await trio.testing.wait_all_tasks_blocked()
        assert (len(follower.connected), follower.guests) == (1, [])
        nursery.cancel_scope.cancel()
