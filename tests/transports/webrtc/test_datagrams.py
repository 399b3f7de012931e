"""UDP sockets of the worker: many datagrams for a turn of the loop, and for a system call."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from torrentfs.transports.webrtc.datagrams import (
    BATCH,
    MAX_PENDING,
    RECEIVE_BUFFER,
    DatagramLoop,
    DatagramTransport,
)

pytestmark = pytest.mark.real


class OneByOne(asyncio.DatagramProtocol):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.senders: set[Any] = set()
        self.errors: list[Exception] = []
        self.closed = asyncio.Event()
        self.more = asyncio.Event()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append(data)
        self.senders.add(addr)
        self.more.set()

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    async def wait(self, count: int) -> None:
        while len(self.got) < count:
            self.more.clear()
            await self.more.wait()


class Batched(OneByOne):
    """The same, with several at once."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def datagrams_received(self, datagrams: list[tuple[bytes, Any]]) -> None:
        self.batches.append(len(datagrams))
        for data, address in datagrams:
            self.datagram_received(data, address)


async def opened(protocol: OneByOne) -> tuple[DatagramTransport, Any]:
    loop = asyncio.get_running_loop()
    transport, same = await loop.create_datagram_endpoint(
        lambda: protocol, local_addr=("127.0.0.1", 0)
    )
    assert same is protocol
    assert isinstance(transport, DatagramTransport)
    transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER
    )
    return transport, transport.get_extra_info("sockname")


def in_a_loop(scene: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    @functools.wraps(scene)
    def test() -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await scene()

        with asyncio.Runner(loop_factory=DatagramLoop) as runner:
            runner.run(bounded())

    return test


def sizes(count: int) -> list[bytes]:
    """Full ones with a shorter one now and then, and a longer one."""
    lengths = [1200] * count
    for at in (count // 3, count // 2, count // 2 + 1, count - 1):
        lengths[at] = 300 + at
    lengths[count // 4] = 1300
    return [number.to_bytes(4, "big") + bytes(size) for number, size in enumerate(lengths)]


@pytest.mark.parametrize("protocol", [OneByOne, Batched])
@pytest.mark.parametrize("segments", [True, False])
def test_there_and_back(protocol: type[OneByOne], segments: bool) -> None:
    async def scene() -> None:
        receiver, sender = protocol(), OneByOne()
        to, place = await opened(receiver)
        by, origin = await opened(sender)
        by._segments = segments
        sent = sizes(60)
        by.send_many(sent, place)
        by.sendto(b"one more", place)
        await receiver.wait(61)
        assert receiver.got == [*sent, b"one more"]
        assert receiver.senders == {origin}
        if isinstance(receiver, Batched):
            assert max(receiver.batches) > 1
            assert max(receiver.batches) <= BATCH
        for transport, end in ((to, receiver), (by, sender)):
            transport.close()
            transport.close()
            assert transport.is_closing()
            await end.closed.wait()
        by.sendto(b"to nobody", place)
        assert not sender.errors

    in_a_loop(scene)()


@in_a_loop
async def test_a_kernel_without_segments() -> None:
    """What cannot be sent together is sent one by one, now and from then on."""
    receiver, sender = Batched(), OneByOne()
    to, place = await opened(receiver)
    by, _ = await opened(sender)
    tried = []

    class Refuses:
        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock

        def sendmsg(self, *_: Any) -> int:
            tried.append(1)
            raise OSError(5, "EIO")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        def fileno(self) -> int:
            return self._sock.fileno()

    by._socket = Refuses(by._socket)  # type: ignore[assignment]
    for _ in range(2):
        by.send_many([bytes(1200)] * 10, place)
    await receiver.wait(20)
    assert tried == [1]
    by.close()
    to.close()
    await sender.closed.wait()
    await receiver.closed.wait()


@in_a_loop
async def test_a_socket_that_is_full() -> None:
    """What the socket does not take waits, in order, up to a bound."""
    receiver, sender = Batched(), OneByOne()
    to, place = await opened(receiver)
    by, _ = await opened(sender)
    full = True

    class Full:
        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock

        def sendto(self, *arguments: Any) -> int:
            if full:
                raise BlockingIOError
            return self._sock.sendto(*arguments)

        def sendmsg(self, *_: Any) -> int:
            raise BlockingIOError

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        def fileno(self) -> int:
            return self._sock.fileno()

    by._socket = Full(by._socket)  # type: ignore[assignment]
    sent = [number.to_bytes(2, "big") for number in range(MAX_PENDING + 100)]
    by.send_many(sent[:40], place)
    for data in sent[40:]:
        by.sendto(data, place)
    full = False
    await receiver.wait(MAX_PENDING)
    assert receiver.got == sent[:MAX_PENDING]
    by.sendto(b"next", place)
    await receiver.wait(MAX_PENDING + 1)
    by.close()
    to.close()
    await sender.closed.wait()
    await receiver.closed.wait()


@in_a_loop
async def test_what_is_left_to_asyncio() -> None:
    """Connected sockets and names; an unconnected socket of the caller's is ours."""
    loop = asyncio.get_running_loop()
    receiver = Batched()
    to, place = await opened(receiver)
    connected = OneByOne()
    transport, _ = await loop.create_datagram_endpoint(lambda: connected, remote_addr=place)
    assert not isinstance(transport, DatagramTransport)
    transport.sendto(b"hello")
    await receiver.wait(1)
    named = OneByOne()
    by_name, _ = await loop.create_datagram_endpoint(lambda: named, local_addr=("localhost", 0))
    assert not isinstance(by_name, DatagramTransport)
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.bind(("127.0.0.1", 0))
    given = OneByOne()
    ours, _ = await loop.create_datagram_endpoint(lambda: given, sock=own)
    assert isinstance(ours, DatagramTransport)
    ours.sendto(b"again", place)
    await receiver.wait(2)
    for end, protocol in (
        (to, receiver),
        (transport, connected),
        (by_name, named),
        (ours, given),
    ):
        end.close()
        await protocol.closed.wait()


@in_a_loop
async def test_an_address_that_is_not_here() -> None:
    with pytest.raises(OSError, match="assign"):
        await asyncio.get_running_loop().create_datagram_endpoint(
            OneByOne, local_addr=("192.0.2.200", 0)
        )
