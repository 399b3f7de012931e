"""What one source has and serves."""

from __future__ import annotations

from torrentfs.metainfo.geometry import Geometry
from torrentfs.scheduling.agenda import Level, Want
from torrentfs.scheduling.ledger import Ledger
from torrentfs.scheduling.source import MAX_CANCELLED, Source, SourceKind


def test_reach_follows_what_it_has_and_may_be_asked() -> None:
    ledger = Ledger(Geometry(16384, [16384 * 8]))
    ledger.ahead.fill([Want(piece, Level.WINDOW, 1.0) for piece in (5, 2, 7)], ledger)
    source = Source(1, SourceKind.PEER, 8, initial=8, limit=9)
    source.has.add(2)
    source.has.add(7)
    assert source.reach(ledger.ahead) == 0
    source.choking = False
    source.forget_reach()
    assert source.reach(ledger.ahead) == 0b110
    source.avoid.add(2)
    source.forget_reach()
    assert source.reach(ledger.ahead) == 0b100


def test_cancelled_blocks_are_remembered_within_bounds() -> None:
    source = Source(1, SourceKind.WEB_SEED, 8, initial=8, limit=1)
    for block_id in range(MAX_CANCELLED + 10):
        source.on_cancelled(block_id)
    assert len(source.cancelled) == MAX_CANCELLED
