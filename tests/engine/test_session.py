"""Sessions as a whole: adding, resolving, and two of them against each other over loopback."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

from tests.metainfo.torrents import PAYLOAD, VERSIONS, Version, build
from tests.swarm.payload import write_tree
from torrentfs.discovery import port_mapping
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.session import Session, open_session
from torrentfs.errors import DataUnavailable, InvalidTorrent, MetadataTimeout, TransportError
from torrentfs.metainfo.magnet import magnet_of
from torrentfs.metainfo.torrent_file import Metainfo, build_torrent, parse_info, parse_torrent
from torrentfs.scheduling.ip_filter import parse_ip_filter
from torrentfs.storage.hashing import Recipe, builder_for, hash_payload
from torrentfs.storage.originals import Originals, originals_of
from torrentfs.storage.payload import list_payload
from torrentfs.transports.encrypted import encrypt_outgoing
from torrentfs.transports.tcp import open_tcp
from torrentfs.transports.udp_port import UdpPort
from torrentfs.transports.utp import Utp
from torrentfs.wire.connection import Connection
from torrentfs.wire.handshake import Handshake
from torrentfs.wire.port_control import Mapped, Protocol

KIB = 1024
LARGE = {("big",): hashlib.shake_128(b"big").digest(1024 * KIB)}


def config(directory: Path, **fields: object) -> SessionConfig:
    defaults: dict[str, object] = {"cache_dir": directory, "min_free": 0, "bind": "127.0.0.1"}
    return SessionConfig(**{**defaults, **fields})  # type: ignore[arg-type]


async def seeded(session: Session, metainfo: Metainfo, data: bytes) -> None:
    """Give a session the whole payload, as if it had fetched it."""
    torrent = await session.add(metainfo)
    geometry = metainfo.geometry
    by_file = dict(zip(geometry.file_starts, geometry.file_lengths, strict=True))
    assert by_file
    for piece in range(geometry.num_pieces):
        start = piece * geometry.piece_length
        await torrent.store.put(piece, bytearray(data[start : start + geometry.piece_size(piece)]))


def space_of(metainfo: Metainfo, payload: dict[tuple[str, ...], bytes]) -> bytes:
    """The piece space of a torrent over `payload`, gaps and pads as zeros."""
    geometry = metainfo.geometry
    space = bytearray(geometry.num_pieces * geometry.piece_length)
    contents = [data for data in payload.values() if data]
    for file, start, length in zip(
        metainfo.files, geometry.file_starts, geometry.file_lengths, strict=True
    ):
        if length and not file.pad:
            space[start : start + length] = contents.pop(0)
    return bytes(space)


async def read_all(session: Session, metainfo: Metainfo) -> list[bytes]:
    torrent = session.torrents[metainfo.hashes.key]
    return [
        bytes(await torrent.read(number, 0, file.length))
        for number, file in enumerate(metainfo.files)
        if file.length and not file.pad
    ]


async def test_the_same_torrent_is_added_once_even_at_once(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1"))
    async with open_session(config(tmp_path, tcp=False)) as session:
        added = []

        async def add() -> None:
            added.append(await session.add(metainfo))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(add)
        assert len({id(torrent) for torrent in added}) == 1
        assert list(session.torrents) == [metainfo.hashes.key]
        assert len(session.statistics().torrents) == 1


async def test_a_cancelled_add_leaves_nothing(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1"))
    async with open_session(config(tmp_path, tcp=False)) as session:
        with trio.CancelScope() as scope:
            scope.cancel()
            await session.add(metainfo)
        assert not session.torrents
        await session.add(metainfo)
        assert session.torrents


async def test_the_metadata_of_what_runs_is_known(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("hybrid"))
    async with open_session(config(tmp_path, tcp=False)) as session:
        await session.add(metainfo)
        before = dict(session._swarms)
        assert await session.resolve(magnet_of(metainfo), timeout=0.01) is metainfo
        assert session._swarms == before
        assert len(before) == 2  # both forms of its hash


async def test_metadata_is_kept(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v2"))
    async with open_session(config(tmp_path, tcp=False)) as session:
        await session.add(metainfo)
    async with open_session(config(tmp_path, tcp=False)) as session:
        found = await session.resolve(magnet_of(metainfo), timeout=0.01)
        assert found.info == metainfo.info
        assert found.missing_layers() == []


async def test_an_unknown_magnet_times_out_and_is_forgotten(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1"))
    async with open_session(config(tmp_path, tcp=False)) as session:
        with pytest.raises(MetadataTimeout, match=r"within 0 s \("):
            await session.resolve(magnet_of(metainfo), timeout=0.05)
        assert not session._swarms


async def test_a_v2_torrent_without_layers_is_refused(tmp_path: Path) -> None:
    bare = parse_info(parse_torrent(build("v2")).info)
    async with open_session(config(tmp_path, tcp=False)) as session:
        with pytest.raises(InvalidTorrent, match="lacks its piece layers"):
            await session.add(bare)


@pytest.mark.real
@pytest.mark.parametrize("tcp", [True, False])
async def test_the_port_that_the_gateway_opened_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tcp: bool
) -> None:
    class Way:
        async def map(self, protocol: Protocol, port: int, external: int, lifetime: int) -> Mapped:
            await trio.lowlevel.checkpoint()
            return Mapped(protocol, port, 7000, lifetime, 1, "203.0.113.7")

    monkeypatch.setattr(port_mapping.Gateways, "__call__", lambda self: [("test", Way())])
    files = {("a",): b"x" * 100}
    before, after = (parse_torrent(build("v1", files | {(n,): b"y"})) for n in ("b", "c"))
    settings = config(tmp_path, port_mapping=True, tcp=tcp, utp=True)
    async with open_session(settings) as session:
        early = await session.add(before, trackers=["http://127.0.0.1:1/announce"])
        with trio.fail_after(10):
            while session.announced_port != 7000:  # noqa: ASYNC110
                await trio.sleep(0.01)
        late = await session.add(after, trackers=["http://127.0.0.1:1/announce"])
        for torrent in (early, late):
            assert torrent.swarm.trackers is not None
            assert torrent.swarm.trackers.announced_port == 7000
        assert session.port != 7000
        seen = session.statistics().mapping
        assert seen is not None
        assert seen.ports[0] == ("tcp" if tcp else "udp", session.port, 7000)


async def test_leaving_fails_reads_that_wait(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1"))
    errors: list[str] = []

    async def read() -> None:
        try:
            await torrent.read(1, 0, 10)
        except DataUnavailable as error:
            errors.append(str(error))

    async with trio.open_nursery() as nursery:  # noqa: SIM117 (the read outlives the session)
        async with open_session(config(tmp_path, tcp=False)) as session:
            torrent = await session.add(metainfo, peers=[("127.0.0.1", 1)])
            nursery.start_soon(read)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
    assert errors == ["torrentfs is shutting down"]


@pytest.mark.real
@pytest.mark.parametrize("version", VERSIONS)
async def test_one_session_reads_from_another(tmp_path: Path, version: Version) -> None:
    metainfo = parse_torrent(build(version))
    expected = [data for data in PAYLOAD.values() if data]
    async with (
        open_session(config(tmp_path / "one")) as one,
        open_session(config(tmp_path / "two")) as two,
    ):
        await seeded(one, metainfo, space_of(metainfo, dict(PAYLOAD)))
        await two.add(metainfo, peers=[("127.0.0.1", one.port)])
        with trio.fail_after(30):
            assert await read_all(two, metainfo) == expected
        assert one.statistics().torrents[0].uploaded >= sum(map(len, expected))


@pytest.mark.real
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_magnet_and_its_bytes_from_another_session(
    tmp_path: Path, version: Version
) -> None:
    metainfo = parse_torrent(build(version, LARGE))
    async with (
        open_session(config(tmp_path / "one")) as one,
        open_session(config(tmp_path / "two")) as two,
    ):
        await seeded(one, metainfo, space_of(metainfo, LARGE))
        magnet = magnet_of(metainfo)
        with trio.fail_after(30):
            two_knows = await two.resolve(
                type(magnet)(hashes=magnet.hashes, peers=(("127.0.0.1", one.port),)), timeout=20
            )
            assert two_knows.info == metainfo.info
            await two.add(two_knows)  # with the peers that the search found
            assert await read_all(two, two_knows) == list(LARGE.values())


@pytest.mark.real
async def test_two_sessions_that_dial_each_other_keep_one_connection(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1", LARGE))
    async with (
        open_session(config(tmp_path / "one")) as one,
        open_session(config(tmp_path / "two")) as two,
    ):
        await seeded(one, metainfo, space_of(metainfo, LARGE))
        await one.add(metainfo, peers=[("127.0.0.1", two.port)])
        await two.add(metainfo, peers=[("127.0.0.1", one.port)])
        with trio.fail_after(40):
            assert await read_all(two, metainfo) == list(LARGE.values())
            while any(len(s.statistics().torrents[0].peers) != 1 for s in (one, two)):  # noqa: ASYNC110
                await trio.sleep(0.05)


@pytest.mark.real
async def test_we_are_not_our_own_peer(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1"))
    async with open_session(config(tmp_path)) as session:
        torrent = await session.add(metainfo, peers=[("127.0.0.1", session.port)])
        with trio.fail_after(10):
            while len(torrent.swarm.book):  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert not torrent.peers()
        assert not torrent.swarm.book.banned


@pytest.mark.real
@pytest.mark.parametrize("version", VERSIONS)
async def test_files_shared_in_place_reach_another_session(
    tmp_path: Path, version: Version
) -> None:
    payload = list_payload(write_tree(tmp_path / "what", {"a": 5, "b/c": 70_000, "d": 0}))
    builder = builder_for(payload, Recipe(version))
    info, layers = hash_payload(payload, builder)
    metainfo = parse_torrent(build_torrent(info, layers))
    originals = Originals(metainfo, originals_of(payload, metainfo))
    async with (
        open_session(config(tmp_path / "none"), cached=False) as sharing,
        open_session(config(tmp_path / "cache")) as reading,
    ):
        shared = await sharing.add(metainfo, originals=originals)
        assert shared.statistics().state == "complete"
        await reading.add(metainfo, peers=[("127.0.0.1", sharing.port)])
        with trio.fail_after(10):
            assert b"".join(await read_all(reading, metainfo)) == b"".join(
                await read_all(sharing, metainfo)
            )
    originals.close()
    assert not (tmp_path / "none").exists()


@pytest.mark.real
async def test_who_is_blocked_does_not_learn_what_is_here(tmp_path: Path) -> None:
    """A handshake is gone on with only if we have the torrent that it names."""
    metainfo = parse_torrent(build("v1"))
    skey = metainfo.hashes.wire[0]
    hello = Connection().send(Handshake(info_hash=skey, peer_id=bytes(20)))
    blocked = parse_ip_filter([b"127.0.0.2/32"])
    settings = config(tmp_path, utp=True, encryption="prefer", ip_filter=blocked)
    async with open_session(settings) as session:
        await session.add(metainfo)
        assert session.udp is not None
        for bind, is_blocked in (("127.0.0.2", True), ("127.0.0.3", False)):
            async with trio.open_nursery() as nursery:
                port = UdpPort(bind=bind)
                utp = Utp(port)
                await nursery.start(port.serve)
                await nursery.start(utp.run)
                ways = [
                    partial(open_tcp, "127.0.0.1", session.port, bind=bind),
                    partial(utp.connect, ("127.0.0.1", session.udp.port)),
                ]
                for connect in ways:
                    with pytest.raises(TransportError) if is_blocked else nullcontext():
                        stream = await connect(timeout=1 if is_blocked else 10)
                        try:
                            found = await encrypt_outgoing(stream, skey, hello)
                            assert found.encryption != "none"
                        finally:
                            stream.abort()
                nursery.cancel_scope.cancel()
