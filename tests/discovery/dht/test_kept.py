"""The file of nodes: it goes round, and damage makes it empty."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.discovery.dht.kept import (
    MAX_BYTES,
    MAX_NODES,
    NOBODY,
    Own,
    pack_kept,
    unpack_kept,
    unpack_own,
)
from torrentfs.metainfo.bencoding import encode
from torrentfs.wire.krpc import Contact

NODES = [
    Contact(b"a" * 20, ("8.8.8.8", 6881)),
    Contact(b"b" * 20, ("2a00::5", 1)),
    Contact(b"c" * 20, ("8.8.4.4", 2)),
]


def test_it_goes_round() -> None:
    assert set(unpack_kept(pack_kept(NODES))) == set(NODES)
    assert unpack_kept(pack_kept([])) == []


def test_our_own_ids_go_round() -> None:
    own = Own(6881, {False: b"4" * 20, True: b"6" * 20})
    assert unpack_own(pack_kept(NODES, own)) == own
    assert set(unpack_kept(pack_kept(NODES, own))) == set(NODES)
    assert unpack_own(pack_kept(NODES)) == unpack_own(b"le") == NOBODY
    damaged = encode({"port": 5, "id": b"short", "id6": 7})
    assert unpack_own(damaged) == Own(5, {})


def test_it_is_bounded() -> None:
    many = [Contact(bytes(20), ("2a00::5", port)) for port in range(1, 3 * MAX_NODES)]
    packed = pack_kept(many)
    assert len(packed) < MAX_BYTES
    assert len(unpack_kept(packed)) == MAX_NODES


@pytest.mark.parametrize(
    "data",
    [b"", b"le", b"i5e", encode({"nodes": 5}), encode({"nodes": b"x" * 25}), b"x" * MAX_BYTES],
)
def test_damage(data: bytes) -> None:
    assert unpack_kept(data) == []


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    unpack_kept(data)
    unpack_own(data)
