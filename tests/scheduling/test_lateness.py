"""One look at what is late, for all sources."""

from __future__ import annotations

import pytest

from torrentfs.metainfo.geometry import Geometry
from torrentfs.scheduling.lateness import HASTE, TICK, late_blocks, late_run, look
from torrentfs.scheduling.picker import Level, Picker, SourceKind, Want
from torrentfs.scheduling.rates import Pace

MIB = 1024 * 1024


def make(peers: int, *, piece_length: int = MIB, rate: float = 10e6) -> Picker:
    """Peers 1 to `peers` with 50 ms and `rate`, and two pieces of which the first is urgent."""
    picker = Picker(Geometry(piece_length, [2 * piece_length]))
    for name in range(1, peers + 1):
        picker.add_source(name, SourceKind.PEER, 0.0, max_queue=250)
        picker.on_have_all(name)
        picker.on_unchoke(name, 0.0)
        pace = picker.ledger.sources[name].pace
        pace.rtt, pace.rate, pace.peak, pace.growing = 0.05, rate, rate, False
    picker.set_agenda([Want(0, Level.URGENT, 9.0)], 0.0)
    return picker


@pytest.mark.parametrize("late", [False, True])
def test_a_tick_costs_a_glance_at_each_source_and_block_not_at_each_pair(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    picker = make(50, piece_length=16 * MIB)
    while picker.ledger.urgent.free:
        for name in picker.to_wake(0.0):
            picker.pick(name, 0.0)
    blocks = sum(len(source.in_flight) for source in picker.ledger.sources.values())
    assert blocks == 1024
    now = TICK
    if late:
        now = 1.0
        for name in range(3, 51):  # all but two have brought something just now
            picker.ledger.sources[name].pace.last = now
    counted = 0
    for name in ("arrival", "silence"):
        right = getattr(Pace, name)

        def count(pace: Pace, *args: object, right: object = right) -> float:
            nonlocal counted
            counted += 1
            return right(pace, *args)  # type: ignore[operator, no-any-return]

        monkeypatch.setattr(Pace, name, count)
    for name in picker.to_wake(now):
        picker.pick(name, now)
    assert bool(picker.hedged) is late
    assert counted < blocks + 15 * 50


def test_late_blocks_are_taken_worst_first_and_once() -> None:
    picker = make(3)
    picker.pick(1, 0.0)
    first = picker.ledger.sources[1]
    assert len(first.in_flight) > 10
    assert look(picker, 0.01).pieces == []
    now = 1.0
    two, three = picker.ledger.sources[2], picker.ledger.sources[3]
    two.pace.asked = three.pace.asked = now
    taken = late_blocks(picker, two, 4, 1.0, now)
    assert [block for _, block in taken] == list(reversed(list(first.in_flight)))[:4]
    others = late_blocks(picker, three, 4, 1.0, now)
    assert not set(taken) & set(others)
    assert late_blocks(picker, first, 4, 1.0, now) == [], "its own"
    assert late_blocks(picker, three, 4, 1e9, now) == [], "patient"


def test_who_takes_runs_has_the_first_that_follow_each_other() -> None:
    picker = make(2)
    asked = picker.pick(1, 0.0)
    count = len(asked)
    picker.on_block(1, *asked[2], 0.05)
    picker.ledger.sources[2].pace.asked = 1.0
    found = late_run(picker, picker.ledger.sources[2], 16, 1.0, 1.0)
    assert found == (picker.ledger.open[0], 0, 2)
    found = late_run(picker, picker.ledger.sources[2], 4, 1.0, 1.0)
    assert found == (picker.ledger.open[0], 3, 4)
    found = late_run(picker, picker.ledger.sources[2], 100, 1.0, 1.0)
    assert found == (picker.ledger.open[0], 7, count - 7)
    assert late_run(picker, picker.ledger.sources[2], 4, 1.0, 1.0) is None


def test_it_looks_again_soon_when_reads_wait_for_something_else() -> None:
    picker = make(2)
    picker.pick(1, 0.0)
    before = look(picker, 1.0)
    assert look(picker, 1.0 + 0.9 * TICK) is before
    picker.set_agenda([Want(1, Level.URGENT, 9.0)], 1.0)
    assert look(picker, 1.0 + 1.1 * HASTE) is not before


def test_answers_of_a_web_seed_that_come_side_by_side_do_not_wait_for_each_other() -> None:
    picker = Picker(Geometry(MIB, [32 * MIB]))
    picker.add_source(1, SourceKind.WEB_SEED, 0.0, max_queue=3)
    seed = picker.ledger.sources[1]
    seed.pace.rtt, seed.pace.rate, seed.pace.growing = 0.02, 10e6, False
    picker.set_agenda([Want(piece, Level.WINDOW, 9.0) for piece in range(20)], 0.0)
    assert picker.pick_span(1, 0.0) is not None
    assert picker.pick_span(1, 0.0) is not None
    picker.add_source(2, SourceKind.PEER, 0.0, max_queue=250)
    picker.on_have_all(2)
    picker.on_unchoke(2, 0.0)
    peer = picker.ledger.sources[2]
    peer.pace.rtt, peer.pace.rate, peer.pace.peak, peer.pace.growing = 0.02, 1e6, 1e6, False
    wants = [Want(30, Level.URGENT, 9.0), *(Want(p, Level.WINDOW, 9.0) for p in range(20))]
    picker.set_agenda(wants, 0.0)
    span = picker.pick_span(1, 0.0)
    assert span is not None
    assert span[0] == 30 * MIB
    assert len(seed.in_flight) > 600, "half a second and more before it, in other answers"
    assert look(picker, 0.01).pieces == []


def test_a_block_is_asked_of_more_than_three_only_while_all_of_them_are_overdue() -> None:
    """Peers that fell silent with nothing to bring look as good as ever: three may be wrong."""
    picker = make(9, rate=1e6)
    (request, *_) = picker.pick(1, 0.0)
    now = 1.0
    for name in (2, 3):
        picker.ledger.ask_again(picker.ledger.sources[name], picker.ledger.open[0], 0, 0.5)
        picker.ledger.sources[name].pace.asked = 0.5
    picker.ledger.sources[4].pace.asked = picker.ledger.sources[3].pace.last = now

    def late(now: float) -> bool:
        found = late_blocks(picker, picker.ledger.sources[4], 50, 1.0, now)
        return (picker.ledger.open[0], request.begin // 16384) in found

    assert not late(now), "of one of the three it may come any moment"
    picker.ledger.sources[4].pace.asked = 1.6
    assert late(1.6)
    for name in (4, 5, 6):
        picker.ledger.ask_again(picker.ledger.sources[name], picker.ledger.open[0], 0, 1.7)
        picker.ledger.sources[name].pace.asked = 1.7
    picker.ledger.sources[7].pace.asked = 5.0
    found = late_blocks(picker, picker.ledger.sources[7], 50, 1.0, 5.0)
    assert (picker.ledger.open[0], 0) not in found
