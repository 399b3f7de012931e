"""One WebSocket over a stream in memory, with wsproto itself as the server at the other end."""

from __future__ import annotations

import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import wsproto
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock, memory_stream_pair
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)

from torrentfs.discovery.websocket_connection import (
    BURST,
    CLOSE_TIMEOUT,
    CONNECT_TIMEOUT,
    RATE,
    SEND_TIMEOUT,
    WebSocket,
    direct,
    open_websocket,
    place_of,
)
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.outgoing import Outgoing
from torrentfs.wire import limits

Stream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


class Server:
    """The tracker's end."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self.request: Request | None = None

    async def next(self) -> Event:
        while True:
            event = next(self.protocol.events(), None)
            if event is not None:
                return event
            self.protocol.receive_data(bytes(await self.stream.receive_some()) or None)

    async def send(self, *events: Event) -> None:
        await self.stream.send_all(b"".join(self.protocol.send(event) for event in events))

    async def accept(self) -> None:
        request = await self.next()
        assert isinstance(request, Request)
        self.request = request
        await self.send(AcceptConnection())


async def no_tls() -> ssl.SSLContext:
    raise AssertionError("no TLS was asked for")


@asynccontextmanager
async def serving(
    answer: Callable[[Server], Awaitable[None]],
) -> AsyncIterator[tuple[Callable[[str, int], Awaitable[trio.abc.Stream]], list[tuple[str, int]]]]:
    """What opens streams to a server that does as `answer` says, and where to."""
    asked: list[tuple[str, int]] = []

    async with trio.open_nursery() as nursery:

        async def serve(server: Server) -> None:
            with suppress(trio.BrokenResourceError):  # the client went
                await answer(server)

        async def opener(host: str, port: int) -> trio.abc.Stream:
            asked.append((host, port))
            ours, theirs = memory_stream_pair()
            nursery.start_soon(serve, Server(theirs))
            return ours

        yield opener, asked
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[WebSocket, Server]]:
    servers: list[Server] = []

    async def answer(server: Server) -> None:
        servers.append(server)
        await server.accept()
        await trio.sleep_forever()

    async with serving(answer) as (opener, _):
        socket = await open_websocket("ws://t.example/", opener, no_tls)
        try:
            yield socket, servers[0]
        finally:
            await socket.aclose()


async def test_messages_both_ways(autojump_clock: MockClock) -> None:
    async with connected() as (socket, server):
        await socket.send("héllo")
        said = await server.next()
        assert isinstance(said, TextMessage)
        assert said.data == "héllo"
        parts = [
            TextMessage("one, ", message_finished=False),
            Ping(b"still there?"),
            TextMessage("twö"),
        ]
        await server.send(*parts, BytesMessage(b"\xff", message_finished=False), BytesMessage(b"2"))
        assert await socket.receive() == "one, twö"
        assert await socket.receive() == b"\xff2"
        assert isinstance(await server.next(), Pong)
        await socket.ping()
        assert isinstance(await server.next(), Ping)
        assert server.request is not None
        assert (server.request.host, server.request.target) == ("t.example", "/")
        assert server.request.extensions == []


async def test_heard_is_when_something_came(autojump_clock: MockClock) -> None:
    async with connected() as (socket, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.receive)
            await trio.sleep(100)
            assert socket.heard < 1
            await server.send(Pong(b""), TextMessage("."))
        assert socket.heard == pytest.approx(100)


async def test_a_closed_connection_says_why(autojump_clock: MockClock) -> None:
    async with connected() as (socket, server):
        await server.send(CloseConnection(1013, "too many\x07 torrents"))
        with pytest.raises(TransportError, match=r"^closed by the tracker: too many\? torrents$"):
            await socket.receive()
    async with connected() as (socket, server):
        await server.send(CloseConnection(1000))
        with pytest.raises(TransportError, match=r"^closed by the tracker$"):
            await socket.receive()
    async with connected() as (socket, server):
        await server.stream.aclose()
        with pytest.raises(TransportError, match="without a word"):
            await socket.receive()
        with pytest.raises(TransportError):
            await socket.send("x")


@pytest.mark.parametrize(
    "raw",
    [b"\x85\x00", b"\x81\x02\xff\xff", b"\x80\x00", b"\x09\x00", b"\xc1\x00", b"\x81\xff" * 9],
    ids=["opcode", "utf-8", "continuation", "split ping", "reserved", "masked"],
)
async def test_what_is_no_websocket(autojump_clock: MockClock, raw: bytes) -> None:
    async with connected() as (socket, server):
        await server.stream.send_all(raw)
        with pytest.raises(RemoteProtocolError, match=r"^no WebSocket: "):
            await socket.receive()


async def test_messages_are_capped_and_memory_with_them(autojump_clock: MockClock) -> None:
    async with connected() as (socket, server), trio.open_nursery() as nursery:

        async def flood() -> None:
            await server.stream.send_all(b"\x01\x00")  # the first of many frames
            while True:
                await server.stream.send_all(b"\x00\x7e\xff\xff" + bytes(65535))
                await trio.sleep(1)

        nursery.start_soon(flood)
        tracemalloc.start()
        try:
            with pytest.raises(RemoteProtocolError, match="a message of more than"):
                await socket.receive()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 * limits.MAX_SIGNAL_BYTES
        nursery.cancel_scope.cancel()


async def test_a_message_of_nothing_ends(autojump_clock: MockClock) -> None:
    """Empty fragments without end: each is kept until its message is whole."""
    async with connected() as (socket, server), trio.open_nursery() as nursery:
        nursery.start_soon(server.stream.send_all, b"\x01\x00" + b"\x00\x00" * 10_000)
        with pytest.raises(RemoteProtocolError, match="a message of more than"):
            await socket.receive()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "raw", [b"\x89\x00", b"\x81\x00", b"\x01\x00" + b"\x00\x00" * 9 + b"\x80\x00"]
)
async def test_small_frames_have_their_price(autojump_clock: MockClock, raw: bytes) -> None:
    """A flood of pings, of empty messages, of empty fragments: read at its rate, not at theirs."""
    async with connected() as (socket, server), trio.open_nursery() as nursery:
        read = 0

        async def flood() -> None:
            await server.stream.send_all(raw * (20_000 // (len(raw) // 2)))

        async def drain() -> None:
            while True:
                await server.stream.receive_some()

        async def listen() -> None:
            nonlocal read
            while True:
                await socket.receive()
                read += 1

        nursery.start_soon(flood)
        nursery.start_soon(drain)
        nursery.start_soon(listen)
        await trio.sleep(4)
        frames = read * len(raw) // 2
        assert frames <= BURST + RATE * 4
        if raw[0] != 0x89:
            assert frames > BURST + RATE * 3
        nursery.cancel_scope.cancel()


async def refuse(server: Server, status: int, **headers: str) -> None:
    await server.next()
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await server.send(RejectConnection(status_code=status, headers=pairs, has_body=False))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "HTTP 404 not found"),
        (799, "HTTP 799"),
        (200, "HTTP 200 ok"),
        (301, r"HTTP 301 moved permanently \(redirects are not followed\)"),
    ],
)
async def test_refusals_and_redirects(autojump_clock: MockClock, status: int, words: str) -> None:
    async with serving(lambda server: refuse(server, status, location="ws://127.0.0.1:1/")) as (
        opener,
        asked,
    ):
        with pytest.raises(TransportError, match=f"^{words}$"):
            await open_websocket("ws://t.example/", opener, no_tls)
        assert asked == [("t.example", 80)]


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 101 x\r\n\r\n",
        b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: wrong\r\n\r\n",
        b"HTTP/1.1 101 x\r\n" + b"X: y\r\n" * 100_000,
        b"HTTP/1.1 101 " + b"x" * 100_000,
        b"HTTP/1.1 101 x\r\nSec-WebSocket-Protocol: \xff\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=["ssh", "bare", "token", "headers", "line", "bytes"],
)
async def test_what_is_no_handshake(autojump_clock: MockClock, raw: bytes) -> None:
    async def answer(server: Server) -> None:
        await server.stream.send_all(raw)

    async with serving(answer) as (opener, _):
        with pytest.raises((RemoteProtocolError, TransportError)) as caught:
            await open_websocket("ws://t.example/", opener, no_tls)
        assert str(caught.value).isprintable()


async def test_a_handshake_that_never_ends(autojump_clock: MockClock) -> None:
    async def trickle(server: Server) -> None:
        await server.stream.send_all(b"HTTP/1.1 101 x\r\n")
        while True:
            await trio.sleep(1)
            await server.stream.send_all(b"X: y\r\n")

    async def silence(server: Server) -> None:
        await trio.sleep_forever()

    for answer in (trickle, silence):
        async with serving(answer) as (opener, _):
            start = trio.current_time()
            with pytest.raises(TransportError, match="no answer within 20 s"):
                await open_websocket("ws://t.example/", opener, no_tls)
            assert trio.current_time() - start == pytest.approx(CONNECT_TIMEOUT)


async def test_a_connection_that_ends_in_the_handshake(autojump_clock: MockClock) -> None:
    async with serving(lambda server: server.stream.aclose()) as (opener, _):
        with pytest.raises(TransportError):
            await open_websocket("ws://t.example/", opener, no_tls)


async def test_a_tracker_that_reads_nothing(autojump_clock: MockClock) -> None:
    async with connected() as (socket, _):
        socket._stream = _Stuck()  # type: ignore[assignment]
        start = trio.current_time()
        with pytest.raises(TransportError, match="timed out"):
            await socket.send("x")
        assert trio.current_time() - start == pytest.approx(SEND_TIMEOUT)
        start = trio.current_time()
        await socket.aclose()
        assert trio.current_time() - start == pytest.approx(CLOSE_TIMEOUT)


class _Stuck:
    async def send_all(self, data: bytes) -> None:
        await trio.sleep_forever()

    async def receive_some(self, size: int) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_what_was_sent_last_arrives_before_the_end(autojump_clock: MockClock) -> None:
    async with connected() as (socket, server):
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.lowlevel.cancel_shielded_checkpoint()
            await socket.aclose()
        said = await server.next()
        assert isinstance(said, CloseConnection)
        assert said.code == 1000


@pytest.mark.parametrize(
    ("url", "authority", "port", "target"),
    [
        ("ws://t.example", "t.example", 80, "/"),
        (
            "wss://t.example/announce?key=a b&c=é#x",
            "t.example",
            443,
            "/announce?key=a%20b&c=%C3%A9",
        ),
        ("wss://user:word@T.example:8443/%41é", "t.example:8443", 8443, "/%41%C3%A9"),
        ("ws://[::1]:8000/x", "[::1]:8000", 8000, "/x"),
    ],
)
def test_urls(url: str, authority: str, port: int, target: str) -> None:
    place = place_of(url)
    assert (place.authority, place.port, place.target) == (authority, port, target)


@pytest.mark.parametrize(
    "url",
    [
        "ws://",
        "ws:///x",
        "ws://h:99999/",
        "ws://h:x/",
        "ws://[::1/",
        "http://h/",
        "ws://a b/",
        "ws://\x7f/",
        "ws://" + "a" * 64 + ".example/",
    ],
)
async def test_urls_that_cannot_be_asked(url: str) -> None:
    async def opener(host: str, port: int) -> trio.abc.Stream:
        raise AssertionError("asked")

    with pytest.raises(TransportError, match="not "):
        await open_websocket(url, opener, no_tls)


async def test_errors_of_the_socket_layer_are_one_line() -> None:
    causes: list[tuple[Exception, str]] = [
        (OSError("all attempts failed"), "cannot connect: all attempts failed"),
        (ConnectionRefusedError(111, "x"), "cannot connect: connection refused"),
        (ssl.SSLCertVerificationError(1, "x"), "cannot connect: the certificate is not trusted"),
        (ValueError("server_hostname"), "cannot connect: server_hostname"),
    ]
    for cause, words in causes:

        async def opener(host: str, port: int, cause: Exception = cause) -> trio.abc.Stream:
            raise cause

        with pytest.raises(TransportError, match=words):
            await open_websocket("ws://t.example/", opener, no_tls)


@pytest.mark.real
async def test_connections_leave_from_the_bound_address() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        for bind, seen in (("127.0.0.5", "127.0.0.5"), ("127.0.0.1%lo", "127.0.0.1"), (None, None)):
            async with (
                await direct(Outgoing(bind))("127.0.0.1", port),
                await listener.accept() as accepted,
            ):
                assert seen in (None, accepted.socket.getpeername()[0])
