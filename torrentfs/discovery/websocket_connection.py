"""One WebSocket to a tracker, as its client: the only importer of wsproto.

wsproto is the protocol without I/O (as h11 is below httpx); here are its socket and its caps:

* Nothing a tracker sends makes us keep more than one message of `MAX_SIGNAL_BYTES`: the handshake
  is capped by h11 (16 KiB of headers) and in time, the body of a refusal is not read, a longer
  message ends the connection, frames are taken one by one, compression is not offered.
* Nothing makes us work more than `Allowance` has it: each frame, pings and empty ones too, has its
  price, and a tracker that sends faster is read more slowly, until its own socket is full.
* Redirects are not followed, as browsers do not: a tracker cannot send us elsewhere.
* `wss` is verified against the same roots as https.

`StreamOpener` is the one place where a connection is made: see `outgoing`. Failures are
`TransportError` (could not be reached, broke, was closed) and `RemoteProtocolError` (is no
WebSocket, or a bad one), each in one line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlsplit

import trio
import wsproto
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from torrentfs.discovery.websocket_allowance import Allowance
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.http import USER_AGENT, reason_of
from torrentfs.transports.reach import Reach
from torrentfs.transports.tcp import NotUsable, failure, root_cause
from torrentfs.wire import limits
from torrentfs.wire.announce import is_websocket
from torrentfs.wire.text import printable

if TYPE_CHECKING:
    import ssl

    from torrentfs.transports.outgoing import Outgoing

StreamOpener = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""Connects to a host and a port; may raise `OSError`."""

CONNECT_TIMEOUT = 20.0
"""Seconds for connection, TLS and handshake together."""
SEND_TIMEOUT = 20.0
"""Seconds in which a message must have left for the kernel."""
CLOSE_TIMEOUT = 0.5
"""Seconds for a polite end."""
RECEIVE_SIZE = 16 * limits.KIB
FRAGMENT_BYTES = 64
"""What a fragment takes beside its text: empty ones without end are no way around the cap."""
BURST, RATE = 4000.0, 1000.0
"""Price of a frame is 1 and 1 for each KiB: 200 messages of 4 KiB a second, 800 at once."""

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Place(NamedTuple):
    """A tracker's URL, taken apart. `target` is path and query, in ASCII."""

    secure: bool
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What goes into the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def place_of(url: str) -> Place:
    """Where to connect for `url`. `TransportError` if nowhere."""
    try:
        parts = urlsplit(url)
        secure = parts.scheme.lower() == "wss"
        port = parts.port or (443 if secure else 80)
        host = parts.hostname or ""
        host.encode("idna")
    except ValueError as error:  # UnicodeError is one
        raise TransportError(f"not a URL that can be asked: {error}") from error
    if not host.isprintable() or " " in host:
        raise TransportError("not a URL that can be asked: its host is no name")
    if not host or not is_websocket(url):
        raise TransportError("not the URL of a WebSocket tracker")
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    return Place(secure, host, port, target)


