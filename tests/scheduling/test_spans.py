"""Spans of web seeds that pause or lack something."""

from __future__ import annotations

from torrentfs.metainfo.geometry import BLOCK_LENGTH, Geometry
from torrentfs.scheduling.picker import Level, Picker, Request, SourceKind, Want

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


def late(lanes: int = 3) -> tuple[Picker, list[Request]]:
    """A web seed, and a peer that was asked for an urgent piece and is silent."""
    picker = Picker(Geometry(MIB, [64 * MIB]))
    picker.add_source(2, SourceKind.PEER, 0.0, max_queue=250)
    picker.on_have_all(2)
    picker.on_unchoke(2, 0.0)
    picker.set_agenda([Want(0, Level.URGENT, 1.0)], 0.0)
    asked = picker.pick(2, 0.0)
    picker.add_source(1, SourceKind.WEB_SEED, 0.0, max_queue=lanes)
    pace = picker.ledger.sources[1].pace
    pace.rtt, pace.rate, pace.growing = 0.02, 20e6, False
    wants = [Want(0, Level.URGENT, 1.0), *(Want(n, Level.WINDOW, 1.0) for n in range(1, 64))]
    picker.set_agenda(wants, 0.0)
    return picker, asked


def test_late_blocks_are_asked_of_a_web_seed_too() -> None:
    picker, asked = late()
    assert len(asked) == 64
    span = picker.pick_span(1, 1.0)
    assert span == (0, 16 * BLOCK_LENGTH)
    assert picker.wants_span(1, *span)
    for request in asked[:16]:
        assert picker.on_block(1, *request, 1.1).wanted
    assert picker.take_cancels() == [(2, request) for request in asked[:16]]
    picker.on_span_done(1, *span, 1.1)
    picker.ledger.sources[1].pace.rate = 20e6
    second = picker.pick_span(1, 1.2)
    assert second == (16 * BLOCK_LENGTH, 16 * BLOCK_LENGTH)
    for request in asked[16:32]:
        picker.on_block(2, *request, 1.21)
    assert [name for name, _ in picker.take_cancels()] == [1] * 16
    assert not picker.wants_span(1, *second), "the answer may end"
    picker.on_span_done(1, *second, 1.22)
    assert picker.statistics().hedged == 32 * BLOCK_LENGTH


def test_a_web_seed_keeps_its_last_request_for_who_waits() -> None:
    picker, _ = late()
    spans = [picker.pick_span(1, 0.0), picker.pick_span(1, 0.0)]
    assert all(span is not None and span[0] >= MIB for span in spans)
    assert picker.pick_span(1, 0.0) is None, "more read-ahead"
    picker.ledger.sources[1].pace.asked = 0.99  # it is not silent itself
    assert picker.pick_span(1, 1.0) == (0, 16 * BLOCK_LENGTH), "late blocks"
    picker.on_span_done(1, 0, 16 * BLOCK_LENGTH, 1.0)
    picker.set_agenda(
        [Want(60, Level.URGENT, 1.0), *(Want(n, Level.WINDOW, 1.0) for n in range(1, 64))], 1.0
    )
    found = picker.pick_span(1, 1.0)
    assert found is not None
    assert found[0] == 60 * MIB, "another reader"
    assert picker.wants_span(1, *(spans[0] or (0, 0))), "nothing was taken back for it"


def test_a_silent_web_seed_is_tried_with_one_block_that_somebody_else_brings() -> None:
    picker, asked = late()
    picker.ledger.sources[1].snubbed = True
    last = asked[-1]
    assert picker.pick_span(1, 0.1) == (last.begin, last.length)
    assert picker.pick_span(1, 9.0) is None, "one at a time"
    assert not picker.on_block(1, 5, 0, BLOCK_LENGTH, 0.2).wanted
    assert picker.ledger.sources[1].snubbed
    assert picker.on_block(1, *last, 0.2).wanted
    picker.on_span_done(1, last.begin, last.length, 0.2)
    assert picker.take_cancels() == [(2, last)]
    assert not picker.ledger.sources[1].snubbed
    assert picker.pick_span(1, 0.2) is not None
    assert picker.ledger.sources[1].in_flight
