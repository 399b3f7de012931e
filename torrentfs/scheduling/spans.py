"""How much of what is asked of a web seed in one request.

An HTTP response costs a round trip and a request, then streams in order. So the span begins at the
first wanted free block and runs on through wanted free blocks for about `span_seconds` of the
seed's rate: small before the rate is known (a first answer is soon there, peers get their part),
large for a fast seed. Under a waiting read with peers around it takes its share of the piece
(`urgency.share`) and not more.

A seed is asked for several spans at once. Read-ahead leaves the last of these requests to reads
that wait: for free blocks under them, or for late ones that others were asked for
(`hedging.hedge_run`). So a read does not wait for the end of a span, and none is broken off for it,
which would close its connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling.hedging import hedge_run
from torrentfs.scheduling.sharing import may_serve, probe, reach_of_others
from torrentfs.scheduling.urgency import share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torrentfs.scheduling.ledger import Lane, Ledger, OpenPiece
    from torrentfs.scheduling.picker import Picker
    from torrentfs.scheduling.source import Source


def pick(picker: Picker, source: Source, now: float) -> tuple[int, int] | None:
    """The next span for this web seed; its blocks are in flight at it from now on."""
    if (
        not source.usable
        or len(source.spans) >= source.pace.limit
        or (source.snubbed and source.spans)
    ):
        return None
    ledger = picker.ledger
    for lane in (ledger.urgent, ledger.ahead):
        if lane is ledger.ahead:
            if ledger.urgent.pieces and not source.snubbed:
                again = hedge_run(picker, source, now)
                if again is not None:
                    return again
            if len(source.spans) == source.pace.limit - 1 > 0:
                break  # the last one is for who waits
        candidates = lane.free & source.reach(lane)
        if source.snubbed:
            candidates &= ~reach_of_others(picker, source, lane)
        if source.spans:  # of what nobody reads one at a time: the other lane is for who does
            candidates &= (1 << lane.background) - 1
        while candidates:
            low = candidates & -candidates
            candidates ^= low
            piece = ledger.opened(lane.pieces[low.bit_length() - 1])
            if piece.suspects and not may_serve(picker, source, piece):
                continue
            most = _length(picker, source, piece, lane, now) // BLOCK_LENGTH
            if most > 0:
                return _take(picker, source, piece, lane, most, now)
    return _probe(picker, source, now) if source.snubbed else None


def _probe(picker: Picker, source: Source, now: float) -> tuple[int, int] | None:
    """A span of one block that somebody else brings, to see whether a silent seed answers."""
    found = probe(picker, source, now)
    if found is None:
        return None
    span = found.piece * picker.geometry.piece_length + found.begin, found.length
    source.spans[span] = None
    return span


def _length(picker: Picker, source: Source, piece: OpenPiece, lane: Lane, now: float) -> int:
    """How many bytes the span may have."""
    config = picker.config
    pace = source.pace
    others = [
        other.line(now)
        for other in picker.ledger.sources.values()
        if other is not source and not other.snubbed and other.serves(piece.number)
    ]
    wished = int(pace.rate * config.span_seconds) if pace.rate else 4 * config.min_span
    wished = max(config.min_span, min(wished, config.max_span))
    if not others or piece.sole is not None:
        return max(wished, BLOCK_LENGTH)
    if lane is picker.ledger.urgent:
        mine = source.line(now)
        free = (piece.free & lane.wanted(piece.number)).bit_count()
        blocks = share(free, mine, others)
        if blocks < free:
            return blocks * BLOCK_LENGTH
    return wished if pace.rate else config.min_span


def _take(
    picker: Picker, source: Source, first: OpenPiece, lane: Lane, most: int, now: float
) -> tuple[int, int]:
    """Put a run of at most `most` free wanted blocks, from the first one that `lane` wants of
    `first` on, in flight."""
    ledger = picker.ledger
    geometry = ledger.geometry
    piece = first
    free = piece.free & lane.wanted(piece.number)
    block = (free & -free).bit_length() - 1
    start = piece.number * geometry.piece_length + block * BLOCK_LENGTH
    end = start
    while True:
        run = _run(piece.free & ledger.wanted(piece.number), block, most)
        picker.ask(source, piece, run, now, ((1 << run) - 1) << block)
        stop = min(piece.size, (block + run) * BLOCK_LENGTH)
        end = piece.number * geometry.piece_length + stop
        most -= run
        number = piece.number + 1
        if (
            most <= 0
            or stop < geometry.piece_length
            or number >= geometry.num_pieces
            or number in ledger.stored
            or not ledger.is_wanted(number)
            or not source.serves(number)
        ):
            break
        piece = ledger.opened(number)
        if not piece.free & ledger.wanted(number) & 1 or piece.suspects:
            break
        block = 0
    source.spans[start, end - start] = None
    return start, end - start


def _run(free: int, block: int, most: int) -> int:
    """How many `free` blocks follow each other from `block` on, at most `most`."""
    ahead = free >> block
    gap = ~ahead & (ahead + 1)  # the lowest clear bit
    return min(most, gap.bit_length() - 1)


def blocks_in_flight(ledger: Ledger, source: Source, start: int, length: int) -> Iterator[int]:
    """Block ids of a span that are in flight at `source`."""
    for block_id in range(ledger.block_at(start), ledger.block_at(start + length - 1) + 1):
        if block_id in source.in_flight:
            yield block_id
