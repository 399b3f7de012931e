"""Bencoding goes round, agrees with itself in every way of reading, and declares its errors."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import fuzz_bencoding
from torrentfs.metainfo import bencoding
from torrentfs.metainfo.bencoding import BencodingError, Cursor, PlainFile

values = st.recursive(
    st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=120),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=12), inner),
    max_leaves=20,
)
names = st.binary(min_size=1, max_size=12)
files = st.lists(
    st.fixed_dictionaries(
        {b"length": st.integers(-1, 2**70), b"path": st.lists(names | values, max_size=4)},
        optional={b"attr": st.binary(max_size=3)},
    )
    | values
)


@given(values, st.binary(max_size=20))
def test_round_trip(value: object, tail: bytes) -> None:
    data = bencoding.encode(value)
    assert bencoding.decode(data) == value
    assert bencoding.decode_prefix(data + tail) == (value, len(data))


@given(values)
def test_no_prefix_decodes(value: object) -> None:
    data = bencoding.encode(value)
    for end in range(len(data)):
        with contextlib.suppress(BencodingError):
            bencoding.decode(data[:end])
            raise AssertionError(data[:end])


@given(st.binary(max_size=60) | st.text("dlie0123:-a", max_size=30).map(str.encode))
def test_anything_else_is_a_declared_error(data: bytes) -> None:
    fuzz_bencoding.one_input(data)


@given(files)
def test_the_short_cut_reads_what_the_long_way_reads(entries: list[object]) -> None:
    with contextlib.suppress(BencodingError):  # a length of over 20 digits
        data = bencoding.encode(entries)
        bencoding.decode(data)
        short = [
            {b"length": entry.length, b"path": [*entry.directory, entry.name]}
            if isinstance(entry, PlainFile)
            else entry
            for entry in Cursor(data).plain_files()
        ]
        assert short == entries
