"""Encrypted streams: who gets through to whom, and what goes over the line."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.streams import MemoryStream, memory_stream_pair
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.base import PeerStream
from torrentfs.transports.encrypted import (
    EncryptedStream,
    Encryption,
    accept,
    encrypt_outgoing,
)
from torrentfs.wire.handshake import PREFIX

SKEY = b"s" * 20
OTHERS = [b"a" * 20, SKEY, b"z" * 20]
HELLO = PREFIX + bytes(48)


async def connected(
    ours: Encryption, theirs: Encryption, *, capacity: int = 1 << 18
) -> tuple[EncryptedStream, EncryptedStream]:
    """Two ends that both shook hands; the first one dialled."""
    one, other = memory_stream_pair(capacity=capacity)
    ends: list[EncryptedStream] = []

    async def answer() -> None:
        ends.append(await accept(other, OTHERS, policy=theirs))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        if ours == "off":
            await one.send_all(HELLO)
            ends.insert(0, EncryptedStream(one, None))
        else:
            ends.insert(0, await encrypt_outgoing(one, SKEY, HELLO, policy=ours))
    return ends[0], ends[1]


async def receive(stream: PeerStream, size: int) -> bytes:
    room, at = bytearray(size), 0
    while at < size:
        count = await stream.receive_into(memoryview(room)[at:])
        assert count
        at += count
    return bytes(room)


@pytest.mark.parametrize(
    ("ours", "theirs", "method"),
    [
        ("prefer", "prefer", "plain"),
        ("prefer", "require", "rc4"),
        ("require", "prefer", "rc4"),
        ("require", "require", "rc4"),
        ("off", "prefer", "none"),
        ("off", "off", "none"),
    ],
)
async def test_policies_that_meet(ours: Encryption, theirs: Encryption, method: str) -> None:
    one, other = await connected(ours, theirs)
    assert other.encryption == method
    assert await receive(other, len(HELLO)) == HELLO
    await other.send_many([b"back", b"", memoryview(b" again")])
    assert await receive(one, 10) == b"back again"
    assert one.kind == "memory"
    assert one.remote == ("192.0.2.2", 6882)
    assert method in repr(other)


@pytest.mark.parametrize(("ours", "theirs"), [("off", "require"), ("prefer", "off")])
async def test_policies_that_do_not(ours: Encryption, theirs: Encryption) -> None:
    one, other = memory_stream_pair()
    with trio.fail_after(5):
        if ours == "off":
            await one.send_all(HELLO)
            with pytest.raises(RemoteProtocolError, match="does not encrypt"):
                await accept(other, OTHERS, policy=theirs)
            return
        async with trio.open_nursery() as nursery:

            async def refuse() -> None:
                with pytest.raises(RemoteProtocolError, match="BitTorrent protocol"):
                    await accept(other, OTHERS, policy=theirs)
                other.abort()

            nursery.start_soon(refuse)
            with pytest.raises(TransportError):
                await encrypt_outgoing(one, SKEY, HELLO, policy=ours)


class Tap(MemoryStream):
    """Notes what is sent over the line."""

    line = b""

    async def send_many(self, buffers: object) -> None:
        self.line += b"".join(bytes(buffer) for buffer in buffers)  # type: ignore[attr-defined]
        await super().send_many(buffers)  # type: ignore[arg-type]


async def test_nothing_is_readable_on_the_line() -> None:
    one, other = memory_stream_pair()
    one.__class__ = Tap
    assert isinstance(one, Tap)

    async def answer() -> None:
        stream = await accept(other, OTHERS, policy="require")
        assert await receive(stream, len(HELLO) + 5000) == HELLO + bytes(5000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        stream = await encrypt_outgoing(one, SKEY, HELLO, policy="require")
        await stream.send_many([bytes(2000), bytearray(1000), memoryview(bytes(2000))])
    assert PREFIX not in one.line
    assert bytes(16) not in one.line
    assert SKEY not in one.line


async def test_a_silent_peer_and_one_that_hangs_up() -> None:
    one, other = memory_stream_pair()
    await one.send_all(PREFIX[:5])
    await one.aclose()
    with pytest.raises(TransportError, match="closed the connection"):
        await accept(other, OTHERS)


async def test_a_key_that_begins_like_a_handshake(autojump_clock: trio.testing.MockClock) -> None:
    """One byte of 0x13 decides nothing yet."""
    one, other = memory_stream_pair()

    async def dial() -> None:
        await one.send_all(PREFIX[:5])  # as if the key began so
        await one.send_all(bytes(91))
        with pytest.raises(TransportError):
            await receive(one, 1000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        with trio.move_on_after(0.1):
            await accept(other, OTHERS)  # a key that is possible: it answers with its own
        other.abort()


async def test_early_bytes_come_in_small_pieces() -> None:
    _, other = await connected("prefer", "prefer")
    assert b"".join([await receive(other, 1) for _ in HELLO]) == HELLO


async def test_a_second_sender_does_not_move_the_cipher() -> None:
    one, other = await connected("require", "require", capacity=4096)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.send_all, bytes(20000))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await one.send_all(b"x")
        assert await receive(other, len(HELLO) + 20000) == HELLO + bytes(20000)
    await one.send_all(b"end")
    assert await receive(other, 3) == b"end"
    await one.aclose()
    assert await other.receive_into(memoryview(bytearray(1))) == 0
