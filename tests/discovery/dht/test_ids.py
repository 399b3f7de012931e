"""Node ids: distances, and the examples of BEP 42."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.discovery.dht.ids import (
    common_bits,
    distance,
    id_for,
    id_with_common_bits,
    may_be_at,
    random_id,
)

twenty = st.binary(min_size=20, max_size=20)


@pytest.mark.parametrize(
    ("host", "node"),
    [
        ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
        ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
        ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
        ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
        ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
    ],
)
def test_the_examples_of_bep_42(host: str, node: str) -> None:
    assert may_be_at(bytes.fromhex(node), host)
    assert not may_be_at(bytes.fromhex(node), "8.8.8.8")
    assert not may_be_at(b"\0" * 20, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fd00::1"])
def test_addresses_that_are_not_global_are_exempt(host: str) -> None:
    assert may_be_at(b"\0" * 20, host)


@given(st.integers(0, 1 << 32), st.sampled_from(["8.8.8.8", "2a00:1450:4001::5", "93.184.1.2"]))
def test_our_own_id_is_allowed(seed: int, host: str) -> None:
    assert may_be_at(id_for(host, Random(seed)), host)


def test_a_third_of_a_byte_decides() -> None:
    node = bytearray(id_for("8.8.8.8", Random(1)))
    node[2] ^= 0x07  # these three bits are free
    assert may_be_at(bytes(node), "8.8.8.8")
    node[2] ^= 0x08
    assert not may_be_at(bytes(node), "8.8.8.8")


@given(twenty, st.integers(0, 159), st.integers(0, 100))
def test_ids_for_a_bucket(own: bytes, bits: int, seed: int) -> None:
    assert common_bits(id_with_common_bits(own, bits, Random(seed)), own) == bits


@given(twenty, twenty)
def test_distance(one: bytes, other: bytes) -> None:
    assert distance(one, other) == distance(other, one)
    assert (distance(one, other) == 0) == (one == other)
    assert common_bits(one, one) == 160


def test_random_ids_differ() -> None:
    rng = Random(1)
    assert random_id(rng) != random_id(rng)
