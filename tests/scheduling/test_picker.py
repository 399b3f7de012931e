"""The picker, fact by fact."""

from __future__ import annotations

import pytest

from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.metainfo.geometry import BLOCK_LENGTH, Geometry
from torrentfs.scheduling.picker import (
    Level,
    Picker,
    PickerConfig,
    Request,
    SourceKind,
    Want,
)

MIB = 1024 * 1024
BLOCKS = MIB // BLOCK_LENGTH


def urgent(*pieces: int) -> list[Want]:
    return [Want(piece, Level.URGENT, 10.0) for piece in pieces]


def ahead(*pieces: int) -> list[Want]:
    return [Want(piece, Level.WINDOW, 10.0) for piece in pieces]


def make(peers: int = 1, *, pieces: int = 32, **config: int) -> Picker:
    """A picker with `peers` unchoked seeds named 1, 2, ..."""
    picker = Picker(Geometry(MIB, [pieces * MIB]), PickerConfig(**config))  # type: ignore[arg-type]
    for name in range(1, peers + 1):
        picker.add_source(name, SourceKind.PEER, 0.0, max_queue=250)
        picker.on_have_all(name)
        picker.on_unchoke(name, 0.0)
    return picker


def test_what_is_stored_from_earlier_is_as_if_it_had_come() -> None:
    have = Bitfield(4)
    have.add(1)
    picker = Picker(Geometry(MIB, [4 * MIB]), stored=have)
    picker.add_source(1, SourceKind.PEER, 0.0, max_queue=250)
    picker.on_have_all(1)
    assert picker.ledger.sources[1].lacking == 3
    picker.on_stored(2)
    assert 1 in picker.ledger.stored
    assert 2 not in have  # it is the picker's own copy


def deliver(picker: Picker, source: int, requests: list[Request], now: float) -> list[int]:
    """All requests are answered; returns the pieces now complete."""
    return [
        request.piece
        for request in requests
        if picker.on_block(source, *request, now).piece_complete
    ]


def warm(picker: Picker, source: int, *, rtt: float, rate: float) -> float:
    """Teach the picker a source's pace on read-ahead of the last pieces; returns the time."""
    pace = picker.ledger.sources[source].pace
    now = 1.0
    pace.on_asked(now)
    for n in range(200):
        pace.on_block(now + rtt + n / 1e9, BLOCK_LENGTH, now + 2 * rtt)
        now += BLOCK_LENGTH / rate
    pace.rtt, pace.rate, pace.peak, pace.growing = rtt, rate, rate, False
    return now


def test_nothing_wanted_nothing_asked() -> None:
    picker = make()
    assert picker.pick(1, 0.0) == []
    assert picker.to_wake(0.0) == []
    assert picker.next_wakeup(0.0) is None


def test_urgent_comes_before_ahead_and_hints_come_last() -> None:
    picker = make(2)
    wants = [Want(7, Level.HINT, 1.0), *ahead(5, 6), *urgent(3)]
    picker.set_agenda([wants[3], *ahead(5, 6), wants[0]], 0.0)
    asked = []
    for _ in range(60):
        for name in (1, 2):
            requests = picker.pick(name, 0.0)
            deliver(picker, name, requests, 0.05)
            asked += requests
    assert list(dict.fromkeys(request.piece for request in asked)) == [3, 5, 6, 7]


def test_a_lone_new_source_gets_a_whole_urgent_piece_at_once() -> None:
    picker = make()
    picker.set_agenda(urgent(3), 0.0)
    assert len(picker.pick(1, 0.0)) == BLOCKS


def test_a_new_source_starts_with_a_handful_and_doubles() -> None:
    picker = make(2)
    picker.set_agenda(ahead(*range(32)), 0.0)
    assert len(picker.pick(1, 0.0)) == 8
    sizes, now = [], 0.0
    flight = list(picker.ledger.sources[1].in_flight)
    for _ in range(3):
        now += 0.05
        for block_id in flight:
            piece, block = divmod(block_id, BLOCKS)
            picker.on_block(1, piece, block * BLOCK_LENGTH, BLOCK_LENGTH, now)
        picker.pick(1, now)
        flight = list(picker.ledger.sources[1].in_flight)
        sizes.append(len(flight))
    assert sizes == [16, 32, 64]


