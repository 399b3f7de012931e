"""The shared UDP port: what goes to whom, runs of datagrams, and a socket that is full."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from torrentfs.errors import ConfigError
from torrentfs.transports import port_sockets
from torrentfs.transports.base import Address
from torrentfs.transports.binding import Footing
from torrentfs.transports.udp_port import UdpPort

pytestmark = pytest.mark.real

UTP = b"\x01\x00"
"""Begins like a uTP datagram."""


class Inbox:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, Address]] = []
        self.runs = 0
        self.changed = trio.Event()

    def handler(self, data: memoryview, sender: Address) -> None:
        self.got.append((bytes(data), sender))

    def after(self) -> None:
        self.runs += 1
        self.changed.set()
        self.changed = trio.Event()

    async def wait(self, count: int) -> list[bytes]:
        with trio.fail_after(10):
            while len(self.got) < count:
                await self.changed.wait()
        return [data for data, _ in self.got]


@asynccontextmanager
async def two(bind: str | None = "127.0.0.1") -> AsyncIterator[tuple[UdpPort, UdpPort]]:
    one, other = UdpPort(bind=bind), UdpPort(bind=bind)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.serve)
        await nursery.start(other.serve)
        yield one, other
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_first_byte_says_for_whom_it_is(host: str) -> None:
    async with two(None) as (one, other):
        utp, dht = Inbox(), Inbox()
        other.register("utp", utp.handler, utp.after)
        other.register("dht", dht.handler, dht.after)
        for data in (b"d1:ae", b"\x00nonsense", b"\x51", b"x", UTP + b"x", b"\x41", b"de"):
            assert one.send(data, (host, other.port))
        assert await dht.wait(2) == [b"d1:ae", b"de"]
        assert await utp.wait(2) == [UTP + b"x", b"\x41"]
        assert {sender for _, sender in utp.got} == {(host, one.port)}
        assert (other.received, other.dropped, one.sent) == (7, 3, 7)
        assert str(one.port) in repr(one)
        assert one.families == {socket.AF_INET, socket.AF_INET6}


async def test_a_run_arrives_as_it_was_cut() -> None:
    async with two() as (one, other):
        inbox = Inbox()
        other.register("utp", inbox.handler, inbox.after)
        run = [UTP + number.to_bytes(2) + bytes(1396) for number in range(100)] + [UTP + b"short"]
        assert one.send_run(run, ("127.0.0.1", other.port))
        assert await inbox.wait(len(run)) == run
        assert inbox.runs < len(run)  # many in one go


async def test_without_help_of_the_kernel() -> None:
    async with two() as (one, other):
        inbox = Inbox()
        other.register("utp", inbox.handler, inbox.after)
        next(iter(one._links.values())).segments = False
        run = [UTP + bytes(1000) for _ in range(50)]
        assert one.send_run(run, ("127.0.0.1", other.port))
        assert await inbox.wait(len(run)) == run


class Full:
    """A socket that has room for `room` more system calls, and is writable when told."""

    def __init__(self, real: socket.socket, room: int) -> None:
        self._real = real
        self.room = room

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def sendto(self, data: bytes, address: Address) -> int:
        if not self.room:
            raise BlockingIOError
        self.room -= 1
        return self._real.sendto(data, address)


async def test_a_full_socket_is_congested_until_it_is_not() -> None:
    async with two() as (one, other):
        inbox, free = Inbox(), trio.Event()
        other.register("utp", inbox.handler, inbox.after)
        one.register("utp", Inbox().handler, writable=free.set)
        link = next(iter(one._links.values()))
        link.segments = False
        link.socket = full = Full(link.socket, 3)  # type: ignore[assignment]
        there = ("127.0.0.1", other.port)
        run = [UTP + bytes([number]) for number in range(8)]
        assert one.send_run(run, there)
        assert one.is_congested(there)
        assert not one.send(UTP, there)
        assert one.dropped == 1
        assert await inbox.wait(3) == run[:3]
        full.room = 100  # type: ignore[attr-defined]
        with trio.fail_after(10):
            await free.wait()
        assert not one.is_congested(there)
        assert await inbox.wait(8) == run


async def test_what_cannot_be_sent_is_lost_and_no_error() -> None:
    async with two() as (one, _):
        assert not one.send(UTP, ("::1", 9))  # a family that is not bound
        assert one.send(UTP + bytes(70_000), ("127.0.0.1", 9))  # too long for UDP
        assert one.send(UTP, ("127.0.0.1", 70_000))
        assert one.send(UTP, ("255.255.255.255", 9))  # not permitted
        assert (one.dropped, one.sent) == (4, 0)
    assert not one.send(UTP, ("127.0.0.1", 9))  # closed


@pytest.mark.expect_log("a bug in the utp receiver")
@pytest.mark.expect_log("a bug behind the UDP port")
async def test_a_receiver_that_fails_costs_one_datagram() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    async with two() as (one, other):
        other.register("utp", fail, fail)
        inbox = Inbox()
        other.register("dht", inbox.handler, inbox.after)
        one.send(UTP, ("127.0.0.1", other.port))
        one.send(b"de", ("127.0.0.1", other.port))
        assert await inbox.wait(1) == [b"de"]


async def test_ports_and_addresses_that_cannot_be_had() -> None:
    first = UdpPort()
    try:
        with pytest.raises(ConfigError, match=f"cannot receive datagrams at .*{first.port}: addr"):
            UdpPort(first.port)
    finally:
        first.close()
    again = UdpPort(first.port)
    again.close()
    for nonsense in ("eth7", "192.0.2.77"):
        with pytest.raises(ConfigError, match="cannot receive"):
            UdpPort(bind=nonsense)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_one_that_may_not_be_cut_goes_as_it_is_or_not_at_all(host: str) -> None:
    async with two(host) as (one, other):
        inbox = Inbox()
        other.register("utp", inbox.handler, inbox.after)
        link = next(iter(one._links.values())).socket
        level, option = (socket.IPPROTO_IPV6, 23) if ":" in host else (socket.IPPROTO_IP, 10)
        before = link.getsockopt(level, option)
        assert one.send_whole(UTP + bytes(5000), (host, other.port))
        assert await inbox.wait(1) == [UTP + bytes(5000)]
        # loopback carries 65536 with headers; what is longer than any datagram is refused
        assert not one.send_whole(UTP + bytes(65_600), (host, other.port))
        assert link.getsockopt(level, option) == before
        assert one.send_whole(UTP, (host, 0))  # fails in another way: a datagram lost
        one.close()
        assert one.send_whole(UTP, (host, other.port))


async def test_it_moves_with_what_it_is_bound_to(monkeypatch: pytest.MonkeyPatch) -> None:
    stands = [Footing(1, "127.0.0.1", "::1", "")]
    monkeypatch.setattr(port_sockets, "look", lambda bind: stands[-1])
    async with two("%lo") as (one, other):
        inbox = Inbox()
        one.register("dht", inbox.handler, inbox.after)
        stands.append(Footing(0, None, None, "the interface lo is gone"))
        assert one.follow() == ""
        assert not one.send(b"de", ("127.0.0.1", other.port))
        await wait_all_tasks_blocked()  # nobody reads from what is closed
        stands.append(Footing(1, "127.0.0.5", "::1", ""))
        assert one.follow() == ""
        for host in ("127.0.0.5", "::1"):
            other.send(b"de", (host, one.port))
        assert await inbox.wait(2) == [b"de", b"de"]
