"""SCTP on the wire (RFC 9260), as far as data needs it: DATA, SACK, FORWARD TSN. Pure.

Setting up, closing and stream resets are aiortc's; these three chunk types are the ones that
come a thousand times for each megabyte. What is here is bytes to values and back; `sctp_receive`
and `sctp_send` decide.

A TSN is a 32-bit number that wraps. Outside this module's wire functions it never does: `unwrap`
makes a plain, ever-growing integer of it, relative to one that is near.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from google_crc32c import value as crc32c

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA = 0
SACK = 3
FORWARD_TSN = 192

LAST = 1
FIRST = 2
UNORDERED = 4
IMMEDIATE = 8
"""Flags of a DATA chunk; IMMEDIATE (RFC 7053): acknowledge without delay."""

WRAP = 1 << 32
HALF = 1 << 31

HEADER_LENGTH = 12
DATA_HEADER_LENGTH = 16
MAX_PACKET = 1188
"""Bytes of a packet that pass everywhere: the least IPv6 MTU less UDP, TURN and DTLS; of 4 each."""
MAX_PAYLOAD = MAX_PACKET - HEADER_LENGTH - DATA_HEADER_LENGTH
MAX_GAPS = 200
"""Gap blocks in one SACK: what fits with the duplicates."""

DATA_HEADER = Struct("!BBHLHHL")
CHUNK_HEADER = Struct("!BBH")
SACK_HEADER = Struct("!BBHLLHH")
GAP = Struct("!HH")
TSN = Struct("!L")
_CHECKSUM = Struct("<L")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def unwrap(tsn: int, near: int) -> int:
    """The integer whose lowest 32 bits are `tsn` and that is nearest to `near`."""
    return near + ((tsn - near + HALF) % WRAP) - HALF


def seal(prefix: bytes, chunks: bytes) -> bytes:
    """A packet: ports and verification tag (8 bytes), CRC32c, chunks."""
    return prefix + _CHECKSUM.pack(crc32c(prefix + b"\0\0\0\0" + chunks)) + chunks


def is_sound(packet: bytes) -> bool:
    """True if the packet's checksum is right."""
    checksum: int = crc32c(packet[:8] + b"\0\0\0\0" + packet[12:])
    return packet[8:12] == _CHECKSUM.pack(checksum)


def data_chunk(
    flags: int, tsn: int, stream: int, sequence: int, ppid: int, payload: bytes
) -> bytes:
    """A DATA chunk, padded to a multiple of 4."""
    length = DATA_HEADER_LENGTH + len(payload)
    header = DATA_HEADER.pack(DATA, flags, length, tsn % WRAP, stream, sequence & 0xFFFF, ppid)
    return header + payload + _PADDING[length & 3]


def sack_chunk(
    cumulative: int, window: int, gaps: Sequence[tuple[int, int]], duplicates: Sequence[int]
) -> bytes:
    """A SACK: all up to `cumulative` came, and so did `gaps` (first and last, as TSNs)."""
    blocks = b"".join(GAP.pack(first - cumulative, last - cumulative) for first, last in gaps)
    blocks += b"".join(TSN.pack(tsn % WRAP) for tsn in duplicates)
    header = SACK_HEADER.pack(
        SACK,
        0,
        16 + len(blocks),
        cumulative % WRAP,
        window,
        len(gaps),
        len(duplicates),
    )
    return header + blocks


def read_sack(chunk: bytes, near: int) -> tuple[int, int, list[tuple[int, int]]] | None:
    """(cumulative, window, gaps) of a SACK, its numbers unwrapped; None if it is malformed."""
    if len(chunk) < SACK_HEADER.size:
        return None
    _, _, _, tsn, window, gap_count, duplicate_count = SACK_HEADER.unpack_from(chunk)
    if SACK_HEADER.size + 4 * (gap_count + duplicate_count) > len(chunk):
        return None
    cumulative = unwrap(tsn, near)
    gaps: list[tuple[int, int]] = []
    before = cumulative
    for position in range(SACK_HEADER.size, SACK_HEADER.size + 4 * gap_count, 4):
        first, last = GAP.unpack_from(chunk, position)
        # In order and apart, or it is nonsense.
        if not before < cumulative + first <= cumulative + last:
            return None
        before = cumulative + last
        gaps.append((cumulative + first, cumulative + last))
    return cumulative, window, gaps