def test_reqq_bounds_the_queue() -> None:
    picker = Picker(Geometry(MIB, [8 * MIB]))
    picker.add_source(1, SourceKind.PEER, 0.0, max_queue=5)
    picker.on_have_all(1)
    picker.on_unchoke(1, 0.0)
    picker.set_agenda(urgent(0, 1), 0.0)
    assert len(picker.pick(1, 0.0)) == 5
    picker.set_max_queue(1, 7)
    assert len(picker.pick(1, 0.0)) == 2


def test_an_urgent_piece_is_shared_in_proportion() -> None:
    picker = make(2)
    now = max(warm(picker, 1, rtt=0.05, rate=9e6), warm(picker, 2, rtt=0.05, rate=3e6))
    picker.set_agenda(urgent(0), now)
    assert picker.to_wake(now)[0] in (1, 2)
    first, second = len(picker.pick(1, now)), len(picker.pick(2, now))
    assert first >= 29  # all that its depth allows
    assert 12 <= second <= 18


def test_a_source_that_would_come_too_late_is_left_out() -> None:
    picker = make(2)
    now = max(warm(picker, 1, rtt=0.01, rate=50e6), warm(picker, 2, rtt=0.5, rate=20e3))
    picker.set_agenda(urgent(0), now)
    assert picker.to_wake(now)[0] == 1
    assert picker.pick(2, now) == []
    assert picker.pick(1, now)


def test_a_seek_cancels_what_is_queued_and_asks_at_once() -> None:
    picker = make()
    picker.set_agenda(ahead(1, 2, 3), 0.0)
    old = picker.pick(1, 0.0)
    picker.set_agenda(urgent(20), 0.0)
    assert picker.take_cancels() == [(1, request) for request in old]
    assert picker.take_cancels() == []
    assert picker.to_wake(0.0) == [1]
    assert {request.piece for request in picker.pick(1, 0.0)} == {20}


def test_a_cancelled_block_that_comes_all_the_same_is_kept() -> None:
    picker = make()
    picker.set_agenda(ahead(1), 0.0)
    old = picker.pick(1, 0.0)
    picker.set_agenda(urgent(20), 0.0)
    assert picker.on_block(1, *old[0], 0.1).wanted
    assert not picker.on_block(1, *old[0], 0.1).wanted
    picker.set_agenda(urgent(1), 0.2)
    assert old[0] not in picker.pick(1, 0.2)


def test_unasked_and_malformed_blocks_are_waste() -> None:
    picker = make()
    picker.set_agenda(urgent(0), 0.0)
    picker.pick(1, 0.0)
    for piece, begin, length in [
        (5, 0, BLOCK_LENGTH),
        (0, 1, BLOCK_LENGTH),
        (0, 0, 5),
        (0, 64 * BLOCK_LENGTH, BLOCK_LENGTH),
        (99, 0, BLOCK_LENGTH),
    ]:
        assert not picker.on_block(1, piece, begin, length, 0.1).wanted
    assert picker.wasted == 4 * BLOCK_LENGTH + 5


def test_a_complete_piece_is_told_once_and_not_asked_again() -> None:
    picker = make()
    picker.set_agenda(urgent(0), 0.0)
    assert deliver(picker, 1, picker.pick(1, 0.0), 0.1) == [0]
    assert picker.pick(1, 0.1) == []
    picker.on_stored(0)
    assert picker.partial_pieces() == []
    picker.set_agenda(urgent(0), 0.2)
    assert picker.pick(1, 0.2) == []
    picker.on_lost(0)
    assert picker.pick(1, 0.3)


def test_an_evicted_piece_of_a_window_is_not_fetched_for_its_lagging_edge() -> None:
    picker = make()
    wants = ahead(0)
    picker.on_stored(0)
    picker.set_agenda(wants, 0.0)
    picker.on_lost(0)
    assert picker.pick(1, 0.0) == []
    picker.set_agenda(ahead(0), 0.0)
    assert picker.pick(1, 0.0)


