"""Finding the gateway, and asking one on loopback by PCP and NAT-PMP."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio

from torrentfs.discovery import gateway as gateway_module
from torrentfs.discovery.gateway import Gateway, PortControl, find_gateway
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.wire.port_control import (
    Mapped,
    nat_pmp_address_reply,
    nat_pmp_reply,
    pcp_reply,
)

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
wlan0\t00000000\t0102A8C0\t0003\t0\t0\t50\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t1\t00000000\t0\t0\t0
nonsense
"""


def test_the_default_gateway_of_least_metric(tmp_path: Path) -> None:
    routes = tmp_path / "route"
    routes.write_text(ROUTES)
    assert find_gateway(routes=routes) == Gateway("192.168.2.1", "wlan0")
    assert find_gateway("eth0", routes) == Gateway("192.168.1.1", "eth0")
    assert find_gateway("tun0", routes) is None
    assert find_gateway(routes=tmp_path / "none") is None


class FakeGateway:
    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self.answer = answer
        self.seen: list[bytes] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)

    async def serve(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.socket)
            data, peer = self.socket.recvfrom(2048)
            self.seen.append(data)
            reply = self.answer(data)
            if reply is not None:
                self.socket.sendto(reply, peer)


@asynccontextmanager
async def a_gateway(answer: Callable[[bytes], bytes | None], monkeypatch: pytest.MonkeyPatch):
    fake = FakeGateway(answer)
    monkeypatch.setattr(gateway_module, "PORT", fake.socket.getsockname()[1])
    with fake.socket:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fake.serve)
            yield fake, PortControl("127.0.0.1", Random(1), bind="127.0.0.1")
            nursery.cancel_scope.cancel()


def by_pcp(request: bytes) -> bytes:
    return pcp_reply(request, epoch=9, address="203.0.113.7", external=7000)


def by_nat_pmp(request: bytes) -> bytes:
    if request[0]:
        return bytes.fromhex("0080000100000009")
    if len(request) == 2:
        return nat_pmp_address_reply(epoch=9, address="203.0.113.7")
    return nat_pmp_reply(request, epoch=9, external=7000)


@pytest.mark.real
async def test_by_pcp_with_the_same_nonce_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_gateway(by_pcp, monkeypatch) as (fake, control):
        expected = Mapped("tcp", 6881, 7000, 3600, 9, "203.0.113.7")
        assert await control.map("tcp", 6881, 6881, 3600) == expected
        await control.map("tcp", 6881, 7000, 3600)
        await control.map("udp", 6881, 6881, 3600)
        nonces = [each[24:36] for each in fake.seen]
        assert nonces[0] == nonces[1] != nonces[2]
        assert fake.seen[0][8:24] == bytes(10) + b"\xff\xff\x7f\0\0\1"


@pytest.mark.real
async def test_by_nat_pmp_where_pcp_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_gateway(by_nat_pmp, monkeypatch) as (fake, control):
        expected = Mapped("udp", 6881, 7000, 3600, 9, "203.0.113.7")
        assert await control.map("udp", 6881, 6881, 3600) == expected
        assert await control.map("udp", 6881, 6881, 3600) == expected
        assert [each[0] for each in fake.seen] == [2, 0, 0, 0, 0]  # PCP is asked once


@pytest.mark.real
async def test_lost_foreign_and_malformed_answers_are_waited_past(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replies = [None, b"\xff" * 30, b"", by_pcp]

    def answer(request: bytes) -> bytes | None:
        reply = replies.pop(0)
        return reply(request) if callable(reply) else reply

    async with a_gateway(answer, monkeypatch) as (fake, control):
        assert (await control.map("tcp", 6881, 6881, 60)).external_port == 7000
        assert len(fake.seen) == 4


@pytest.mark.real
async def test_a_refusal_and_a_closed_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: bytes) -> bytes:
        return pcp_reply(request, code=2, epoch=9, address="0.0.0.0", external=0)

    async with a_gateway(refuse, monkeypatch) as (_, control):
        with pytest.raises(RemoteProtocolError, match="does not permit it"):
            await control.map("tcp", 6881, 6881, 60)
    # nobody listens there any more
    with pytest.raises(TransportError, match="refused"):
        await control.map("tcp", 6881, 6881, 60)
