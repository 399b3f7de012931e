"""What the worker asks of a WebRTC library: three small interfaces, so that another can be put in.

A `Backend` makes connections, each with one data channel: ordered, reliable, binary, as
WebTorrent's (simple-peer). A `Connection` ends in a `Channel`, which speaks to a `Receiver`.

Flow control is the point of it. Toward the peer: `buffered` grows with `send` and shrinks as the
peer acknowledges; the receiver stops at a mark and is told by `on_writable` when it is low again.
From the peer: a message given to the receiver counts as unread until `release` is called for its
bytes, and the channel must make the peer stop before `unread` passes a fixed limit.

Methods are called in the worker's event loop. Errors are `TransportError` and
`RemoteProtocolError`; closing never fails and may be repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torrentfs.transports.base import Address


class Receiver(Protocol):
    """Where a channel's news go; called from the event loop, never after `on_closed`."""

    def on_message(self, data: bytes) -> None:
        """A message, in order. It is unread until `Channel.release(len(data))`."""

    def on_writable(self) -> None:
        """What is buffered has fallen to the low mark."""

    def on_closed(self) -> None:
        """The channel is closed, by the peer or since the connection broke: nothing follows."""


class Channel(Protocol):
    """An open data channel."""

    @property
    def remote(self) -> Address:
        """The peer's address, as ICE found it."""

    @property
    def max_message_size(self) -> int:
        """Bytes in one message, at most: what the peer takes, and what suits it."""

    @property
    def buffered(self) -> int:
        """Bytes given to `send` that are not yet on their way."""

    def attach(self, receiver: Receiver, low_mark: int) -> None:
        """Say where news go; messages that came before are given at once."""

    def send(self, data: bytes) -> None:
        """Put a message (1 to `max_message_size` bytes) into the queue; nothing once closed."""

    def release(self, count: int) -> None:
        """This many bytes of messages have been taken: the peer may send as much again."""

    async def flush(self) -> None:
        """Wait until the peer has acknowledged all that was sent, or the channel is closed."""


class Connection(Protocol):
    """A connection to be, to one peer."""

    @property
    def description(self) -> str:
        """Our offer or answer, complete."""

    async def accept(self, sdp: str) -> None:
        """Take the peer's answer to our offer; connecting begins."""

    async def opened(self) -> Channel:
        """Wait for the data channel."""

    async def aclose(self) -> None:
        """End it and free everything: sockets, tasks, memory."""


class Backend(Protocol):
    """A WebRTC library."""

    async def offer(self) -> Connection:
        """A connection whose `description` is an offer."""

    async def answer(self, sdp: str) -> Connection:
        """A connection whose `description` is the answer to `sdp`; connecting begins."""

    async def aclose(self) -> None:
        """Free what was made ahead; connections have been closed before."""
