"""WebSocket trackers: one socket for each tracker, shared by all torrents that use it.

A socket is opened when the first torrent joins and closed `LINGER` seconds after the last left
(a magnet's metadata search hands over to its torrent in that time). In between it is kept open:
the tracker passes other peers' offers on to us at any time, and knows us no longer once it is
closed. So a lost one is opened again after a back-off that doubles, with jitter so that a
restarted tracker does not get everybody at one moment; a tracker that drops everybody at once
keeps its back-off, only a connection that lasted starts anew. Who wants peers at once
(`connect_soon`) need not wait for the end of a long one: the network may be back.

Trackers and the proxies in front of them drop silent sockets after about a minute. Announces come
often enough for most; when nothing was heard for `PING_AFTER` seconds the tracker is pinged, and
given up if it stays silent.

What is received goes to the listener of its info-hash; for what nobody listens to, and for what
is no message at all, there is a counter. A listener may leave somebody behind (`leave_behind`) who
still takes the answers to its offers: peers are often slow to answer, and one that answers in vain
waits for us half a minute and takes no other offer of ours. What is sent waits in a queue of the
socket, so that a cancelled sender leaves no half message. All tasks are shielded from cancellation
and end with the context of `open_websocket_trackers`, so that `stopped` is said while everything
else shuts down.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol

import trio

from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.outgoing import Outgoing
from torrentfs.transports.reach import Reach, of_socket_tracker
from torrentfs.wire.ws_tracker import Message, PeerAnswer, Refused, parse_messages

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from random import Random

    from torrentfs.discovery.websocket_connection import StreamOpener
    from torrentfs.transports.http import HttpClient

log = logging.getLogger(__name__)

FIRST_BACKOFF, MAX_BACKOFF = 4.0, 900.0
"""Seconds to the next try after the first failure, and after very many (times 0.5 to 1.5)."""
HURRY = 30.0
"""Seconds after a failure that are waited even when peers are wanted at once."""
LASTED = 60.0
"""Seconds after which a connection was a success, whatever ends it."""
LINGER = 5.0
"""Seconds that a socket without torrents stays open."""
PING_AFTER = 40.0
"""Seconds of silence after which the tracker is pinged: nginx drops after 60."""
PONG_TIMEOUT = 20.0
"""Seconds in which it has to say anything then."""
MAX_QUEUED = 64
"""Messages that may wait for a slow tracker before answers are dropped. Announces may always:
their senders wait for them."""


class Connection(Protocol):
    """What is needed of a `WebSocket`."""

    heard: float

    async def receive(self) -> str | bytes: ...
    async def send(self, text: str) -> None: ...
    async def ping(self) -> None: ...
    async def aclose(self) -> None: ...


class Listener(Protocol):
    """Who wants what is said of one info-hash. None of these may block or raise."""

    def on_open(self) -> None:
        """There is a new connection, where the tracker does not know us yet."""

    def on_lost(self) -> None:
        """The connection is gone, or could not be made; the socket says why."""

    def on_message(self, message: Message) -> None:
        """The tracker said something."""


class Former(Protocol):
    """Who listened before, and made offers that live. None of these may block or raise."""

    def on_late_answer(self, answer: PeerAnswer) -> bool:
        """A peer answered an offer: whether it was one of its own, so that nobody else is told."""

    def offers_end(self) -> float:
        """When the last offer that was not answered ends, by `trio.current_time`."""

    def end_offers(self) -> None:
        """Nobody can answer those that are left any more."""


class _Letter:
    """A message on its way out."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sent = False
        self.done = trio.Event()


