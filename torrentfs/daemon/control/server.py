"""Accepts connections and hands them to the ASGI server; never in the way of the mount.

Framework and server are imported in a thread when the first connection comes: a mount that nobody
asks anything pays neither their 0.4 seconds nor their 30 MB.

Everything is bounded: connections (`MAX_CONNECTIONS`; more are told 503 and closed), the time for
the head of a request (`HEAD_TIMEOUT`), its size (`MAX_HEAD`), the time that a client may take
nothing of an answer (`SEND_TIMEOUT`). Bodies are bounded by `guard`.

Hypercorn shields what it sends from being cancelled, so a client that takes nothing would hold up
the end of a mount: the end closes the sockets themselves (`Line.abort`).

A failing connection costs that connection; a failing server is logged, and begins anew.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import trio

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from torrentfs.daemon.control.access import Endpoint

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
"""Open connections of each endpoint: a browser takes six, a player two."""
HEAD_TIMEOUT = 20.0
"""Seconds for the head of a request, and between two requests of a connection."""
MAX_HEAD = 64 * 1024
SEND_TIMEOUT = 600.0
"""Seconds that a client may take nothing of an answer: a paused player takes nothing."""
RESTART_AFTER = 1.0
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-type: application/json\r\n"
    b'content-length: 34\r\nretry-after: 1\r\n\r\n{"error": "too many connections"}\n'
)


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that listens, and what holds for who connects to it."""

    socket: socket.socket
    endpoint: Endpoint


class Line:
    """One connection as Hypercorn sees it: a stream with a time-out, which can be broken off."""

    def __init__(self, stream: trio.SocketStream, endpoint: Endpoint) -> None:
        self._stream = stream
        self.endpoint = endpoint
        self.socket = stream.socket
        self.scope = trio.CancelScope()
        self.on_end: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint

    async def send_all(self, data: bytes) -> None:
        """As trio's; who takes nothing for `SEND_TIMEOUT` is gone."""
        with trio.move_on_after(SEND_TIMEOUT):
            await self._stream.send_all(data)
            return
        self.abort()
        raise trio.BrokenResourceError("the client takes nothing")

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As trio's; at the end of what the client sends, Hypercorn is told not to wait for more.

        It would keep the connection until its time-out for idle ones.
        """
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if not data:
                await self.on_end()
        return data

    async def send_eof(self) -> None:
        """As trio's."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """As trio's."""
        await self._stream.aclose()

    def abort(self) -> None:
        """End it now, whatever waits for it."""
        self.socket.close()
        self.scope.cancel()


class ControlServer:
    """Serves the application that `make_app` makes (in a thread, at the first connection)."""

    def __init__(self, make_app: Callable[[], Any], listening: Sequence[Listening]) -> None:
        self._make_app = make_app
        self._listening = tuple(listening)
        self._lines: set[Line] = set()
        self._talk: Callable[[Line, dict[str, Any]], Awaitable[None]] | None = None
        self._loading = trio.Lock()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._lines)

    def __repr__(self) -> str:
        return f"<ControlServer {self.connections} connections>"

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; does not raise."""
        task_status.started()
        while True:
            try:
                await self._serve_once()
            except Exception:
                log.exception("the control server failed; it begins anew")
            await trio.sleep(RESTART_AFTER)

    async def _serve_once(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                for listening in self._listening:
                    nursery.start_soon(self._accept, listening, nursery)
        finally:
            for line in list(self._lines):
                line.abort()

    async def _accept(self, listening: Listening, nursery: trio.Nursery) -> None:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.socket))
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _SCARCE:
                    raise
                log.warning("no control connection can be taken: %s", error.strerror)
                await trio.sleep(RESTART_AFTER)
                continue
            # each has its own places: who cannot pass the token shall not keep the owner out
            if sum(line.endpoint is listening.endpoint for line in self._lines) >= MAX_CONNECTIONS:
                nursery.start_soon(_turn_away, stream)
                continue
            line = Line(stream, listening.endpoint)
            self._lines.add(line)
            nursery.start_soon(self._run, line)

    async def _run(self, line: Line) -> None:
        try:
            with line.scope:
                talk = await self._loaded()
                await talk(line, {"endpoint": line.endpoint, "abort": line.abort})
        except Exception:
            log.exception("a control connection failed")
        finally:
            self._lines.discard(line)
            line.socket.close()

    async def _loaded(self) -> Callable[[Line, dict[str, Any]], Awaitable[None]]:
        async with self._loading:
            if self._talk is None:
                self._talk = await trio.to_thread.run_sync(_load, self._make_app)
            return self._talk


async def _turn_away(stream: trio.SocketStream) -> None:
    with trio.move_on_after(1):
        try:
            await stream.send_all(_BUSY)
            await stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
    await trio.aclose_forcefully(stream)


def _load(make_app: Callable[[], Any]) -> Callable[[Line, dict[str, Any]], Awaitable[None]]:
    """In a thread: import the server, make the application."""
    from hypercorn.app_wrappers import ASGIWrapper
    from hypercorn.config import Config
    from hypercorn.trio.tcp_server import TCPServer
    from hypercorn.trio.worker_context import WorkerContext

    config = Config()
    config.accesslog = None
    config.errorlog = log
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEAD
    config.h2_max_concurrent_streams = 4
    config.h2_max_header_list_size = MAX_HEAD
    config.keep_alive_timeout = HEAD_TIMEOUT
    app: Any = ASGIWrapper(make_app())

    async def talk(line: Line, state: dict[str, Any]) -> None:
        context = WorkerContext(None)
        line.on_end = context.terminated.set
        await TCPServer(app, config, context, cast("Any", state), cast("Any", line))

    return talk
