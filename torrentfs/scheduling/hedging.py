"""Late blocks and silent sources: who is woken, when, and what is asked twice.

Only blocks under a waiting read are hedged (which of them are late is `lateness`), and only within
a budget: bytes that came twice stay under `hedge_share` of the bytes received plus a burst (beyond
it only the very late are). Peers are asked for blocks, web seeds for a run of them. A source that
is overdue by `snub_seconds` loses everything to the others; with nobody else to turn to it keeps
its queue. Then it is tried with copies of what others bring (`sharing.probe`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling import lateness
from torrentfs.scheduling.lateness import TICK
from torrentfs.scheduling.source import SourceKind

if TYPE_CHECKING:
    from torrentfs.scheduling.ledger import OpenPiece, Request
    from torrentfs.scheduling.picker import Picker
    from torrentfs.scheduling.source import Source, SourceId

IDLE_TICK = 0.5
"""The same when only read-ahead is in flight: enough for silent sources."""

RAMP_TICK = 0.005
"""Seconds until a source that was idle is asked for more read-ahead (see `Pace.ramp`)."""

DEAR = 4.0
"""Times later a block must be once the budget is spent; at twice the budget nothing is hedged."""

MAX_HEDGES = 16
"""Blocks asked again at once of one source; what it delivers earns it the next."""


def patience(picker: Picker) -> float:
    """How many times later than usual a block must be to be asked twice; `inf`: none is."""
    budget = picker.config.hedge_burst + picker.config.hedge_share * picker.received
    if picker.duplicates > 2 * budget:
        return float("inf")
    return DEAR if picker.duplicates > budget else 1.0


def hedge(picker: Picker, source: Source, room: int, now: float) -> list[Request]:
    """Late urgent blocks to ask again of `source`, which has nothing better to do."""
    if source.snubbed:
        return []
    most = min(room, MAX_HEDGES)
    found = lateness.late_blocks(picker, source, most, patience(picker), now)
    if len(found) < most or not _is_silent(picker, *found[-1], now):
        source.looked = picker.look
    # else it does more as soon as it has room: one block a look would be a second for a piece
    return [ask_again(picker, source, piece, block, now) for piece, block in found]


def hedge_run(picker: Picker, source: Source, now: float) -> tuple[int, int] | None:
    """The same for a web seed: (start, length) of piece space, or None."""
    found = lateness.late_run(picker, source, MAX_HEDGES, patience(picker), now)
    if found is None:
        return None
    piece, first, run = found
    length = sum(
        ask_again(picker, source, piece, block, now).length for block in range(first, first + run)
    )
    span = piece.number * picker.geometry.piece_length + first * BLOCK_LENGTH, length
    source.spans[span] = None
    return span


def ask_again(picker: Picker, source: Source, piece: OpenPiece, block: int, now: float) -> Request:
    """Ask `source` for a block that is in flight elsewhere."""
    if not source.in_flight:
        source.pace.on_asked(now)
    source.hedged += BLOCK_LENGTH
    picker.hedged += BLOCK_LENGTH
    return picker.ledger.ask_again(source, piece, block, now)


def _is_silent(picker: Picker, piece: OpenPiece, block: int, now: float) -> bool:
    """Whether who was first asked for a block is overdue, and not merely slow or in a pause."""
    first = piece.by[block]
    if first is None:
        return False
    pace = picker.ledger.sources[first].pace
    return not pace.bursts and pace.silence(now) > 0.0


def to_wake(picker: Picker, now: float) -> list[SourceId]:
    """Sources that should pick now: new or freed demand, or a late block; soonest first."""
    ledger = picker.ledger
    look_again = late = False
    if now >= picker.hedge_at:
        _snub(picker, now)
        picker.hedge_at = now + (TICK if ledger.urgent.pieces else IDLE_TICK)
        if ledger.urgent.pieces:
            late = bool(lateness.look(picker, now).pieces)
            # who left a free block to others may find by now that they are no sooner
            look_again = late or bool(ledger.urgent.free or ledger.ahead.free)
    ramped = now >= picker.ramp_at
    if not (picker.attention or ledger.freed or ramped or look_again):
        return []
    if ramped:
        picker.ramp_at = float("inf")
    picker.attention = ledger.freed = False
    ready: list[tuple[float, SourceId]] = []
    for name, source in ledger.sources.items():
        if not source.usable:
            continue
        queued = len(source.in_flight)
        if source.kind is SourceKind.WEB_SEED:
            if len(source.spans) >= source.pace.limit:
                continue
        elif queued >= source.pace.depth() and not source.pace.growing:
            continue
        if (
            ledger.urgent.free & source.reach(ledger.urgent)
            or ledger.ahead.free & source.reach(ledger.ahead)
            or late
        ):
            ready.append((source.arrival(now), name))
    return [name for _, name in sorted(ready)]


def next_wakeup(picker: Picker, now: float) -> float | None:
    """When `to_wake` may have something new although no fact came."""
    ledger = picker.ledger
    if picker.attention or ledger.freed:
        return now
    sources = ledger.sources.values()
    avoiding = any(source.avoid for source in sources)
    # what a source asks for when it is woken is no fact, so a waiting read is looked after
    busy = ledger.urgent.pieces or any(source.in_flight for source in sources)
    if not avoiding and (len(sources) < 2 or not busy):
        return None if picker.ramp_at == float("inf") else max(now, picker.ramp_at)
    wait = TICK if ledger.urgent.pieces else IDLE_TICK
    return max(now, min(picker.hedge_at, picker.ramp_at, now + wait))


def _snub(picker: Picker, now: float) -> None:
    """Take the blocks of sources silent for too long, where others could bring them."""
    ledger = picker.ledger
    for source in ledger.sources.values():
        if source.avoid and now >= source.avoid_until:
            source.avoid.clear()
            source.forget_reach()
            picker.attention = True
        if not source.in_flight:
            continue
        source.pace.on_tick(now)
        if source.pace.silence(now) < picker.config.snub_seconds:
            continue
        per = ledger.per_piece
        others = [
            other for other in ledger.sources.values()
            if other is not source and not other.snubbed and other.usable
        ]  # fmt: skip
        for block_id in list(source.in_flight):
            if any(other.serves(block_id // per) for other in others):
                ledger.cancel(source, block_id)
                source.snubbed = True
        if source.snubbed:
            picker.unsole_silent(source)
