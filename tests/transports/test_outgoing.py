"""Connections through a proxy, good ones and bad ones; over real sockets of loopback."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from socket import gaierror

import pytest
import trio

from tests.swarm.ports import free_port
from tests.swarm.socks import FAULTS, SocksProxy
from torrentfs.errors import TransportError
from torrentfs.transports.outgoing import Outgoing, ProxyError
from torrentfs.transports.proxy import Proxy, parse_proxy
from torrentfs.transports.reach import Reach
from torrentfs.transports.tcp import NotUsable

pytestmark = pytest.mark.real

KINDS = pytest.mark.parametrize("kind", ["socks5", "http"])


async def greet(stream: trio.SocketStream) -> None:
    """Says something at once, then echoes."""
    await stream.send_all(b"hello ")
    async for data in stream:
        await stream.send_all(data)


@asynccontextmanager
async def running(proxy: SocksProxy, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A proxy, and a server to be reached: its port."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, greet, 0, host=host)
        (listener,) = await nursery.start(serve)
        await nursery.start(proxy.serve)
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def through(proxy: SocksProxy, credentials: str | None = None) -> Outgoing:
    return Outgoing(proxy=parse_proxy(proxy.url(credentials=credentials)))


@KINDS
@pytest.mark.parametrize("user", ["", "me"])
async def test_a_name_is_resolved_by_the_proxy(
    kind: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = SocksProxy(kind, user, "p@ss:w/rd" * bool(user), names={"peer.example": "127.0.0.1"})
    credentials = "me:p%40ss:w%2Frd@" if user else ""

    async def nobody(*args: object, **more: object) -> None:
        raise AssertionError("a name was resolved")

    async with running(proxy) as port:
        outgoing = through(proxy, credentials)
        monkeypatch.setattr(trio.socket, "getaddrinfo", nobody)
        stream = await outgoing.open_peer("peer.example", port)
        assert stream.remote == ("peer.example", port)
        assert proxy.asked == [("peer.example", port)]
        await stream.send_all(b"there")
        received = b""
        while received != b"hello there":  # what came with the proxy's answer is not lost
            buffer = bytearray(100)
            received += buffer[: await stream.receive_into(memoryview(buffer))]
        await stream.aclose()


@KINDS
async def test_an_ipv6_address(kind: str) -> None:
    proxy = SocksProxy(kind)
    async with running(proxy, "::1") as port:
        stream = await through(proxy).open_peer("::1", port)
        assert (proxy.asked, stream.remote) == ([("::1", port)], ("::1", port))
        stream.abort()


@KINDS
@pytest.mark.parametrize("fault", FAULTS)
async def test_bad_proxies(kind: str, fault: str) -> None:
    proxy = SocksProxy(kind, "me", "secret", fault)
    async with running(proxy) as port:
        with pytest.raises(TransportError) as caught:
            await through(proxy).open_peer("127.0.0.1", port, timeout=0.5)
    words = {
        "silent": "timed out",
        "closes": "connection reset",
        "garbage": "no answer that can be understood|version|status|without an end|http",
        "mid-handshake": "connection reset",
        "refuses": "refused|502 bad gateway",
    }
    caught.match(f"{kind}://127.0.0.1:{proxy.port}")
    caught.match(words[fault])
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@KINDS
@pytest.mark.parametrize("credentials", ["", "me:hush@", "you:secret@"])
async def test_a_wrong_password(
    kind: str, credentials: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    proxy = SocksProxy(kind, "me", "secret")
    async with running(proxy) as port:
        with pytest.raises(ProxyError, match=r"407|authentication") as caught:
            await through(proxy, credentials).open_peer("127.0.0.1", port, timeout=5)
    assert "hush" not in str(caught.value)
    assert "hush" not in caplog.text
    assert not proxy.asked


@KINDS
async def test_a_proxy_that_is_not_there(kind: str) -> None:
    proxy = SocksProxy(kind, port=free_port())
    with pytest.raises(ProxyError, match=f"{kind}://127.* cannot be reached: connection refused"):
        await through(proxy).open_peer("127.0.0.1", 1)


@KINDS
@pytest.mark.parametrize("host", ["", "x" * 64 + ".example", "a..b", "\udcff", "a\r\nb"])
async def test_names_that_cannot_be_asked_for(kind: str, host: str) -> None:
    async with running(proxy := SocksProxy(kind)):
        with pytest.raises(TransportError):
            await through(proxy).open_peer(host, 80, timeout=2)
        assert all(asked.isprintable() for asked, _ in proxy.asked)


LOCAL = "127.0.0.1 127.1 0x7f.1 2130706433 127.0.0.1. ::1 ::ffff:127.0.0.1 0 0.0.0.0"
NAMES = "localhost LocalHost. a.localhost"


@pytest.mark.parametrize("host", f"{LOCAL} {NAMES}".split())
async def test_what_is_not_usable_is_not_asked_for(host: str) -> None:
    async with running(proxy := SocksProxy()) as port:
        for reach in (Reach.PUBLIC, Reach.BEYOND_LOOPBACK):
            with pytest.raises(NotUsable):
                await through(proxy).connect(host, port, reach.includes)
            with pytest.raises((NotUsable, gaierror)):  # not every resolver knows all of these
                await Outgoing().connect(host, port, reach.includes)
        assert not proxy.asked


async def test_cancelled_in_mid_handshake_leaves_nothing_open() -> None:
    async with running(proxy := SocksProxy(fault="silent")) as port:
        with trio.move_on_after(0.05) as scope:
            await through(proxy).connect("127.0.0.1", port)
        assert scope.cancelled_caught  # and the suite looks for sockets left


async def test_without_a_proxy() -> None:
    async with running(SocksProxy()) as port:
        stream = await Outgoing("127.0.0.9").open_peer("127.0.0.1", port)
        assert stream.remote == ("127.0.0.1", port)
        stream.abort()


def test_it_tells_no_password() -> None:
    shown = repr(Outgoing("127.0.0.1", Proxy("http", "h", 1, "me", "secret")))
    assert "secret" not in shown
