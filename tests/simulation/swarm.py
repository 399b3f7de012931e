"""A swarm in virtual time: sources with a path, readers with habits, and the real scheduling.

No trio, no sockets, no bytes: blocks are numbers, time is a heap. A source is a queue behind half a
round trip; it sends one block after the other at its bandwidth, with jitter if asked, may stall,
die, choke or lie. A cancel travels like a request and removes what has not begun to be sent; but a
source that is `eager`, as real ones are, has put what it was asked for into its socket by then.
One with a `limit` sends what it is granted at its full rate, as libtorrent does: see `Allowance`.
With `by_block` a block is readable as it is here (BEP 52: its hash came before it).
A web seed answers `lanes` requests at once, which share its bandwidth.
Readers are generators that yield ("read", file, offset, size) or ("sleep", seconds).
"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

from torrentfs.metainfo.geometry import BLOCK_LENGTH, Geometry, Span
from torrentfs.scheduling.background import Background
from torrentfs.scheduling.picker import Picker, PickerConfig, Request, SourceKind
from torrentfs.scheduling.readheads import ReadAheadConfig, ReadHeads

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from random import Random

MIB = 1024 * 1024
TICK = 0.5
"""Seconds between two fillings of a limited source's bucket."""
Reader = "Generator[tuple, None, None]"