def test_a_dead_source_leaves_its_blocks_to_others() -> None:
    picker = make(2)
    picker.set_agenda(ahead(0), 0.0)
    lost = picker.pick(1, 0.0)
    picker.to_wake(0.0)
    picker.remove_source(1, 0.1)
    assert picker.next_wakeup(0.1) == 0.1
    assert picker.to_wake(0.1) == [2]
    assert picker.pick(2, 0.1) == lost


def test_choke_without_fast_drops_the_queue_with_fast_keeps_it() -> None:
    picker = make(2)
    picker.set_agenda(ahead(0), 0.0)
    asked = picker.pick(1, 0.0)
    picker.on_choke(1, 0.1, keeps_requests=True)
    assert picker.on_block(1, *asked[0], 0.1).wanted
    picker.on_reject(1, asked[1], 0.1)
    assert asked[1] in picker.pick(2, 0.1)
    picker.on_choke(2, 0.1, keeps_requests=False)
    assert picker.pick(2, 0.1) == []
    assert not picker.ledger.sources[2].in_flight


def test_allowed_fast_is_asked_while_choked() -> None:
    picker = make()
    picker.on_choke(1, 0.0, keeps_requests=True)
    picker.set_agenda(urgent(4, 5), 0.0)
    assert picker.pick(1, 0.0) == []
    picker.on_allowed_fast(1, 5)
    assert {request.piece for request in picker.pick(1, 0.0)} == {5}


def test_a_reject_is_not_asked_again_in_a_loop_but_again_later() -> None:
    picker = make()
    picker.set_agenda(urgent(0), 0.0)
    for request in picker.pick(1, 0.0):
        picker.on_reject(1, request, 0.1)
    assert picker.pick(1, 0.1) == []
    wake = picker.next_wakeup(0.1)
    assert wake is not None
    assert 1 in picker.to_wake(0.7) + picker.to_wake(1.3)
    assert picker.pick(1, 1.3)


def test_have_dont_have_and_bitfields() -> None:
    picker = Picker(Geometry(MIB, [8 * MIB]))
    picker.add_source(1, SourceKind.PEER, 0.0, max_queue=250)
    picker.on_unchoke(1, 0.0)
    picker.set_agenda(urgent(2, 3), 0.0)
    assert not picker.is_interesting(1)
    picker.on_have(1, 3)
    assert picker.is_interesting(1)
    assert {request.piece for request in picker.pick(1, 0.0)} == {3}
    picker.on_dont_have(1, 3)
    assert not picker.is_interesting(1)
    assert not picker.ledger.sources[1].in_flight
    picker.on_bitfield(1, Bitfield(8, [2]))
    assert {request.piece for request in picker.pick(1, 0.0)} == {2}
    picker.on_stored(2)
    assert not picker.is_interesting(1)
    with pytest.raises(IndexError):
        picker.on_have(1, 8)


def test_a_late_block_is_hedged_and_the_loser_cancelled() -> None:
    picker = make(2)
    now = max(warm(picker, 1, rtt=0.05, rate=5e6), warm(picker, 2, rtt=0.05, rate=5e6))
    picker.set_agenda(urgent(0), now)
    held = picker.pick(1, now)
    while picker.ledger.urgent.free:
        deliver(picker, 2, picker.pick(2, now), now + 0.05)
    late = now + 1.0
    assert 2 in picker.to_wake(late)
    again = picker.pick(2, late)
    assert again
    assert set(again) <= set(held)
    picker.on_block(2, *again[0], late + 0.06)
    assert (1, again[0]) in picker.take_cancels()
    assert picker.statistics().hedged == len(again) * BLOCK_LENGTH


def test_a_silent_source_loses_its_blocks_to_others() -> None:
    picker = make(2)
    picker.set_agenda(ahead(0), 0.0)
    held = picker.pick(1, 0.0)
    picker.to_wake(0.0)
    picker.to_wake(5.0)
    assert picker.statistics().sources[1].snubbed
    assert {request for _, request in picker.take_cancels()} == set(held)
    assert set(held) <= set(picker.pick(2, 5.0))
    picker.on_block(1, *held[0], 5.1)
    assert not picker.statistics().sources[1].snubbed


