"""Two ends of a connection in memory: `PeerStream`s for tests that want no sockets.

They obey the contract of `transports.base` (the conformance suite runs over them too). `capacity`
bounds the bytes under way in each direction, so that a sender really waits for its receiver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from torrentfs.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.transports.base import Address, Buffer


class _Pipe:
    """Bytes on their way in one direction."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.bytes = bytearray()
        self.ended = False  # the sender closed: the receiver drains, then sees the end
        self.broken = False  # the receiver is gone, or the sender aborted
        self.changed = trio.Event()

    def notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class MemoryStream:
    """One end; make two with `memory_stream_pair`."""

    kind = "memory"

    def __init__(self, remote: Address, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.remote = remote
        self.closed = False
        self._incoming = incoming
        self._outgoing = outgoing
        self._receiving = False
        self._sending = False

    async def receive_into(self, buffer: memoryview) -> int:
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving")
        self._receiving = True
        pipe = self._incoming
        try:
            await trio.lowlevel.checkpoint()
            while True:
                if self.closed:
                    raise TransportError("closed by us")
                if pipe.broken:
                    raise TransportError("connection reset by peer")
                if pipe.bytes:
                    count = min(len(buffer), len(pipe.bytes))
                    buffer[:count] = pipe.bytes[:count]
                    del pipe.bytes[:count]
                    pipe.notify()
                    return count
                if pipe.ended:
                    return 0
                await pipe.changed.wait()
        finally:
            self._receiving = False

    async def send_all(self, data: Buffer) -> None:
        await self.send_many([data])

    async def send_many(self, buffers: Sequence[Buffer]) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._sending = True
        pipe = self._outgoing
        try:
            await trio.lowlevel.checkpoint()
            if self.closed:
                raise TransportError("closed by us")
            for view in map(memoryview, buffers):
                at = 0
                while True:
                    if self.closed:
                        raise TransportError("closed by us")
                    if pipe.broken:
                        raise TransportError("broken pipe")
                    room = pipe.capacity - len(pipe.bytes)
                    if at < len(view) and room <= 0:
                        await pipe.changed.wait()
                        continue
                    pipe.bytes += view[at : at + room]
                    at += room
                    pipe.notify()
                    if at >= len(view):
                        break
        finally:
            self._sending = False

    async def aclose(self) -> None:
        self._close(abort=False)
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        self._close(abort=True)

    def _close(self, *, abort: bool) -> None:
        if self.closed:
            return
        self.closed = True
        self._outgoing.ended = True
        self._outgoing.broken |= abort
        self._incoming.broken = True
        self._outgoing.notify()
        self._incoming.notify()


def memory_stream_pair(
    one: Address = ("192.0.2.1", 6881),
    other: Address = ("192.0.2.2", 6882),
    *,
    capacity: int = 256 * 1024,
) -> tuple[MemoryStream, MemoryStream]:
    """The two ends of one connection; the first belongs to the host `one` (it sees `other`)."""
    there, back = _Pipe(capacity), _Pipe(capacity)
    return MemoryStream(other, back, there), MemoryStream(one, there, back)
