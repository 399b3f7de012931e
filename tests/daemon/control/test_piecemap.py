"""The map of pieces, exact and in parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torrentfs.daemon.control import piecemap
from torrentfs.daemon.control.piecemap import buckets, marks, piece_states, runs
from torrentfs.metainfo.bitfield import Bitfield


def test_runs_say_what_is_here_partly_here_wanted_and_missing() -> None:
    have = Bitfield(12, [0, 1, 2, 9])
    assert runs(piece_states(have, partial=[3, 9], wanted=[3, 4, 5, 0, 99])) == "3h1p2w3m1h2m"


def test_a_torrent_without_pieces_has_no_map() -> None:
    assert runs(piece_states(Bitfield(0))) == ""
    assert buckets(b"", 10) == []


def test_parts_say_what_is_wanted_and_partly_here() -> None:
    have = Bitfield(12, [0, 1, 2, 3, 4, 10])
    states = piece_states(have, partial=[6], wanted=[9, 8])
    assert states == b"hhhhhmpmwwhm"
    assert marks(states, 4) == "hpww"
    assert marks(states, 6) == "hhppwp"
    assert marks(states, 100) == states.decode()
    assert marks(b"", 4) == ""


@given(st.integers(1, 300), st.data())
def test_runs_and_parts_are_those_of_the_pieces(size: int, data: st.DataObject) -> None:
    pieces = data.draw(st.sets(st.integers(0, size - 1)))
    states = piece_states(Bitfield(size, pieces))
    assert [number for number, state in enumerate(states) if state == ord("h")] == sorted(pieces)
    text = runs(states)
    assert text is not None
    spread = ""
    count = ""
    for letter in text:
        if letter.isdigit():
            count += letter
        else:
            spread += letter * int(count)
            count = ""
    assert spread.encode() == states
    number = data.draw(st.integers(1, 40))
    parts = buckets(states, number)
    assert len(parts) == min(number, size)
    assert (parts == [100] * len(parts)) is (len(pieces) == size)
    assert [mark == "h" for mark in marks(states, number)] == [part == 100 for part in parts]


def test_too_many_runs_are_not_told(monkeypatch: object) -> None:
    states = piece_states(Bitfield(200_000, range(0, 200_000, 2)))
    assert runs(states) is None
    assert buckets(states, 4) == [50] * 4
    assert piecemap.MAX_RUNS < 200_000
