"""What one source leaves to the others."""

from __future__ import annotations

from torrentfs.metainfo.geometry import Geometry
from torrentfs.scheduling.agenda import ALL
from torrentfs.scheduling.picker import Level, Picker, SourceKind, Want
from torrentfs.scheduling.sharing import PART, leave_front, may_serve, part_of_window, share_of

MIB = 1024 * 1024


def make(*rates: float) -> Picker:
    picker = Picker(Geometry(MIB, [64 * MIB]))
    for name, rate in enumerate(rates, 1):
        picker.add_source(name, SourceKind.PEER, 0.0, max_queue=250)
        picker.on_have_all(name)
        picker.on_unchoke(name, 0.0)
        pace = picker.ledger.sources[name].pace
        pace.rtt, pace.rate, pace.peak, pace.growing = 0.05, rate, rate, False
    return picker


def test_shares_follow_the_rates() -> None:
    picker = make(3e6, 1e6)
    piece = picker.ledger.opened(0)
    fast = share_of(picker, picker.ledger.sources[1], piece, ALL, 250, 1.0)
    slow = share_of(picker, picker.ledger.sources[2], piece, ALL, 250, 1.0)
    assert 46 <= fast <= 50
    assert 14 <= slow <= 18


def test_a_slow_source_starts_farther_ahead() -> None:
    picker = make(10e6, 20e3)
    picker.set_agenda([Want(piece, Level.WINDOW, 9.0) for piece in range(64)], 0.0)
    free = picker.ledger.ahead.free
    assert leave_front(picker, picker.ledger.sources[1], free, 1.0) == free
    left = leave_front(picker, picker.ledger.sources[2], free, 1.0)
    assert 0 < left < free
    assert not left & 0b111


def test_a_suspect_steps_back_only_while_there_are_others() -> None:
    picker = make(1e6, 1e6)
    piece = picker.ledger.opened(0)
    piece.suspects = {1}
    assert not may_serve(picker, picker.ledger.sources[1], piece)
    assert may_serve(picker, picker.ledger.sources[2], piece)
    assert piece.sole == 2
    picker.remove_source(2, 1.0)
    assert may_serve(picker, picker.ledger.sources[1], piece)


def test_who_sends_in_bursts_leaves_the_others_their_part() -> None:
    picker = make(4e6, 4e6, 4e6)
    first = picker.ledger.sources[1]
    first.pace.pause, first.pace.peak, first.pace.steady = 0.5, 300e6, 4e6
    assert first.pace.bursts
    picker.set_agenda([Want(piece, Level.WINDOW, 9.0) for piece in range(3)], 0.0)
    assert part_of_window(picker, first) == int(PART * 64)
    asked = picker.pick(1, 1.0)
    assert len(asked) <= int(PART * 64)
    assert part_of_window(picker, first) <= 64 + 1, "what is in flight counts too"
    assert len(asked) + len(picker.pick(2, 1.0)) + len(picker.pick(3, 1.0)) <= 3 * 64
    picker.ledger.sources[2].snubbed = True
    assert part_of_window(picker, first) > int(PART * 64)


def test_a_silent_source_is_tried_with_what_nobody_waits_for() -> None:
    """Or it would take a block away from others again and again, and hold it each time."""
    picker = make(1e6, 1e6)
    picker.ledger.sources[1].snubbed = True
    picker.set_agenda(
        [Want(0, Level.URGENT, 9.0), *(Want(piece, Level.WINDOW, 9.0) for piece in range(1, 9))],
        0.0,
    )
    (request,) = picker.pick(1, 1.0)
    assert request.piece == 8
    picker.ledger.sources[2].snubbed = True
    picker.remove_source(2, 1.0)
    picker.on_block(1, *request, 1.1)
    assert picker.pick(1, 1.2)[0].piece == 0


def test_a_silent_source_gives_what_only_it_has() -> None:
    picker = make(1e6, 1e6)
    picker.ledger.sources[1].snubbed = True
    picker.on_dont_have(2, 3)
    picker.set_agenda([Want(piece, Level.WINDOW, 9.0) for piece in range(1, 9)], 0.0)
    assert [request.piece for request in picker.pick(1, 1.0)] == [3]
