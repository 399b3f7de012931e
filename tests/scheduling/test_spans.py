"""Spans of web seeds that pause or lack something."""

from __future__ import annotations

from torrentfs.metainfo.geometry import Geometry
from torrentfs.scheduling.picker import Level, Picker, SourceKind, Want

MIB = 1024 * 1024


def make() -> Picker:
    picker = Picker(Geometry(MIB, [8 * MIB]))
    picker.add_source(1, SourceKind.WEB_SEED, 0.0, max_queue=1)
    picker.set_agenda([Want(piece, Level.WINDOW, 1.0) for piece in range(8)], 0.0)
    return picker


def test_a_paused_web_seed_is_not_asked() -> None:
    picker = make()
    picker.on_choke(1, 0.0, keeps_requests=False)
    assert picker.pick_span(1, 0.0) is None
    assert picker.to_wake(0.0) == []
    picker.on_unchoke(1, 1.0)
    assert picker.to_wake(1.0) == [1]
    assert picker.pick_span(1, 1.0) == (0, MIB)


def test_a_piece_the_web_seed_lacks_is_left_out() -> None:
    picker = make()
    picker.on_dont_have(1, 0)
    assert picker.pick_span(1, 0.0) == (MIB, MIB)
    picker.on_span_done(1, MIB, MIB, 0.1)
    picker.on_dont_have(1, 2)
    picker.ledger.sources[1].pace.rate = 100e6
    assert picker.pick_span(1, 0.2) == (MIB, MIB)
