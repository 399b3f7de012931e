"""TCP to peers, over IPv4 and IPv6.

The stream works on a plain non-blocking socket, not on `trio.SocketStream`: that one allocates a
`bytes` per receive, while this one fills the codec's own buffer. Each call tries the system call
first and waits for readiness only when the kernel has nothing, then gives other tasks one turn.

Peers are nearly always IP literals, which are connected to directly; of a host name
(`--peer seedbox.example:6881`) the addresses are tried as RFC 8305 has it (happy eyeballs). Not by
trio, whose sockets could not be held to a device before they connect (see `binding`).

Socket buffers are left to the kernel: setting SO_RCVBUF turns its autotuning off, and on
loopback a fixed size of 1 MiB was no faster. NODELAY is on because requests are small and late
ones cost a reader its time.

Every `OSError` becomes a `TransportError` in `failure`, with the words of the C library.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, cast

import trio

from torrentfs.errors import TransportError
from torrentfs.transports.binding import attach
from torrentfs.transports.names import look_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torrentfs.transports.base import Address, Buffer

NEXT_ADDRESS = 0.25
"""Seconds until the next address of a name is tried too (RFC 8305)."""
CONNECT_TIMEOUT = 10.0
"""Seconds to connect. A peer that needs longer is of no use to a reader."""

_MAX_VECTORS = 512
"""Buffers per sendmsg; Linux takes 1024 (IOV_MAX)."""


class NotUsable(OSError):
    """Nothing of what a host stands for may be connected to."""


def failure(action: str, error: Exception) -> TransportError:
    """The one place where errors of the socket layer become ours: "action: reason"."""
    if isinstance(error, trio.TooSlowError):
        reason = "timed out"
    elif isinstance(error, socket.gaierror):
        reason = str(error.strerror or error).lower()
    elif (told := root_cause(error)) is not None:
        reason = os.strerror(told.errno or 0).lower()
    elif isinstance(error, trio.ClosedResourceError):
        reason = "closed by us"
    else:
        reason = str(error) or type(error).__name__
    return TransportError(f"{action}: {reason}")


def root_cause(error: BaseException | None) -> OSError | None:
    """The error of the kernel behind one of trio's or httpx's ("all attempts failed")."""
    seen = 0
    while error is not None and seen < 10:
        seen += 1
        if isinstance(error, OSError) and error.errno is not None:
            return error
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        else:
            error = error.__cause__ or error.__context__
    return None


def show_address(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class TcpStream:
    """A `PeerStream` over a connected, non-blocking TCP socket, which it owns."""

    kind = "tcp"
    __slots__ = ("_receiving", "_sending", "_socket", "remote")

    def __init__(self, connected: socket.socket, remote: Address) -> None:
        self.remote = remote
        self._socket = connected
        self._receiving = False
        self._sending = False
        with contextlib.suppress(OSError):  # the peer may be gone already: the next call tells
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes and put some at the start of `buffer`: how many, 0 at the end."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this peer")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            while True:
                try:
                    received = self._socket.recv_into(buffer)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self._socket)
                    continue
                # bytes are taken now: a cancellation must wait for the next call
                await trio.lowlevel.cancel_shielded_checkpoint()
                return received
        except (OSError, trio.ClosedResourceError) as error:
            raise self._failure(error) from error
        finally:
            self._receiving = False

    async def send_all(self, data: Buffer) -> None:
        """Send all of `data`."""
        await self.send_many((data,))

    async def send_many(self, buffers: Sequence[Buffer]) -> None:
        """Send all of each buffer, in order, without joining them."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending to this peer")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._socket.fileno() < 0:
                raise trio.ClosedResourceError
            await self._send(list(buffers))
            await trio.lowlevel.cancel_shielded_checkpoint()
        except (OSError, trio.ClosedResourceError) as error:
            raise self._failure(error) from error
        finally:
            self._sending = False

    async def _send(self, waiting: list[Buffer]) -> None:
        first = 0  # waiting[:first] has gone out
        while first < len(waiting):
            try:
                sent = self._socket.sendmsg(waiting[first : first + _MAX_VECTORS])
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
                continue
            while first < len(waiting) and sent >= len(waiting[first]):
                sent -= len(waiting[first])
                first += 1
            if sent:
                waiting[first] = memoryview(waiting[first])[sent:]

    def _failure(self, error: Exception) -> TransportError:
        if self._socket.fileno() < 0:  # EBADF: closed by another task of ours meanwhile
            error = trio.ClosedResourceError()
        return failure(f"connection to {show_address(*self.remote)}", error)

    async def aclose(self) -> None:
        """Close; the kernel still delivers what was sent."""
        self._close()
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """Close at once; tasks waiting in this stream get `TransportError`."""
        self._close()

    def _close(self) -> None:
        if self._socket.fileno() < 0:
            return
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()

    def __repr__(self) -> str:
        state = "closed" if self._socket.fileno() < 0 else "open"
        return f"<TcpStream {show_address(*self.remote)} {state}>"


