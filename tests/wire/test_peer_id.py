"""Peer ids of BEP 20."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import LocalProtocolError
from torrentfs.wire.peer_id import client_name, make_peer_id


@given(st.binary(min_size=12, max_size=20))
def test_ours(seed: bytes) -> None:
    peer_id = make_peer_id(seed)
    assert len(peer_id) == 20
    assert peer_id.startswith(b"-TF0100-")
    assert peer_id.isascii()
    assert client_name(peer_id) == "torrentfs 0.1.0"


def test_too_little_randomness() -> None:
    with pytest.raises(LocalProtocolError):
        make_peer_id(b"short")


@pytest.mark.parametrize(
    ("peer_id", "name"),
    [
        (b"-LT2110-abcdefghijkl", "libtorrent 2.1.1"),
        (b"-qB4650-abcdefghijkl", "qBittorrent 4.6.5"),
        (b"-TR4050-abcdefghijkl", "Transmission 4.0.5"),
        (b"-LT20B0-abcdefghijkl", "libtorrent 2.0.11"),
        (b"-zz1234-abcdefghijkl", "zz 1.2.3.4"),
        (b"M7-2-1--abcdefghijkl", "BitTorrent 7.2.1"),
        (b"S58B-----abcdefghijk", "Shadow 5.8.11"),
        (b"\0" * 20, "unknown"),
        (b"\x1b[31mred and more txt", "?[31mred"),
    ],
)
def test_others(peer_id: bytes, name: str) -> None:
    assert client_name(peer_id) == name


@given(st.binary(min_size=20, max_size=20))
def test_any_id_gives_a_short_printable_name(peer_id: bytes) -> None:
    name = client_name(peer_id)
    assert name.isprintable()
    assert 0 < len(name) < 40
