"""Merkle trees of BEP 52: SHA-256 over 16 KiB blocks, in a binary tree per file.

The leaves of a file are the hashes of its blocks (the last block as short as it is). A tree has a
power of two of leaves; those behind the end of the file are 32 zero bytes. The *piece layer* is the
row of nodes that each cover one piece; the *pieces root* is the top. For a file that is not larger
than a piece the tree is only as large as the file needs, and has no piece layer.

Layers are one `bytes` object of concatenated 32-byte hashes.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING

from torrentfs.metainfo.geometry import BLOCK_LENGTH

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_LENGTH = 32

Buffer = bytes | bytearray | memoryview


def leaf_hashes(data: Buffer) -> bytes:
    """The hash of each 16 KiB block of `data`; releases the GIL while it hashes."""
    view = memoryview(data)
    return b"".join(
        sha256(view[begin : begin + BLOCK_LENGTH]).digest()
        for begin in range(0, len(view), BLOCK_LENGTH)
    )


@cache
def padding_hash(height: int) -> bytes:
    """The root of a tree of `2 ** height` zero leaves."""
    if height == 0:
        return bytes(HASH_LENGTH)
    below = padding_hash(height - 1)
    return sha256(below + below).digest()


def parent_layer(layer: bytes, height: int) -> bytes:
    """The row above `layer`, whose own nodes cover `2 ** height` leaves each."""
    if len(layer) % (2 * HASH_LENGTH):
        layer += padding_hash(height)
    step = 2 * HASH_LENGTH
    return b"".join(
        [sha256(layer[place : place + step]).digest() for place in range(0, len(layer), step)]
    )


def root_of(layer: bytes, *, height: int = 0, width: int = 1) -> bytes:
    """The root above `layer`, padded to a power of two of nodes, and to at least `width`.

    The nodes of `layer` cover `2 ** height` leaves each. `ValueError` for an empty or ragged layer.
    """
    if not layer or len(layer) % HASH_LENGTH:
        raise ValueError("a layer is one or more hashes of 32 bytes")
    levels = max(len(layer) // HASH_LENGTH - 1, width - 1).bit_length()
    for level in range(height, height + levels):
        layer = parent_layer(layer, level)
    return layer


def blocks_per_piece(piece_length: int) -> int:
    """Leaves below one node of the piece layer; `piece_length` is a power of two >= 16 KiB."""
    return piece_length // BLOCK_LENGTH


def piece_height(piece_length: int) -> int:
    """How many levels above the leaves the piece layer is."""
    return blocks_per_piece(piece_length).bit_length() - 1


def piece_root(data: Buffer, piece_length: int) -> bytes:
    """The node of the piece layer over `data`, one piece of a file larger than a piece."""
    return root_of(leaf_hashes(data), width=blocks_per_piece(piece_length))


def layer_root(layer: bytes, piece_length: int) -> bytes:
    """The pieces root of a file from its piece layer."""
    return root_of(layer, height=piece_height(piece_length))


def is_proved(root: bytes, node: bytes, index: int, uncles: Sequence[bytes]) -> bool:
    """True when `node`, number `index` of its layer, and its `uncles` (lowest first) give `root`.

    This is the proof of BEP 52 hash messages, and of one block against a piece.
    """
    for uncle in uncles:
        pair = uncle + node if index & 1 else node + uncle
        node = sha256(pair).digest()
        index >>= 1
    return index == 0 and node == root


def proof_of(layer: bytes, index: int, *, height: int = 0) -> list[bytes]:
    """The uncles, lowest first, that prove node `index` of `layer` against `root_of(layer)`."""
    uncles = []
    while len(layer) > HASH_LENGTH:
        sibling = (index ^ 1) * HASH_LENGTH
        uncles.append(layer[sibling : sibling + HASH_LENGTH] or padding_hash(height))
        layer = parent_layer(layer, height)
        index >>= 1
        height += 1
    return uncles
