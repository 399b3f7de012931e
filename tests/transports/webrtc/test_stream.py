"""The end of a channel's stream: a peer that closed, or a worker that died."""

from __future__ import annotations

import socket

import pytest

from torrentfs.errors import TransportError
from torrentfs.transports.webrtc.stream import ChannelStream

pytestmark = pytest.mark.real


def make() -> tuple[ChannelStream, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ChannelStream(ours, ("2001:db8::1", 7)), theirs


async def test_the_peer_closed() -> None:
    stream, worker = make()
    room = memoryview(bytearray(10))
    with worker:
        worker.sendall(b"last")
        worker.shutdown(socket.SHUT_WR)
        assert await stream.receive_into(room) == 4
        assert await stream.receive_into(room) == 0
        assert await stream.receive_into(room) == 0
        await stream.aclose()
        with pytest.raises(TransportError, match="closed by us"):
            await stream.receive_into(room)


async def test_the_worker_died() -> None:
    stream, worker = make()
    room = memoryview(bytearray(10))
    worker.sendall(b"last")
    worker.close()
    assert await stream.receive_into(room) == 4  # what had come is not lost
    with pytest.raises(TransportError, match=r"\[2001:db8::1\]:7.*worker is gone"):
        await stream.receive_into(room)
    with pytest.raises(TransportError):
        await stream.send_all(b"x")
    assert repr(stream) == "<ChannelStream [2001:db8::1]:7 open>"
    stream.abort()
    assert "closed" in repr(stream)