class WebSocket:
    """An open connection. One task receives; any may send."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.heard = trio.current_time()
        """When the last byte came."""
        self._stream = stream
        self._protocol = wsproto.WSConnection(ConnectionType.CLIENT)
        self._allowance = Allowance(BURST, RATE)
        self._sending = trio.Lock()

    async def receive(self) -> str | bytes:
        """The next message, whole."""
        parts: list[str | bytes] = []
        size = 0
        while True:
            event = await self._next_event()
            cost = 1.0
            if isinstance(event, TextMessage | BytesMessage):
                parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
                size += FRAGMENT_BYTES + len(event.data)
                cost += len(event.data) / limits.KIB
                if size > limits.MAX_SIGNAL_BYTES:
                    raise RemoteProtocolError(f"a message of more than {size} bytes")
                if event.message_finished:
                    await self._pay(cost)
                    return "".join(parts) if isinstance(event, TextMessage) else b"".join(parts)  # type: ignore[arg-type]
            elif isinstance(event, CloseConnection):
                raise self._closed(event)
            elif isinstance(event, Ping):
                await self._send(event.response())
            await self._pay(cost)

    async def send(self, text: str) -> None:
        """Send a message. A cancelled send leaves nothing but to close."""
        await self._send(TextMessage(data=text))

    async def ping(self) -> None:
        """Have the tracker say something; `heard` tells when it did."""
        await self._send(Ping())

    async def aclose(self) -> None:
        """Close, politely within `CLOSE_TIMEOUT`; never fails, nor waits for a cancelled caller."""
        with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
            # what was sent last must arrive: a socket closed with unread bytes is reset
            with contextlib.suppress(TransportError, RemoteProtocolError, *_BROKEN):
                await self._send(CloseConnection(code=1000))
                while await self._stream.receive_some(RECEIVE_SIZE):
                    pass
        await trio.aclose_forcefully(self._stream)

    async def shake_hands(self, place: Place) -> None:
        """The upgrade of RFC 6455."""
        headers = [(b"User-Agent", USER_AGENT.encode())]
        await self._send(Request(host=place.authority, target=place.target, extra_headers=headers))
        event = await self._next_event()
        if isinstance(event, RejectConnection):
            raise TransportError(_words(event.status_code))
        if isinstance(event, CloseConnection):
            raise self._closed(event)

    async def _pay(self, cost: float) -> None:
        delay = self._allowance.owe(cost, trio.current_time())
        if delay:
            await trio.sleep(delay)

    async def _next_event(self) -> Event:
        """The next frame, or a part of a long one."""
        while True:
            try:
                event = next(self._protocol.events(), None)
                if event is not None:
                    return event
                self._protocol.receive_data(await self._receive())
            except (ProtocolError, ValueError) as error:  # ValueError: a header that is no ASCII
                why = printable(str(error).encode())
                raise RemoteProtocolError(f"no WebSocket: {why}") from error

    async def _receive(self) -> bytes:
        try:
            data = await self._stream.receive_some(RECEIVE_SIZE)
        except _BROKEN as error:
            raise failure("the connection broke", error) from error
        if not data:
            raise TransportError("closed by the tracker without a word")
        self.heard = trio.current_time()
        return bytes(data)

    async def _send(self, event: Event) -> None:
        try:
            data = self._protocol.send(event)
        except ProtocolError as error:
            raise TransportError("the connection is closed") from error
        try:
            with trio.fail_after(SEND_TIMEOUT):
                async with self._sending:
                    await self._stream.send_all(data)
        except (*_BROKEN, trio.TooSlowError) as error:
            raise failure("the connection broke", error) from error

    def _closed(self, event: CloseConnection) -> TransportError | RemoteProtocolError:
        why = printable((event.reason or "").encode())
        if self._protocol.state is ConnectionState.OPEN:  # wsproto gave up on what came
            return RemoteProtocolError(f"no WebSocket: {why}")
        return TransportError(f"closed by the tracker{f': {why}' if why else ''}")


async def open_websocket(
    url: str, open_stream: StreamOpener, tls: Callable[[], Awaitable[ssl.SSLContext]]
) -> WebSocket:
    """Connect to a tracker, within `CONNECT_TIMEOUT`; `tls` gives the roots to trust for `wss`."""
    place = place_of(url)
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            stream = await open_stream(place.host, place.port)
            try:
                if place.secure:
                    stream = trio.SSLStream(
                        stream, await tls(), server_hostname=place.host, https_compatible=True
                    )
                    await stream.do_handshake()
                socket = WebSocket(stream)
                await socket.shake_hands(place)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
    except trio.TooSlowError:
        raise TransportError(f"no answer within {CONNECT_TIMEOUT:.0f} s") from None
    except (*_BROKEN, ValueError) as error:  # ValueError: a host name that TLS cannot check
        told = root_cause(error)
        reason = reason_of(told) if told is not None else str(error) or type(error).__name__
        raise TransportError(f"cannot connect: {reason}") from error
    return socket


def direct(outgoing: Outgoing, reach: Reach = Reach.ANYWHERE) -> StreamOpener:
    """Connections that leave as `outgoing` has it, to addresses within `reach`."""

    async def open_stream(host: str, port: int) -> trio.abc.Stream:
        try:
            connected = await outgoing.connect(host, port, reach.includes)
        except NotUsable as error:
            raise TransportError(reach.refusal) from error
        return trio.SocketStream(trio.socket.from_stdlib_socket(connected))

    return open_stream


def _words(status: int) -> str:
    try:
        words = f"HTTP {status} {HTTPStatus(status).phrase.lower()}"
    except ValueError:
        words = f"HTTP {status}"
    return words + " (redirects are not followed)" * (status // 100 == 3)
