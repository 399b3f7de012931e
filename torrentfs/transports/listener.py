"""Where peers reach us: one TCP port, on IPv4 and IPv6, for all torrents.

The two families have a socket each (IPV6_V6ONLY), so addresses come as they are and never as
`::ffff:a.b.c.d`. A machine without IPv6 listens on IPv4 alone.

An explicit port that is busy is a `ConfigError`: the user forwarded or announced that very port,
and quietly moving to the next one (as libtorrent does) gives a client nobody can reach. Port 0
takes any port that is free in both families.

When what the port is bound to changes (see `binding`), `follow` goes on at its new place.

A stranger can connect and stay silent. Connections whose handshake is not yet known to be good
are counted; above `max_strangers` the *oldest* silent one is aborted, so that a flood shortens
the time a peer has for its handshake instead of locking everybody out. A peer is no stranger
any more when its handler returns, having handed the stream on. Who is blocked is reset before a
byte is read or said: a handshake would tell which torrents are here.

Running out of file descriptors or memory pauses accepting; it never ends it.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING

import trio

from torrentfs.errors import TransportError
from torrentfs.transports.binding import hold
from torrentfs.transports.port_sockets import PortSockets
from torrentfs.transports.tcp import TcpStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from torrentfs.transports.base import PeerStream

log = logging.getLogger(__name__)

_BACKLOG = 128
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets, and leaves nothing behind."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE = 0.1
"""Seconds without accepting after a lack of resources; trio's own servers use the same."""


class Listener:
    """A listening TCP port. Binding happens at construction; `serve` accepts.

    `bind` is where (see `binding`), None for every address of the machine; `blocks` says of a
    caller's address whether we never talk to it. Raises `ConfigError`.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        bind: str | None = None,
        max_strangers: int = 64,
        blocks: Callable[[str], bool] = lambda host: False,
    ) -> None:
        self.max_strangers = max_strangers
        self.accepted = 0
        self.refused = 0
        """Connections of who is blocked."""
        self._blocks = blocks
        self._sockets = PortSockets(port, bind, partial(_bind_one, bind), "listen on")
        self.port = self._sockets.port
        self._accept: Callable[[socket.socket], None] = lambda listening: None
        self._strangers: dict[TcpStream, None] = {}  # oldest first
        self._closed = False

    async def serve(
        self,
        handler: Callable[[PeerStream], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run `handler(stream)` for each connection until cancelled.

        The handler owns the stream and may hand it on and return; when it raises, the stream is
        closed here. `TransportError` is expected of it and only logged.
        """
        async with trio.open_nursery() as nursery:
            try:

                def accept(listening: socket.socket) -> None:
                    nursery.start_soon(self._accept_loop, listening, handler, nursery)

                for listening in self._sockets.sockets:
                    accept(listening)
                self._accept = accept
                task_status.started()
                await trio.sleep_forever()
            finally:
                self.close()

    async def _accept_loop(
        self,
        listening: socket.socket,
        handler: Callable[[PeerStream], Awaitable[None]],
        nursery: trio.Nursery,
    ) -> None:
        while True:
            try:
                connected, remote = listening.accept()
            except BlockingIOError:
                try:
                    await trio.lowlevel.wait_readable(listening)
                except trio.ClosedResourceError:  # `follow`: another one is at its place
                    return
                continue
            except OSError as error:
                if listening.fileno() < 0:
                    return
                if error.errno in _EXHAUSTED:
                    log.warning("cannot accept peers for a moment: %s", os.strerror(error.errno))
                    await trio.sleep(_PAUSE)
                else:  # the connection died before we took it (ECONNABORTED, EPROTO, ...)
                    await trio.lowlevel.checkpoint()
                continue
            if self._blocks(remote[0]):
                self.refused += 1
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connected.close()
                await trio.lowlevel.checkpoint()
                continue
            connected.setblocking(False)
            stream = TcpStream(connected, remote[:2])
            self.accepted += 1
            self._admit(stream)
            nursery.start_soon(self._handle, stream, handler)
            await trio.lowlevel.checkpoint()

    def _admit(self, stream: TcpStream) -> None:
        if len(self._strangers) >= self.max_strangers:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.abort()
            log.debug("dropped silent %r: too many strangers", oldest)
        self._strangers[stream] = None

    async def _handle(
        self, stream: TcpStream, handler: Callable[[PeerStream], Awaitable[None]]
    ) -> None:
        try:
            await handler(stream)
        except TransportError as error:
            stream.abort()
            log.debug("incoming %s", error)
        except BaseException:
            stream.abort()
            raise
        finally:
            self._strangers.pop(stream, None)

    @property
    def strangers(self) -> int:
        """Connections accepted and not yet identified."""
        return len(self._strangers)

    def follow(self) -> str:
        """Listen where `bind` stands now, while `serve` runs; why that cannot be, or empty."""
        moved = self._sockets.follow()
        for listening in moved.gone:
            trio.lowlevel.notify_closing(listening)
            listening.close()
        for listening in moved.come:
            self._accept(listening)
        return moved.trouble

    def close(self) -> None:
        """Stop listening; `serve` does it by itself when it ends."""
        if not self._closed:
            self._closed = True
            self._sockets.close()

    def __repr__(self) -> str:
        return f"<Listener port {self.port}, {self.accepted} accepted, {self.strangers} strangers>"


def _bind_one(bind: str | None, family: int, host: str, port: int) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        hold(listening, bind)
        # so that a restart need not wait for the old connections' TIME_WAIT
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
