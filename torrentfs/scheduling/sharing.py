"""What one source should take of what is wanted, given all the others.

An urgent piece is shared by water filling (`urgency.share`); a piece whose hash failed comes from
one source, so that blame can decide; the front of the read-ahead is left to those who can bring
it in time; who sends in bursts leaves the others their part of it; and who is silent is tried with
copies of what others bring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.scheduling.ledger import bits
from torrentfs.scheduling.rates import MIN_DEPTH
from torrentfs.scheduling.urgency import share

if TYPE_CHECKING:
    from torrentfs.scheduling.ledger import Lane, OpenPiece, Request
    from torrentfs.scheduling.picker import Picker
    from torrentfs.scheduling.source import Source


PART = 0.8
"""Of an equal part of the read-ahead: the rest is for who has nothing to do."""


def share_of(
    picker: Picker, source: Source, piece: OpenPiece, wanted: int, room: int, now: float
) -> int:
    """How many `wanted` blocks of an urgent piece `source` should take, given room for `room`."""
    if piece.suspects and not may_serve(picker, source, piece):
        return 0
    if piece.sole is not None:
        return room
    blocks = (piece.free & wanted).bit_count()
    others = [
        other.line(now)
        for other in picker.ledger.sources.values()
        if other is not source and not other.snubbed and other.serves(piece.number)
    ]
    if others and source.snubbed:
        return 0
    if not others:
        pace = source.pace
        if pace.growing and not source.snubbed:
            lone = min(picker.config.lone_queue, pace.limit) - len(source.in_flight)
            room = max(room, lone)
        return room
    return min(room, share(blocks, source.line(now), others))


def may_serve(picker: Picker, source: Source, piece: OpenPiece) -> bool:
    """A piece that failed comes from one source: one not yet suspected, if there is any."""
    sole = piece.sole
    if sole is not None:
        holder = picker.ledger.sources.get(sole)
        if holder is not None and not holder.snubbed and holder.serves(piece.number):
            return holder is source
        piece.sole = None
    if source.name in piece.suspects and any(
        other.serves(piece.number) and not other.snubbed
        for name, other in picker.ledger.sources.items()
        if name not in piece.suspects
    ):
        return False
    if not piece.in_flight and not piece.received:
        piece.sole = source.name
    return True


def leave_front(picker: Picker, source: Source, candidates: int, now: float) -> int:
    """Without what a far slower source would deliver later than it is needed.

    To a silent one is left what others do not have, and nothing else: what it held would be late,
    and the last of a window, or of a file, is needed as soon as all before it is here.
    """
    if source.snubbed:
        return candidates & ~reach_of_others(picker, source, picker.ledger.ahead)
    best, speed, until = picker.front_speed
    if now >= until:
        lines = [
            (other.arrival(now), other.pace.rate)
            for other in picker.ledger.sources.values()
            if other.usable and not other.snubbed and other.pace.rate
        ]
        best = min((arrival for arrival, _ in lines), default=0.0)
        speed = sum(rate for _, rate in lines)
        picker.front_speed = (best, speed, now + 0.05)
    if not source.pace.rate or not best:
        return candidates
    behind = source.pace.arrival(len(source.in_flight), now) - 2.0 * best - 0.05
    if behind <= 0.0:
        return candidates
    skip = int(behind * speed / picker.geometry.piece_length)
    later = candidates >> skip << skip
    if later:
        return later
    # nothing that far ahead: it helps only with what nobody faster has
    mine = 0
    for other in picker.ledger.sources.values():
        if other is not source and not other.snubbed and other.pace.rate > source.pace.rate:
            mine |= other.reach(picker.ledger.ahead)
    return candidates & ~mine


def reach_of_others(picker: Picker, source: Source, lane: Lane) -> int:
    """Mask of the positions of `lane` that others serve, silent ones not counted."""
    theirs = 0
    for other in picker.ledger.sources.values():
        if other is not source and not other.snubbed:
            theirs |= other.reach(lane)
    return theirs


def probe(picker: Picker, source: Source, now: float) -> Request | None:
    """A block by which a silent source may prove that it is there again, or None: not now.

    One that is on its way from somebody else, the last of them: nobody waits for this copy, so it
    does not count as in flight here, and it is not taken back when the other one comes.
    """
    if now < source.probe_at:
        return None
    ledger = picker.ledger
    for lane in (ledger.ahead, ledger.urgent):
        for number in reversed(lane.pieces):
            piece = ledger.open.get(number)
            if piece is None or piece.sole is not None or not source.serves(number):
                continue
            asked = piece.in_flight & lane.wanted(number)
            for block in sorted(bits(asked), reverse=True):
                block_id = number * ledger.per_piece + block
                if block_id not in source.in_flight and block_id not in source.cancelled:
                    # of one that was taken back the answer, or the reject, may be on its way
                    source.on_probed(block_id, now)
                    return ledger.request(piece, block)
    return None


def part_of_window(picker: Picker, source: Source) -> int:
    """How many blocks of read-ahead a source that sends in bursts may hold.

    The reader takes blocks in order, so it waits for the slowest of those who hold the front of the
    window; and one whose burst has just come would take all that is free then. So each holds an
    equal part, or less: the rates of such sources differ more by chance than in truth.
    """
    ledger = picker.ledger
    sources = ledger.sources.values()
    blocks = ledger.ahead.free.bit_count() * ledger.per_piece
    blocks += sum(len(other.in_flight) for other in sources)
    others = sum(other.usable and not other.snubbed for other in sources)
    return max(MIN_DEPTH, int(PART * blocks / max(1, others)))
