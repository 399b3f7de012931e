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


def test_a_source_that_hesitated_once_is_asked_again() -> None:
    """A pause in its first answers, and what came behind it was all that it had been asked for."""
    picker = make(4e6)
    picker.add_source(2, SourceKind.PEER, 0.0, max_queue=250)
    picker.on_have_all(2)
    picker.on_unchoke(2, 0.0)
    pace = picker.ledger.sources[2].pace
    picker.set_agenda([Want(piece, Level.WINDOW, 9.0) for piece in range(8)], 0.0)
    first, *others = picker.pick(2, 1.0)
    assert picker.on_block(2, *first, 1.14).wanted
    for tick in range(1, 14):
        pace.on_tick(1.14 + 0.02 * tick)
    assert pace.rate == 1.0, "nothing came in that time"
    for request in others:
        assert picker.on_block(2, *request, 1.41).wanted
    assert pace.rate > 0.25e6
    assert picker.pick(2, 1.42)


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


def test_a_silent_source_is_tried_with_copies_of_what_others_bring() -> None:
    """What it held would be late, and the last of a window is needed soon after the first."""
    picker = make(1e6, 1e6)
    first = picker.ledger.sources[1]
    first.snubbed = True
    picker.set_agenda(
        [Want(0, Level.URGENT, 9.0), *(Want(piece, Level.WINDOW, 9.0) for piece in range(1, 9))],
        0.0,
    )
    assert picker.pick(1, 1.0) == [], "nothing is on its way from others"
    last = picker.pick(2, 1.0)[-1]
    assert picker.pick(1, 1.0) == [last]
    assert not first.in_flight
    assert picker.pick(1, 2.9) == [], "not all the time"
    (again,) = picker.pick(1, 3.0)
    assert again != last
    assert picker.pick(1, 6.9) == [], "less and less often"
    assert picker.on_block(2, *last, 7.0).wanted
    assert not [name for name, _ in picker.take_cancels() if name == 1], "it may still answer"
    assert not picker.on_block(1, *last, 7.0).wanted
    assert not first.snubbed
    assert picker.pick(1, 7.1)[0].piece == 0
    assert len(first.in_flight) == 2, "as one that is new"


def test_who_answers_when_all_of_the_piece_is_here_is_believed_too() -> None:
    picker = make(1e6, 1e6)
    first = picker.ledger.sources[1]
    first.snubbed = True
    picker.set_agenda([Want(0, Level.URGENT, 9.0)], 0.0)
    asked = picker.pick(2, 1.0)
    (copied,) = picker.pick(1, 1.0)
    while asked:
        for request in asked:
            picker.on_block(2, *request, 1.1)
        asked = picker.pick(2, 1.1)
    picker.on_stored(0)
    assert not picker.on_block(1, *copied, 1.2).wanted
    assert not first.snubbed
    first.snubbed = True
    assert not picker.on_block(1, *copied, 1.3).wanted
    assert first.snubbed, "nobody asked for it"


def test_a_silent_source_gives_what_only_it_has() -> None:
    picker = make(1e6, 1e6)
    picker.ledger.sources[1].snubbed = True
    picker.on_dont_have(2, 3)
    picker.set_agenda([Want(piece, Level.WINDOW, 9.0) for piece in range(1, 9)], 0.0)
    assert [request.piece for request in picker.pick(1, 1.0)] == [3]
