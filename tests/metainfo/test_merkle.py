"""Merkle trees of BEP 52 against the definition, computed leaf by leaf."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.metainfo import merkle
from torrentfs.metainfo.geometry import BLOCK_LENGTH

hash_lists = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=20)


def slow_root(leaves: list[bytes], width: int) -> bytes:
    """The root over `width` leaves (a power of two), those missing being zeros."""
    row = leaves + [bytes(32)] * (width - len(leaves))
    while len(row) > 1:
        row = [hashlib.sha256(a + b).digest() for a, b in zip(row[::2], row[1::2], strict=True)]
    return row[0]


def power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


@given(hash_lists, st.sampled_from([1, 2, 4, 8, 32]))
def test_root(leaves: list[bytes], width: int) -> None:
    expected = slow_root(leaves, max(width, power_of_two(len(leaves))))
    assert merkle.root_of(b"".join(leaves), width=width) == expected


@given(hash_lists, st.sampled_from([1, 2, 4, 16]))
def test_layer_root_is_the_root_of_all_leaves(leaves: list[bytes], width: int) -> None:
    pieces = [leaves[place : place + width] for place in range(0, len(leaves), width)]
    layer = b"".join(merkle.root_of(b"".join(piece), width=width) for piece in pieces)
    expected = slow_root(leaves, max(width, power_of_two(len(leaves))))
    assert merkle.layer_root(layer, width * BLOCK_LENGTH) == expected


@given(hash_lists, st.data())
def test_proofs(leaves: list[bytes], data: st.DataObject) -> None:
    layer = b"".join(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    uncles = merkle.proof_of(layer, index)
    root = merkle.root_of(layer)
    assert merkle.is_proved(root, leaves[index], index, uncles)
    assert not merkle.is_proved(root, bytes(31) + b"x", index, uncles)
    assert not merkle.is_proved(root, leaves[index], index + (1 << len(uncles)), uncles)
    if uncles:
        assert not merkle.is_proved(root, leaves[index], index, uncles[:-1])
        assert not merkle.is_proved(root, leaves[index], index, [bytes(32), *uncles])


def test_leaves_and_pieces() -> None:
    data = bytes(range(256)) * 160  # 2.5 blocks
    blocks = [data[place : place + BLOCK_LENGTH] for place in range(0, len(data), BLOCK_LENGTH)]
    leaves = [hashlib.sha256(block).digest() for block in blocks]
    assert merkle.leaf_hashes(memoryview(data)) == b"".join(leaves)
    assert merkle.leaf_hashes(b"") == b""
    assert merkle.piece_root(data, 8 * BLOCK_LENGTH) == slow_root(leaves, 8)
    assert merkle.padding_hash(3) == slow_root([], 8)


@pytest.mark.parametrize("layer", [b"", bytes(31), bytes(33)])
def test_a_layer_is_whole_hashes(layer: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        merkle.root_of(layer)
