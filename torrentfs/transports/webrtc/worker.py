"""The worker process: WebRTC for a trio process that has no asyncio.

Run as `python -m torrentfs.transports.webrtc.worker FD`, where FD is its end of the control
socket. It reads nothing else and writes no file; its log goes to stderr, which the other side
reads. It ends when the control socket does, however the other side ended (a SIGKILL closes it
too), within `FAREWELL`: peers are told, so that they need not find out by silence. Signals of a
terminal or a service manager are for the other side, which then closes the socket.

One task per connection, `_serve`, from the first request to the last freed descriptor. What goes
wrong is said in `Failed`; that nothing is left, in `Ended`.
"""

from __future__ import annotations

import array
import asyncio
import logging
import os
import signal
import socket
import sys
from collections import deque
from typing import TYPE_CHECKING

from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.webrtc.protocol import (
    MAX_MESSAGE,
    MAX_REASON,
    AcceptAnswer,
    AnswerMade,
    AnswerOffer,
    Configure,
    Ended,
    Failed,
    Forget,
    MakeOffer,
    OfferMade,
    Opened,
    ServerTold,
    decode,
    encode,
)
from torrentfs.transports.webrtc.pump import Pump

if TYPE_CHECKING:
    from collections.abc import Callable

    from torrentfs.transports.webrtc.backend import Backend, Channel, Connection
    from torrentfs.transports.webrtc.config import RtcConfig
    from torrentfs.transports.webrtc.protocol import FromWorker, Message

log = logging.getLogger(__name__)

OFFER_LIFE = 120.0
"""Seconds that an offer may wait for its answer; the other side forgets it before."""
OPEN_TIME = 40.0
"""Seconds from the descriptions to an open channel; the other side gives up before."""
FLUSH_TIME = 3.0
"""Seconds to get rid of what was written before the other side closed a stream."""
FAREWELL = 1.0
"""Seconds to tell peers that we end."""
MAX_UNSENT = 4096
"""Messages that the other side has not read; it is stuck then, and this process ends."""


