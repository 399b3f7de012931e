"""The life of a read: file bytes out of the store, or a bounded wait for the swarm.

A read first tells the read heads where it is (they decide on read-ahead), then takes what the
store has. What is missing is *parked*: the pieces under it become urgent until the read has
its bytes, gives up or is cancelled; demand is counted, and `finally` withdraws it, so nothing is
fetched for a reader that is gone.

The wait is bounded by the time *without progress on the needed piece*, so a slow swarm may take
long but a silent one may not. It ends sooner when no source has had the piece for `UNHELD`
seconds, and at once when nothing can ever arrive. A piece that was waited for is handed over as
it was verified, so a read is answered even where the store cannot keep it. The answer is
always all the bytes asked for (up to the end of the file) or an errno: a short reply would make
the kernel believe that the file ends there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from torrentfs.engine.breaker import Breaker
from torrentfs.engine.meters import DISK, ReadMeters
from torrentfs.errors import DataUnavailable, StorageError

if TYPE_CHECKING:
    from torrentfs.metainfo.geometry import Geometry, Span
    from torrentfs.scheduling.readheads import ReadHeads
    from torrentfs.storage.base import PieceStore

log = logging.getLogger(__name__)

RECHECK = 1.0
"""Seconds between two looks of a waiting read at whether its wait still makes sense."""

UNHELD = 60.0
"""Seconds that a read waits for a piece that no source has."""

ECHO = 0.5
"""Seconds after a failed wait for a piece in which another read of it fails at once: where a
read-ahead failed the kernel asks for the one page again, in a sleep that no signal breaks."""

MAX_ECHOES = 1024

HURRY = 0.25
"""Seconds without progress that a read may wait while it is to hurry (see `Reader.hurry`): a
living source answers sooner."""


class Supply(Protocol):
    """What a reader asks of the torrent that feeds it."""

    def schedule(self, now: float) -> None:
        """Demand has changed: ask sources."""

    def progress_of(self, piece: int) -> float | None:
        """When bytes of a piece last arrived."""

    def is_held(self, piece: int) -> bool:
        """Whether a source that we know of now has the piece."""

    def why_missing(self, piece: int) -> str:
        """Why a piece is not here, in words for a log line."""

    def hopeless(self) -> str | None:
        """Why no missing byte can ever arrive, or None while one may."""

    def lost(self, piece: int) -> None:
        """The store has no longer a piece that it had."""

    def giver(self) -> str:
        """The kind of source that gave the last of what came, while `on_piece` or `on_proved`
        runs."""

    def is_proved(self, piece: int, begin: int, length: int) -> bool:
        """Whether `read_proved` gives these bytes."""

    def read_proved(self, piece: int, begin: int, length: int) -> bytes | memoryview | None:
        """Bytes of a piece that is not whole, if they were proved all the same (BEP 52)."""


class Wait(NamedTuple):
    """Bytes of a piece that a read waits for, and since when."""

    piece: int
    begin: int
    length: int
    since: float
    deadline: float
    """When the reads of the piece give up unless something of it comes."""


class Waiter:
    """The reads that wait for one piece; `data` is the piece once it came."""

    __slots__ = ("data", "deadline", "event", "giver", "readers", "since", "spans")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.data: memoryview | None = None
        self.giver = ""
        self.since = self.deadline = trio.current_time()
        self.readers = 0
        self.spans: list[Span] = []
        """What they wait for."""


class Reader:
    """Answers reads of one torrent's files."""

    def __init__(
        self,
        name: str,
        geometry: Geometry,
        store: PieceStore,
        heads: ReadHeads,
        supply: Supply,
        *,
        timeout: float,
    ) -> None:
        self._name = name
        self._geometry = geometry
        self._store = store
        self._heads = heads
        self._supply = supply
        self._waiters: dict[int, Waiter] = {}
        self._stopped: str | None = None
        self._hurry: tuple[float, str] = (float("-inf"), "")
        self._echoes: dict[int, tuple[float, str]] = {}  # piece -> until when, and why
        self.breaker = Breaker(timeout)
        """May be replaced by that of an earlier life of the torrent."""
        self.meters = ReadMeters()
        """Given by the session, which counts the reads of all torrents together."""
        self.waiting = 0
        self._seen_version = heads.version

    async def read(
        self, file: int, offset: int, size: int, *, ahead: bool = True
    ) -> bytes | memoryview:
        """Exactly the bytes `[offset, offset + size)` of `file`, clamped to its end.

        With `ahead` False this is all that its reader wants there, as he knows: it moves no read
        head, and costs what lies under it. Raises `DataUnavailable` past the time-out, at
        shutdown, or when no source is left.
        """
        size = min(size, self._geometry.file_lengths[file] - offset)
        if size <= 0:
            return b""
        now = trio.current_time()
        if ahead:
            self._heads.on_read(file, offset, size, now)
        spans = list(self._geometry.file_spans(file, offset, size))
        parts: list[bytes | memoryview] = []
        for span in spans:
            part = self._store.read_nowait(*span) or self._supply.read_proved(*span)
            if part is None:
                return await self._read_slowly(file, offset, size, spans, parts, now)
            parts.append(part)
        self._follow(now)
        self.meters.memory_reads += 1
        self.meters.memory_bytes += size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _follow(self, now: float) -> None:
        """Ask sources anew if the read heads want something else.

        Not before a read that has to wait is parked: its bytes are no longer of the window, and
        what is under way of them would be taken back, and asked for again a moment later.
        """
        if self._heads.version != self._seen_version:
            self._seen_version = self._heads.version
            self._supply.schedule(now)

    async def _read_slowly(
        self,
        file: int,
        offset: int,
        size: int,
        spans: list[Span],
        parts: list[bytes | memoryview],
        now: float,
    ) -> bytes | memoryview:
        """The rest of a read that memory alone cannot answer."""
        allowance = 0.0
        is_trial = False
        token: int | None = None
        who, began = DISK, now
        if all(span.piece in self._store.have for span in spans[len(parts) :]):
            self._follow(now)  # the disk has them: nothing will be parked
        try:
            for span in spans[len(parts) :]:
                while True:
                    if span.piece in self._store.have:
                        part = await self._from_store(span)
                        if part is not None:
                            parts.append(part)
                            break
                    proved = self._supply.read_proved(*span)
                    if proved is not None:
                        parts.append(proved)
                        break
                    self._refuse_echo(span.piece, now)  # who is refused must not be the trial
                    place = offset + sum(map(len, parts))
                    if token is None:
                        is_trial = self.breaker.begin_trial(now)
                        allowance = self.breaker.timeout if is_trial else self.breaker.allowance
                    else:
                        self._heads.unpark(token, now)
                    # anew at each wait: what we hold is not wanted any more, and what was
                    # evicted meanwhile is wanted again
                    left = offset + size - place
                    token = self._heads.park(file, place, left, now + allowance, now)
                    self._supply.schedule(now)
                    waiter = await self._wait_for(span, now, allowance)
                    now = trio.current_time()
                    who = waiter.giver or who
                    if waiter.data is not None:
                        parts.append(waiter.data[span.begin : span.begin + span.length])
                        break
        except DataUnavailable:
            if self._stopped is None:
                self.meters.failed.add(trio.current_time() - began)
            raise
        finally:
            if is_trial:
                self.breaker.end_trial(trio.current_time())
            if token is not None:
                now = trio.current_time()
                self._heads.unpark(token, now)
                self._supply.schedule(now)
        self.meters.on_answer(who, size, trio.current_time() - began)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _from_store(self, span: Span) -> bytes | memoryview | None:
        """The bytes of `span` from memory or disk, or None when the store lost the piece."""
        part = self._store.read_nowait(*span)
        if part is not None:
            return part
        try:
            return await self._store.read(*span)
        except StorageError as error:
            log.info("%s: %s; fetching the piece again", self._name, error)
            self._supply.lost(span.piece)
            return None

    async def _wait_for(self, span: Span, since: float, allowance: float) -> Waiter:
        """Wait for the span's piece. Without its `data`: look again whether it can be read.

        Raises `DataUnavailable` when it did not come in time.
        """
        piece = span.piece
        held_at = since
        waiter = self._waiters.get(piece)
        if waiter is None:
            waiter = self._waiters[piece] = Waiter()
        waiter.readers += 1
        waiter.spans.append(span)
        self.waiting += 1
        try:
            while not waiter.event.is_set():
                if self._stopped is not None:
                    raise DataUnavailable(self._stopped)
                now = trio.current_time()
                progress = max(since, self._supply.progress_of(piece) or since)
                deadline = progress + allowance
                hurry_until, hurry_reason = self._hurry
                if now < hurry_until and progress + HURRY < deadline:
                    deadline = progress + HURRY
                    if now >= deadline:
                        raise self._failure(piece, hurry_reason, now)
                if self._supply.is_held(piece):
                    held_at = now
                elif now >= held_at + UNHELD and now >= progress + UNHELD:
                    deadline = now
                if reason := self._supply.hopeless():
                    raise DataUnavailable(reason)
                if now >= deadline:
                    self.breaker.on_expired(now, piece)
                    why = self._supply.why_missing(piece)
                    words = f"no byte of it came in {now - progress:.0f} s: {why}"
                    raise self._failure(piece, words, now)
                waiter.deadline = max(waiter.deadline, deadline)
                with trio.move_on_at(min(deadline, now + RECHECK)):
                    await waiter.event.wait()
            if waiter.data is None and self._stopped is not None:
                raise DataUnavailable(self._stopped)
            return waiter
        finally:
            self.waiting -= 1
            waiter.readers -= 1
            waiter.spans.remove(span)
            if not waiter.readers and self._waiters.get(piece) is waiter:
                del self._waiters[piece]

    def _failure(self, piece: int, reason: str, now: float) -> DataUnavailable:
        """The end of a wait in vain, remembered for its echo."""
        if len(self._echoes) >= MAX_ECHOES:
            self._echoes.clear()
        self._echoes[piece] = (now + ECHO, reason)
        return DataUnavailable(reason)

    def _refuse_echo(self, piece: int, now: float) -> None:
        """Raise if a wait for `piece` has just ended in vain and nothing has come since."""
        until, reason = self._echoes.get(piece, (float("-inf"), ""))
        if now < until and (self._supply.progress_of(piece) or 0.0) <= until - ECHO:
            raise DataUnavailable(reason)

    def on_piece(self, piece: int, data: bytearray) -> None:
        """A piece was verified: hand it to the reads that wait for it."""
        waiter = self._waiters.pop(piece, None)
        if waiter is not None:
            waiter.data = memoryview(data).toreadonly()
            waiter.giver = self._supply.giver()
            waiter.event.set()

    def on_proved(self, piece: int) -> None:
        """More blocks of a piece were proved: they may be all that a read waits for."""
        waiter = self._waiters.get(piece)
        if waiter is not None and any(self._supply.is_proved(*span) for span in waiter.spans):
            del self._waiters[piece]
            waiter.giver = self._supply.giver()
            waiter.event.set()

    def waits(self) -> list[Wait]:
        """What is waited for now; reads of one piece have waited since the first of them."""
        return [
            Wait(*span, waiter.since, waiter.deadline)
            for waiter in self._waiters.values()
            for span in waiter.spans
        ]

    def fail_all(self, reason: str) -> None:
        """Fail every waiting read now and every one that would have to wait from now on."""
        self._stopped = reason
        self.look_again()

    def hurry(self, reason: str, seconds: float) -> None:
        """For so many seconds, fail reads that wait without progress: they are in the way."""
        self._hurry = (trio.current_time() + seconds, reason)
        self.look_again()

    def look_again(self) -> None:
        """Make every waiting read look again at whether its wait still makes sense."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.event.set()

    def __repr__(self) -> str:
        return f"<Reader {self._name!r} {self.waiting} waiting>"
