"""WebRTC for the trio side: offers, answers, and streams of open data channels.

    async with open_webrtc(RtcConfig()) as rtc:
        offer = await rtc.offer()                       # send offer.sdp to somebody
        stream = await rtc.accept(offer.connection, answer_sdp)

        answer = await rtc.answer(offer_sdp)            # send answer.sdp back
        stream = await answer.stream()

ICE, DTLS and SCTP are spoken by a worker process (`worker`), started when first needed and ended
with the context. One has a core's worth of work with a few busy peers (35 MB/s), so where there
are cores, another is started when each has `BUSY` connections. If one dies, its streams and
whatever waits for it get `TransportError`, and `on_lost` is told which connections were its; a
request starts another, after a pause that doubles with each death. During the pause requests fail
at once if no worker is left.

Every connection has a record here from the request until the worker says that nothing of it is
left, so the number of records is the number of connections, and that is limited. Nothing in a
stranger's description is believed before `sdp.parse`; a bad answer does not use up the offer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import trio

from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.webrtc.process import WorkerProcess
from torrentfs.transports.webrtc.protocol import (
    AcceptAnswer,
    AnswerMade,
    AnswerOffer,
    Ended,
    Failed,
    Forget,
    MakeOffer,
    OfferMade,
    Opened,
    ServerTold,
    is_sdp,
)
from torrentfs.transports.webrtc.sdp import parse
from torrentfs.transports.webrtc.stream import ChannelStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from torrentfs.transports.base import PeerStream
    from torrentfs.transports.webrtc.config import RtcConfig
    from torrentfs.transports.webrtc.protocol import Message, ToWorker

    OnMessage = Callable[[Message, int], None]
    MakeWorker = Callable[[RtcConfig, OnMessage], "WorkerLink"]

OnLost = Callable[[Sequence[int], float], None]

log = logging.getLogger(__name__)

OFFER_TIME = 50.0
"""Seconds that an offer of ours may be answered, as in WebTorrent."""
OPEN_TIME = 30.0
"""Seconds from the answer to an open channel."""
MAKE_TIME = 10.0
"""Seconds to make an offer or answer, with the start of the process and silent servers."""
BUSY = 6
"""Connections, open or opening, of a worker that is to be helped by another."""
MOST_WORKERS = 4
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
MAX_WARNINGS = 64
"""Of STUN and TURN servers; one for each server and cause."""
STEADY = 60.0
"""Seconds after which a worker that dies is not counted with those before."""

T = TypeVar("T")


class Offer(NamedTuple):
    """An offer to send to one peer; `connection` is how its answer is brought home."""

    connection: int
    sdp: str


@dataclass(frozen=True, slots=True)
class RtcStatistics:
    """The bridge at a moment. `workers` are process ids, `restarts` the deaths; `connections`
    counts everything that exists, `offers` those that wait for an answer, `open` the streams."""

    workers: tuple[int, ...]
    restarts: int
    connections: int
    offers: int
    open: int
    trouble: str = ""
    """Which STUN and TURN servers do not do their work, and why, in words."""


class WorkerLink(Protocol):
    """What the bridge wants of a worker process; `process.WorkerProcess` is one."""

    pid: int | None

    def send(self, message: ToWorker) -> None:
        """Say something; `TransportError` if the worker is stuck."""

    async def run(self) -> str:
        """Run until the worker ends, and say why."""


class _Slot(Generic[T]):
    """A value that one task waits for and another brings, or the reason why it never comes."""

    __slots__ = ("_arrived", "failure", "value")

    def __init__(self) -> None:
        self.value: T | None = None
        self.failure: str | None = None
        self._arrived = trio.Event()

    def put(self, value: T) -> bool:
        """Bring it; False when it is too late."""
        if self._arrived.is_set():
            return False
        self.value = value
        self._arrived.set()
        return True

    def fail(self, reason: str) -> None:
        if not self._arrived.is_set():
            self.failure = reason
            self._arrived.set()

    async def wait(self) -> T:
        await self._arrived.wait()
        if self.value is None:
            raise TransportError(f"WebRTC: {self.failure}")
        return self.value


class _Stage(Enum):
    MAKING = "making"
    OFFERED = "offered"
    OPENING = "opening"
    OPEN = "open"
    FORGOTTEN = "forgotten"


class _Record:
    """One connection."""

    __slots__ = ("link", "number", "sdp", "stage", "stream")

    def __init__(self, number: int, link: WorkerLink) -> None:
        self.number = number
        self.link = link
        self.stage = _Stage.MAKING
        self.sdp: _Slot[str] = _Slot()
        self.stream: _Slot[PeerStream] = _Slot()

    def fail(self, reason: str) -> None:
        """Nothing more comes of it; a stream that nobody has taken yet is closed."""
        self.sdp.fail(reason)
        self.stream.fail(reason)
        if self.stream.value is not None and self.stage is not _Stage.OPEN:
            self.stream.value.abort()


class Answer:
    """Our answer to a peer's offer; send `sdp` back and take the `stream`."""

    __slots__ = ("_record", "_rtc", "connection", "sdp")

    def __init__(self, record: _Record, sdp: str, rtc: WebRtc) -> None:
        self.connection = record.number
        self.sdp = sdp
        self._record = record
        self._rtc = rtc

    async def stream(self) -> PeerStream:
        """Wait, at most `OPEN_TIME`, until the channel is open; `TransportError` otherwise.

        Given up (also by cancellation), the connection is forgotten.
        """
        return await self._rtc.wait_open(self._record)

    def __repr__(self) -> str:
        return f"<Answer {self.connection}>"