class Allowance:
    """What a source with an upload limit may send: libtorrent's bandwidth_manager in short.

    A connection that has something to send asks for all of it, or for what it sent in a second of
    late if that is more. It is given that at once only if a second's worth remains in the bucket;
    else the request waits, and twice a second gets what has flowed into the bucket, until it has
    all: then it may send the whole of it, in one burst. The bucket saves three seconds.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.rate = 0.0
        """Bytes per second sent, averaged over five."""
        self._bucket = 0.0
        self._granted = 0.0
        self._asked = 0.0
        self._assigned = 0.0
        self._sent = 0.0

    def save(self, amount: float) -> None:
        """Fill the bucket: small messages waited for it, and left most of it."""
        self._bucket = amount

    def may_send(self, queued: float) -> bool:
        """With `queued` bytes to send: may the first go?"""
        if not self.limit:
            return True
        if not self._asked:
            asked = max(queued, self.rate) - self._granted
            if asked > 0.0:
                if self._bucket - asked >= self.limit:
                    self._bucket -= asked
                    self._granted += asked
                else:
                    self._asked = asked
        return self._granted > 0.0

    def on_sent(self, length: int) -> None:
        """So many bytes have gone."""
        self._granted -= length
        self._sent += length

    def on_tick(self, second: bool) -> None:
        """Half a second has passed; `second`: a whole one."""
        if second:
            self.rate += (self._sent - self.rate) / 5.0
            self._sent = 0.0
        if self._asked:
            self._bucket = min(self._bucket + self.limit * TICK, 3.0 * self.limit)
            more = min(self._bucket, self._asked - self._assigned)
            self._bucket -= more
            self._assigned += more
            if self._assigned >= self._asked:
                self._granted += self._assigned
                self._asked = self._assigned = 0.0


class SimSource:
    """A peer (or web seed) with `rate` bytes per second and `rtt` seconds."""

    def __init__(
        self,
        *,
        rtt: float,
        rate: float,
        kind: SourceKind = SourceKind.PEER,
        reqq: int = 500,
        jitter: float = 0.0,
        stalls: tuple[tuple[float, float], ...] = (),
        dies_at: float | None = None,
        lies: bool = False,
        fast: bool = True,
        pieces: range | None = None,
        eager: bool = False,
        limit: float = 0.0,
        lanes: int = 3,
    ) -> None:
        self.rtt, self.rate, self.kind, self.reqq = rtt, rate, kind, reqq
        self.jitter, self.stalls, self.dies_at, self.lies = jitter, stalls, dies_at, lies
        self.fast, self.pieces, self.eager, self.limit = fast, pieces, eager, limit
        self.lanes = lanes
        self.allowance = Allowance(limit)
        self.queue: deque[Request] = deque()
        self.sending = False
        self.alive = True
        self.sent = 0
        self.spans: dict[tuple[int, int], deque[Request]] = {}
        """What is still to be sent of the spans of a web seed."""

    def next_request(self) -> Request | None:
        """What it sends now: of several spans a block of each in turn."""
        if self.queue:
            return self.queue.popleft()
        for span, requests in self.spans.items():
            if requests:
                self.spans[span] = self.spans.pop(span)
                return requests.popleft()
        return None


class Swarm:
    """The engine's part, made of callbacks; run it with `run`."""

    def __init__(
        self,
        *,
        piece_length: int = MIB,
        lengths: tuple[int, ...] = (1024 * MIB,),
        rng: Random,
        config: PickerConfig | None = None,
        readahead: ReadAheadConfig | None = None,
        by_block: bool = False,
    ) -> None:
        self.geometry = Geometry(piece_length, lengths)
        self.by_block = by_block
        self.heads = ReadHeads(self.geometry, readahead, (lambda piece: True) if by_block else None)
        self.picker = Picker(self.geometry, config)
        self.background = Background(self.geometry)
        self.rng = rng
        self.now = 0.0
        self.sources: dict[int, SimSource] = {}
        self.stored: set[int] = set()
        self.tainted: set[int] = set()
        self.hash_failures = 0
        self.banned: list[int] = []
        self.latencies: dict[str, list[tuple[float, float]]] = {}
        self.finished: dict[str, float] = {}
        self.consumed: dict[str, int] = {}
        self.running = 0
        self._events: list = []
        self._order = count()
        self._versions = (-1, -1)
        self._waiting: list = []
        self._timer: float | None = None

    # --- time ------------------------------------------------------------------------------

    def at(self, when: float, call: Callable, *args: object) -> None:
        heapq.heappush(self._events, (when, next(self._order), call, args))

    def run(self, until: float = 600.0, *, while_readers: bool = True) -> None:
        self._pump()
        while self._events and (self.running or not while_readers):
            if self._events[0][0] > until:
                self.now = until
                return
            when, _, call, args = heapq.heappop(self._events)
            self.now = max(self.now, when)
            call(*args)
            # whatever happens at the same instant is one wake-up of the engine
            while self._events and self._events[0][0] <= self.now:
                _, _, call, args = heapq.heappop(self._events)
                call(*args)
            self._pump()

    # --- sources ---------------------------------------------------------------------------

    def add(self, source: SimSource) -> int:
        name = len(self.sources) + 1
        self.sources[name] = source
        limit = source.reqq if source.kind is SourceKind.PEER else source.lanes
        self.picker.add_source(name, source.kind, self.now, max_queue=limit)
        if source.kind is SourceKind.PEER:
            if source.pieces is None:
                self.picker.on_have_all(name)
            else:
                for piece in source.pieces:
                    self.picker.on_have(name, piece)
            self.picker.on_unchoke(name, self.now)
        if source.limit:
            source.allowance.save(self.rng.uniform(0.0, source.limit))
            self.at(self.rng.uniform(0.0, TICK), self._refill, name, False)
        if source.dies_at is not None:
            self.at(source.dies_at, self.kill, name)
        return name

    def kill(self, name: int) -> None:
        if self.sources[name].alive:
            self.sources[name].alive = False
            self.picker.remove_source(name, self.now)

    def _serve(self, name: int) -> None:
        source = self.sources[name]
        if source.sending or not source.alive:
            return
        for begin, end in source.stalls:
            if begin <= self.now < end:
                self.at(end, self._serve, name)
                return
        queued = sum(request.length for request in source.queue)
        if not source.allowance.may_send(queued):
            return
        request = source.next_request()
        if request is None:
            return
        source.allowance.on_sent(request.length)
        source.sending = True
        spent = request.length / source.rate
        if source.jitter:
            spent *= 1.0 + self.rng.uniform(-source.jitter, source.jitter)
        self.at(self.now + spent, self._sent, name, request)

    def _refill(self, name: int, second: bool) -> None:
        self.sources[name].allowance.on_tick(second)
        self._serve(name)
        self.at(self.now + TICK, self._refill, name, not second)

    def _sent(self, name: int, request: Request) -> None:
        source = self.sources[name]
        source.sending = False
        source.sent += request.length
        self.at(self.now + source.rtt / 2, self._arrived, name, request)
        self._serve(name)

    def _enqueue(self, name: int, requests: list[Request]) -> None:
        self.sources[name].queue.extend(requests)
        self._serve(name)

    def _cancelled(self, name: int, request: Request) -> None:
        queue = self.sources[name].queue
        if request in queue and not self.sources[name].eager:
            queue.remove(request)
            if self.sources[name].fast:
                rtt = self.sources[name].rtt
                self.at(self.now + rtt / 2, self._rejected, name, request)

    def _rejected(self, name: int, request: Request) -> None:
        if self.sources[name].alive:
            self.picker.on_reject(name, request, self.now)

    def _arrived(self, name: int, request: Request) -> None:
        source = self.sources[name]
        if not source.alive:
            return
        verdict = self.picker.on_block(name, *request, self.now)
        if verdict.wanted and source.lies:
            self.tainted.add(request.piece)
        if verdict.piece_complete:
            if request.piece in self.tainted:
                self._failed(request.piece)
            else:
                self.picker.on_stored(request.piece)
                self.stored.add(request.piece)
                self.background.on_stored(request.piece)
        self._end_spans(name)
        if source.kind is SourceKind.PEER:
            self._ask(name)
        else:
            self._ask_span(name)

    def _end_spans(self, name: int) -> None:
        """End the requests to a web seed of which nothing is wanted any more, or all is here."""
        source = self.sources[name]
        for span, requests in list(source.spans.items()):
            if not self.picker.wants_span(name, *span):
                self.picker.on_span_done(name, *span, self.now)
                del source.spans[span]
                requests.clear()

    def _failed(self, piece: int) -> None:
        self.hash_failures += 1
        origins = set(self.picker.origins(piece))
        self.picker.on_failed(piece)
        self.tainted.discard(piece)
        if len(origins) == 1:
            guilty = origins.pop()
            assert guilty is not None
            assert self.sources[guilty].lies
            self.banned.append(guilty)
            self.kill(guilty)

    # --- the engine's loop -----------------------------------------------------------------

    def _pump(self) -> None:
        self._advance_readers()
        if (self.heads.version, self.background.version) != self._versions:
            self._versions = self.heads.version, self.background.version
            agenda = self.background.below(self.heads.agenda(self.now), self.picker.ledger.stored)
            self.picker.set_agenda(agenda, self.now)
        for name, request in self.picker.take_cancels():
            source = self.sources[name]
            if source.kind is SourceKind.PEER:
                self.at(self.now + source.rtt / 2, self._cancelled, name, request)
            elif source.alive:
                self._end_spans(name)
        for name in self.picker.to_wake(self.now):
            if self.sources[name].kind is SourceKind.PEER:
                self._ask(name)
            else:
                self._ask_span(name)
        wake = self.picker.next_wakeup(self.now)
        if wake is not None and (self._timer is None or self._timer <= self.now):
            self._timer = max(wake, self.now + 0.001)
            self.at(self._timer, lambda: None)
        change = self.heads.next_change(self.now)
        if change is not None and change <= self.now:
            self._versions = (-1, -1)

    def _ask(self, name: int) -> None:
        if not self.sources[name].alive:
            return
        requests = self.picker.pick(name, self.now)
        if requests:
            self.at(self.now + self.sources[name].rtt / 2, self._enqueue, name, requests)

    def _ask_span(self, name: int) -> None:
        if not self.sources[name].alive:
            return
        source = self.sources[name]
        while (span := self.picker.pick_span(name, self.now)) is not None:
            source.spans[span] = deque()
            self.at(self.now + source.rtt / 2, self._enqueue_span, name, span)

    def _enqueue_span(self, name: int, span: tuple[int, int]) -> None:
        requests = self.sources[name].spans.get(span)
        if requests is None:
            return
        requests.extend(
            Request(piece, begin + n, min(BLOCK_LENGTH, length - n))
            for piece, begin, length in self.geometry.spans(*span)
            for n in range(0, length, BLOCK_LENGTH)
        )
        self._serve(name)

    # --- readers ---------------------------------------------------------------------------

    def read_with(self, name: str, steps: Generator) -> None:
        """Start a reader now."""
        self.latencies[name] = []
        self.consumed[name] = 0
        self.running += 1
        self._step(name, steps)

    def _step(self, name: str, steps: Generator) -> None:
        while True:
            try:
                what = next(steps)
            except StopIteration:
                self.finished[name] = self.now
                self.running -= 1
                return
            if what[0] == "sleep":
                self.at(self.now + what[1], self._step, name, steps)
                return
            _, file, offset, size = what
            self.heads.on_read(file, offset, size, self.now)
            need = list(self.geometry.file_spans(file, offset, size))
            if self._is_here(need):
                self.latencies[name].append((self.now, 0.0))
                self.consumed[name] += size
                continue
            token = self.heads.park(file, offset, size, self.now + 120.0, self.now)
            self._waiting.append((need, token, self.now, name, size, steps))
            return

    def _is_here(self, need: list[Span]) -> bool:
        for piece, begin, length in need:
            if piece in self.stored:
                continue
            blocks = (1 << -(-(begin + length) // BLOCK_LENGTH)) - (1 << begin // BLOCK_LENGTH)
            if not self.by_block or blocks & ~self.picker.received_of(piece):
                return False
        return True

    def _advance_readers(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            need, token, since, name, size, steps = entry
            if self._is_here(need):
                self.heads.unpark(token, self.now)
                self.latencies[name].append((since, self.now - since))
                self.consumed[name] += size
                self._step(name, steps)
            else:
                self._waiting.append(entry)


def copy(size: int, *, file: int = 0, start: int = 0, step: int = 131072) -> Generator:
    """`cp`: as fast as it comes."""
    for offset in range(start, start + size, step):
        yield ("read", file, offset, min(step, start + size - offset))


def play(rate: float, seconds: float, *, start: int = 0, step: int = 131072) -> Generator:
    """A player that drains `rate` bytes per second with no buffer of its own."""
    for n in range(int(rate * seconds / step)):
        yield ("read", 0, start + n * step, step)
        yield ("sleep", step / rate)
