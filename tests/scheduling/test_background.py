"""Errands: bounded helpings below all other wants, each piece once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.metainfo.geometry import Geometry
from torrentfs.scheduling.agenda import Agenda, Level, Want
from torrentfs.scheduling.background import Background, missing
from torrentfs.scheduling.picker import Picker, SourceKind

PIECE = 32 * 1024
EMPTY = Agenda((), ())


def made(pieces: int = 100, helping: int = 8) -> tuple[Background, Bitfield]:
    return Background(Geometry(PIECE, [pieces * PIECE]), helping * PIECE), Bitfield(pieces)


def wanted(background: Background, stored: Bitfield, agenda: Agenda = EMPTY) -> list[int]:
    found = background.below(agenda, stored)
    assert all(want.level == Level.BACKGROUND for want in found.rest[len(agenda.rest) :])
    return [want.piece for want in found.rest[len(agenda.rest) :]]


def test_a_helping_at_a_time() -> None:
    background, stored = made()
    background.begin("film", [range(10, 90)])
    assert wanted(background, stored) == list(range(10, 18))
    before = background.version
    for piece in (12, 11, 10):
        stored.add(piece)
        assert not background.on_stored(piece)
    assert background.version == before
    assert wanted(background, stored) == list(range(10, 18))
    stored.add(15)
    assert background.on_stored(15)
    assert background.version != before
    assert wanted(background, stored) == [13, 14, 16, 17, 18, 19, 20, 21]


def test_nothing_changes_the_agenda_when_nothing_is_wanted() -> None:
    background, stored = made()
    assert background.below(EMPTY, stored) is EMPTY
    background.begin("film", [range(3)])
    background.end("film")
    assert background.below(EMPTY, stored) is EMPTY
    background.end("unknown")


def test_parts_that_did_not_change_stay_the_same_objects() -> None:
    background, stored = made()
    background.begin("film", [range(3)])
    rest = (Want(50, Level.WINDOW, 1.0),)
    first = background.below(Agenda((), rest), stored)
    second = background.below(Agenda((Want(9, Level.URGENT, 1.0),), rest), stored)
    assert second.rest is first.rest
    assert [want.piece for want in second.rest] == [50, 0, 1, 2]
    assert background.below(Agenda((), ()), stored).rest is not first.rest


def test_ranks_come_before_order_of_arrival() -> None:
    background, stored = made()
    background.begin("pins", [range(40, 60)], rank=2)
    background.begin("prefetch", [range(20, 23)], rank=1)
    background.begin("siblings", [range(5, 6)])
    assert wanted(background, stored) == [5, 20, 21, 22, 40, 41, 42, 43]


def test_what_is_lost_is_not_fetched_in_a_circle() -> None:
    background, stored = made()
    background.begin("pins", [range(6)])
    got: list[int] = []
    while pieces := wanted(background, stored):
        got += pieces
        for piece in pieces:
            background.on_stored(piece)  # and lost at once: the disk is full
    assert got == [0, 1, 2, 3, 4, 5]
    assert background.is_over("pins")
    assert missing([range(6)], stored) == 6
    background.begin("pins", [range(6)])
    assert not background.is_over("pins")
    assert wanted(background, stored) == [0, 1, 2, 3, 4, 5]


RUNS = st.lists(
    st.builds(lambda start, size: range(start, start + size), st.integers(0, 90), st.integers(0, 9))
)


@given(st.lists(RUNS, max_size=4), st.sets(st.integers(0, 99)), st.randoms(use_true_random=False))
def test_all_of_it_comes_and_nothing_else(
    errands: list[list[range]], have: set[int], rng: object
) -> None:
    background, stored = made(helping=3)
    for piece in have:
        stored.add(piece)
    for number, runs in enumerate(errands):
        background.begin(number, runs, rank=number % 3)
    due = {piece for runs in errands for run in runs for piece in run} - have
    got: list[int] = []
    while pieces := wanted(background, stored):
        assert len(pieces) <= 3
        rng.shuffle(pieces)  # type: ignore[attr-defined]
        for piece in pieces:
            got.append(piece)
            stored.add(piece)
            if background.on_stored(piece):
                break
    assert sorted(got) == sorted(due)
    assert all(background.is_over(number) for number in range(len(errands)))


def test_a_web_seed_keeps_a_lane_for_who_reads() -> None:
    geometry = Geometry(PIECE, [400 * PIECE])
    picker = Picker(geometry)
    picker.add_source(1, SourceKind.WEB_SEED, 0.0, max_queue=3)
    background = Background(geometry)
    background.begin("film", [range(400)])
    picker.set_agenda(background.below(EMPTY, Bitfield(400)), 0.0)
    assert picker.pick_span(1, 0.0) is not None
    assert picker.pick_span(1, 0.0) is None
    rest = (Want(399, Level.WINDOW, 1.0),)
    picker.set_agenda(background.below(Agenda((), rest), Bitfield(400)), 0.0)
    assert picker.pick_span(1, 0.0) == (399 * PIECE, PIECE)
