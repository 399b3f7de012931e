"""Reaching peers: who wins the race, and who is asked in plain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.streams import MemoryStream, memory_stream_pair
from torrentfs.engine import dialling
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.dialling import (
    AFTER_REFUSAL,
    HEAD_START,
    Dialler,
    Unreachable,
    exchange_hello,
)
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.base import Address, PeerStream
from torrentfs.transports.encrypted import Encryption, accept
from torrentfs.transports.proxy import Proxy
from torrentfs.wire.connection import Connection
from torrentfs.wire.handshake import Handshake

HOST = ("198.51.100.1", 6881)
OURS = Handshake(b"h" * 20, b"o" * 20)
THEIRS = Handshake(b"h" * 20, b"t" * 20)

Peer = Callable[[MemoryStream], Awaitable[None]]


class Net:
    """A peer that is reached after so many seconds over each; None: never, -1: refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> None:
        self.tcp: float | None = 0.0
        self.utp: float | None = 0.0
        self.peer: Peer = answering("off")
        self.dials: list[tuple[str, float]] = []
        self.streams: list[MemoryStream] = []
        self._nursery = nursery
        monkeypatch.setattr(dialling, "open_tcp", self.open_tcp)

    async def open_tcp(self, host: str, port: int, *, bind: str | None) -> PeerStream:
        return await self._open("tcp", self.tcp)

    async def connect(self, address: Address) -> PeerStream:
        return await self._open("utp", self.utp)

    async def _open(self, kind: str, after: float | None) -> PeerStream:
        self.dials.append((kind, trio.current_time()))
        if after is None:
            await trio.sleep(10)
            raise TransportError(f"{kind}: timed out")
        if after < 0:
            raise TransportError(f"{kind}: connection refused")
        await trio.sleep(after)
        ours, theirs = memory_stream_pair()
        ours.kind = kind
        self.streams.append(ours)
        self._nursery.start_soon(self.peer, theirs)
        return ours

    def dialler(self, encryption: Encryption = "off", **settings: Any) -> Dialler:
        return Dialler(SessionConfig(encryption=encryption, **settings), self)  # type: ignore[arg-type]


def answering(policy: Encryption) -> Peer:
    """A peer that takes what `policy` allows, and hangs up on the rest."""

    async def talk(stream: MemoryStream) -> None:
        try:
            secured = await accept(stream, [OURS.info_hash], policy=policy)
            connection = Connection()
            await exchange_hello(secured, connection, None)
            await secured.send_all(connection.send(THEIRS))
        except (TransportError, RemoteProtocolError):
            stream.abort()

    return talk


async def silent(stream: MemoryStream) -> None:
    """It never says anything, but hears a plain handshake."""
    room = memoryview(bytearray(20))
    await stream.receive_into(room)
    if bytes(room) == OURS.encode()[:20]:
        await stream.send_all(THEIRS.encode())


