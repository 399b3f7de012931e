"""The stream of an open data channel, as the rest of torrentfs sees it: a `PeerStream`.

It is one end of a socket pair whose other end the worker pumps, so it shares the code of TCP. The
worker ends a stream in one direction when the peer has closed; if both directions end at once,
the worker itself is gone, and what looks like the end of the peer's bytes is a failure.
"""

from __future__ import annotations

import select

from torrentfs.errors import TransportError
from torrentfs.transports.tcp import TcpStream, show_address


class ChannelStream(TcpStream):
    """A `PeerStream` over an open data channel, by way of the worker; it owns the socket."""

    kind = "webrtc"
    __slots__ = ()

    async def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes and put some at the start of `buffer`: how many, 0 at the end."""
        received = await super().receive_into(buffer)
        if not received and len(buffer) and self._is_broken():
            raise TransportError(
                f"connection to {show_address(*self.remote)}: the WebRTC worker is gone"
            )
        return received

    def _is_broken(self) -> bool:
        if self._socket.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self._socket, 0)  # POLLHUP is told whatever was asked
        return any(event & select.POLLHUP for _, event in poll.poll(0))

    def __repr__(self) -> str:
        state = "closed" if self._socket.fileno() < 0 else "open"
        return f"<ChannelStream {show_address(*self.remote)} {state}>"
