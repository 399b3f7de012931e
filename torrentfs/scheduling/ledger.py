"""Which block is where: the only place that changes the state of a block.

A piece is *open* while something of it was asked or has come. A block of an open piece is in
exactly one of three states, kept in two masks (bit i is block i):

    free       nobody was asked for it          `free` has the bit
    received   its bytes are here               `received` has the bit
    in flight  one source or more was asked     neither has it

`by[i]` is the source that was asked for block i or gave it (None: free), so it is also the origin
that blame needs. A block asked of several sources has all of them in `Ledger.hedges`. Each source
has its queue: a dict from *block id* (piece x blocks per piece + index) to the time of asking, in
the order of asking. A block withdrawn from a source stays in that source's `cancelled` for a while:
its bytes may be on the way, and are as good as others.

Pieces never opened cost nothing; lanes (what is wanted, in order) hold plain piece numbers and one
mask of positions, so that "the first wanted piece with a free block that this source has" is one
`&` and one lowest set bit. A lane may want only some blocks of a piece (see `agenda`); then `masks`
names them, and blocks outside are left alone, free as they may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling.agenda import ALL, Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torrentfs.metainfo.geometry import Geometry
    from torrentfs.scheduling.agenda import Want
    from torrentfs.scheduling.source import Source, SourceId


class Request(NamedTuple):
    """`length` bytes at `begin` of `piece`: one block, as in BEP 3."""

    piece: int
    begin: int
    length: int


def bits(mask: int) -> Iterator[int]:
    """The numbers of the set bits, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


_BLOCK_COST = 48
"""Bytes of bookkeeping for each block of an open piece: its origin, its leaf hash."""