async def open_tcp(
    host: str, port: int, *, timeout: float = CONNECT_TIMEOUT, bind: str | None = None
) -> TcpStream:
    """Connect to a peer within `timeout` seconds; `TransportError` says why it could not.

    `host` is an IP address or a name; `bind` is what to connect from (see `binding`).
    """
    action = f"connecting to {show_address(host, port)}"
    try:
        with trio.fail_after(timeout):
            connected = await connect(host, port, bind)
    except (OSError, trio.TooSlowError, OverflowError, ValueError) as error:
        raise failure(action, error) from error
    try:
        remote = connected.getpeername()[:2]
    except OSError as error:
        connected.close()
        raise failure(action, error) from error
    return TcpStream(connected, cast("Address", remote))


async def connect(
    host: str,
    port: int,
    bind: str | None = None,
    *,
    usable: Callable[[str], bool] = lambda address: True,
) -> socket.socket:
    """A connected, non-blocking socket, from `bind` if that is given; `OSError` if there is none.

    The one place where TCP connections of torrentfs begin. Only those addresses of the host that
    are `usable` are connected to; `NotUsable` where none is.
    """
    places = numeric_addresses(host, port, socket.SOCK_STREAM)
    if not places:
        return await _connect_by_name(host, port, bind, usable)
    family, place = places[0]
    if not usable(place[0]):
        raise NotUsable("no address that may be connected to")
    return await _connect(family, place, bind)


def numeric_addresses(
    host: str, port: int, kind: socket.SocketKind
) -> list[tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]]:
    """Family and socket address of an IP literal, without asking any resolver; [] of a name."""
    try:
        found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return []
    return [
        (family, cast("tuple[str, int]", place))
        for family, _, _, _, place in found
        if family in (socket.AF_INET, socket.AF_INET6)
    ]


async def _connect(
    family: socket.AddressFamily,
    place: tuple[str, int] | tuple[str, int, int, int],
    bind: str | None,
) -> socket.socket:
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        attach(connecting, bind)
        try:
            connecting.connect(place)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(connecting)
            error = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error)) from None
        else:
            await trio.lowlevel.checkpoint()
    except BaseException:
        connecting.close()
        raise
    return connecting


async def _connect_by_name(
    host: str, port: int, bind: str | None, usable: Callable[[str], bool]
) -> socket.socket:
    """The addresses of the name in turn, the next one `NEXT_ADDRESS` after the last (RFC 8305)."""
    found = await look_up(host, port, socket.SOCK_STREAM, bind)
    found = [(family, place) for family, place in found if usable(str(place[0]))]
    if not found:
        raise NotUsable("no address that may be connected to")
    winner: list[socket.socket] = []
    errors: list[OSError] = []

    async def attempt(place: Any, failed: trio.Event, scope: trio.CancelScope) -> None:
        try:
            connected = await _connect(place[0], place[1], bind)
        except OSError as error:
            errors.append(error)
            failed.set()
            return
        if winner:
            connected.close()
        else:
            winner.append(connected)
            scope.cancel()

    async with trio.open_nursery() as nursery:
        for place in found:
            failed = trio.Event()
            nursery.start_soon(attempt, place, failed, nursery.cancel_scope)
            with trio.move_on_after(NEXT_ADDRESS):
                await failed.wait()
    if not winner:
        raise errors[0] if errors else OSError(None, "the name has no address")
    return winner[0]