class Worker:
    """Serves the requests on a control socket, with the backend that `make_backend` gives."""

    def __init__(
        self,
        control: socket.socket,
        make_backend: Callable[[RtcConfig, Callable[[str, str], None]], Backend],
    ) -> None:
        control.setblocking(False)
        self.connections: dict[int, asyncio.Task[None]] = {}
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._closing: set[int] = set()
        self._control = control
        self._make_backend = make_backend
        self._backend: Backend | None = None
        self._limit = 0
        self._unsent: deque[tuple[bytes, socket.socket | None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Until the other side closes the control socket; then nothing is left."""
        self._loop.add_reader(self._control, self._on_readable)
        try:
            await self._over.wait()
        finally:
            self._loop.remove_reader(self._control)
            self._loop.remove_writer(self._control)
            for number in self.connections:
                self._cancel(number)
            if self.connections:
                await asyncio.wait(self.connections.values(), timeout=FAREWELL)
            if self._backend is not None:
                await asyncio.wait([asyncio.create_task(self._backend.aclose())], timeout=FAREWELL)
            for _, end in self._unsent:
                if end is not None:
                    end.close()
            self._control.close()

    def _on_readable(self) -> None:
        while not self._over.is_set():
            try:
                data = self._control.recv(MAX_MESSAGE + 1)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._over.set()
                return
            try:
                self._handle(decode(data))
            except RemoteProtocolError:
                log.exception("the other side does not speak this version")
                self._over.set()

    def _handle(self, message: Message) -> None:
        if isinstance(message, Configure):
            self._limit = message.config.max_connections
            self._backend = self._make_backend(message.config, self._on_server)
        elif isinstance(message, MakeOffer):
            self._begin(message.connection, None)
        elif isinstance(message, AnswerOffer):
            self._begin(message.connection, message.sdp)
        elif isinstance(message, AcceptAnswer):
            answer = self._answers.get(message.connection)
            if answer is not None and not answer.done():
                answer.set_result(message.sdp)
        elif isinstance(message, Forget):
            self._cancel(message.connection)
        else:
            raise RemoteProtocolError(f"{type(message).__name__} is not for a worker")

    def _on_server(self, url: str, reason: str) -> None:
        self._say(ServerTold(url, reason[:MAX_REASON]))

    def _begin(self, number: int, offer: str | None) -> None:
        if self._backend is None or number in self.connections:
            raise RemoteProtocolError("a connection before the configuration, or a second time")
        if len(self.connections) >= self._limit:
            self._say(Failed(number, "too many WebRTC connections"))
            self._say(Ended(number))
            return
        task = asyncio.create_task(self._serve(self._backend, number, offer))
        self.connections[number] = task
        task.add_done_callback(lambda task: self._on_ended(number, task))

    def _cancel(self, number: int) -> None:
        """Once, and not while it is being closed: that must come to its end."""
        task = self.connections.get(number)
        if task is not None and number not in self._closing and not task.cancelling():
            task.cancel()

    def _on_ended(self, number: int, task: asyncio.Task[None]) -> None:
        """Here, not at the end of the task: one that is cancelled at once never starts."""
        del self.connections[number]
        self._closing.discard(number)
        self._answers.pop(number, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("a fault in connection %d", number, exc_info=task.exception())
        self._say(Ended(number))

    async def _serve(self, backend: Backend, number: int, offer: str | None) -> None:
        connection: Connection | None = None
        try:
            if offer is None:
                answer = self._answers[number] = self._loop.create_future()
                connection = await backend.offer()
                self._say(OfferMade(number, connection.description))
                async with asyncio.timeout(OFFER_LIFE):
                    theirs = await answer
                await connection.accept(theirs)
            else:
                connection = await backend.answer(offer)
                self._say(AnswerMade(number, connection.description))
            async with asyncio.timeout(OPEN_TIME):
                channel = await connection.opened()
            await self._carry(number, channel)
        except (TransportError, RemoteProtocolError) as error:
            self._say(Failed(number, str(error)[:MAX_REASON]))
        except TimeoutError:
            self._say(Failed(number, "not open in time"))
        except Exception as error:  # a fault must cost this connection alone
            log.exception("a fault in connection %d", number)
            self._say(Failed(number, f"WebRTC failed: {error!r}"[:MAX_REASON]))
        finally:
            self._closing.add(number)
            if connection is not None:
                await connection.aclose()

    async def _carry(self, number: int, channel: Channel) -> None:
        """Move bytes until the other side closes its end of the stream."""
        ours, theirs = socket.socketpair()
        pump = Pump(channel, ours)
        try:
            self._say(Opened(number, *channel.remote), theirs)
            await pump.finished.wait()
            try:
                async with asyncio.timeout(FLUSH_TIME):
                    await channel.flush()
            except TimeoutError:
                log.debug("connection %d closed with bytes unsent", number)
        finally:
            pump.close()

    def _say(self, message: FromWorker, end: socket.socket | None = None) -> None:
        self._unsent.append((encode(message), end))
        if len(self._unsent) == 1:
            self._on_writable()
        if len(self._unsent) > MAX_UNSENT:
            log.error("the other side reads nothing: giving up")
            self._over.set()

    def _on_writable(self) -> None:
        while self._unsent:
            data, end = self._unsent[0]
            rights = []
            if end is not None:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [end.fileno()]))]
            try:
                self._control.sendmsg([data], rights)
            except BlockingIOError:
                self._loop.add_writer(self._control, self._on_writable)
                return
            except OSError:  # the other side is gone
                self._over.set()
                return
            self._unsent.popleft()
            if end is not None:
                end.close()
        self._loop.remove_writer(self._control)

    def __repr__(self) -> str:
        return f"<Worker {len(self.connections)} connections>"


def _make_backend(config: RtcConfig, report: Callable[[str, str], None]) -> Backend:
    from torrentfs.transports.webrtc import tuning
    from torrentfs.transports.webrtc.aiortc_backend import AiortcBackend
    from torrentfs.transports.webrtc.bound_loop import BoundLoop

    tuning.apply()

    loop = asyncio.get_running_loop()
    assert isinstance(loop, BoundLoop)
    loop.bind_to = config.bind
    return AiortcBackend(config, report)


async def _run(control: socket.socket) -> None:
    worker = asyncio.create_task(Worker(control, _make_backend).run())
    await asyncio.wait([worker])
    if worker.exception() is not None:
        log.error("the worker failed", exc_info=worker.exception())


def main() -> None:
    """Serve the control socket whose descriptor is the one argument."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("torrentfs").setLevel(logging.INFO)
    control = socket.socket(fileno=int(sys.argv[1]))
    from torrentfs.transports.webrtc.bound_loop import BoundLoop

    with asyncio.Runner(loop_factory=BoundLoop) as runner:
        runner.run(_run(control))
        # A thread may hang in a resolver: there is nothing to wait for.
        logging.shutdown()
        os._exit(0)


if __name__ == "__main__":
    main()