@pytest.fixture
async def net(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> Net:
    return Net(monkeypatch, nursery)


@pytest.mark.parametrize(
    ("tcp", "utp", "winner", "seconds"),
    [
        (0.1, 0.0, "tcp", 0.1),
        (0.5, 0.1, "utp", HEAD_START + 0.1),
        (0.3, 0.2, "tcp", 0.3),
        (-1, 0.1, "utp", 0.1),
        (None, 3.0, "utp", HEAD_START + 3),
        (2.0, -1, "tcp", 2.0),
    ],
)
async def test_who_is_connected_first_wins(
    net: Net,
    autojump_clock: MockClock,
    tcp: float | None,
    utp: float | None,
    winner: str,
    seconds: float,
) -> None:
    net.tcp, net.utp = tcp, utp
    started = trio.current_time()
    reached = await net.dialler().reach(HOST, OURS)
    assert (reached.stream.kind, reached.theirs) == (winner, THEIRS)
    assert trio.current_time() - started == pytest.approx(seconds)
    assert sum(not stream.closed for stream in net.streams) == 1


async def test_a_dead_address_is_known_soon(net: Net, autojump_clock: MockClock) -> None:
    net.tcp, net.utp = -1, None
    started = trio.current_time()
    with pytest.raises(TransportError, match="tcp: connection refused"):
        await net.dialler().reach(HOST, OURS)
    assert trio.current_time() - started == pytest.approx(AFTER_REFUSAL)
    net.tcp = None
    with pytest.raises(TransportError, match="tcp: timed out"):
        await net.dialler().reach(HOST, OURS)


@pytest.mark.parametrize("policy", ["prefer", "require", "off"])
async def test_a_port_that_hangs_up_on_tcp_may_mean_utp(
    net: Net, autojump_clock: MockClock, policy: Encryption
) -> None:
    async def only_utp(stream: MemoryStream) -> None:
        if net.dials[-1][0] == "tcp":
            stream.abort()
        else:
            await answering("prefer")(stream)

    net.peer = only_utp
    reached = await net.dialler(policy).reach(HOST, OURS)
    assert reached.stream.kind == "utp"
    assert sum(not stream.closed for stream in net.streams) == 1
    net.utp = None
    started = trio.current_time()
    with pytest.raises(TransportError):
        await net.dialler(policy).reach(HOST, OURS)
    assert trio.current_time() - started == pytest.approx(AFTER_REFUSAL)


async def test_one_way_alone(net: Net, autojump_clock: MockClock) -> None:
    await net.dialler(tcp=False).reach(HOST, OURS)
    assert [kind for kind, _ in net.dials] == ["utp"]
    net.utp = -1
    with pytest.raises(TransportError, match="utp: conn"):
        await net.dialler(tcp=False).reach(HOST, OURS)
    # a name is looked up for TCP only
    await net.dialler().reach(("seedbox.example", 1), OURS)
    assert net.dials[-1][0] == "tcp"
    assert Dialler(SessionConfig()).able
    assert not Dialler(SessionConfig(tcp=False)).able
    assert net.dialler(tcp=False).able
    with pytest.raises(TransportError, match="neither"):
        await Dialler(SessionConfig(tcp=False)).reach(HOST, OURS)


@pytest.mark.parametrize(
    ("ours", "theirs", "dials"),
    [
        ("off", "off", 1),
        ("off", "prefer", 1),
        ("prefer", "prefer", 1),
        ("prefer", "require", 1),
        ("prefer", "off", 2),
        ("require", "prefer", 1),
        ("require", "require", 1),
    ],
)
async def test_policies_that_meet(
    net: Net, autojump_clock: MockClock, ours: Encryption, theirs: Encryption, dials: int
) -> None:
    net.peer = answering(theirs)
    dialler = net.dialler(ours)
    assert (await dialler.reach(HOST, OURS)).theirs == THEIRS
    assert len(net.dials) == dials
    await dialler.reach(HOST, OURS)
    assert len(net.dials) == dials + 1  # by now it is known what it wants
    assert sum(not stream.closed for stream in net.streams) == 2


@pytest.mark.parametrize(("ours", "theirs"), [("off", "require"), ("require", "off")])
async def test_policies_that_do_not(
    net: Net, autojump_clock: MockClock, ours: Encryption, theirs: Encryption
) -> None:
    net.peer = answering(theirs)
    with pytest.raises(TransportError):
        await net.dialler(ours).reach(HOST, OURS)
    assert [kind for kind, _ in net.dials] == ["tcp", "utp"]
    assert all(stream.closed for stream in net.streams)


async def test_a_peer_that_ignores_what_it_does_not_know(
    net: Net, autojump_clock: MockClock
) -> None:
    net.peer = silent
    started = trio.current_time()
    await net.dialler("prefer").reach(HOST, OURS)
    assert trio.current_time() - started == pytest.approx(dialling.ENCRYPTED_TIMEOUT)
    net.utp = -1
    with pytest.raises(TransportError, match="utp: connection refused"):
        await net.dialler("require").reach(HOST, OURS)


async def test_a_peer_that_answers_anything_in_plain(net: Net, autojump_clock: MockClock) -> None:
    async def eager(stream: MemoryStream) -> None:
        await stream.send_all(THEIRS.encode())

    net.peer = eager
    started = trio.current_time()
    await net.dialler("prefer").reach(HOST, OURS)
    assert trio.current_time() == started


async def test_few_addresses_are_remembered(
    net: Net, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "MAX_PLAIN", 3)
    dialler = net.dialler("prefer")
    for port in range(1, 6):
        await dialler.reach((HOST[0], port), OURS)
    assert [port for _, port in dialler._plain] == [3, 4, 5]


V2 = Handshake(b"2" * 20, b"o" * 20)


def knowing(*info_hashes: bytes, policy: Encryption = "prefer") -> Peer:
    """A peer that hangs up on a hello of any other torrent, as libtorrent does."""

    async def talk(stream: MemoryStream) -> None:
        try:
            secured = await accept(stream, [OURS.info_hash], policy=policy)
            connection = Connection()
            theirs = await exchange_hello(secured, connection, None)
            if theirs.info_hash not in info_hashes:
                secured.abort()
                return
            await secured.send_all(connection.send(Handshake(theirs.info_hash, b"t" * 20)))
        except (TransportError, RemoteProtocolError):
            stream.abort()

    return talk


@pytest.mark.parametrize("policy", ["prefer", "require"])
async def test_under_encryption_the_v2_hash_of_a_hybrid_is_said_first(
    net: Net, autojump_clock: MockClock, policy: Encryption
) -> None:
    net.peer = knowing(OURS.info_hash, V2.info_hash)
    reached = await net.dialler(policy).reach(HOST, OURS, V2)
    assert reached.theirs.info_hash == V2.info_hash
    assert reached.connection.ours == V2
    assert len(net.dials) == 1


@pytest.mark.parametrize("policy", ["prefer", "require"])
async def test_a_peer_of_the_v1_torrent_gets_the_v1_hello_and_stays_encrypted(
    net: Net, autojump_clock: MockClock, policy: Encryption
) -> None:
    net.peer = knowing(OURS.info_hash)
    dialler = net.dialler(policy)
    for dials in (2, 3):  # by then it is known
        reached = await dialler.reach(HOST, OURS, V2)
        assert reached.theirs.info_hash == OURS.info_hash
        assert type(reached.stream).__name__ == "EncryptedStream"
        assert len(net.dials) == dials
    assert sum(not stream.closed for stream in net.streams) == 2


async def test_a_plain_peer_of_a_hybrid_gets_the_v1_hello(
    net: Net, autojump_clock: MockClock
) -> None:
    net.peer = knowing(OURS.info_hash, policy="off")
    dialler = net.dialler("prefer")
    for dials in (3, 4):
        assert (await dialler.reach(HOST, OURS, V2)).theirs.info_hash == OURS.info_hash
        assert len(net.dials) == dials


async def test_a_silent_peer_of_a_hybrid_is_not_asked_twice(
    net: Net, autojump_clock: MockClock
) -> None:
    net.peer = silent
    started = trio.current_time()
    await net.dialler("prefer").reach(HOST, OURS, V2)
    assert trio.current_time() - started == pytest.approx(dialling.ENCRYPTED_TIMEOUT)


async def test_through_both_nats_only_utp_leads(net: Net, autojump_clock: MockClock) -> None:
    dialler = net.dialler("prefer")
    assert dialler.punches
    net.peer = answering("off")  # which wants a second connection, in plain
    reached = await dialler.reach(HOST, OURS, punch=True)
    assert reached.stream.kind == "utp"
    assert [kind for kind, _ in net.dials] == ["utp", "utp"]


async def test_without_utp_or_behind_a_proxy_nobody_is_punched_to(net: Net) -> None:
    assert not Dialler(SessionConfig()).punches
    assert not net.dialler(proxy=Proxy("socks5", "192.0.2.1", 1080, None, None)).punches


@pytest.mark.parametrize("punch", [True, False])
async def test_unreachable_is_who_takes_no_connection(
    net: Net, autojump_clock: MockClock, punch: bool
) -> None:
    net.tcp = net.utp = None
    with pytest.raises(Unreachable, match="timed out"):
        await net.dialler().reach(HOST, OURS, punch=punch)
    net.tcp = net.utp = 0.1
    net.peer = hang_up
    with pytest.raises(TransportError) as caught:
        await net.dialler().reach(HOST, OURS, punch=punch)
    assert not isinstance(caught.value, Unreachable)


async def hang_up(stream: MemoryStream) -> None:
    stream.abort()
