"""The bytes of a piece that is not whole."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.engine.partial import PartialPiece
from torrentfs.metainfo.geometry import BLOCK_LENGTH

SIZE = 5 * BLOCK_LENGTH + 99
DATA = Random(1).randbytes(SIZE)


@given(
    partly=st.booleans(),
    order=st.permutations(range(6)),
    begin=st.integers(0, SIZE - 1),
    length=st.integers(1, SIZE),
)
def test_what_was_written_is_read(partly: bool, order: list[int], begin: int, length: int) -> None:
    piece = PartialPiece(SIZE, partly=partly)
    length = min(length, SIZE - begin)
    under = range(begin // BLOCK_LENGTH, (begin + length - 1) // BLOCK_LENGTH + 1)
    for number, block in enumerate(order):
        here = set(order[:number])
        assert piece.is_proved(begin, length) == here.issuperset(under)
        if here.issuperset(under):
            assert piece.read(begin, length) == DATA[begin : begin + length]
        start = block * BLOCK_LENGTH
        piece.write(start, memoryview(DATA)[start : start + BLOCK_LENGTH])
        piece.proved |= 1 << block
    whole = piece.whole()
    assert whole == DATA
    assert isinstance(whole, bytearray)


@pytest.mark.parametrize("partly", [True, False])
@pytest.mark.parametrize("begin", [1, BLOCK_LENGTH, BLOCK_LENGTH + 1, SIZE - 1])
def test_padding_is_zeros(partly: bool, begin: int) -> None:
    piece = PartialPiece(SIZE, partly=partly)
    for start in range(0, begin, BLOCK_LENGTH):
        piece.write(start, DATA[start : start + BLOCK_LENGTH])
    piece.pad(begin)
    assert piece.whole() == DATA[:begin].ljust(SIZE, b"\0")


@pytest.mark.parametrize("partly", [True, False])
def test_what_is_handed_out_cannot_be_changed(partly: bool) -> None:
    piece = PartialPiece(SIZE, partly=partly)
    piece.write(0, DATA[:BLOCK_LENGTH])
    assert memoryview(piece.read(3, 5)).readonly
    assert "0 blocks proved" in repr(piece)
