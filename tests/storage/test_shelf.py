"""Ranges of bits, by whole bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.storage.shelf import _any_in


@given(st.sets(st.integers(0, 99)), st.integers(0, 100), st.integers(0, 100))
def test_any_in_a_range(pieces: set[int], first: int, last: int) -> None:
    wanted = range(first, max(first, last))
    assert _any_in(bytes(Bitfield(100, pieces)), wanted) == any(p in pieces for p in wanted)
