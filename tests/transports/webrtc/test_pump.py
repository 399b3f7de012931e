"""Bytes and pressure between a channel and a socket pair."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest

from tests.transports.webrtc.fake_backend import FakeChannel
from torrentfs.transports.webrtc.pump import HIGH_MARK, LOW_MARK, Pump

pytestmark = pytest.mark.real

Scene = Callable[[FakeChannel, Pump, socket.socket], Awaitable[None]]


def in_a_loop(scene: Scene) -> Callable[[], None]:
    """A test with a pump between a channel and the socket `end`."""

    @functools.wraps(scene)
    def test() -> None:
        async def run() -> None:
            channel = FakeChannel()
            ours, end = socket.socketpair()
            end.setblocking(False)
            pump = Pump(channel, ours)
            try:
                async with asyncio.timeout(20):
                    await scene(channel, pump, end)
            finally:
                pump.close()
                end.close()
                assert channel.unread == 0

        asyncio.run(run())

    del test.__wrapped__  # type: ignore[attr-defined]  # its arguments are no fixtures
    return test


async def receive(end: socket.socket, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        data = await asyncio.get_running_loop().sock_recv(end, count - len(got))
        if not data:
            break
        got += data
    return bytes(got)


async def settle() -> None:
    """Let the loop see what is ready."""
    for _ in range(50):
        await asyncio.sleep(0)


@in_a_loop
async def test_both_ways(channel: FakeChannel, pump: Pump, end: socket.socket) -> None:
    channel.arrives(b"to the mount")
    assert await receive(end, 12) == b"to the mount"
    end.send(b"to the peer")
    await settle()
    assert channel.sent == [b"to the peer"]
    assert not pump.finished.is_set()


@in_a_loop
async def test_messages_are_no_larger_than_the_peer_takes(
    channel: FakeChannel, pump: Pump, end: socket.socket
) -> None:
    data = os.urandom(10_500)
    end.send(data)
    await settle()
    assert b"".join(channel.sent) == data
    assert max(map(len, channel.sent)) == 1000


@in_a_loop
async def test_a_peer_that_takes_nothing_stops_the_writer(
    channel: FakeChannel, pump: Pump, end: socket.socket
) -> None:
    loop = asyncio.get_running_loop()
    data = os.urandom(3 * HIGH_MARK)
    writing = asyncio.create_task(loop.sock_sendall(end, data))
    await settle()
    assert HIGH_MARK <= channel.buffered < HIGH_MARK + channel.max_message_size
    channel.take(HIGH_MARK - LOW_MARK - 5000)  # not yet low
    await settle()
    assert channel.buffered < HIGH_MARK
    assert not writing.done()
    while sum(map(len, channel.sent)) < len(data):
        channel.take(10_000)
        await settle()
        assert channel.buffered < HIGH_MARK + channel.max_message_size
    await writing
    assert b"".join(channel.sent) == data


@in_a_loop
async def test_what_nobody_reads_is_unread(
    channel: FakeChannel, pump: Pump, end: socket.socket
) -> None:
    messages = [os.urandom(16_384 + n) for n in range(60)]
    for message in messages:
        channel.arrives(message)
    await settle()
    held = channel.unread
    assert held > 500_000  # a socket takes about 200 KB
    assert pump.unread == held
    await settle()
    assert channel.unread == held
    everything = b"".join(messages)
    assert await receive(end, len(everything)) == everything
    assert channel.unread == pump.unread == 0
    channel.arrives(b"more")
    assert await receive(end, 4) == b"more"


@in_a_loop
async def test_many_messages_of_a_byte(
    channel: FakeChannel, pump: Pump, end: socket.socket
) -> None:
    tracemalloc.start()
    try:
        for _ in range(1 << 18):
            channel.arrives(b"x")
        await settle()
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
    assert await receive(end, 1 << 18) == b"x" * (1 << 18)


@in_a_loop
async def test_the_peer_closes(channel: FakeChannel, pump: Pump, end: socket.socket) -> None:
    data = os.urandom(600_000)
    for at in range(0, len(data), 60_000):
        channel.arrives(data[at : at + 60_000])
    channel.close()
    end.send(b"too late")
    assert await receive(end, len(data) + 1) == data  # and then the end
    assert not pump.finished.is_set()
    assert channel.sent == []
    end.close()
    await pump.finished.wait()


@in_a_loop
async def test_the_mount_closes(channel: FakeChannel, pump: Pump, end: socket.socket) -> None:
    end.send(b"last words")
    end.close()
    await pump.finished.wait()
    assert channel.sent == [b"last words"]
    channel.arrives(b"for nobody")
    channel.take()
    channel.close()
    await settle()


@in_a_loop
async def test_the_mount_closes_while_bytes_wait(
    channel: FakeChannel, pump: Pump, end: socket.socket
) -> None:
    for _ in range(20):
        channel.arrives(b"x" * 50_000)
    end.close()
    await pump.finished.wait()
    assert channel.unread == 0


@in_a_loop
async def test_closing_twice(channel: FakeChannel, pump: Pump, end: socket.socket) -> None:
    pump.close()
    pump.close()
    assert pump.finished.is_set()
    channel.arrives(b"for nobody")
    assert await receive(end, 1) == b""
