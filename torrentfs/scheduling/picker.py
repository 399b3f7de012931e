"""Which source is asked for which block now: facts in, requests and cancels out. Pure.

The engine tells facts (`on_*`; those of sources are in `roster`), gives the agenda, and asks:
`pick(source)` when that source may have room (it delivered, it was unchoked), `to_wake` for the
sources that should pick because something else happened, `take_cancels` for what must be taken
back, `next_wakeup` for when to look again if nothing happens. Send cancels before requests: a peer
answers in order.

Picking is centred on the piece, not on the source: a source that comes for work first asks "what is
wanted most that I have", and for an urgent piece "would the others be done before I could start".

1. *Urgent* pieces (a read waits), by agenda order: the source takes its share (`urgency.share`), so
   that all who have the piece finish together. A piece whose hash failed goes to one source only.
2. *Late* blocks of urgent pieces, asked elsewhere, are asked again here (`lateness`, `hedging`),
   within a budget of waste.
3. *Ahead* (windows, then hints), by agenda order. A source that is far slower than the best one
   leaves the front alone and takes what is needed only when it could deliver it.

Invariants (held by tests/scheduling/test_picker_properties.py): a block is in exactly one state;
nobody is asked for what he lacks, beyond his depth, or for what nobody wants; a withdrawn piece
leaves nothing in flight; a dead source leaves no block behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling import hedging, sharing, spans
from torrentfs.scheduling.agenda import Agenda, Level, Want
from torrentfs.scheduling.lateness import Look
from torrentfs.scheduling.ledger import OpenPiece, Request
from torrentfs.scheduling.report import (
    BlockVerdict,
    PickerConfig,
    PickerStatistics,
    SourceStatistics,
)
from torrentfs.scheduling.roster import Roster
from torrentfs.scheduling.source import Source, SourceId, SourceKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.metainfo.bitfield import Bitfield
    from torrentfs.metainfo.geometry import Geometry

__all__ = [
    "BlockVerdict", "Level", "Picker", "PickerConfig", "PickerStatistics", "Request", "SourceId",
    "SourceKind", "SourceStatistics", "Want",
]  # fmt: skip


_WANTED = BlockVerdict(True, False)
_COMPLETE = BlockVerdict(True, True)
_UNWANTED = BlockVerdict(False, False)


class Picker(Roster):
    """The decisions of one torrent. All methods are called from one task at a time."""

    def __init__(
        self,
        geometry: Geometry,
        config: PickerConfig | None = None,
        stored: Bitfield | None = None,
    ) -> None:
        """`stored`: what we have from earlier (copied); later pieces come by `on_stored`."""
        super().__init__(geometry, config, stored)
        self.received = 0
        self.wasted = 0
        self.duplicates = 0
        """The part of `wasted` that was nobody's lie: what hedging costs."""
        self.hedged = 0
        self._urgent: Sequence[Want] = ()
        self._rest: Sequence[Want] | None = None
        self._idle: dict[int, int] = {}
        """Pieces kept although nobody wants them, and the bytes that they cost."""
        self._idle_bytes = 0
        self._dropped: list[int] = []
        self.hedge_at = 0.0
        """When `hedging.to_wake` next looks for late blocks."""
        self.look = Look(0.0, [])
        """The late blocks that were found last."""
        self.ramp_at = float("inf")
        """When a source that was idle may be asked for more read-ahead."""
        self.front_speed = (0.0, 0.0, -1.0)
        """What `sharing.leave_front` knows of all sources, and until when it may be believed."""

    # --- pieces ----------------------------------------------------------------------------

    def on_stored(self, piece: int) -> None:
        """We have it, verified."""
        if not self.ledger.stored.add(piece):
            return
        for source in self.ledger.sources.values():
            if source.has_all or piece in source.has:
                source.lacking -= 1
        self.ledger.urgent.set_free(piece, 0)
        self.ledger.ahead.set_free(piece, 0)
        self._forget(piece)

    def on_lost(self, piece: int) -> None:
        """Evicted or damaged. It is fetched again if a read waits for it, or from the next
        agenda on: the lagging edge of a window is no reason to fetch what was just evicted."""
        if not self.ledger.stored.discard(piece):
            return
        for source in self.ledger.sources.values():
            if source.has_all or piece in source.has:
                source.lacking += 1
        if any(want.piece == piece for want in self._urgent):
            self._fill_urgent()
            self.attention = True
        self.ledger.ahead.set_free(piece, 0)
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
        self.attention = True

    def on_wrong_block(self, piece: int, block: int) -> None:
        """A block that was received is wrong for certain: free again; its giver has been named."""
        found = self.ledger.open.get(piece)
        if found is not None and found.received >> block & 1:
            self.wasted += found.block_length(block)
            self.ledger.refuse(found, block)
            if not self.ledger.is_wanted(piece) and not found.received and not found.in_flight:
                self._forget(piece)
                self._dropped.append(piece)

    def on_known(self, piece: int, blocks: int) -> bool:
        """These blocks need not be fetched: they are known to be zeros. True: it is whole now."""
        found = self.ledger.open.get(piece)
        if found is None or found.received == found.full:
            return False
        self.ledger.supply(found, blocks)
        return found.received == found.full

    @property
    def lacks_urgent(self) -> bool:
        """Whether a read waits for blocks that nobody was asked for."""
        return bool(self.ledger.urgent.free)

    @property
    def lacks_anything(self) -> bool:
        """Whether blocks are wanted that are not here; they may be on their way."""
        ledger = self.ledger
        return bool(ledger.urgent.free or ledger.ahead.free) or any(
            source.in_flight for source in ledger.sources.values()
        )

    def on_used(self, piece: int) -> None:
        """Something of a partial piece was read: of those that nobody wants it goes last."""
        if piece in self._idle:
            self._idle[piece] = self._idle.pop(piece)

    def is_partly(self, piece: int) -> bool:
        """Whether a piece was opened for some of its blocks only."""
        found = self.ledger.open.get(piece)
        return found is not None and found.partly

    def received_of(self, piece: int) -> int:
        """Mask of the blocks of a piece that have come."""
        found = self.ledger.open.get(piece)
        return found.received if found is not None else 0

    def asked_of(self, piece: int) -> dict[SourceId, list[float]]:
        """When blocks of a piece that have not come were asked for, by source."""
        first = piece * self.ledger.per_piece
        ids = range(first, first + self.ledger.per_piece)
        found = {
            name: [when for number, when in source.in_flight.items() if number in ids]
            for name, source in self.ledger.sources.items()
        }
        return {name: times for name, times in found.items() if times}

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
        self._idle_bytes -= self._idle.pop(number, 0)
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
            self.hedge_at = 0.0
            self.look.hasten()
        if agenda.rest is not self._rest:
            self._rest = agenda.rest
            leaving.extend(ledger.ahead.pieces)
            ledger.ahead.fill(agenda.rest, ledger)
        opened = ledger.open
        for number in leaving:
            if number in opened and number not in self._idle:
                if not ledger.is_wanted(number):
                    self._retire(opened[number])
                elif opened[number].in_flight & ~ledger.wanted(number):
                    ledger.withdraw(opened[number], ~ledger.wanted(number))
        if self._idle:
            for lane in (ledger.urgent, ledger.ahead):
                for number in lane.position.keys() & self._idle.keys():
                    self._idle_bytes -= self._idle.pop(number)
            self._bound_idle()
        if ledger.urgent.free or ledger.ahead.free:
            self.attention = True

    def _fill_urgent(self) -> None:
        self.ledger.urgent.fill(self._urgent, self.ledger)

    def _retire(self, piece: OpenPiece) -> None:
        """Nobody wants it now. What has come is kept for a while, and what is on the way."""
        if piece.in_flight or piece.received:
            self.ledger.withdraw(piece)
            self._idle[piece.number] = piece.cost
            self._idle_bytes += piece.cost
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
        ledger = self.ledger
        known = ledger.sources[source]
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
            if found is None and block_id in known.cancelled:
                is_probe = known.cancelled.pop(block_id)
                self._believe(known, now, measured=False)
                return self._waste(known, length, twice=0 if is_probe else length)
            return self._waste(known, length)
        if sent is None:
            if block_id not in known.cancelled:
                return self._waste(known, length)
            is_probe = known.cancelled.pop(block_id)
            self._believe(known, now, measured=False)
            if found.received >> block & 1:
                return self._waste(known, length, twice=0 if is_probe else length)
        else:
            del known.in_flight[block_id]
            known.pace.on_block(sent, length, now)
            if not known.in_flight:
                known.pace.on_idle()
            self._believe(known, now, measured=True)
        ledger.receive(known, found, block)
        known.received += length
        self.received += length
        return _COMPLETE if found.received == found.full else _WANTED

    def _believe(self, source: Source, now: float, *, measured: bool) -> None:
        """It brought something that it was asked for, some time: it is not silent any more."""
        if source.snubbed:
            source.on_sign(now, measured=measured)
            self.attention = True

    def _waste(self, source: Source, length: int, *, twice: int = 0) -> BlockVerdict:
        """`twice`: so much of it was hedged. The rest counts against nobody's budget, or who sends
        what he likes, or falls silent and answers probes, could end the hedging."""
        source.wasted += length
        self.wasted += length
        self.duplicates += twice
        return _UNWANTED

    def pick(self, source: SourceId, now: float) -> list[Request]:
        """What to ask of this peer now; [] when its queue is full, nothing of it is wanted, or
        others will deliver sooner."""
        ledger = self.ledger
        known = ledger.sources[source]
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
            wanted = ledger.urgent.wanted(piece.number)
            most = sharing.share_of(self, known, piece, wanted, room - len(asked), now)
            if most > 0:
                asked += self.ask(known, piece, most, now, wanted)
        if (
            room > len(asked)
            and ledger.urgent.pieces
            and (known.looked is not self.look or now >= self.look.again_at)
        ):
            # before any read-ahead: a late block holds up a reader
            asked += hedging.hedge(self, known, room - len(asked), now)
        if room > len(asked):
            candidates = ledger.ahead.free & known.reach(ledger.ahead)
            if candidates:
                candidates = sharing.leave_front(self, known, candidates, now)
                ramp = known.pace.ramp(queued + len(asked), now) - queued
                if known.pace.bursts:
                    ramp = min(ramp, sharing.part_of_window(self, known) - queued)
                if ramp < room:
                    room = ramp
                    self.ramp_at = now + hedging.RAMP_TICK
            while candidates and room > len(asked):
                low = candidates & -candidates
                candidates ^= low
                piece = ledger.opened(ledger.ahead.pieces[low.bit_length() - 1])
                if not piece.suspects or sharing.may_serve(self, known, piece):
                    wanted = ledger.ahead.wanted(piece.number)
                    asked += self.ask(known, piece, room - len(asked), now, wanted)
        if known.snubbed and not asked and room > 0:
            again = sharing.probe(self, known, now)
            return [] if again is None else [again]
        return asked

    def ask(
        self, source: Source, piece: OpenPiece, most: int, now: float, blocks: int
    ) -> list[Request]:
        """Ask `source` for up to `most` free ones of these blocks of an open piece."""
        if not source.in_flight:
            source.pace.on_asked(now)
        self._idle_bytes -= self._idle.pop(piece.number, 0)
        return self.ledger.ask(source, piece, most, now, blocks)

    def pick_span(self, source: SourceId, now: float) -> tuple[int, int] | None:
        """(start, length) of piece space to ask of this web seed now, or None."""
        return spans.pick(self, self.ledger.sources[source], now)

    def on_span_done(self, source: SourceId, start: int, length: int, now: float) -> None:
        """The response is over, whole or not: what did not arrive is free again."""
        known = self.ledger.sources[source]
        known.spans.pop((start, length), None)
        for block_id in list(spans.blocks_in_flight(self.ledger, known, start, length)):
            self.ledger.release(known, block_id)

    def wants_span(
        self, source: SourceId, start: int | None = None, length: int | None = None
    ) -> bool:
        """Whether anything in flight at this web seed (or of one span of it) is still wanted."""
        known = self.ledger.sources[source]
        if start is None or length is None:
            return bool(known.in_flight)
        return next(spans.blocks_in_flight(self.ledger, known, start, length), None) is not None

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

    def statistics(self) -> PickerStatistics:
        """Everything at this moment."""
        ledger = self.ledger
        return PickerStatistics(
            self.received, self.wasted, self.hedged, len(ledger.open), len(self._idle),
            len(ledger.urgent.pieces), len(ledger.ahead.pieces),
            sum(len(source.in_flight) for source in self.ledger.sources.values()),
            {
                name: SourceStatistics(
                    source.kind.value, source.received, source.wasted, source.hedged,
                    source.pace.rate, source.pace.rtt, len(source.in_flight),
                    source.pace.depth(), source.choking, source.snubbed,
                )
                for name, source in self.ledger.sources.items()
            },
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Picker {len(self.ledger.sources)} sources, {len(self.ledger.open)} open pieces>"
