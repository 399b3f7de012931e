"""Messages to bytes: `WRITERS` is the list of what can go out after the handshake.

A row gives the feature that the peer must have offered (the same as for reading) and the function
that makes the bytes behind the length prefix. BEP 10 messages need the peer's ids and are written
by `extension.write_extended`.
"""

from __future__ import annotations

import struct
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from torrentfs.wire import messages as m
from torrentfs.wire.reading import HASH_REQUEST, Needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LENGTH = Struct(">I")
_REQUEST = Struct(">IBIII")
_REQUEST_LENGTH = 13
_PIECE_HEADER = Struct(">IBII")


class Writer(NamedTuple):
    """How messages of one class are written."""

    needs: Needs
    write: Callable[[Any], bytes]


def framed(body: bytes) -> bytes:
    """A message with its length prefix."""
    return _LENGTH.pack(len(body)) + body


def write_requests(requests: Iterable[tuple[int, int, int]]) -> bytes:
    """Many `Request` messages in one buffer, from (piece, begin, length)."""
    pack = _REQUEST.pack
    return b"".join([pack(_REQUEST_LENGTH, 6, *request) for request in requests])


def write_piece_header(piece: int, begin: int, length: int) -> bytes:
    """What goes before the `length` bytes of a block."""
    return _PIECE_HEADER.pack(9 + length, 7, piece, begin)


def _constant(number: int, needs: Needs = Needs.NOTHING) -> Writer:
    body = bytes([number])
    return Writer(needs, lambda message: body)


def _piece_number(number: int, needs: Needs = Needs.NOTHING) -> Writer:
    codec = Struct(">BI")
    return Writer(needs, lambda message: codec.pack(number, message.piece))


def _block(number: int, needs: Needs = Needs.NOTHING) -> Writer:
    codec = Struct(">BIII")
    return Writer(
        needs, lambda message: codec.pack(number, message.piece, message.begin, message.length)
    )


def _hash_fields(number: int) -> Callable[[Any], bytes]:
    def write(message: m.HashRequest | m.Hashes | m.HashReject) -> bytes:
        if len(message.pieces_root) != 32:
            raise struct.error("a pieces root is 32 bytes")
        return bytes([number]) + HASH_REQUEST.pack(
            message.pieces_root,
            message.base_layer,
            message.index,
            message.length,
            message.proof_layers,
        )

    return write


def _write_hashes(message: m.Hashes) -> bytes:
    return _hash_fields(22)(message) + message.hashes


def _write_piece(message: m.Piece) -> bytes:
    return b"".join((struct.pack(">BII", 7, message.piece, message.begin), message.data))


WRITERS: dict[type, Writer] = {
    m.Choke: _constant(0),
    m.Unchoke: _constant(1),
    m.Interested: _constant(2),
    m.NotInterested: _constant(3),
    m.Have: _piece_number(4),
    m.BitfieldMessage: Writer(Needs.NOTHING, lambda message: b"\x05" + message.data),
    m.Request: _block(6),
    m.Piece: Writer(Needs.NOTHING, _write_piece),
    m.Cancel: _block(8),
    m.Port: Writer(Needs.NOTHING, lambda message: struct.pack(">BH", 9, message.port)),
    m.SuggestPiece: _piece_number(13, Needs.FAST),
    m.HaveAll: _constant(14, Needs.FAST),
    m.HaveNone: _constant(15, Needs.FAST),
    m.RejectRequest: _block(16, Needs.FAST),
    m.AllowedFast: _piece_number(17, Needs.FAST),
    m.HashRequest: Writer(Needs.NOTHING, _hash_fields(21)),
    m.Hashes: Writer(Needs.NOTHING, _write_hashes),
    m.HashReject: Writer(Needs.NOTHING, _hash_fields(23)),
}
