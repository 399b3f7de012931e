"""How TCP connections leave: from an interface, through a proxy, and to what addresses.

With a proxy there is one way out. It connects for us and resolves the names: no packet of ours
goes to anybody else, not even a question for an address. The handshakes (SOCKS5 by RFC 1928 and
1929, CONNECT by RFC 9110) are those of python-socks, over a connection that `tcp.connect` made;
here are its time limit, its caps and its errors in words. A proxy that is not there, wants another
password, talks garbage, is silent or hangs up is a `TransportError` as any other, which names the
proxy and never its password.

Exactly what belongs to the handshake is read, so what comes behind it at once is not lost.

Without a proxy `usable` decides for each address of a host; with one we know only those that are
literals, in any of their spellings, and names that mean the host itself.
"""

from __future__ import annotations

import errno
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import trio

from torrentfs.errors import TransportError
from torrentfs.transports import tcp
from torrentfs.transports.reach import is_own_name
from torrentfs.transports.tcp import TcpStream, failure, numeric_addresses, show_address
from torrentfs.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from python_socks.async_.trio.v2 import Proxy as Handshake

    from torrentfs.transports.proxy import Proxy

log = logging.getLogger(__name__)

MAX_HEADERS = 16 * 1024
"""Bytes of a proxy's answer to CONNECT."""


class ProxyError(TransportError):
    """The proxy cannot be used, or does not reach the destination."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Makes connections for everything that uses TCP. `bind`: see `binding`."""

    bind: str | None = None
    proxy: Proxy | None = None

    async def connect(
        self, host: str, port: int, usable: Callable[[str], bool] = lambda address: True
    ) -> socket.socket:
        """A connected, non-blocking socket.

        `OSError` or `TransportError` if there is none, `NotUsable` if no address of the host is
        `usable`. The caller sets a time limit.
        """
        if self.proxy is None:
            return await tcp.connect(host, port, self.bind, usable=usable)
        if not host or not host.isprintable() or " " in host:  # it goes into a line of CONNECT
            raise OSError("not a host name")
        literal = numeric_addresses(host.rstrip("."), port, socket.SOCK_STREAM)
        known = literal[0][1][0] if literal else "127.0.0.1" if is_own_name(host) else None
        if known is not None and not usable(known):
            raise tcp.NotUsable("no address that may be connected to")
        return await _through(self.proxy, literal[0][1][0] if literal else host, port, self.bind)

    async def open_peer(
        self, host: str, port: int, *, timeout: float = tcp.CONNECT_TIMEOUT
    ) -> TcpStream:
        """Connect to a peer within `timeout` seconds; `TransportError` says why it could not."""
        if self.proxy is None:
            return await tcp.open_tcp(host, port, timeout=timeout, bind=self.bind)
        try:
            with trio.fail_after(timeout):
                connected = await self.connect(host, port)
        except (OSError, trio.TooSlowError, ValueError) as error:
            action = f"connecting to {show_address(host, port)} through {self.proxy}"
            raise failure(action, error) from error
        return TcpStream(connected, (host, port))  # the peer's address, not the proxy's


async def _through(proxy: Proxy, host: str, port: int, bind: str | None) -> socket.socket:
    """A connection of the proxy's to `host`; `ProxyError`."""
    from python_socks import ProxyError as Refused

    try:
        connected = await tcp.connect(proxy.host, proxy.port, bind)
    except OSError as error:
        raise ProxyError(str(failure(f"the proxy {proxy} cannot be reached", error))) from error
    try:
        await _handshake(proxy, connected).connect(host, port, timeout=float("inf"))
    except Refused as error:
        connected.close()
        why = printable(str(error).encode(errors="replace"))[:200].lower()
        raise ProxyError(f"the proxy {proxy}: {show_address(host, port)}: {why}") from error
    except (OSError, ValueError, LookupError) as error:  # the last two: garbage, impossible names
        connected.close()
        if isinstance(error, OSError):
            reason = str(failure(f"the proxy {proxy}", error))
        else:
            reason = f"the proxy {proxy}: no answer that can be understood"
        raise ProxyError(reason) from error
    except BaseException:
        connected.close()
        raise
    return connected


def _handshake(proxy: Proxy, connected: socket.socket) -> Handshake:
    from python_socks import ProxyType
    from python_socks.async_.trio.v2 import Proxy as Handshake

    kinds = {"socks5": ProxyType.SOCKS5, "http": ProxyType.HTTP}
    return Handshake(
        kinds[proxy.kind],
        proxy.host,
        proxy.port,
        username=proxy.user or None,
        password=proxy.password if proxy.user else None,
        rdns=True,
        # where it would use another proxy to reach this one, it is given our connection
        forward=cast("Any", _Connected(connected)),
    )


class _Connected:
    """What python-socks takes for a proxy before the proxy."""

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected

    async def connect(self, dest_host: str, dest_port: int) -> _Stream:
        await trio.lowlevel.checkpoint()
        return _Stream(self._connected)


class _Stream:
    """The connection as python-socks wants it. Takes nothing that is not of the handshake."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    async def write(self, data: bytes) -> None:
        while data:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)

    async def read_exactly(self, n: int) -> bytes:
        """`n` bytes; an `OSError` if they do not come."""
        data = b""
        while len(data) < n:
            data += await self._receive(n - len(data), 0)
        return data

    async def read(self, max_bytes: int = MAX_HEADERS) -> bytes:
        """An HTTP header, to its end."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            seen = data + await self._receive(MAX_HEADERS, socket.MSG_PEEK)
            end = seen.find(b"\r\n\r\n", max(0, len(data) - 3))
            wanted = (end + 4 if end >= 0 else len(seen)) - len(data)
            data += await self._receive(wanted, 0)
            if len(data) > MAX_HEADERS:
                raise ValueError("a header without an end")
        return data

    async def _receive(self, size: int, flags: int) -> bytes:
        while True:
            try:
                data = self._socket.recv(size, flags)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
                continue
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "closed in mid-handshake")
            return data

    async def close(self) -> None:
        """The connection's owner does it."""
        await trio.lowlevel.checkpoint_if_cancelled()
