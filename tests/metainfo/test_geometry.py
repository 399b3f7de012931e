"""Piece, block and file arithmetic against brute force: every byte of the torrent listed."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.metainfo.geometry import BLOCK_LENGTH, Geometry

lengths = st.lists(st.integers(0, 40) | st.just(0) | st.just(16), min_size=1, max_size=8)
layouts = st.tuples(st.integers(1, 20), lengths, st.booleans())
Layout = tuple[int, list[int], bool]


class Byte(NamedTuple):
    place: int
    file: int
    offset: int


def every_byte(layout: Layout) -> list[Byte]:
    """All bytes that belong to a file, in order, found the slow way."""
    piece_length, sizes, aligned = layout
    found = []
    place = 0
    for file, size in enumerate(sizes):
        while aligned and size and place % piece_length:
            place += 1
        for offset in range(size):
            found.append(Byte(place, file, offset))
            place += 1
    return found


@given(layouts)
def test_pieces(layout: Layout) -> None:
    piece_length, sizes, aligned = layout
    geometry = Geometry(piece_length, sizes, aligned=aligned)
    held: dict[int, list[Byte]] = {}
    for byte in every_byte(layout):
        held.setdefault(byte.place // piece_length, []).append(byte)
    assert geometry.num_pieces == len(held)
    for piece, inside in held.items():
        assert geometry.piece_size(piece) == len(inside)
        assert inside[-1].place - inside[0].place == len(inside) - 1
        assert geometry.num_blocks(piece) == 1
        assert geometry.block_length(piece, 0) == len(inside)
    for outside in (-1, geometry.num_pieces):
        with pytest.raises(IndexError):
            geometry.piece_size(outside)


@given(layouts)
def test_files(layout: Layout) -> None:
    piece_length, sizes, aligned = layout
    geometry = Geometry(piece_length, sizes, aligned=aligned)
    everything = every_byte(layout)
    assert geometry.length >= sum(sizes)
    if everything:
        assert geometry.length == everything[-1].place + 1
    for file, size in enumerate(sizes):
        mine = [byte for byte in everything if byte.file == file]
        assert list(geometry.pieces_of_file(file)) == sorted(
            {byte.place // piece_length for byte in mine}
        )
        if size:
            assert geometry.file_starts[file] == mine[0].place


@given(layouts, st.integers(0, 60), st.integers(0, 60))
def test_file_spans(layout: Layout, offset: int, size: int) -> None:
    piece_length, sizes, aligned = layout
    geometry = Geometry(piece_length, sizes, aligned=aligned)
    everything = every_byte(layout)
    for file in range(len(sizes)):
        asked = [
            byte.place
            for byte in everything
            if byte.file == file and offset <= byte.offset < offset + size
        ]
        spans = list(geometry.file_spans(file, offset, size))
        assert [
            piece * piece_length + begin + step
            for piece, begin, length in spans
            for step in range(length)
        ] == asked
        assert all(0 < s.length <= piece_length - s.begin for s in spans)


@given(layouts, st.integers(0, 120), st.integers(0, 120))
def test_files_in(layout: Layout, start: int, size: int) -> None:
    piece_length, sizes, aligned = layout
    geometry = Geometry(piece_length, sizes, aligned=aligned)
    spans = list(geometry.files_in(start, size))
    assert [(s.file, s.offset + step) for s in spans for step in range(s.length)] == [
        (byte.file, byte.offset)
        for byte in every_byte(layout)
        if start <= byte.place < start + size
    ]
    assert len({s.file for s in spans}) == len(spans)


def test_blocks() -> None:
    geometry = Geometry(4 * BLOCK_LENGTH, [4 * BLOCK_LENGTH, BLOCK_LENGTH + 5])
    assert [geometry.num_blocks(piece) for piece in range(2)] == [4, 2]
    assert geometry.block_length(0, 3 * BLOCK_LENGTH) == BLOCK_LENGTH
    assert geometry.block_length(1, BLOCK_LENGTH) == 5


def test_no_payload() -> None:
    for aligned in (False, True):
        geometry = Geometry(16, [0, 0], aligned=aligned)
        assert (geometry.length, geometry.num_pieces) == (0, 0)
        assert list(geometry.files_in(0, 10)) == []
    with pytest.raises(ValueError, match="at least one byte"):
        Geometry(0, [1])
    assert "2 files" in repr(Geometry(16, [1, 2]))
