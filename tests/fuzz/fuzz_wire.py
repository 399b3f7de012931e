"""Peer messages: the same events however the bytes are cut, and no error but the declared one.

The first byte of an input says how the stream is cut, the second how far both sides got before:
the handshakes, the extension handshake, the number of pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.wire.cases import EVERY_MESSAGE, FIRST_MESSAGES, HOSTILE
from tests.wire.pair import ConnectionPair, handshake, opened, outcome
from torrentfs.errors import LocalProtocolError
from torrentfs.wire import messages as m
from torrentfs.wire.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULES = [
    "torrentfs.wire.connection",
    "torrentfs.wire.extension",
    "torrentfs.wire.handshake",
    "torrentfs.wire.holepunch",
    "torrentfs.wire.pex",
    "torrentfs.wire.reading",
    "torrentfs.wire.receive_buffer",
    "torrentfs.wire.writing",
]


_REPEATED = (
    m.Piece,
    m.Have,
    m.HashRequest,
    m.Hashes,
    m.ExtensionHandshake,
    m.Rendezvous,
    m.Connect,
    m.RendezvousFailed,
)


def seeds() -> Iterable[bytes]:
    """Every message, a conversation of all, and every hostile one."""
    pair = ConnectionPair()
    stream = [pair.ours.send(message) for message in [*FIRST_MESSAGES[:1], *EVERY_MESSAGE]]
    yield from (b"\x03\x03" + data for data in stream)
    yield b"\x40\x03" + b"".join(stream)
    yield from (b"\x05\x07" + data[:4096] for data in HOSTILE.values())
    yield b"\x07\x00" + handshake().encode() + b"".join(stream)


def _prepared(stage: int) -> Connection:
    if not stage & 1:
        connection = Connection()
        connection.send(handshake())
        return connection
    return opened(extended=bool(stage & 2), num_pieces=9 if stage & 4 else None)


def one_input(data: bytes) -> None:
    """Read it whole and cut; what was read must be sendable, and read as the same again."""
    cut, stage, stream = (data[:1] or b"\0")[0], (data[1:2] or b"\0")[0], data[2:]
    events, error = outcome(_prepared(stage), stream)
    step = max(cut + 1, len(stream) // 200)
    assert outcome(_prepared(stage), stream, step) == (events, error)
    pair = ConnectionPair()
    for event in events:
        if isinstance(event, _REPEATED):
            try:
                again = pair.ours.send(event)
            except LocalProtocolError:
                raise AssertionError(event) from None
            assert outcome(opened(), again) == ([event], None)
