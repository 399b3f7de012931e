"""States of blocks."""

from __future__ import annotations

from torrentfs.metainfo.geometry import BLOCK_LENGTH, Geometry
from torrentfs.scheduling.ledger import Ledger, Request, bits
from torrentfs.scheduling.source import Source, SourceKind


def make() -> tuple[Ledger, Source]:
    ledger = Ledger(Geometry(4 * BLOCK_LENGTH, [10 * BLOCK_LENGTH + 5]))
    source = Source(1, SourceKind.PEER, 3, initial=8, limit=100)
    ledger.sources[1] = source
    return ledger, source


def test_bits_are_told_ascending() -> None:
    assert list(bits(0b101001)) == [0, 3, 5]


def test_the_last_block_is_short() -> None:
    ledger, source = make()
    asked = ledger.ask(source, ledger.opened(2), 9, 0.0)
    assert asked[-1] == Request(2, 2 * BLOCK_LENGTH, 5)
    assert len(asked) == 3


def test_asked_released_cancelled_received() -> None:
    ledger, source = make()
    piece = ledger.opened(0)
    ledger.ask(source, piece, 3, 0.0)
    assert piece.in_flight == 0b111
    ledger.release(source, 0)
    ledger.cancel(source, 1)
    assert piece.free == 0b1011
    assert ledger.cancels == [(1, Request(0, BLOCK_LENGTH, BLOCK_LENGTH))]
    del source.in_flight[2]
    ledger.receive(source, piece, 2)
    assert piece.received == 0b100
    assert piece.by == [None, None, 1, None]
    ledger.restart(piece)
    assert piece.free == piece.full
    assert piece.suspects == {1}
