"""Late blocks and silent sources: who is woken, when, and what is asked twice.

Only blocks under a waiting read are hedged, and only within a budget: bytes that came twice stay
under `hedge_share` of the bytes received plus a burst (beyond it only the very late are). A source
that is overdue by `snub_seconds` loses everything to the others; with nobody else to turn to it
keeps its queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling.ledger import bits
from torrentfs.scheduling.source import SourceKind
from torrentfs.scheduling.urgency import is_late, remaining

if TYPE_CHECKING:
    from torrentfs.scheduling.ledger import OpenPiece, Request
    from torrentfs.scheduling.picker import Picker
    from torrentfs.scheduling.source import Source, SourceId

TICK = 0.020
"""Seconds between looks at late blocks while a read waits."""

IDLE_TICK = 0.5
"""The same when only read-ahead is in flight: enough for silent sources."""

RAMP_TICK = 0.005
"""Seconds until a source that was idle is asked for more read-ahead (see `Pace.ramp`)."""

DEAR = 4.0
"""Times later a block must be once the budget is spent; at twice the budget nothing is hedged."""

MAX_TWINS = 2
"""Sources a block may be asked of beside the first: the second may turn out no better."""

MAX_HEDGES = 16
"""Blocks asked again at once of one source; what it delivers earns it the next."""


def hedge(picker: Picker, source: Source, room: int, now: float) -> list[Request]:
    """Late urgent blocks to ask again of `source`, which has nothing better to do."""
    budget = picker.config.hedge_burst + picker.config.hedge_share * picker.received
    if picker.duplicates > 2 * budget or source.snubbed:
        return []
    patience = DEAR if picker.duplicates > budget else 1.0
    ledger = picker.ledger
    lane = ledger.urgent
    asked: list[Request] = []
    most = min(room, MAX_HEDGES)
    places: dict[SourceId, dict[int, int]] = {}
    for number in lane.pieces:
        piece = ledger.open.get(number)
        if piece is None or not piece.in_flight & lane.wanted(number) or not source.serves(number):
            continue
        if piece.sole is not None:
            continue  # one source only, or blame could not decide; a silent one is snubbed
        for block in late_blocks(picker, source, piece, places, len(asked), patience, now):
            if not source.in_flight:
                source.pace.on_asked(now)
            asked.append(ledger.ask_again(source, piece, block, now))
            source.hedged += BLOCK_LENGTH
            picker.hedged += BLOCK_LENGTH
            if len(asked) >= most:
                return asked
    return asked


def late_blocks(
    picker: Picker,
    source: Source,
    piece: OpenPiece,
    places: dict[SourceId, dict[int, int]],
    more: int,
    patience: float,
    now: float,
) -> list[int]:
    """Blocks of `piece` in flight elsewhere that `source` would bring much sooner."""
    ledger = picker.ledger
    late: list[int] = []
    for block in bits(piece.in_flight & ledger.urgent.wanted(piece.number)):
        block_id = piece.number * ledger.per_piece + block
        first = piece.by[block]
        owners = ledger.hedges.get(block_id) or ([] if first is None else [first])
        if len(owners) > MAX_TWINS or source.name in owners:
            continue
        left = float("inf")
        for owner in owners:
            holder = ledger.sources[owner]
            if owner not in places:
                places[owner] = {name: place for place, name in enumerate(holder.in_flight)}
            left = min(left, time_left(holder, block_id, places[owner][block_id], now))
        queued = len(source.in_flight) + more + len(late)
        if is_late(left / patience, source.pace.arrival(queued, now)):
            late.append(block)
    return late


def time_left(holder: Source, block_id: int, place: int, now: float) -> float:
    """Seconds until `holder` should have delivered the block at `place` of its queue."""
    pace = holder.pace
    if holder.choking and holder.snubbed:
        return float("inf")
    left = remaining(pace, place, now)
    return max(left, holder.in_flight[block_id] + pace.rtt - now)


def to_wake(picker: Picker, now: float) -> list[SourceId]:
    """Sources that should pick now: new or freed demand, or a late block; soonest first."""
    ledger = picker.ledger
    due = now >= picker.hedge_at
    if due:
        _snub(picker, now)
        picker.hedge_at = now + (TICK if ledger.urgent.pieces else IDLE_TICK)
    ramped = now >= picker.ramp_at
    if not (picker.attention or ledger.freed or ramped or (due and ledger.urgent.pieces)):
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
            or (due and ledger.urgent.pieces)
        ):
            ready.append((source.pace.arrival(queued, now), name))
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