def test_the_only_source_keeps_its_queue_however_silent() -> None:
    picker = make(1)
    picker.set_agenda(urgent(0), 0.0)
    picker.pick(1, 0.0)
    picker.to_wake(60.0)
    assert picker.take_cancels() == []


def test_after_a_failed_hash_one_other_source_gives_all() -> None:
    picker = make(3)
    picker.set_agenda(urgent(0), 0.0)
    for _ in range(20):
        for name in (1, 2):
            deliver(picker, name, picker.pick(name, 0.0), 0.05)
    assert set(picker.origins(0)) == {1, 2}
    picker.on_failed(0)
    assert picker.origins(0) == [None] * BLOCKS
    assert picker.pick(1, 0.1) == []
    while deliver(picker, 3, picker.pick(3, 0.1), 0.2) != [0]:
        assert picker.pick(1, 0.2) == []
        assert picker.pick(2, 0.2) == []
    assert set(picker.origins(0)) == {3}


def test_idle_partials_are_bounded_and_told() -> None:
    picker = make(1, max_idle_partials=2)
    for piece in range(5):
        picker.set_agenda(ahead(piece), 0.0)
        deliver(picker, 1, picker.pick(1, 0.0)[:1], 0.1)
    picker.set_agenda([], 1.0)
    assert picker.take_dropped() == [0, 1, 2]
    assert picker.partial_pieces() == [3, 4]


def test_web_seed_spans_share_with_peers_without_duplicates() -> None:
    picker = make(1)
    picker.add_source(2, SourceKind.WEB_SEED, 0.0, max_queue=1)
    assert picker.is_interesting(2)
    picker.set_agenda(ahead(0, 1, 2), 0.0)
    asked = picker.pick(1, 0.0)
    span = picker.pick_span(2, 0.0)
    assert span == (len(asked) * BLOCK_LENGTH, 256 * 1024)
    assert picker.pick_span(2, 0.0) is None
    assert picker.wants_span(2)
    assert picker.wants_span(2, *span)
    picker.set_agenda([], 0.1)
    assert not picker.wants_span(2)
    picker.on_span_done(2, *span, 0.1)
    picker.set_agenda(ahead(0), 0.2)
    assert picker.pick_span(2, 0.2) == (0, 256 * 1024)


def test_a_lone_web_seed_is_asked_across_pieces_and_grows_with_its_rate() -> None:
    picker = make(0)
    picker.add_source(1, SourceKind.WEB_SEED, 0.0, max_queue=1)
    picker.set_agenda(ahead(*range(20)), 0.0)
    span = picker.pick_span(1, 0.0)
    assert span == (0, MIB)
    for block in range(BLOCKS):
        picker.on_block(1, 0, block * BLOCK_LENGTH, BLOCK_LENGTH, 0.05 + block * 0.001)
    picker.on_span_done(1, *span, 0.12)
    longer = picker.pick_span(1, 0.12)
    assert longer is not None
    assert longer[0] == MIB
    assert longer[1] > 4 * MIB


def test_a_broken_span_frees_what_did_not_come() -> None:
    picker = make(0)
    picker.add_source(1, SourceKind.WEB_SEED, 0.0, max_queue=1)
    picker.set_agenda(urgent(0), 0.0)
    span = picker.pick_span(1, 0.0)
    assert span is not None
    picker.on_block(1, 0, 0, BLOCK_LENGTH, 0.1)
    picker.on_span_done(1, *span, 0.2)
    assert picker.to_wake(0.2) == [1]
    assert picker.pick_span(1, 0.2) == (BLOCK_LENGTH, MIB - BLOCK_LENGTH)


def test_two_sources_of_one_name_are_a_bug() -> None:
    picker = make(1)
    with pytest.raises(ValueError, match="exists"):
        picker.add_source(1, SourceKind.PEER, 0.0, max_queue=1)
    assert "1 sources" in repr(picker)
    assert "Source 1" in repr(picker.ledger.sources[1])
