"""Which blocks under a waiting read are late: one look for all sources, every `TICK`.

A block is late for a source that would bring it in less than half the time that those who were
asked for it still need (`urgency.is_late`). Every source comes with that question, again and again,
while a read waits; with a hundred peers and megabytes under reads, each looking at each block would
be all that the process does. So there is one look for all. It begins with the source that would
answer soonest: what is not late for that one is not late for anybody. As long as every queue is
good enough, that is a glance at each source. Only where some are not are their blocks looked at,
once, and kept in order; each source then compares its own time with the worst, and stops at the
first block that is not late for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.scheduling.ledger import bits
from torrentfs.scheduling.urgency import is_late, late_from, remaining

if TYPE_CHECKING:
    from torrentfs.scheduling.ledger import Ledger, OpenPiece
    from torrentfs.scheduling.picker import Picker
    from torrentfs.scheduling.source import Source, SourceId

TICK = 0.020
"""Seconds between looks while a read waits."""

HASTE = 0.005
"""The same when what reads wait for has changed."""

MAX_TWINS = 2
"""Sources a block may be asked of beside the first: the second may turn out no better."""

MOST_TWINS = 5
"""The same while all of them are overdue: who fell silent with nothing to bring looks like new."""


class Look:
    """What was late at one moment: per urgent piece (seconds left, block), the worst at the end.

    Who takes a block takes it out: it is late no longer, or the next look will say so.
    """

    __slots__ = ("again_at", "made_at", "pieces")

    def __init__(self, now: float, pieces: list[tuple[OpenPiece, list[tuple[float, int]]]]) -> None:
        self.made_at = now
        self.again_at = now + TICK
        """How long it may be believed."""
        self.pieces = pieces
        """In the order of the agenda; those of which nothing is late are left out."""

    def hasten(self) -> None:
        """What reads wait for has changed."""
        self.again_at = min(self.again_at, self.made_at + HASTE)

    def __repr__(self) -> str:
        return f"<Look at {self.made_at:.3f}: blocks of {len(self.pieces)} pieces late>"


def look(picker: Picker, now: float) -> Look:
    """What is late: looked for anew if the last look is too old."""
    if now >= picker.look.again_at:
        picker.look = Look(now, _late_pieces(picker, now))
    return picker.look


def late_blocks(
    picker: Picker, source: Source, most: int, patience: float, now: float
) -> list[tuple[OpenPiece, int]]:
    """Take up to `most` blocks that `source` would bring much sooner than those who were asked,
    from the first pieces, the worst first. `patience`: how many times later than usual they must
    be."""
    ledger = picker.ledger
    found: list[tuple[OpenPiece, int]] = []
    mine = source.arrival(now)
    for piece, late in look(picker, now).pieces:
        if not _may_take(ledger, source, piece):
            continue
        asked = piece.in_flight & ledger.urgent.wanted(piece.number)
        kept: list[tuple[float, int]] = []
        while late and len(found) < most:
            left, block = late[-1]
            if not is_late(left / patience, mine):
                break
            late.pop()
            owners = _owners(ledger, piece, block)
            if not asked >> block & 1 or _are_enough(ledger, owners, now):
                continue
            if source.name in owners:
                kept.append((left, block))
                continue
            found.append((piece, block))
            mine = source.arrival(now, len(found))
        late.extend(reversed(kept))
        if len(found) >= most:
            break
    return found


def late_run(
    picker: Picker, source: Source, most: int, patience: float, now: float
) -> tuple[OpenPiece, int, int] | None:
    """As `late_blocks`, for who is asked for runs: (piece, first block, number) of the first run of
    at most `most` late blocks that follow each other, of the first piece that has any."""
    ledger = picker.ledger
    mine = source.arrival(now)
    for piece, late in look(picker, now).pieces:
        if not _may_take(ledger, source, piece):
            continue
        asked = piece.in_flight & ledger.urgent.wanted(piece.number)
        found: dict[int, float] = {}
        for left, block in reversed(late):
            if not is_late(left / patience, mine):
                break
            owners = _owners(ledger, piece, block)
            if source.name in owners or _are_enough(ledger, owners, now):
                continue
            if asked >> block & 1:
                found[block] = left
        if found:
            first = min(found)
            run = 1
            while run < most and is_late(
                found.get(first + run, 0.0) / patience, source.arrival(now, run)
            ):
                run += 1
            late[:] = [entry for entry in late if not first <= entry[1] < first + run]
            return piece, first, run
    return None


def _may_take(ledger: Ledger, source: Source, piece: OpenPiece) -> bool:
    """Whether blocks of a piece that was looked at may be asked of `source` too."""
    if ledger.open.get(piece.number) is not piece or piece.sole is not None:
        return False  # one source only, or blame could not decide; a silent one is snubbed
    return source.serves(piece.number)


def _late_pieces(picker: Picker, now: float) -> list[tuple[OpenPiece, list[tuple[float, int]]]]:
    ledger = picker.ledger
    soonest = min(
        (
            source.arrival(now)
            for source in ledger.sources.values()
            if source.usable and not source.snubbed
        ),
        default=float("inf"),
    )
    least = late_from(soonest)
    slow: dict[SourceId, dict[int, int]] = {
        name: {}
        for name, source in ledger.sources.items()
        if source.in_flight and _most_left(source, now) > least
    }
    if not slow:
        return []
    found: list[tuple[OpenPiece, list[tuple[float, int]]]] = []
    for number in ledger.urgent.pieces:
        piece = ledger.open.get(number)
        if piece is None or piece.sole is not None:
            continue
        late: list[tuple[float, int]] = []
        for block in bits(piece.in_flight & ledger.urgent.wanted(number)):
            if piece.by[block] not in slow:
                continue
            left = _left(ledger, piece, block, slow, now)
            if left > least:
                late.append((left, block))
        if late:
            late.sort(key=lambda entry: (entry[0], -entry[1]))
            found.append((piece, late))
    return found


def _owners(ledger: Ledger, piece: OpenPiece, block: int) -> list[SourceId]:
    """Who was asked for a block that has not come."""
    owners = ledger.hedges.get(piece.number * ledger.per_piece + block)
    if owners is not None:
        return owners
    first = piece.by[block]
    return [] if first is None else [first]


def _are_enough(ledger: Ledger, owners: list[SourceId], now: float) -> bool:
    """Whether a block was asked of so many that it is asked of nobody else."""
    if len(owners) <= MAX_TWINS:
        return False
    return len(owners) > MOST_TWINS or not all(
        ledger.sources[owner].pace.silence(now) > 0.0 for owner in owners
    )


def _left(
    ledger: Ledger,
    piece: OpenPiece,
    block: int,
    slow: dict[SourceId, dict[int, int]],
    now: float,
) -> float:
    """Seconds until one of those asked should have brought it; 0.0: one of them is not `slow`."""
    block_id = piece.number * ledger.per_piece + block
    least = float("inf")
    for owner in _owners(ledger, piece, block):
        places = slow.get(owner)
        if places is None:
            return 0.0
        holder = ledger.sources[owner]
        if not places:
            places.update(_places(ledger, holder))
        least = min(least, time_left(holder, block_id, places[block_id], now))
    return least


def _places(ledger: Ledger, holder: Source) -> dict[int, int]:
    """How many blocks come from `holder` before each that is in flight to it, at least."""
    lanes = len(holder.spans)
    if lanes < 2:
        return {block_id: place for place, block_id in enumerate(holder.in_flight)}
    # several answers of a web seed come side by side; how they share the line is not known, and
    # what is asked twice in vain comes twice: a block of an answer is not taken back
    ends = [
        (ledger.block_at(start), ledger.block_at(start + length - 1))
        for start, length in holder.spans
    ]
    counts = [0] * lanes
    places: dict[int, int] = {}
    for block_id in holder.in_flight:
        for lane, (first, last) in enumerate(ends):
            if first <= block_id <= last:
                places[block_id] = counts[lane]
                counts[lane] += 1
                break
        else:
            places[block_id] = 0
    return places


def time_left(holder: Source, block_id: int, place: int, now: float) -> float:
    """Seconds until `holder` should have delivered the block at `place` of its queue."""
    if holder.choking and holder.snubbed:
        return float("inf")
    left = remaining(holder.pace, place, now)
    return max(left, holder.in_flight[block_id] + holder.pace.rtt - now)


def _most_left(holder: Source, now: float) -> float:
    """No block in flight to `holder` needs more: `time_left` of the last one asked."""
    last = next(reversed(holder.in_flight))
    return time_left(holder, last, len(holder.in_flight) - 1, now)
