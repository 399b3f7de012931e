"""A magnet's metadata, from honest peers among liars."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.engine.kit import OUR_ID, FakePeer
from tests.metainfo.torrents import build
from tests.streams import memory_stream_pair
from torrentfs.engine import metadata as metadata_module
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.dialling import exchange_hello
from torrentfs.engine.metadata import MetadataFetch
from torrentfs.engine.swarm import Places
from torrentfs.errors import InvalidTorrent, TransportError
from torrentfs.metainfo import bencoding
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.torrent_file import Metainfo, parse_torrent
from torrentfs.wire import messages as m
from torrentfs.wire.connection import Connection
from torrentfs.wire.extension import OUR_EXTENSIONS
from torrentfs.wire.hash_exchange import HashServer

Play = Callable[[FakePeer], Awaitable[None]]
V1 = parse_torrent(build("v1"))
BIG = parse_torrent(build("v1", {(f"{n:04}" * 50,): b"" for n in range(9000)} | {("x",): b"y"}))


class Search:
    """A running fetch; `join` adds a peer that behaves as its function says."""

    def __init__(self, hashes: InfoHashes, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        config = SessionConfig(cache_dir=Path("/nonexistent"), tcp=False)
        self.fetch = MetadataFetch(
            hashes,
            peer_id=OUR_ID,
            config=config,
            places=Places(100),
            trackers=None,
            client_version="torrentfs/test",
            listen_port=0,
        )
        self.result: Metainfo | None = None
        self.error: Exception | None = None
        self.seconds = 0.0
        self.done = trio.Event()
        self._joined = 0

    async def run(self) -> None:
        before = trio.current_time()
        try:
            self.result = await self.fetch.run()
        except InvalidTorrent as error:
            self.error = error
        self.seconds = trio.current_time() - before
        self.done.set()

    async def join(self, play: Play, of: Metainfo = V1) -> FakePeer:
        self._joined += 1
        mine, theirs = memory_stream_pair(other=(f"10.0.0.{self._joined}", 6881))
        peer = FakePeer(theirs, of, b"")
        await peer.hello(peer_id=b"%020d" % self._joined)
        connection = Connection()
        hello = await exchange_hello(mine, connection, None)
        assert self.fetch.swarm.accept(mine, connection, hello)

        async def run() -> None:
            try:
                await peer.meet()
                await play(peer)
            except TransportError:
                return

        self.nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        return peer


@asynccontextmanager
async def search(hashes: InfoHashes = V1.hashes) -> AsyncIterator[Search]:
    async with trio.open_nursery() as nursery:
        this = Search(hashes, nursery)
        nursery.start_soon(this.run)
        await trio.testing.wait_all_tasks_blocked()
        yield this
        nursery.cancel_scope.cancel()


def offer(size: int) -> m.ExtensionHandshake:
    return m.ExtensionHandshake(extensions=OUR_EXTENSIONS, metadata_size=size)


def giver(
    of: Metainfo = V1, *, delay: float = 0.0, size: int | None = None, wrong: bool = False
) -> Play:
    """Gives the metadata of `of`, or rubbish of that size."""

    async def play(peer: FakePeer) -> None:
        info = bytes(len(of.info)) if wrong else of.info
        total = size or len(info)
        await peer.say(offer(total))
        while True:
            event = await peer.next()
            if isinstance(event, m.MetadataRequest):
                await trio.sleep(delay)
                begin = event.piece * 16384
                data = info[begin : begin + 16384].ljust(min(16384, total - begin), b"\0")
                await peer.say(m.MetadataData(event.piece, total, data))
            elif isinstance(event, m.HashRequest):
                await peer.say(HashServer(of).answer(event))

    return play


async def silent(peer: FakePeer) -> None:
    await peer.say(offer(len(V1.info)))
    await peer.closed()


async def refuser(peer: FakePeer) -> None:
    await peer.say(offer(len(V1.info)))
    request = await peer.expect(m.MetadataRequest)
    await peer.say(m.MetadataReject(request.piece))
    await peer.closed()


async def ignorant(peer: FakePeer) -> None:
    await peer.say(m.ExtensionHandshake(extensions=OUR_EXTENSIONS))
    await peer.closed()


async def test_one_honest_peer_is_enough(autojump_clock: MockClock) -> None:
    async with search() as this:
        await this.join(giver())
        await this.done.wait()
        assert this.result is not None
        assert this.result.info == V1.info
        assert this.seconds == 0


@pytest.mark.parametrize(
    "liar",
    [
        giver(wrong=True),
        giver(size=len(V1.info) + 1),
        giver(size=1),
        giver(size=64 * 1024 * 1024),
        giver(size=2**31),
        silent,
        refuser,
        ignorant,
    ],
)
async def test_liars_spoil_only_their_own_attempt(liar: Play, autojump_clock: MockClock) -> None:
    async with search() as this:
        for _ in range(3):
            await this.join(liar)
        assert this.result is None
        await this.join(giver())
        with trio.fail_after(1):
            await this.done.wait()
        assert this.result is not None
        assert this.result.info == V1.info


@pytest.mark.parametrize("useless", [silent, ignorant])
async def test_who_gives_nothing_loses_its_place(useless: Play, autojump_clock: MockClock) -> None:
    async with search() as this:
        await this.join(useless)
        assert len(this.fetch.swarm.connected) == 1
        await trio.sleep(metadata_module.STALL + 2)
        assert not this.fetch.swarm.connected


async def test_large_attempts_take_turns_and_stalled_ones_lose_theirs(
    autojump_clock: MockClock,
) -> None:
    assert len(BIG.info) > metadata_module.LARGE
    async with search(BIG.hashes) as this:

        async def stalls(peer: FakePeer) -> None:
            await peer.say(offer(len(BIG.info)))
            await peer.closed()

        for _ in range(metadata_module.LARGE_ATTEMPTS):
            await this.join(stalls, BIG)
        honest = await this.join(giver(BIG), BIG)
        assert this.fetch.large == metadata_module.LARGE_ATTEMPTS
        assert this.fetch.queued == 1
        assert not any(isinstance(e, m.MetadataRequest) for e in honest.sent)
        with trio.fail_after(metadata_module.STALL + 5):
            await this.done.wait()
        assert this.result is not None
        assert this.result.info == BIG.info


async def test_who_trickles_loses_its_turn_while_others_wait(autojump_clock: MockClock) -> None:
    async with search(BIG.hashes) as this:
        for _ in range(metadata_module.LARGE_ATTEMPTS):
            await this.join(giver(BIG, wrong=True, delay=5.0), BIG)
        await this.join(giver(BIG), BIG)
        with trio.fail_after(60):
            await this.done.wait()
        assert this.result is not None


async def test_turns_are_given_back(autojump_clock: MockClock) -> None:
    async with search(BIG.hashes) as this:
        for _ in range(metadata_module.LARGE_ATTEMPTS + 2):
            peer = await this.join(giver(BIG, delay=1.0), BIG)
            peer.stream.abort()
        await trio.testing.wait_all_tasks_blocked()
        assert (this.fetch.large, this.fetch.queued) == (0, 0)


async def test_piece_layers_of_a_v2_torrent_come_with_it(autojump_clock: MockClock) -> None:
    torrent = parse_torrent(build("v2"))
    assert not torrent.missing_layers()
    async with search(torrent.hashes) as this:
        await this.join(giver(torrent), torrent)
        await this.done.wait()
        assert this.result is not None
        assert this.result.missing_layers() == []
        for piece in range(torrent.geometry.num_pieces):
            assert this.result.piece_hash(piece) == torrent.piece_hash(piece)


async def test_what_has_the_right_hash_and_is_no_torrent_ends_the_search(
    autojump_clock: MockClock,
) -> None:
    info = bencoding.encode({"name": "x"})
    hashes = InfoHashes.of_info(info, v1=True, v2=False)

    async def play(peer: FakePeer) -> None:
        await peer.say(offer(len(info)))
        await peer.expect(m.MetadataRequest)
        await peer.say(m.MetadataData(0, len(info), info))
        await peer.closed()

    class Fake:
        pass

    odd = Fake()
    odd.hashes = hashes  # type: ignore[attr-defined]
    async with search(hashes) as this:
        await this.join(play, odd)  # type: ignore[arg-type]
        await this.done.wait()
        assert isinstance(this.error, InvalidTorrent)


async def test_words_tell_what_is_in_the_way(autojump_clock: MockClock) -> None:
    async with search() as this:
        assert "no tracker and no peer is known" in this.fetch.words()
        await this.join(silent)
        assert "1 of 0 known peers connected" in this.fetch.words()


class _Wanted:
    """A DHT that counts how often peers are wanted."""

    has_hope = True

    def __init__(self) -> None:
        self.times: list[float] = []

    async def run(self) -> None:
        await trio.sleep_forever()

    def search_soon(self) -> None:
        self.times.append(trio.current_time())

    def words(self) -> str:
        return "DHT: 3 nodes, no peers"


async def test_others_are_wanted_while_nobody_is_connected(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    search = Search(V1.hashes, nursery)
    wanted = _Wanted()
    search.fetch.swarm.dht = wanted  # type: ignore[assignment]
    nursery.start_soon(search.run)
    await trio.sleep(7)
    assert len(wanted.times) == 3
    assert search.fetch.words() == "0 of 0 known peers connected; DHT: 3 nodes, no peers"
    nursery.cancel_scope.cancel()
