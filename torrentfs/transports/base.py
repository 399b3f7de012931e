"""What the rest of torrentfs knows of a connection to a peer: an ordered stream of bytes.

TCP is one kind; encrypted streams, uTP and WebRTC data channels are others, so nothing here
speaks of sockets. The engine reads into a buffer that the wire codec owns (one copy from the
kernel, none after) and writes lists of buffers (a header and a slice of a piece, never joined).

Contract, for every kind:

* one task receives and one task sends at a time; a second one is a bug of ours and gets
  `trio.BusyResourceError`, so that interleaved messages can never go out unnoticed;
* a stream that broke, timed out or was closed by us raises `TransportError` and nothing else;
* `receive_into` gives 0 exactly at the end of what the peer sent, and stays at 0;
* a cancelled `receive_into` has taken no bytes. A cancelled send leaves the stream with half a
  message on it: all that can be done then is to abort it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

Address = tuple[str, int]
"""A peer's IP address (text, no brackets) and port."""

Buffer = bytes | bytearray | memoryview
"""Bytes to send; a memoryview is one of bytes (`format == "B"`)."""


class PeerStream(Protocol):
    """An ordered, reliable stream of bytes to one peer; the module says what it promises."""

    @property
    def remote(self) -> Address:
        """The peer's address."""

    @property
    def kind(self) -> str:
        """A word for statistics: "tcp"."""

    async def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes and put some at the start of `buffer`: how many, 0 at the end."""

    async def send_all(self, data: Buffer) -> None:
        """Send all of `data`."""

    async def send_many(self, buffers: Sequence[Buffer]) -> None:
        """Send all of each buffer, in order, without joining them."""

    async def aclose(self) -> None:
        """Close; bytes already given to a send still go out. Never fails, may be repeated."""

    def abort(self) -> None:
        """Close at once from any task; a task waiting in this stream gets `TransportError`."""