class WebRtc:
    """The trio side of the worker. Made by `open_webrtc`."""

    def __init__(
        self, config: RtcConfig, nursery: trio.Nursery, make_worker: MakeWorker = WorkerProcess
    ) -> None:
        self.config = config
        self.on_lost: OnLost = lambda connections, pause: None
        """Called when a worker has died, with its connections (offers and what was open) and the
        seconds until another can be asked. May not block or raise."""
        self._nursery = nursery
        self._make_worker = make_worker
        self._links: list[WorkerLink] = []
        self._records: dict[int, _Record] = {}
        self._last_number = 0
        self._restarts = 0
        self._deaths = 0  # since the last steady run
        self._not_before = float("-inf")
        self._closed = False
        self._told: dict[WorkerLink, dict[str, str]] = {}
        self._warned: set[tuple[str, str]] = set()
        cores = len(os.sched_getaffinity(0))
        self._most_workers = config.max_workers or max(1, min(MOST_WORKERS, cores // 2))

    @property
    def troubles(self) -> dict[str, str]:
        """STUN and TURN servers of ours that do not do their work, and why, as the workers that
        live have found out."""
        return {url: reason for told in self._told.values() for url, reason in told.items()}

    async def offer(self) -> Offer:
        """A new offer, for one peer. It can be accepted for `OFFER_TIME` seconds.

        `TransportError` when there are too many, or the worker is not available now.
        """
        if self._count(_Stage.OFFERED) >= self.config.max_offers:
            raise TransportError("WebRTC: too many offers wait for an answer")
        record = self._begin()
        sdp = await self._make(record, MakeOffer(record.number))
        record.stage = _Stage.OFFERED
        self._nursery.start_soon(self._expire, record, OFFER_TIME)
        return Offer(record.number, sdp)

    async def accept(self, connection: int, answer_sdp: str) -> PeerStream:
        """Take a peer's answer to an offer: the stream, once its data channel is open.

        `TransportError` when the offer is over or was answered already, when the answer is no
        description of a data channel (then the offer still stands), or no channel opens within
        `OPEN_TIME`. Given up (also by cancellation), the connection is forgotten.
        """
        record = self._records.get(connection)
        if record is None or record.stage is not _Stage.OFFERED:
            raise TransportError("WebRTC: an answer to no offer of ours")
        _check(answer_sdp)
        record.link.send(AcceptAnswer(connection, answer_sdp))
        record.stage = _Stage.OPENING
        return await self.wait_open(record)

    async def answer(self, offer_sdp: str) -> Answer:
        """Answer a peer's offer. `TransportError` as for `offer`, and for a bad description."""
        _check(offer_sdp)
        record = self._begin()
        sdp = await self._make(record, AnswerOffer(record.number, offer_sdp))
        if record.stage is _Stage.MAKING:
            record.stage = _Stage.OPENING
        # for an answer whose stream nobody waits for
        self._nursery.start_soon(self._expire, record, 2 * OPEN_TIME)
        return Answer(record, sdp, self)

    async def wait_open(self, record: _Record) -> PeerStream:
        """The stream of an answered connection; `Answer.stream` and `accept` call it."""
        if record.stage is not _Stage.OPENING:
            raise TransportError("WebRTC: the connection was given up")
        try:
            with trio.fail_after(OPEN_TIME):
                stream = await record.stream.wait()
        except trio.TooSlowError:
            why = "".join(f"; {url} {reason}" for url, reason in self.troubles.items())
            raise TransportError(f"WebRTC: not open within {OPEN_TIME:.0f} s{why}") from None
        else:
            record.stage = _Stage.OPEN
            return stream
        finally:
            if record.stage is not _Stage.OPEN:
                self._forget(record)

    def forget(self, connection: int) -> None:
        """Nobody wants this connection any more; one whose stream was given is left alone."""
        record = self._records.get(connection)
        if record is not None and record.stage is not _Stage.OPEN:
            self._forget(record)

    def statistics(self) -> RtcStatistics:
        """The state at this moment."""
        return RtcStatistics(
            workers=tuple(link.pid for link in self._links if link.pid is not None),
            restarts=self._restarts,
            connections=len(self._records),
            offers=self._count(_Stage.OFFERED),
            open=self._count(_Stage.OPEN),
            trouble="; ".join(f"{url} {reason}" for url, reason in self.troubles.items()),
        )

    def _count(self, stage: _Stage) -> int:
        return sum(record.stage is stage for record in self._records.values())

    def _begin(self) -> _Record:
        if len(self._records) >= self.config.max_connections:
            raise TransportError("WebRTC: too many connections")
        link = self._worker()
        self._last_number += 1
        record = self._records[self._last_number] = _Record(self._last_number, link)
        return record

    async def _make(self, record: _Record, request: ToWorker) -> str:
        """Ask for a description and wait for it."""
        made = False
        try:
            record.link.send(request)
            with trio.fail_after(MAKE_TIME):
                sdp = await record.sdp.wait()
            made = True
            return sdp
        except trio.TooSlowError:
            raise TransportError(f"WebRTC: no description within {MAKE_TIME:.0f} s") from None
        finally:
            if not made:
                self._forget(record)

    async def _expire(self, record: _Record, seconds: float) -> None:
        stage = record.stage
        await trio.sleep(seconds)
        if record.stage is stage and record.number in self._records:
            self._forget(record)

    def _forget(self, record: _Record) -> None:
        if record.stage is _Stage.FORGOTTEN:
            return
        record.fail("the connection was given up")
        record.stage = _Stage.FORGOTTEN
        if record.number in self._records:
            with contextlib.suppress(TransportError):  # it is stuck, and will be killed
                record.link.send(Forget(record.number))

    def _worker(self) -> WorkerLink:
        if self._closed:
            raise TransportError("WebRTC: closed")
        least = min(self._links, key=self._load, default=None)
        if least is not None and (
            self._load(least) < BUSY or len(self._links) >= self._most_workers
        ):
            return least
        pause = self._not_before - trio.current_time()
        if pause <= 0:
            told: dict[str, str] = {}
            least = self._make_worker(self.config, partial(self._on_message, told))
            self._links.append(least)
            self._told[least] = told
            self._nursery.start_soon(self._run_worker, least)
        elif least is None:
            raise TransportError(f"WebRTC: its worker died and starts again in {pause:.1f} s")
        return least

    def _load(self, link: WorkerLink) -> int:
        """How many connections keep a worker busy; offers that wait do not."""
        busy = (_Stage.MAKING, _Stage.OPENING, _Stage.OPEN)
        return sum(
            record.link is link and record.stage in busy for record in self._records.values()
        )

    async def _run_worker(self, link: WorkerLink) -> None:
        began = trio.current_time()
        try:
            reason = await link.run()
        except Exception:  # a bug of ours must cost WebRTC, not the mount
            log.exception("a bug in the talk with the WebRTC worker")
            reason = "is lost"
        finally:
            self._links.remove(link)
            del self._told[link]
            lost = [each for each in self._records.values() if each.link is link]
            for record in lost:
                del self._records[record.number]
                record.fail("the worker is gone")
        now = trio.current_time()
        self._deaths = 1 if now - began >= STEADY else self._deaths + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._deaths - 1, 20))
        self._not_before = now + pause
        self._restarts += 1
        log.warning(
            "the WebRTC worker %s: its peers are lost; it can start again in %.1f s", reason, pause
        )
        self.on_lost([record.number for record in lost], 0.0 if self._links else pause)

    def close(self) -> None:
        """No request is taken any more; `open_webrtc` does it at its end."""
        self._closed = True

    def _on_message(self, told: dict[str, str], message: Message, descriptor: int) -> None:
        """A worker said something; a descriptor is ours to close. `told`: of servers, by it."""
        stream = None
        if descriptor >= 0:
            if isinstance(message, Opened):
                connected = socket.socket(fileno=descriptor)
                connected.setblocking(False)
                stream = ChannelStream(connected, (message.host, message.port))
            else:
                os.close(descriptor)
        if isinstance(message, ServerTold):
            self._on_server(told, message.url, message.reason)
        record = self._records.get(getattr(message, "connection", -1))
        if record is None:
            if stream is not None:
                stream.abort()
            return
        if isinstance(message, OfferMade | AnswerMade):
            record.sdp.put(message.sdp)
        elif isinstance(message, Opened):
            if stream is not None and not record.stream.put(stream):
                stream.abort()
        elif isinstance(message, Failed):
            record.fail(message.reason)
        elif isinstance(message, Ended):
            del self._records[record.number]
            record.fail("the connection was closed")

    def _on_server(self, told: dict[str, str], url: str, reason: str) -> None:
        """A worker found out about a STUN or TURN server; each tells what it finds."""
        if url not in self.config.stun and all(url != each.url for each in self.config.turn):
            return
        if not reason:
            if [each.pop(url) for each in self._told.values() if url in each]:
                log.info("WebRTC: %s answers again", url)
            return
        told[url] = reason
        if (url, reason) not in self._warned and len(self._warned) < MAX_WARNINGS:
            self._warned.add((url, reason))
            log.warning("WebRTC: %s %s", url, reason)

    def __repr__(self) -> str:
        return f"<WebRtc {len(self._records)} connections>"


def _check(sdp: str) -> None:
    """Refuse what is no description of a data channel before it goes anywhere."""
    if not is_sdp(sdp):
        raise TransportError("WebRTC: no text, or over the size of a session description")
    try:
        parse(sdp)
    except RemoteProtocolError as error:
        raise TransportError(f"WebRTC: {error}") from error


@asynccontextmanager
async def open_webrtc(
    config: RtcConfig, make_worker: MakeWorker = WorkerProcess
) -> AsyncIterator[WebRtc]:
    """WebRTC for as long as the context lasts; no process runs before something is asked."""
    async with trio.open_nursery() as nursery:
        rtc = WebRtc(config, nursery, make_worker)
        try:
            yield rtc
        finally:
            rtc.close()
            nursery.cancel_scope.cancel()