class TrackerSocket:
    """The connection to one tracker, made again when it is lost."""

    def __init__(
        self, url: str, connect: Callable[[str], Awaitable[Connection]], rng: Random
    ) -> None:
        self.url = url
        self.is_open = False
        self.is_over = False
        """It was unused for long enough: whoever comes now needs a new one."""
        self.connections = 0
        """Connections made so far; tells one from the next."""
        self.failures = 0
        """Failures in a row."""
        self.last_error: str | None = None
        """Why there is no connection; None while there is one."""
        self.next_try = float("-inf")
        """When a connection is tried again, if there is none."""
        self.dropped = 0
        """Messages for nobody, or malformed."""
        self.listeners: dict[bytes, Listener] = {}
        self._formers: dict[bytes, list[Former]] = {}
        self._nursery: trio.Nursery | None = None
        self._connect = connect
        self._rng = rng
        self._queue: deque[_Letter] = deque()
        self._failed_at = float("-inf")
        self._waiting = trio.Event()
        self._changed = trio.Event()
        self._hurried = trio.Event()
        self._attempt = trio.CancelScope()
        self._anew = False

    def join(self, info_hash: bytes, listener: Listener) -> None:
        """Messages for `info_hash` go to `listener` from now on, the newest of several."""
        self.listeners[info_hash] = listener
        self._changed.set()

    def leave(self, info_hash: bytes, listener: Listener) -> None:
        """No longer, if nobody else took its place."""
        if self.listeners.get(info_hash) is listener:
            del self.listeners[info_hash]
        self._changed.set()

    def leave_behind(self, info_hash: bytes, former: Former) -> None:
        """`former` takes the answers to its offers until these end; it does not keep us open."""
        if self._nursery is None:
            former.end_offers()
        else:
            self._formers.setdefault(info_hash, []).append(former)
            self._nursery.start_soon(self._until_over, info_hash, former)

    async def _until_over(self, info_hash: bytes, former: Former) -> None:
        try:
            await trio.sleep_until(former.offers_end())
        finally:
            left = self._formers[info_hash]
            left.remove(former)
            if not left:
                del self._formers[info_hash]
            former.end_offers()

    async def send(self, text: str) -> None:
        """Send a message; returns when it left. `TransportError` if there is no connection."""
        letter = self._post(text)
        await letter.done.wait()
        if not letter.sent:
            raise TransportError(self.last_error or "the connection was lost")

    def send_nowait(self, text: str) -> bool:
        """Have a message sent if that is possible soon."""
        if not self.is_open or len(self._queue) >= MAX_QUEUED:
            return False
        self._post(text)
        return True

    def connect_soon(self) -> None:
        """Peers are wanted: cut a long back-off short."""
        self.next_try = min(self.next_try, self._failed_at + HURRY)
        self._hurried.set()

    def reconnect(self) -> None:
        """Whatever connection there is leads nowhere: make another, now."""
        self._anew = True
        self._attempt.cancel()
        self._hurried.set()

    def _post(self, text: str) -> _Letter:
        if not self.is_open:
            raise TransportError(self.last_error or "not connected yet")
        letter = _Letter(text)
        self._queue.append(letter)
        self._waiting.set()
        return letter

    # -- its life -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a connection until nobody needs it."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._until_unused, nursery.cancel_scope)
            try:
                while True:
                    with trio.CancelScope() as self._attempt:
                        await self._live()
                    while trio.current_time() < self.next_try and not self._anew:
                        self._hurried = trio.Event()
                        with trio.move_on_at(self.next_try):
                            await self._hurried.wait()
                    self._anew = False
            finally:
                self._nursery = None

    async def _until_unused(self, scope: trio.CancelScope) -> None:
        while True:
            self._changed = trio.Event()
            with trio.move_on_after(float("inf") if self.listeners else LINGER) as wait:
                await self._changed.wait()
            if wait.cancelled_caught and not self.listeners:
                self.is_over = True
                scope.cancel()
                return

    async def _live(self) -> None:
        """One connection, from the attempt to its loss."""
        try:
            connection = await self._connect(self.url)
        except (TransportError, RemoteProtocolError) as error:
            self._on_lost(str(error), lasted=False)
            return
        started = trio.current_time()
        reason = ["closed by us"]

        async def until_lost(part: Callable[[Connection], Awaitable[None]]) -> None:
            try:
                await part(connection)
            except (TransportError, RemoteProtocolError) as error:
                reason[0] = str(error)
                nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                self._on_open()
                for part in (self._read, self._write, self._watch):
                    nursery.start_soon(until_lost, part)
        finally:
            self._on_lost(reason[0], lasted=trio.current_time() - started >= LASTED)
            await connection.aclose()

    async def _read(self, connection: Connection) -> None:
        while True:
            data = await connection.receive()
            try:
                messages = parse_messages(data)
            except RemoteProtocolError as error:
                self.dropped += 1
                log.debug("tracker %s sent %s", self.url, error)
                continue
            for message in messages:
                self._deliver(message)

    def _deliver(self, message: Message) -> None:
        if isinstance(message, Refused) and message.info_hash is None:
            for listener in list(self.listeners.values()):
                listener.on_message(message)
            return
        info_hash = message.info_hash or b""
        if isinstance(message, PeerAnswer) and any(
            former.on_late_answer(message) for former in self._formers.get(info_hash, ())
        ):
            return
        listened = self.listeners.get(info_hash)
        if listened is None:
            self.dropped += 1
        else:
            listened.on_message(message)

    async def _write(self, connection: Connection) -> None:
        while True:
            self._waiting = trio.Event()
            while self._queue:
                letter = self._queue[0]
                await connection.send(letter.text)
                self._queue.popleft()
                letter.sent = True
                letter.done.set()
            await self._waiting.wait()

    async def _watch(self, connection: Connection) -> None:
        while True:
            await trio.sleep_until(connection.heard + PING_AFTER)
            heard = connection.heard
            if trio.current_time() < heard + PING_AFTER:
                continue
            await connection.ping()
            await trio.sleep(PONG_TIMEOUT)
            if connection.heard == heard:
                raise TransportError(f"silent for {PING_AFTER + PONG_TIMEOUT:.0f} s")

    def _on_open(self) -> None:
        self.is_open = True
        self.connections += 1
        self.last_error = None
        log.debug("tracker %s: connected", self.url)
        for listener in list(self.listeners.values()):
            listener.on_open()

    def _on_lost(self, reason: str, *, lasted: bool) -> None:
        self.is_open = False
        self.last_error = reason
        self.failures = 1 if lasted else self.failures + 1
        wait = min(MAX_BACKOFF, FIRST_BACKOFF * 2.0 ** min(16, self.failures - 1))
        self._failed_at = trio.current_time()
        self.next_try = self._failed_at + wait * self._rng.uniform(0.5, 1.5)
        log.debug("tracker %s: %s", self.url, reason)
        while self._queue:
            self._queue.popleft().done.set()
        for listener in list(self.listeners.values()):
            listener.on_lost()

    def __repr__(self) -> str:
        state = "open" if self.is_open else self.last_error or "not connected yet"
        return f"<TrackerSocket {self.url} {state}, {len(self.listeners)} listeners>"


