"""Which source is asked for which block now: facts in, requests and cancels out. Pure.

The engine tells facts (`on_*`), gives the agenda, and asks: `pick(source)` when that source may
have room (it delivered, it was unchoked), `to_wake` for the sources that should pick because
something else happened, `take_cancels` for what must be taken back, `next_wakeup` for when to look
again if nothing happens. Send cancels before requests: a peer answers in order.

Picking is centred on the piece, not on the source: a source that comes for work first asks "what is
wanted most that I have", and for an urgent piece "would the others be done before I could start".

1. *Urgent* pieces (a read waits), by agenda order: the source takes its share (`urgency.share`), so
   that all who have the piece finish together. A piece whose hash failed goes to one source only.
2. *Late* blocks of urgent pieces, asked elsewhere, are asked again here (`urgency.is_late`),
   within a budget of waste.
3. *Ahead* (windows, then hints), by agenda order. A source that is far slower than the best one
   leaves the front alone and takes what is needed only when it could deliver it.

Invariants (held by tests/scheduling/test_picker_properties.py): a block is in exactly one state;
nobody is asked for what he lacks, beyond his depth, or for what nobody wants; a withdrawn piece
leaves nothing in flight; a dead source leaves no block behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling import hedging, sharing, spans
from torrentfs.scheduling.agenda import Agenda, Level, Want
from torrentfs.scheduling.ledger import Ledger, OpenPiece, Request
from torrentfs.scheduling.report import (
    BlockVerdict,
    PickerConfig,
    PickerStatistics,
    SourceStatistics,
)
from torrentfs.scheduling.source import MAX_ALLOWED_FAST, Source, SourceId, SourceKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.metainfo.geometry import Geometry

__all__ = [
    "BlockVerdict", "Level", "Picker", "PickerConfig", "PickerStatistics", "Request", "SourceId",
    "SourceKind", "SourceStatistics", "Want",
]  # fmt: skip


_WANTED = BlockVerdict(True, False)
_COMPLETE = BlockVerdict(True, True)
_UNWANTED = BlockVerdict(False, False)


class Picker:
    """The decisions of one torrent. All methods are called from one task at a time."""

    def __init__(
        self,
        geometry: Geometry,
        config: PickerConfig | None = None,
        stored: Bitfield | None = None,
    ) -> None:
        """`stored`: what we have from earlier (copied); later pieces come by `on_stored`."""
        self.geometry = geometry
        self.config = config or PickerConfig()
        self.ledger = Ledger(geometry)
        if stored is not None:
            self.ledger.stored = stored.copy()
        self.received = 0
        self.wasted = 0
        self.duplicates = 0
        """The part of `wasted` that was nobody's lie: what hedging costs."""
        self.hedged = 0
        self._sources = self.ledger.sources
        self._urgent: Sequence[Want] = ()
        self._rest: Sequence[Want] | None = None
        self._idle: dict[int, None] = {}
        self._idle_bytes = 0
        self._dropped: list[int] = []
        self._attention = False
        self._hedge_at = 0.0
        self._ramp_at = float("inf")
        self._front_speed = (0.0, 0.0, -1.0)

    # --- sources ---------------------------------------------------------------------------

    def add_source(self, source: SourceId, kind: SourceKind, now: float, *, max_queue: int) -> None:
        """A connection was made. `max_queue`: its reqq; for a web seed, spans at once."""
        if source in self._sources:
            raise ValueError(f"source {source} exists")
        limit = max(1, min(max_queue, self.config.max_queue))
        if kind is SourceKind.WEB_SEED:
            limit = max(1, max_queue)
        new = Source(source, kind, self.geometry.num_pieces,
                     initial=self.config.initial_queue, limit=limit)  # fmt: skip
        self._sources[source] = new
        if kind is SourceKind.WEB_SEED:
            self._count_lacking(new)
            self._attention = True

    def set_max_queue(self, source: SourceId, max_queue: int) -> None:
        """Its reqq became known (BEP 10 handshake comes after the first messages)."""
        self._sources[source].pace.limit = max(1, min(max_queue, self.config.max_queue))

    def remove_source(self, source: SourceId, now: float) -> None:
        """The connection is gone; what was in flight to it is free again."""
        gone = self._sources[source]
        self._release_all(gone)
        del self._sources[source]
        for piece in self.ledger.open.values():
            if piece.sole == source:
                piece.sole = None
        self._attention = True

    def on_bitfield(self, source: SourceId, pieces: Bitfield) -> None:
        """What it has, all at once."""
        known = self._sources[source]
        known.has = pieces.copy()
        known.has_all = pieces.complete
        self._has_changed(known)

    def on_have_all(self, source: SourceId) -> None:
        """It is a seed."""
        known = self._sources[source]
        known.has.fill()
        known.has_all = True
        self._has_changed(known)

    def on_have(self, source: SourceId, piece: int) -> None:
        """It got one more. `IndexError` outside the torrent."""
        known = self._sources[source]
        if known.has_all or not known.has.add(piece):
            return
        known.has_all = known.has.complete
        if piece not in self.ledger.stored:
            known.lacking += 1
        if self.ledger.is_wanted(piece):
            known.forget_reach()
            self._attention = True

    def on_dont_have(self, source: SourceId, piece: int) -> None:
        """It lost one (BEP 54); what was asked of it there is free again."""
        known = self._sources[source]
        if known.has_all:
            known.has = Bitfield.full(self.geometry.num_pieces)
            known.has_all = False
        if not known.has.discard(piece):
            return
        known.forget_reach()
        known.lacking -= piece not in self.ledger.stored
        per = self.ledger.per_piece
        for block_id in [b for b in known.in_flight if b // per == piece]:
            self.ledger.release(known, block_id)
        self._unsole(known)

    def _has_changed(self, source: Source) -> None:
        source.forget_reach()
        self._count_lacking(source)
        self._attention = True

    def _count_lacking(self, source: Source) -> None:
        if source.has_all:
            source.lacking = self.geometry.num_pieces - len(self.ledger.stored)
        else:
            theirs = int.from_bytes(bytes(source.has))
            source.lacking = (theirs & ~int.from_bytes(bytes(self.ledger.stored))).bit_count()

    def on_unchoke(self, source: SourceId, now: float) -> None:
        """It serves us now."""
        known = self._sources[source]
        known.choking = False
        known.avoid.clear()
        known.forget_reach()
        self._attention = True

    def on_choke(self, source: SourceId, now: float, keeps_requests: bool) -> None:
        """It stopped serving. Without the fast extension the queue is gone (BEP 3); with it each
        request will be answered or rejected (BEP 6)."""
        known = self._sources[source]
        known.choking = True
        known.forget_reach()
        if not keeps_requests:
            self._release_all(known)
            known.cancelled.clear()
        self._unsole(known)
        self._attention = True

    def on_allowed_fast(self, source: SourceId, piece: int) -> None:
        """It serves this piece even while choking (BEP 6)."""
        known = self._sources[source]
        if len(known.allowed) < MAX_ALLOWED_FAST and 0 <= piece < self.geometry.num_pieces:
            known.allowed.add(piece)
            known.forget_reach()
            self._attention = True

    def on_reject(self, source: SourceId, request: Request, now: float) -> None:
        """It will not answer one request (BEP 6). Asking again at once would loop: the piece is
        left to others for half a second."""
        known = self._sources[source]
        if request.begin % BLOCK_LENGTH or not 0 <= request.piece < self.geometry.num_pieces:
            return
        block_id = request.piece * self.ledger.per_piece + request.begin // BLOCK_LENGTH
        if block_id not in known.in_flight:
            known.cancelled.pop(block_id, None)
            return
        self.ledger.release(known, block_id)
        known.allowed.discard(request.piece)
        if not known.choking:
            known.avoid.add(request.piece)
            known.avoid_until = now + 0.5
        known.forget_reach()
        self._unsole(known)

    def _release_all(self, source: Source) -> None:
        for block_id in list(source.in_flight):
            self.ledger.release(source, block_id)
        source.spans.clear()

    def _unsole(self, source: Source) -> None:
        for piece in self.ledger.open.values():
            if piece.sole == source.name and not source.serves(piece.number):
                piece.sole = None
                self._attention = True

    def _unsole_snubbed(self, source: Source) -> None:
        for piece in self.ledger.open.values():
            if piece.sole == source.name:
                piece.sole = None

    # --- pieces ----------------------------------------------------------------------------

    def on_stored(self, piece: int) -> None:
        """We have it, verified."""
        if not self.ledger.stored.add(piece):
            return
        for source in self._sources.values():
            if source.has_all or piece in source.has:
                source.lacking -= 1
        self.ledger.urgent.set_free(piece, False)
        self.ledger.ahead.set_free(piece, False)
        self._forget(piece)

    def on_lost(self, piece: int) -> None:
        """Evicted or damaged. It is fetched again if a read waits for it, or from the next
        agenda on: the lagging edge of a window is no reason to fetch what was just evicted."""
        if not self.ledger.stored.discard(piece):
            return
        for source in self._sources.values():
            if source.has_all or piece in source.has:
                source.lacking += 1
        if any(want.piece == piece for want in self._urgent):
            self._fill_urgent()
            self._attention = True
        self.ledger.ahead.set_free(piece, False)
        self._rest = None  # the next agenda is looked at anew

    def on_failed(self, piece: int) -> None:
        """Its hash is wrong: all blocks are free again, to be had from one source if possible."""
        failed = self.ledger.open.get(piece)
        if failed is None:
            return
        size = failed.received.bit_count() * BLOCK_LENGTH
        self.wasted += min(size, failed.size)
        self.ledger.restart(failed)
        if not self.ledger.is_wanted(piece):
            self._forget(piece)
        self._attention = True

    def origins(self, piece: int) -> list[SourceId | None]:
        """Per block, the source that gave it (or was asked for it); None: neither."""
        found = self.ledger.open.get(piece)
        return list(found.by) if found else [None] * self.geometry.num_blocks(piece)

    def partial_pieces(self) -> list[int]:
        """Open pieces of which something has come."""
        return [number for number, piece in self.ledger.open.items() if piece.received]

    def take_dropped(self) -> list[int]:
        """Idle partial pieces given up since the last call: their buffers may go."""
        dropped, self._dropped = self._dropped, []
        return [number for number in dropped if number not in self.ledger.open]

    def _forget(self, number: int) -> None:
        if number in self._idle:
            del self._idle[number]
            self._idle_bytes -= self.ledger.open[number].size
        self.ledger.close(number)

    # --- demand ----------------------------------------------------------------------------

    def set_agenda(self, wants: Sequence[Want], now: float) -> None:
        """Replace the demand; what nobody wants any more is withdrawn and cancelled."""
        agenda = wants if isinstance(wants, Agenda) else Agenda.of(wants)
        ledger = self.ledger
        leaving: list[int] = []
        if agenda.urgent is not self._urgent:
            self._urgent = agenda.urgent
            leaving.extend(ledger.urgent.pieces)
            self._fill_urgent()
            self._hedge_at = 0.0
        if agenda.rest is not self._rest:
            self._rest = agenda.rest
            leaving.extend(ledger.ahead.pieces)
            stored = ledger.stored
            listed = dict.fromkeys(want.piece for want in agenda.rest)
            ledger.ahead.fill([piece for piece in listed if piece not in stored], ledger)
        opened = ledger.open
        for number in leaving:
            if number in opened and number not in self._idle and not ledger.is_wanted(number):
                self._retire(opened[number])
        if self._idle:
            for lane in (ledger.urgent, ledger.ahead):
                for number in lane.position.keys() & self._idle.keys():
                    del self._idle[number]
                    self._idle_bytes -= opened[number].size
            self._bound_idle()
        if ledger.urgent.free or ledger.ahead.free:
            self._attention = True

    def _fill_urgent(self) -> None:
        stored = self.ledger.stored
        listed = dict.fromkeys(want.piece for want in self._urgent)
        self.ledger.urgent.fill([piece for piece in listed if piece not in stored], self.ledger)

    def _retire(self, piece: OpenPiece) -> None:
        """Nobody wants it now. What has come is kept for a while, and what is on the way."""
        if piece.in_flight or piece.received:
            self.ledger.withdraw(piece)
            self._idle[piece.number] = None
            self._idle_bytes += piece.size
        else:
            self._forget(piece.number)
            self._dropped.append(piece.number)

    def _bound_idle(self) -> None:
        config = self.config
        for number in list(self._idle):
            if (
                len(self._idle) <= config.max_idle_partials
                and self._idle_bytes <= config.max_idle_bytes
            ):
                return
            piece = self.ledger.open[number]
            if piece.received != piece.full:  # a whole one is being verified: soon stored
                self._forget(number)
                self._dropped.append(number)

    # --- blocks ----------------------------------------------------------------------------

    def on_block(
        self, source: SourceId, piece: int, begin: int, length: int, now: float
    ) -> BlockVerdict:
        """A block has come. The hot path: about a microsecond."""
        known = self._sources[source]
        ledger = self.ledger
        block = begin >> 14
        block_id = piece * ledger.per_piece + block
        found = ledger.open.get(piece)
        sent = known.in_flight.get(block_id)
        if (
            found is None
            or begin & 16383
            or (length != BLOCK_LENGTH and length != found.block_length(block))
            or begin + length > found.size
        ):
            return self._waste(known, length)
        if sent is None:
            if block_id not in known.cancelled:
                return self._waste(known, length)
            del known.cancelled[block_id]
            if found.received >> block & 1:
                return self._waste(known, length)
        else:
            del known.in_flight[block_id]
            known.pace.on_block(sent, length, now)
        known.snubbed = False
        ledger.receive(known, found, block)
        known.received += length
        self.received += length
        return _COMPLETE if found.received == found.full else _WANTED

    def _waste(self, source: Source, length: int) -> BlockVerdict:
        source.wasted += length
        self.wasted += length
        self.duplicates += length
        return _UNWANTED

    def is_owing(self, source: SourceId) -> bool:
        """Whether it has yet to bring what it was asked for, or was silent when last asked."""
        known = self._sources.get(source)
        return known is not None and (known.snubbed or bool(known.in_flight))

    def pick(self, source: SourceId, now: float) -> list[Request]:
        """What to ask of this peer now; [] when its queue is full, nothing of it is wanted, or
        others will deliver sooner."""
        known = self._sources[source]
        ledger = self.ledger
        queued = len(known.in_flight)
        room = (1 if known.snubbed else known.pace.depth()) - queued
        if not known.usable or (room <= 0 and not known.pace.growing):
            return []
        asked: list[Request] = []
        candidates = ledger.urgent.free & known.reach(ledger.urgent)
        while candidates:
            low = candidates & -candidates
            candidates ^= low
            piece = ledger.opened(ledger.urgent.pieces[low.bit_length() - 1])
            most = sharing.share_of(self, known, piece, room - len(asked), now)
            if most > 0:
                asked += self._ask(known, piece, most, now)
        if room > len(asked) and ledger.urgent.pieces and now >= known.hedge_at:
            # before any read-ahead: a late block holds up a reader
            known.hedge_at = now + hedging.TICK
            asked += hedging.hedge(self, known, room - len(asked), now)
        if room > len(asked):
            candidates = ledger.ahead.free & known.reach(ledger.ahead)
            if candidates:
                candidates = sharing.leave_front(self, known, candidates, now)
                ramp = known.pace.ramp(queued + len(asked), now) - queued
                if ramp < room:
                    room = ramp
                    self._ramp_at = now + hedging.RAMP_TICK
            while candidates and room > len(asked):
                low = candidates & -candidates
                candidates ^= low
                piece = ledger.opened(ledger.ahead.pieces[low.bit_length() - 1])
                if not piece.suspects or sharing.may_serve(self, known, piece):
                    asked += self._ask(known, piece, room - len(asked), now)
        return asked

    def _ask(self, source: Source, piece: OpenPiece, most: int, now: float) -> list[Request]:
        if not source.in_flight:
            source.pace.on_asked(now)
        if piece.number in self._idle:
            del self._idle[piece.number]
            self._idle_bytes -= piece.size
        return self.ledger.ask(source, piece, most, now)

    def pick_span(self, source: SourceId, now: float) -> tuple[int, int] | None:
        """(start, length) of piece space to ask of this web seed now, or None."""
        return spans.pick(self, self._sources[source], now)

    def on_span_done(self, source: SourceId, start: int, length: int, now: float) -> None:
        """The response is over, whole or not: what did not arrive is free again."""
        known = self._sources[source]
        known.spans.pop((start, length), None)
        for block_id in spans.blocks_in_flight(self.ledger, known, start, length):
            self.ledger.release(known, block_id)

    def wants_span(
        self, source: SourceId, start: int | None = None, length: int | None = None
    ) -> bool:
        """Whether anything in flight at this web seed (or of one span of it) is still wanted."""
        known = self._sources[source]
        if start is None or length is None:
            return bool(known.in_flight)
        return bool(spans.blocks_in_flight(self.ledger, known, start, length))

    # --- what else to do -------------------------------------------------------------------

    def take_cancels(self) -> list[tuple[SourceId, Request]]:
        """Requests to take back, in order. For a web seed: ask `wants_span`, abort if False."""
        cancels, self.ledger.cancels = self.ledger.cancels, []
        return cancels

    def to_wake(self, now: float) -> list[SourceId]:
        """Sources that should pick now, soonest deliverer first."""
        return hedging.to_wake(self, now)

    def next_wakeup(self, now: float) -> float | None:
        """When to call `to_wake` even if nothing happens; None: no need."""
        return hedging.next_wakeup(self, now)

    def is_interesting(self, source: SourceId) -> bool:
        """Whether it has a piece that we have not: only then may it be asked one day. This does
        not wait for demand, so that the first read finds the source unchoked."""
        return self._sources[source].lacking > 0

    def statistics(self) -> PickerStatistics:
        """Everything at this moment."""
        ledger = self.ledger
        return PickerStatistics(
            self.received, self.wasted, self.hedged, len(ledger.open), len(self._idle),
            len(ledger.urgent.pieces), len(ledger.ahead.pieces),
            sum(len(source.in_flight) for source in self._sources.values()),
            {
                name: SourceStatistics(
                    source.kind.value, source.received, source.wasted, source.hedged,
                    source.pace.rate, source.pace.rtt, len(source.in_flight),
                    source.pace.depth(), source.choking, source.snubbed,
                )
                for name, source in self._sources.items()
            },
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Picker {len(self._sources)} sources, {len(self.ledger.open)} open pieces>"
