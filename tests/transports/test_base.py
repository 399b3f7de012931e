"""The contract of `PeerStream`, as a suite that every kind of stream must pass.

trio's own suite for one-way streams runs over each (half of the promises are the same), then the
few things that are ours.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from trio.testing import check_one_way_stream, wait_all_tasks_blocked

from tests.streams import memory_stream_pair
from torrentfs.errors import TransportError
from torrentfs.transports.base import PeerStream
from torrentfs.transports.encrypted import EncryptedStream
from torrentfs.transports.tcp import TcpStream
from torrentfs.wire.mse import Method, Secured, rc4

Pair = tuple[PeerStream, PeerStream]


def tcp_pair(family: socket.AddressFamily) -> Pair:
    """Two connected TCP streams over loopback."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.socket(family) as listening:
        listening.bind((host, 0))
        listening.listen()
        one = socket.create_connection(listening.getsockname()[:2])
        other, _ = listening.accept()
    one.setblocking(False)
    other.setblocking(False)
    return (
        TcpStream(one, one.getpeername()[:2]),
        TcpStream(other, other.getpeername()[:2]),
    )


def encrypted_pair() -> Pair:
    """Two ends in memory that have agreed on RC4."""

    def end(stream: PeerStream, sends: bytes, receives: bytes) -> PeerStream:
        encrypt, decrypt = (rc4(label, b"s" * 96, b"k" * 20) for label in (sends, receives))
        return EncryptedStream(stream, Secured(Method.RC4, b"", encrypt, decrypt, b""))

    one, other = memory_stream_pair()
    return end(one, b"keyA", b"keyB"), end(other, b"keyB", b"keyA")


MAKERS = [
    pytest.param(memory_stream_pair, id="memory"),
    pytest.param(encrypted_pair, id="encrypted"),
    pytest.param(lambda: tcp_pair(socket.AF_INET), id="tcp-ipv4", marks=pytest.mark.real),
    pytest.param(lambda: tcp_pair(socket.AF_INET6), id="tcp-ipv6", marks=pytest.mark.real),
]


@pytest.fixture(params=MAKERS)
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    one, other = request.param()
    yield one, other
    one.abort()
    other.abort()


class AsTrioStream(trio.abc.SendStream, trio.abc.ReceiveStream):
    """A PeerStream dressed for trio's suite: its errors and its receive_some."""

    def __init__(self, stream: PeerStream) -> None:
        self.stream = stream
        self.closed = False

    async def _mapped(self, call: Callable[[], Awaitable[object]]) -> object:
        try:
            return await call()
        except TransportError as error:
            kind = trio.ClosedResourceError if self.closed else trio.BrokenResourceError
            raise kind(str(error)) from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        room = bytearray(65536 if max_bytes is None else max_bytes)
        count = await self._mapped(lambda: self.stream.receive_into(memoryview(room)))
        assert isinstance(count, int)
        return bytes(room[:count])

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        half = len(data) // 2  # the vectored form, which is the one that is used for payload
        view = memoryview(data)
        await self._mapped(lambda: self.stream.send_many([view[:half], view[half:]]))

    async def wait_send_all_might_not_block(self) -> None:
        raise AssertionError("not a part of PeerStream")

    async def aclose(self) -> None:
        self.closed = True
        await self.stream.aclose()


@pytest.mark.parametrize("make", MAKERS)
async def test_passes_the_suite_of_trio(make: Callable[[], Pair]) -> None:
    class Sender(AsTrioStream):
        async def wait_send_all_might_not_block(self) -> None:
            """PeerStream has no such call; the suite wants one that notices closing and misuse."""
            await self._mapped(lambda: self.stream.send_many([]))

    async def maker() -> tuple[trio.abc.SendStream, trio.abc.ReceiveStream]:
        one, other = make()
        return Sender(one), AsTrioStream(other)

    await check_one_way_stream(maker, None)


async def receive_exactly(stream: PeerStream, size: int) -> bytes:
    room, at = bytearray(size), 0
    while at < size:
        count = await stream.receive_into(memoryview(room)[at:])
        assert count, "ended early"
        at += count
    return bytes(room)


async def test_many_buffers_arrive_in_order_and_whole(pair: Pair) -> None:
    one, other = pair
    # more buffers than one sendmsg takes, empty ones among them, and far more than fits at once
    buffers: list[bytes | bytearray | memoryview] = []
    for number in range(1500):
        buffers += [number.to_bytes(4, "big"), b"", bytearray(number), memoryview(bytes(3000))]
    expected = b"".join(buffers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.send_many, buffers)
        assert await receive_exactly(other, len(expected)) == expected


async def test_both_directions_at_once(pair: Pair) -> None:
    data = bytes(range(256)) * 4096
    async with trio.open_nursery() as nursery:
        for ours, theirs in (pair, pair[::-1]):
            nursery.start_soon(ours.send_all, data)
            nursery.start_soon(receive_exactly, theirs, len(data))


async def test_a_second_receiver_is_a_bug(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair[0].receive_into, memoryview(bytearray(1)))
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await pair[0].receive_into(memoryview(bytearray(1)))
        nursery.cancel_scope.cancel()


async def test_a_second_sender_is_a_bug(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair[0].send_all, bytes(64 << 20))
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await pair[0].send_all(b"x")
        nursery.cancel_scope.cancel()


async def test_end_of_stream_is_zero_and_stays(pair: Pair) -> None:
    await pair[0].send_all(b"last words")
    await pair[0].aclose()
    assert await receive_exactly(pair[1], 10) == b"last words"
    for _ in range(3):
        assert await pair[1].receive_into(memoryview(bytearray(8))) == 0


async def test_abort_wakes_those_who_wait(pair: Pair) -> None:
    async def expect_failure(call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(TransportError, match="closed by us"):
            await call()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_failure, lambda: pair[0].receive_into(memoryview(bytearray(1))))
        nursery.start_soon(expect_failure, lambda: pair[0].send_all(bytes(64 << 20)))
        await wait_all_tasks_blocked()
        pair[0].abort()
    for call in (
        lambda: pair[0].receive_into(memoryview(bytearray(1))),
        lambda: pair[0].send_all(b"x"),
    ):
        await expect_failure(call)
    pair[0].abort()
    await pair[0].aclose()


async def test_a_cancelled_receive_takes_nothing(pair: Pair) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await pair[1].receive_into(memoryview(bytearray(4)))
    assert scope.cancelled_caught
    await pair[0].send_all(b"kept")
    with trio.CancelScope() as scope:
        scope.cancel()
        await pair[1].receive_into(memoryview(bytearray(4)))
    assert await receive_exactly(pair[1], 4) == b"kept"


async def test_ends_know_each_other(pair: Pair) -> None:
    assert all(isinstance(stream.remote[1], int) and stream.kind for stream in pair)
