"""A WebRTC library that connects nothing: tests play the peer by hand."""

from __future__ import annotations

import asyncio

from torrentfs.errors import RemoteProtocolError
from torrentfs.transports.webrtc.backend import Receiver


class FakeChannel:
    """Keeps what is sent; `taken` says how much of it the peer has taken."""

    remote = ("192.0.2.9", 4000)
    max_message_size = 1000

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.taken = 0
        self.unread = 0
        self.receiver: Receiver | None = None
        self.low_mark = 0

    @property
    def buffered(self) -> int:
        return sum(map(len, self.sent)) - self.taken

    def attach(self, receiver: Receiver, low_mark: int) -> None:
        self.receiver = receiver
        self.low_mark = low_mark

    def send(self, data: bytes) -> None:
        assert 0 < len(data) <= self.max_message_size
        self.sent.append(data)

    def release(self, count: int) -> None:
        self.unread -= count
        assert self.unread >= 0

    async def flush(self) -> None:
        while self.buffered:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    # The peer's side.

    def arrives(self, data: bytes) -> None:
        assert self.receiver is not None
        self.unread += len(data)
        self.receiver.on_message(data)

    def take(self, count: int | None = None) -> None:
        """The peer takes some; as a real channel does, it tells when the low mark is crossed."""
        assert self.receiver is not None
        before = self.buffered
        self.taken += before if count is None else min(count, before)
        if before > self.low_mark >= self.buffered:
            self.receiver.on_writable()

    def close(self) -> None:
        assert self.receiver is not None
        self.receiver.on_closed()


class FakeConnection:
    """Opens when `channel` is set; `closed` counts the calls."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.accepted: str | None = None
        self.closed = 0
        self.channel: asyncio.Future[FakeChannel] = asyncio.get_running_loop().create_future()

    async def accept(self, sdp: str) -> None:
        if sdp == "bad":
            raise RemoteProtocolError("a bad answer")
        self.accepted = sdp

    async def opened(self) -> FakeChannel:
        return await self.channel

    async def aclose(self) -> None:
        await asyncio.sleep(0.01)
        self.closed += 1


class FakeBackend:
    """Makes the above; `fault` is raised instead."""

    def __init__(self) -> None:
        self.made: list[FakeConnection] = []
        self.fault: Exception | None = None
        self.closed = False

    async def offer(self) -> FakeConnection:
        return self._make("an offer")

    async def answer(self, sdp: str) -> FakeConnection:
        if sdp == "bad":
            raise RemoteProtocolError("a bad offer")
        return self._make(f"the answer to {sdp}")

    def _make(self, description: str) -> FakeConnection:
        if self.fault is not None:
            raise self.fault
        self.made.append(FakeConnection(description))
        return self.made[-1]

    async def aclose(self) -> None:
        self.closed = True
