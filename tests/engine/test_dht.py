"""The DHT in the engine: whom it is asked for, what peers are told, what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.engine.kit import Rig, rig
from tests.metainfo.torrents import build
from torrentfs.engine.config import DhtConfig, SessionConfig
from torrentfs.engine.session import DHT_NODES, Session, open_session
from torrentfs.errors import DataUnavailable, MetadataTimeout
from torrentfs.metainfo.magnet import magnet_of
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.wire import messages as m
from torrentfs.wire.handshake import Handshake

PUBLIC = parse_torrent(build("v1"))


class FakeDht:
    """A source that finds nobody."""

    node_port = 7777

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.wanted = 0
        self.has_hope = True
        self.running = False

    async def run(self) -> None:
        self.running = True
        await trio.sleep_forever()

    def on_node(self, host: str, port: int) -> None:
        self.told.append((host, port))

    def search_soon(self) -> None:
        self.wanted += 1

    def words(self) -> str:
        return "DHT: 12 nodes, no peers"


def with_dht(running: Rig) -> FakeDht:
    fake = FakeDht()
    running.swarm.dht = fake  # type: ignore[assignment]
    return fake


async def test_a_peer_with_a_node_is_told_of_ours_and_we_learn_of_it() -> None:
    async with rig() as running:
        fake = with_dht(running)
        peer = await running.connect(host="10.0.0.9", dht=True)
        await peer.say(m.Port(6881))
        await trio.testing.wait_all_tasks_blocked()
        assert fake.told == [("10.0.0.9", 6881)]
        theirs = peer.connection.theirs
        assert isinstance(theirs, Handshake)
        assert theirs.dht
        while m.Port(7777) not in peer.sent:
            await peer.next()


async def test_a_peer_without_a_node_is_not_told() -> None:
    async with rig() as running:
        with_dht(running)
        peer = await running.connect(unchoke=True)
        assert isinstance(await peer.next(), m.HaveNone | m.Interested)
        assert not any(isinstance(message, m.Port) for message in peer.sent)


async def test_a_private_torrent_says_nothing_of_it() -> None:
    async with rig() as running:  # a swarm without a source, as a private torrent has
        peer = await running.connect(dht=True, unchoke=True)
        await peer.say(m.Port(6881))
        await trio.testing.wait_all_tasks_blocked()
        theirs = peer.connection.theirs
        assert isinstance(theirs, Handshake)
        assert not theirs.dht


async def test_a_reader_in_want_asks_and_is_told_why_it_fails(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with rig(read_timeout=20.0, utp=True) as running:
        fake = with_dht(running)
        with pytest.raises(DataUnavailable, match="DHT: 12 nodes, no peers"):
            await running.read(0, 10)
        assert fake.wanted > 5
        fake.has_hope = False  # then it fails at once
        before = trio.current_time()
        with pytest.raises(DataUnavailable):
            await running.read(0, 10)
        assert trio.current_time() - before < 10


# -- sessions ----------------------------------------------------------------------------------


def config(directory: Path, **fields: Any) -> SessionConfig:
    defaults: dict[str, Any] = {
        "cache_dir": directory,
        "min_free": 0,
        "bind": "127.0.0.1",
        "rtc": None,
        "port_mapping": False,
    }
    return SessionConfig(**{**defaults, **fields})


def bootstrap_of(session: Session) -> DhtConfig:
    """To begin with the node of another session."""
    assert session.udp is not None
    return DhtConfig(bootstrap=(("127.0.0.1", session.udp.port),))


async def until(fact: Callable[[], object]) -> None:
    """Wait for a fact that no event tells."""
    with trio.fail_after(20):
        while not fact():  # noqa: ASYNC110
            await trio.sleep(0.02)


@pytest.mark.real
async def test_public_torrents_are_looked_up_and_private_ones_are_not(tmp_path: Path) -> None:
    private = replace(PUBLIC, private=True)
    async with open_session(config(tmp_path / "a")) as session:
        torrent = await session.add(PUBLIC)
        assert torrent.swarm.dht is not None
        assert torrent.swarm.our_handshake().dht
    async with open_session(config(tmp_path / "router")) as router:
        async with open_session(config(tmp_path / "b", dht=bootstrap_of(router))) as session:
            torrent = await session.add(private)
            assert torrent.swarm.dht is None
            assert not torrent.swarm.our_handshake().dht
            await trio.sleep(0.3)  # not for a fact, but for the lack of one
        async with open_session(config(tmp_path / "d", dht=bootstrap_of(router))) as session:
            assert router.udp is not None
            assert router.udp.received == 0  # not one packet, of any kind
            await session.add(PUBLIC)
            await until(lambda: router.udp is not None and router.udp.received)
    async with open_session(config(tmp_path / "c", dht=None)) as session:
        assert session.dht is None
        assert (await session.add(PUBLIC)).swarm.dht is None


@pytest.mark.real
async def test_a_private_magnet_asks_nobody(tmp_path: Path) -> None:
    async with open_session(config(tmp_path / "router")) as router:
        settings = config(tmp_path / "b", dht=bootstrap_of(router), private=True)
        async with open_session(settings) as session:
            with pytest.raises(MetadataTimeout, match="no tracker and no peer is known"):
                await session.resolve(magnet_of(PUBLIC), timeout=0.2)
            assert session.dht is not None
            assert session.dht.dht.searching == 0
        settings = replace(settings, private=False, cache_dir=tmp_path / "c")
        async with open_session(settings) as session:
            with pytest.raises(MetadataTimeout, match="DHT: "):
                await session.resolve(magnet_of(PUBLIC), timeout=1.0)


@pytest.mark.real
async def test_two_sessions_find_each_other_and_keep_nodes(tmp_path: Path) -> None:
    async with open_session(config(tmp_path / "router")) as router:
        settings = bootstrap_of(router)
        first, second = config(tmp_path / "a", dht=settings), config(tmp_path / "b", dht=settings)
        async with open_session(first) as seeder, open_session(second) as reader:
            await seeder.add(PUBLIC)
            assert router.dht is not None
            node = router.dht
            await until(lambda: node.statistics().stored_peers)
            with trio.fail_after(20):
                metainfo = await reader.resolve(magnet_of(PUBLIC), timeout=20)
            assert metainfo.hashes == PUBLIC.hashes
            statistics = reader.statistics().dht
            assert statistics is not None
            assert statistics.nodes >= 1
        # the next start begins with the nodes of the last one
        async with (
            open_session(replace(first, dht=DhtConfig())) as seeder,
            open_session(replace(second, dht=DhtConfig())) as reader,
        ):
            torrent = await seeder.add(PUBLIC)
            await until(lambda: torrent.swarm.dht is not None and torrent.swarm.dht.announced)
            metainfo = await reader.resolve(magnet_of(PUBLIC), timeout=20)
            assert metainfo.hashes == PUBLIC.hashes
    assert (tmp_path / "b" / DHT_NODES).stat().st_size > 26


@pytest.mark.real
async def test_a_port_message_is_enough_to_begin_with(tmp_path: Path) -> None:
    """No bootstrap at all: one peer of one torrent leads to the peers of another."""
    other = parse_torrent(build("v1", {("other",): b"x" * 40_000}))
    async with (
        open_session(config(tmp_path / "a")) as seeder,
        open_session(config(tmp_path / "b")) as reader,
    ):
        await seeder.add(PUBLIC)
        added = await seeder.add(other)
        await reader.add(PUBLIC, peers=[("127.0.0.1", seeder.port)])
        await until(lambda: seeder.dht is not None and seeder.dht.dht.nodes)
        await until(lambda: added.swarm.dht is not None and added.swarm.dht.announced)
        metainfo = await reader.resolve(magnet_of(other), timeout=20)
        assert metainfo.hashes == other.hashes