class WebSocketTrackers:
    """The sockets to all WebSocket trackers. Made by `open_websocket_trackers`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        connect: Callable[[str], Awaitable[Connection]],
        rng: Random,
    ) -> None:
        self.sockets: dict[str, TrackerSocket] = {}
        self._nursery = nursery
        self._connect = connect
        self._rng = rng
        self._scopes: list[trio.CancelScope] = []
        self._closed = False

    @contextmanager
    def listening(self, url: str, info_hash: bytes, listener: Listener) -> Iterator[TrackerSocket]:
        """Use the socket of `url` for one info-hash; it is opened if need be."""
        socket = self.sockets.get(url)
        if socket is None or socket.is_over:
            socket = self.sockets[url] = TrackerSocket(url, self._connect, self._rng)
            self._nursery.start_soon(self._keep, socket)
        socket.join(info_hash, listener)
        try:
            yield socket
        finally:
            socket.leave(info_hash, listener)

    async def _keep(self, socket: TrackerSocket) -> None:
        with trio.CancelScope(shield=True) as scope:
            self._scopes.append(scope)
            if self._closed:
                scope.cancel()
            try:
                await socket.run()
            except Exception:  # a bug of ours must cost a tracker, not the mount
                log.exception("the tracker %s is given up", socket.url)
            finally:
                self._scopes.remove(scope)
                if self.sockets.get(socket.url) is socket:
                    del self.sockets[socket.url]

    def reconnect(self) -> None:
        """Connect all sockets anew: we are at another place."""
        for socket in tuple(self.sockets.values()):
            socket.reconnect()

    def close(self) -> None:
        """Close all sockets."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()

    def __repr__(self) -> str:
        return f"<WebSocketTrackers {list(self.sockets.values())}>"


@asynccontextmanager
async def open_websocket_trackers(
    client: HttpClient | None,
    *,
    rng: Random,
    open_stream: StreamOpener | None = None,
    tls: Callable[[], ssl.SSLContext] | None = None,
    connect: Callable[[str], Awaitable[Connection]] | None = None,
) -> AsyncIterator[WebSocketTrackers]:
    """Sockets are opened when needed, and leave as those of `client` do.

    They are closed on leaving, which takes half a second at most. `open_stream` makes connections
    in another way, `tls` trusts other roots, `connect` replaces the network.
    """
    async with trio.open_nursery() as nursery:
        trackers = websocket_trackers(
            client, nursery, rng=rng, open_stream=open_stream, tls=tls, connect=connect
        )
        try:
            yield trackers
        finally:
            trackers.close()


def websocket_trackers(
    client: HttpClient | None,
    nursery: trio.Nursery,
    *,
    rng: Random,
    open_stream: StreamOpener | None = None,
    tls: Callable[[], ssl.SSLContext] | None = None,
    connect: Callable[[str], Awaitable[Connection]] | None = None,
) -> WebSocketTrackers:
    """The same in a nursery of the caller's, who calls `close` at the end."""
    return WebSocketTrackers(nursery, connect or _Connector(open_stream, client, tls).connect, rng)


class _Connector:
    """Makes connections. What it takes is imported when the first is made: it costs start-up."""

    def __init__(
        self,
        open_stream: StreamOpener | None,
        client: HttpClient | None,
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self._open_stream = open_stream
        self._outgoing = client.outgoing if client is not None else Outgoing()
        self._guarded = client is None or not client.allow_local
        self._tls = tls
        self._context: ssl.SSLContext | None = None

    async def connect(self, url: str) -> Connection:
        await trio.to_thread.run_sync(_load)
        from torrentfs.discovery.websocket_connection import direct, open_websocket, place_of

        reach = of_socket_tracker(place_of(url).target) if self._guarded else Reach.ANYWHERE
        opener = self._open_stream or direct(self._outgoing, reach)
        return await open_websocket(url, opener, self._roots)

    async def _roots(self) -> ssl.SSLContext:
        if self._context is None:  # reading them takes some 20 ms
            from torrentfs.transports.http import tls_context

            self._context = await trio.to_thread.run_sync(self._tls or tls_context)
        return self._context


def _load() -> None:
    import torrentfs.discovery.websocket_connection  # noqa: F401
