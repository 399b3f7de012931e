"""A bitfield is a set of piece indexes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.metainfo.bitfield import Bitfield

sizes = st.integers(0, 70)


@given(sizes, st.lists(st.tuples(st.booleans(), st.integers(-3, 75))))
def test_against_a_set(size: int, steps: list[tuple[bool, int]]) -> None:
    field = Bitfield(size)
    model: set[int] = set()
    for add, piece in steps:
        if not add:
            assert field.discard(piece) == (piece in model)
            model.discard(piece)
        elif 0 <= piece < size:
            assert field.add(piece) == (piece not in model)
            model.add(piece)
        else:
            with pytest.raises(IndexError):
                field.add(piece)
    assert list(field) == sorted(model)
    assert len(field) == field.count == len(model)
    assert bool(field) == bool(model)
    assert field.complete == (len(model) == size)
    assert [piece for piece in range(-2, size + 9) if piece in field] == sorted(model)
    twin = Bitfield.from_bytes(bytes(field), size)
    assert twin == field == field.copy() == Bitfield(size, model)
    assert twin.count == field.count
    if size:
        twin.clear()
        twin.add(0)
        assert (0 in field) == (0 in model)


@given(sizes)
def test_full_and_empty(size: int) -> None:
    field = Bitfield.full(size)
    assert field.complete
    assert list(field) == list(range(size))
    assert Bitfield.from_bytes(bytes(field), size).count == size
    field.clear()
    assert not field
    assert field == Bitfield(size)
    assert field != Bitfield(size + 1)
    assert field != 3


def test_wire_form() -> None:
    field = Bitfield(10, [0, 7, 8])
    assert bytes(field) == b"\x81\x80"
    assert repr(field) == "<Bitfield 3/10>"
    for wrong in (b"\x81", b"\x81\x80\x00", b"\x81\xa0", b"\x81\x81"):
        with pytest.raises(ValueError, match="bit"):
            Bitfield.from_bytes(wrong, 10)
    with pytest.raises(TypeError):
        hash(field)


@given(
    size=st.integers(0, 70),
    pieces=st.sets(st.integers(0, 69)),
    start=st.integers(0, 70),
    length=st.integers(0, 70),
)
def test_a_range_is_counted(size: int, pieces: set[int], start: int, length: int) -> None:
    field = Bitfield(size, (piece for piece in pieces if piece < size))
    part = range(start, start + length)
    assert field.count_in(part) == sum(piece in field for piece in part)