class OpenPiece:
    """A piece of which something was asked or has come."""

    __slots__ = (
        "by", "free", "full", "number", "partly", "received", "size", "sole", "suspects",
    )  # fmt: skip

    def __init__(self, number: int, size: int, partly: bool = False) -> None:
        self.number = number
        self.size = size
        self.partly = partly
        """Opened for some of its blocks: its buffer grows with what comes."""
        blocks = -(-size // BLOCK_LENGTH)
        self.full = (1 << blocks) - 1
        self.free = self.full
        self.received = 0
        self.by: list[SourceId | None] = [None] * blocks
        self.suspects: set[SourceId] = set()
        """Sources that had a part in copies of it that failed their hash."""
        self.sole: SourceId | None = None
        """After a failure: the one source it is fetched from, so that blame is certain."""

    @property
    def in_flight(self) -> int:
        """Mask of the blocks asked and not here."""
        return self.full & ~(self.free | self.received)

    @property
    def cost(self) -> int:
        """Bytes of memory that it takes to keep it."""
        if not self.partly:
            return self.size
        return self.received.bit_count() * BLOCK_LENGTH + len(self.by) * _BLOCK_COST

    def block_length(self, block: int) -> int:
        """Bytes of block number `block`."""
        return min(BLOCK_LENGTH, self.size - block * BLOCK_LENGTH)

    def __repr__(self) -> str:
        return (
            f"<OpenPiece {self.number}: {self.received.bit_count()} received, "
            f"{self.in_flight.bit_count()} in flight, {self.free.bit_count()} free>"
        )


class Lane:
    """Wanted pieces in order; `free` has bit i when `pieces[i]` has a free block that is wanted."""

    __slots__ = ("background", "free", "masks", "pieces", "position", "serial")

    def __init__(self) -> None:
        self.background = 0
        """The position from which on nobody who reads wants them."""
        self.pieces: list[int] = []
        self.position: dict[int, int] = {}
        self.masks: dict[int, int] = {}
        """The blocks wanted of those pieces that are not wanted whole."""
        self.free = 0
        self.serial = 0

    def wanted(self, piece: int) -> int:
        """Mask of the blocks of `piece` that are wanted here."""
        if piece in self.position:
            return self.masks.get(piece, ALL)
        return 0

    def set_free(self, piece: int, free: int) -> None:
        """Note which blocks of `piece` are free; nothing happens if it is not in this lane."""
        position = self.position.get(piece)
        if position is not None:
            if free & self.masks.get(piece, ALL):
                self.free |= 1 << position
            else:
                self.free &= ~(1 << position)

    def fill(self, wants: Iterable[Want], ledger: Ledger) -> None:
        """Replace what is wanted; what is stored is passed over."""
        masks: dict[int, int] = {}
        stored = ledger.stored
        background = None
        for want in wants:
            piece = want.piece
            if background is None and want.level == Level.BACKGROUND:
                background = len(masks)
            if piece not in stored:
                masks[piece] = masks.get(piece, 0) | want.blocks
        pieces = list(masks)
        self.masks = {piece: mask for piece, mask in masks.items() if mask != ALL}
        self.serial += 1
        self.background = len(pieces) if background is None else background
        self.pieces = pieces
        self.position = dict(zip(pieces, range(len(pieces)), strict=True))
        opened = ledger.open
        closed = [
            number for number, piece in enumerate(pieces)
            if piece in opened and not opened[piece].free & masks[piece]
        ]  # fmt: skip
        self.free = (1 << len(pieces)) - 1
        for number in closed:
            self.free ^= 1 << number


class Ledger:
    """The states of all blocks, and the two lanes of wanted pieces."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.per_piece = -(-geometry.piece_length // BLOCK_LENGTH)
        """Block ids per piece."""
        self.open: dict[int, OpenPiece] = {}
        self.stored = Bitfield(geometry.num_pieces)
        self.urgent = Lane()
        self.ahead = Lane()
        self.sources: dict[SourceId, Source] = {}
        self.hedges: dict[int, list[SourceId]] = {}
        self.cancels: list[tuple[SourceId, Request]] = []
        self.freed = False
        """A wanted block became free: somebody should pick. Reset by the picker."""

    def block_at(self, place: int) -> int:
        """The id of the block at `place` of piece space."""
        piece, begin = divmod(place, self.geometry.piece_length)
        return piece * self.per_piece + begin // BLOCK_LENGTH

    def opened(self, piece: int) -> OpenPiece:
        """The open piece; opens it."""
        found = self.open.get(piece)
        if found is None:
            partly = self.wanted(piece) != ALL
            found = self.open[piece] = OpenPiece(piece, self.geometry.piece_size(piece), partly)
        return found

    def wanted(self, piece: int) -> int:
        """Mask of the blocks of `piece` that the agenda names."""
        return self.urgent.wanted(piece) | self.ahead.wanted(piece)

    def is_wanted(self, piece: int) -> bool:
        """Whether the agenda names it."""
        return piece in self.urgent.position or piece in self.ahead.position

    def request(self, piece: OpenPiece, block: int) -> Request:
        """The request for one block."""
        return Request(piece.number, block * BLOCK_LENGTH, piece.block_length(block))

    def ask(
        self, source: Source, piece: OpenPiece, most: int, now: float, blocks: int = ALL
    ) -> list[Request]:
        """Move up to `most` free ones of `blocks`, first ones first, in flight to `source`."""
        asked: list[Request] = []
        number = piece.number
        base = number * self.per_piece
        before = free = piece.free & blocks
        size = piece.size
        in_flight = source.in_flight
        by = piece.by
        name = source.name
        while free and most > 0:
            low = free & -free
            free ^= low
            block = low.bit_length() - 1
            begin = block << 14
            rest = size - begin
            in_flight[base + block] = now
            by[block] = name
            asked.append(Request(number, begin, rest if rest < BLOCK_LENGTH else BLOCK_LENGTH))
            most -= 1
        piece.free ^= before ^ free
        self._free_changed(piece)
        return asked

    def ask_again(self, source: Source, piece: OpenPiece, block: int, now: float) -> Request:
        """Ask a block that is in flight elsewhere of `source` too (a hedge)."""
        block_id = piece.number * self.per_piece + block
        first = piece.by[block]
        assert first is not None
        self.hedges.setdefault(block_id, [first]).append(source.name)
        source.in_flight[block_id] = now
        return self.request(piece, block)

    def release(self, source: Source, block_id: int) -> None:
        """`source` will not bring it after all: free, unless another was asked too."""
        if source.in_flight.pop(block_id, None) is None:
            return
        number, block = divmod(block_id, self.per_piece)
        piece = self.open[number]
        owners = self.hedges.get(block_id)
        if owners is not None:
            owners.remove(source.name)
            piece.by[block] = owners[0]
            if len(owners) == 1:
                del self.hedges[block_id]
            return
        piece.by[block] = None
        piece.free |= 1 << block
        self._now_free(piece)

    def _free_changed(self, piece: OpenPiece) -> None:
        self.urgent.set_free(piece.number, piece.free)
        self.ahead.set_free(piece.number, piece.free)

    def _now_free(self, piece: OpenPiece) -> None:
        self._free_changed(piece)
        if self.is_wanted(piece.number):
            self.freed = True

    def cancel(self, source: Source, block_id: int) -> None:
        """Take it back from `source`: as `release`, and the source is told."""
        self.release(source, block_id)
        source.on_cancelled(block_id)
        number, block = divmod(block_id, self.per_piece)
        self.cancels.append((source.name, self.request(self.open[number], block)))

    def withdraw(self, piece: OpenPiece, blocks: int = ALL) -> None:
        """Take the `blocks` of `piece` that are in flight back from everybody."""
        base = piece.number * self.per_piece
        for block in bits(piece.in_flight & blocks):
            block_id = base + block
            first = piece.by[block]
            assert first is not None  # in flight means that somebody was asked
            for name in list(self.hedges.get(block_id, (first,))):
                self.cancel(self.sources[name], block_id)

    def receive(self, source: Source, piece: OpenPiece, block: int) -> None:
        """The bytes of a block came from `source` (already out of its queue); losers lose it."""
        bit = 1 << block
        if self.hedges or piece.by[block] != source.name:
            self._settle_losers(source, piece, block)
        if piece.free & bit:
            # a cancelled block that came all the same
            piece.free &= ~bit
            self._free_changed(piece)
        piece.received |= bit
        piece.by[block] = source.name

    def _settle_losers(self, winner: Source, piece: OpenPiece, block: int) -> None:
        block_id = piece.number * self.per_piece + block
        owners = self.hedges.pop(block_id, None)
        if owners is None:
            first = piece.by[block]
            owners = [] if first is None else [first]
        for name in owners:
            other = self.sources.get(name)
            if other is None or other is winner or block_id not in other.in_flight:
                continue
            del other.in_flight[block_id]
            other.on_cancelled(block_id)
            self.cancels.append((name, self.request(piece, block)))

    def supply(self, piece: OpenPiece, blocks: int) -> None:
        """We have these blocks ourselves: nobody is asked for them any more."""
        blocks &= piece.full & ~piece.received
        self.withdraw(piece, blocks)
        piece.free &= ~blocks
        piece.received |= blocks
        self._free_changed(piece)

    def refuse(self, piece: OpenPiece, block: int) -> None:
        """A block that was received is wrong for certain: free again, and no word of it."""
        piece.received &= ~(1 << block)
        piece.by[block] = None
        piece.free |= 1 << block
        self._now_free(piece)

    def restart(self, piece: OpenPiece) -> None:
        """Its hash failed: every block is free again, the origins are suspects."""
        self.withdraw(piece)
        piece.suspects.update(name for name in piece.by if name is not None)
        piece.by = [None] * len(piece.by)
        piece.received = 0
        piece.free = piece.full
        piece.sole = None
        self._now_free(piece)

    def close(self, number: int) -> None:
        """Forget an open piece; what is in flight of it is cancelled."""
        piece = self.open.get(number)
        if piece is not None:
            self.withdraw(piece)
            del self.open[number]
