"""What httpcore's connection pool stands on: our connections instead of its own.

httpcore would open them by `trio.open_tcp_stream`, which cannot hold a socket to a device before
its first packet, knows nothing of our proxy, and resolves names where we cannot see to what. Here
they are made by `outgoing`, and only to addresses within the `reach` of the pool: all that it ever
holds leads there, so a kept connection needs no second look.

A body is read from the socket itself: the system call first, and a time limit only when there is
nothing to read. TLS is trio's, over the same socket.

Imported with httpcore, late (see `http`). What it raises is httpcore's, but for `TransportError`
of a proxy and `NotAllowed`, which the pool lets through.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

import httpcore
import trio

from torrentfs.errors import TransportError
from torrentfs.transports.tcp import NotUsable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from torrentfs.transports.outgoing import Outgoing
    from torrentfs.transports.reach import Reach

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class NotAllowed(TransportError):
    """The host has no address where the URL may be asked."""


class Network(httpcore.AsyncNetworkBackend):
    """Opens a pool's connections."""

    def __init__(self, outgoing: Outgoing, reach: Reach, family: str | None = None) -> None:
        self._outgoing = outgoing
        self._reach = reach
        self._family = family  # "ipv4" or "ipv6" to use that one only

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> SocketStream:
        """See `httpcore.AsyncNetworkBackend`. The last two are not used."""
        try:
            with trio.fail_after(_limit(timeout)):
                connected = await self._outgoing.connect(host, port, self._is_usable)
        except trio.TooSlowError as error:
            raise httpcore.ConnectTimeout from error
        except NotUsable as error:
            raise NotAllowed(self._reach.refusal) from error
        except (OSError, ValueError, OverflowError) as error:
            raise httpcore.ConnectError(str(error)) from error
        if self._outgoing.proxy is not None:
            return SocketStream(connected)
        try:
            return SocketStream(connected, connected.getpeername()[0])
        except OSError as error:  # reset already
            connected.close()
            raise httpcore.ConnectError(str(error)) from error

    def _is_usable(self, address: str) -> bool:
        if self._family is not None and (":" in address) != (self._family == "ipv6"):
            return False
        return self._reach.includes(address)

    async def sleep(self, seconds: float) -> None:
        """See `httpcore.AsyncNetworkBackend`."""
        await trio.sleep(seconds)


class SocketStream(httpcore.AsyncNetworkStream):
    """A connection in the clear; owns the socket."""

    def __init__(self, connected: socket.socket, address: str | None = None) -> None:
        self._socket = connected
        self._address = address
        with contextlib.suppress(OSError):  # it is gone already: the next call tells
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has come, at most `max_bytes`; empty at the end."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self._socket.recv(max_bytes)
            except BlockingIOError:
                pass
            except OSError as error:
                raise httpcore.ReadError(_words(error)) from error
            try:
                with trio.fail_after(_limit(timeout)):
                    await trio.lowlevel.wait_readable(self._socket)
            except trio.TooSlowError as error:
                raise httpcore.ReadTimeout from error
            except _BROKEN as error:
                raise httpcore.ReadError("closed by us") from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        await trio.lowlevel.checkpoint()
        left = memoryview(buffer)
        try:
            with trio.fail_after(_limit(timeout)):
                while left:
                    try:
                        left = left[self._socket.send(left) :]
                    except BlockingIOError:
                        await trio.lowlevel.wait_writable(self._socket)
        except trio.TooSlowError as error:
            raise httpcore.WriteTimeout from error
        except trio.ClosedResourceError as error:
            raise httpcore.WriteError("closed by us") from error
        except OSError as error:
            raise httpcore.WriteError(_words(error)) from error

    async def aclose(self) -> None:
        """Close."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> TlsStream:
        """The same connection with TLS from here on; it is closed when that fails."""
        under = trio.SocketStream(trio.socket.from_stdlib_socket(self._socket))
        stream = trio.SSLStream(
            under, ssl_context, server_hostname=server_hostname, https_compatible=True
        )
        try:
            with trio.fail_after(_limit(timeout)):
                await stream.do_handshake()
        except BaseException as error:
            await trio.aclose_forcefully(under)
            if isinstance(error, trio.TooSlowError):
                raise httpcore.ConnectTimeout from error
            if isinstance(error, (*_BROKEN, ValueError)):  # ValueError: a name that TLS can't check
                raise httpcore.ConnectError(str(error)) from error
            raise
        return TlsStream(stream, self)

    def get_extra_info(self, info: str) -> Any:
        """Whether an idle connection was closed; the server's address, if it is known."""
        if info == "server_addr":
            return self._address
        return _is_readable(self._socket) if info == "is_readable" else None


class TlsStream(httpcore.AsyncNetworkStream):
    """A connection with TLS."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], below: SocketStream) -> None:
        self._stream = stream
        self._below = below

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has come, at most `max_bytes`; empty at the end."""
        try:
            with trio.fail_after(_limit(timeout)):
                return bytes(await self._stream.receive_some(max_bytes))
        except trio.TooSlowError as error:
            raise httpcore.ReadTimeout from error
        except _BROKEN as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        try:
            with trio.fail_after(_limit(timeout)):
                await self._stream.send_all(buffer)
        except trio.TooSlowError as error:
            raise httpcore.WriteTimeout from error
        except _BROKEN as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> TlsStream:
        """There is no TLS within TLS here."""
        raise NotImplementedError

    def get_extra_info(self, info: str) -> Any:
        """As of `SocketStream`; and the state of TLS, by which the pool knows the protocol."""
        if info == "ssl_object":
            return getattr(self._stream, "_ssl_object", None)
        return self._below.get_extra_info(info)


def _limit(timeout: float | None) -> float:
    return float("inf") if timeout is None else timeout


def _is_readable(connected: socket.socket) -> bool:
    """Whether there is something to read, or the end."""
    try:
        connected.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _words(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
