"""The 68 bytes of BEP 3 and their feature bits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.wire.handshake import Handshake

twenty = st.binary(min_size=20, max_size=20)


@given(st.builds(Handshake, twenty, twenty, *[st.booleans()] * 4))
def test_round_trip(handshake: Handshake) -> None:
    data = handshake.encode()
    assert len(data) == 68
    assert Handshake.parse(data) == handshake


def test_feature_bits_are_where_the_beps_put_them() -> None:
    full = Handshake(b"h" * 20, b"p" * 20, fast=True, extensions=True, dht=True, v2=True)
    assert full.encode()[20:28] == bytes.fromhex("0000000000100015")


@given(st.binary(min_size=8, max_size=8))
def test_unknown_bits_are_ignored(reserved: bytes) -> None:
    Handshake.parse(b"\x13BitTorrent protocol" + reserved + bytes(40))


@pytest.mark.parametrize("data", [b"", b"\x13BitTorrent protocol", b"\x12" + bytes(67), bytes(68)])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Handshake.parse(data)


def test_hash_and_id_have_twenty_bytes() -> None:
    with pytest.raises(LocalProtocolError):
        Handshake(b"h" * 32, b"p" * 20).encode()
