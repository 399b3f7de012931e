"""Connecting over TCP: literals and names, both families, and failures in words."""

from __future__ import annotations

import errno
import os
import socket

import pytest
import trio

from torrentfs.errors import TransportError
from torrentfs.transports.tcp import failure, numeric_addresses, open_tcp, show_address


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ECONNREFUSED, "x"), "doing: connection refused"),
        (trio.TooSlowError(), "doing: timed out"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "not known"),
        (trio.ClosedResourceError(), "doing: closed by us"),
        (OverflowError("port must be 0-65535"), "doing: port must be 0-65535"),
    ],
)
def test_failures_are_said_in_words(error: Exception, words: str) -> None:
    assert words in str(failure("doing", error))


def test_the_cause_of_a_failure_is_said() -> None:
    outer = OSError("all attempts failed")
    outer.__cause__ = OSError(errno.ENETUNREACH, "x")
    assert str(failure("doing", outer)) == "doing: network is unreachable"


def test_numeric_addresses() -> None:
    assert numeric_addresses("127.0.0.1", 5, socket.SOCK_STREAM)[0] == (
        socket.AF_INET,
        ("127.0.0.1", 5),
    )
    assert numeric_addresses("::1", 5, socket.SOCK_STREAM)[0][0] == socket.AF_INET6
    for name in ("localhost", "", "x" * 300, "a..b", "exa\x00mple"):
        if name != "":  # the empty host is loopback for getaddrinfo
            assert numeric_addresses(name, 5, socket.SOCK_STREAM) == []
    assert show_address("::1", 80) == "[::1]:80"
    assert show_address("127.0.0.1", 80) == "127.0.0.1:80"


@pytest.mark.real
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_connects(host: str) -> None:
    listeners = await trio.open_tcp_listeners(0, host=None if host == "localhost" else host)
    port = listeners[0].socket.getsockname()[1]
    async with listeners[0]:
        stream = await open_tcp(host, port)
        accepted = await listeners[0].accept()
        async with accepted:
            await stream.send_all(b"hello")
            assert await accepted.receive_some() == b"hello"
            assert stream.remote[1] == port
            assert stream.remote[0] in ("127.0.0.1", "::1")
            assert "open" in repr(stream)
        await stream.aclose()
        assert "closed" in repr(stream)
    for listener in listeners[1:]:
        await listener.aclose()


@pytest.mark.real
async def test_binds_to_the_given_address() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        stream = await open_tcp("127.0.0.1", port, bind="127.0.0.2")
        async with await listener.accept() as accepted:
            assert accepted.socket.getpeername()[0] == "127.0.0.2"
        stream.abort()
        with pytest.raises(TransportError, match="cannot be reached from ::1"):
            await open_tcp("127.0.0.1", port, bind="::1")


def resolving_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        await trio.lowlevel.checkpoint()
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, 1, 6, "", (each, port))
            for each in hosts
        ]

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)


@pytest.mark.real
@pytest.mark.parametrize(
    ("hosts", "bind", "reached"),
    [
        (("127.0.0.9", "127.0.0.1"), None, True),  # the first refuses
        (("::1", "127.0.0.1"), "127.0.0.1%lo", True),  # the first is of another family
        (("127.0.0.9", "127.0.0.8"), None, False),
        (("::1",), "127.0.0.1", False),
        ((), None, False),
    ],
)
async def test_the_addresses_of_a_name_are_tried_in_turn(
    monkeypatch: pytest.MonkeyPatch, hosts: tuple[str, ...], bind: str | None, reached: bool
) -> None:
    resolving_to(monkeypatch, *hosts)
    with socket.create_server(("127.0.0.1", 0)) as server:
        opening = open_tcp("seedbox.example", server.getsockname()[1], bind=bind, timeout=5)
        if reached:
            stream = await opening
            assert stream.remote == server.getsockname()
            stream.abort()
        else:
            with pytest.raises(TransportError, match=r"connecting to seedbox\.example"):
                await opening


@pytest.mark.real
async def test_refusals_and_nonsense_are_transport_errors() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(TransportError, match="connection refused"):
            await open_tcp("127.0.0.1", closed.getsockname()[1])
    for host, port in [
        ("127.0.0.1", 70000),
        ("no such host.invalid", 80),
        ("a..b", 80),
        ("x" * 300, 80),
    ]:
        with pytest.raises(TransportError):
            await open_tcp(host, port, timeout=5)


@pytest.mark.real
async def test_gives_up_in_time() -> None:
    with socket.socket() as full:  # a backlog that is full drops further SYNs
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        try:
            for _ in range(3):
                filler = socket.socket()
                filler.setblocking(False)
                assert filler.connect_ex(full.getsockname()) in (0, errno.EINPROGRESS)
                waiting.append(filler)
            with pytest.raises(TransportError, match="timed out"):
                await open_tcp(*full.getsockname(), timeout=0.2)
        finally:
            for filler in waiting:
                filler.close()


@pytest.mark.real
async def test_no_descriptor_is_lost_by_a_cancelled_connect() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await open_tcp("127.0.0.1", 9)
    assert len(os.listdir("/proc/self/fd")) == before
