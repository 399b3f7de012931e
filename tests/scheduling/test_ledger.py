"""States of blocks."""

from __future__ import annotations

from torrentfs.metainfo.geometry import BLOCK_LENGTH, Geometry
from torrentfs.scheduling.agenda import ALL, Level, Want
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


def test_a_lane_may_want_some_blocks_of_a_piece() -> None:
    ledger = Ledger(Geometry(64 * 1024, [64 * 1024 * 4]))
    source = Source(1, SourceKind.PEER, 4, initial=8, limit=9)
    ledger.sources[1] = source
    ledger.urgent.fill([Want(2, Level.URGENT, 1.0, 0b0010), Want(2, Level.URGENT, 2.0, 0b0100)],
                       ledger)  # fmt: skip
    ledger.ahead.fill([Want(2, Level.WINDOW, 1.0), Want(3, Level.WINDOW, 1.0, 0b1)], ledger)
    assert ledger.urgent.wanted(2) == 0b0110
    assert ledger.wanted(2) == ALL
    assert ledger.wanted(3) == 1
    assert ledger.wanted(0) == 0
    piece = ledger.opened(2)
    asked = ledger.ask(source, piece, 9, 0.0, ledger.urgent.wanted(2))
    assert [request.begin // 16384 for request in asked] == [1, 2]
    assert not ledger.urgent.free
    assert ledger.ahead.free == 0b11
    ledger.withdraw(piece, 0b0010)
    assert piece.in_flight == 0b0100
    assert ledger.urgent.free


def test_a_piece_opened_for_some_blocks_costs_what_came() -> None:
    ledger = Ledger(Geometry(1 << 24, [1 << 25]))
    ledger.urgent.fill([Want(0, Level.URGENT, 1.0, 1), Want(1, Level.URGENT, 1.0)], ledger)
    part, whole = ledger.opened(0), ledger.opened(1)
    assert part.partly
    assert part.cost < 64 * 1024
    assert whole.cost == 1 << 24


def test_a_wrong_block_is_free_again() -> None:
    ledger = Ledger(Geometry(64 * 1024, [64 * 1024]))
    source = Source(1, SourceKind.PEER, 1, initial=8, limit=9)
    ledger.sources[1] = source
    ledger.urgent.fill([Want(0, Level.URGENT, 1.0)], ledger)
    piece = ledger.opened(0)
    ledger.ask(source, piece, 9, 0.0)
    del source.in_flight[1]
    ledger.receive(source, piece, 1)
    ledger.refuse(piece, 1)
    assert piece.free == 0b10
    assert piece.by[1] is None
    assert ledger.freed


def test_a_block_that_we_have_ourselves_is_asked_of_nobody() -> None:
    ledger = Ledger(Geometry(64 * 1024, [64 * 1024]))
    source = Source(1, SourceKind.PEER, 1, initial=8, limit=9)
    ledger.sources[1] = source
    ledger.urgent.fill([Want(0, Level.URGENT, 1.0)], ledger)
    piece = ledger.opened(0)
    ledger.ask(source, piece, 3, 0.0)
    ledger.supply(piece, ~1)
    assert piece.received == 0b1110
    assert not piece.free
    assert len(ledger.cancels) == 2
    assert list(source.in_flight) == [0]
