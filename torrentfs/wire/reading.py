"""Bytes to messages: `READERS` is the list of what may come in after the handshake.

A row says how long the payload (what follows the message id) may be, which negotiated feature the
message needs, and how it is read. The two facts that are not in the payload, legality in this
connection and piece indexes, are checked by `Connection`.

An id without a row ends the connection, as in libtorrent: ids beyond BEP 3 are only sent once
negotiated, so an unknown one means that the stream is out of step.
"""

from __future__ import annotations

from enum import Enum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire import limits
from torrentfs.wire import messages as m
from torrentfs.wire.extension import read_extended

if TYPE_CHECKING:
    from collections.abc import Callable

HASH_REQUEST = Struct(">32sIIII")
_HASH_BYTES = 32


class Needs(Enum):
    """What both handshakes must have offered for a message to be legal."""

    NOTHING = "BEP 3"
    FAST = "the fast extension"
    EXTENSIONS = "the extension protocol"


class Reader(NamedTuple):
    """How messages of one id are read; lengths are those of the payload, in bytes."""

    shortest: int
    longest: int
    needs: Needs
    read: Callable[[memoryview], m.Message]


def _constant(message: m.Message, needs: Needs = Needs.NOTHING) -> Reader:
    return Reader(0, 0, needs, lambda payload: message)


def _numbers(
    fields: str, message: Callable[..., m.Message], needs: Needs = Needs.NOTHING
) -> Reader:
    codec = Struct(fields)
    return Reader(
        codec.size, codec.size, needs, lambda payload: message(*codec.unpack_from(payload))
    )


def _read_piece(payload: memoryview) -> m.Piece:
    piece, begin = _PIECE.unpack_from(payload)
    return m.Piece(piece, begin, payload[_PIECE.size :])


def _read_bitfield(payload: memoryview) -> m.BitfieldMessage:
    return m.BitfieldMessage(bytes(payload))


def _read_hashes(payload: memoryview) -> m.Hashes:
    root, base, index, length, proof_layers = HASH_REQUEST.unpack_from(payload)
    hashes = bytes(payload[HASH_REQUEST.size :])
    if length > limits.MAX_HASHES or len(hashes) % _HASH_BYTES:
        raise RemoteProtocolError("a hashes message of a wrong length")
    return m.Hashes(root, base, index, length, proof_layers, hashes)


_PIECE = Struct(">II")
_MOST_HASH_BYTES = _HASH_BYTES * (limits.MAX_HASHES + limits.MAX_PROOF_LAYERS)

PIECE_ID = 7
EXTENDED_ID = 20

READERS: dict[int, Reader] = {
    0: _constant(m.Choke()),
    1: _constant(m.Unchoke()),
    2: _constant(m.Interested()),
    3: _constant(m.NotInterested()),
    4: _numbers(">I", m.Have),
    5: Reader(0, limits.MAX_BITFIELD_BYTES, Needs.NOTHING, _read_bitfield),
    6: _numbers(">III", m.Request),
    PIECE_ID: Reader(8, 8 + limits.MAX_BLOCK_BYTES, Needs.NOTHING, _read_piece),
    8: _numbers(">III", m.Cancel),
    9: _numbers(">H", m.Port),
    13: _numbers(">I", m.SuggestPiece, Needs.FAST),
    14: _constant(m.HaveAll(), Needs.FAST),
    15: _constant(m.HaveNone(), Needs.FAST),
    16: _numbers(">III", m.RejectRequest, Needs.FAST),
    17: _numbers(">I", m.AllowedFast, Needs.FAST),
    EXTENDED_ID: Reader(1, limits.MAX_EXTENDED_BYTES, Needs.EXTENSIONS, read_extended),
    21: _numbers(HASH_REQUEST.format, m.HashRequest),
    22: Reader(
        HASH_REQUEST.size, HASH_REQUEST.size + _MOST_HASH_BYTES, Needs.NOTHING, _read_hashes
    ),
    23: _numbers(HASH_REQUEST.format, m.HashReject),
}

LONGEST_MESSAGE = 1 + max(reader.longest for reader in READERS.values())
"""Bytes behind the length prefix of the longest message; a larger prefix is no message."""
