"""The packets of uTP (BEP 29): 20 bytes of header, extensions, payload.

    type << 4 | version (1) | first extension | connection id u16
    timestamp u32, timestamp difference u32 (microseconds)
    window u32 (bytes) | sequence number u16 | acknowledged number u16

Extensions are a chain of (next, length, bytes); we speak one, the selective acknowledgement: a
mask, lowest bit first, of the packets received out of order, from `ack + 2` on. Others are skipped,
which is what `padding` lives by.

Numbers on the wire wrap around; `unwrap` finds the number nearest to one that is known.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from torrentfs.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

DATA, FIN, STATE, RESET, SYN = range(5)

HEADER = Struct(">BBHIIIHH")
HEADER_BYTES = HEADER.size
VERSION = 1

_SELECTIVE_ACK = 1
PADDING = 0x50
"""An extension that nobody knows: 1 to 3 have a meaning to somebody."""
_MAX_SELECTIVE_BYTES = 128
"""Of a mask that we send: 1024 packets, more than our window has."""

MASK16 = 0xFFFF
MASK32 = 0xFFFFFFFF


class Packet(NamedTuple):
    """One received; `payload` is a view of the datagram. Numbers as on the wire."""

    kind: int
    connection: int
    timestamp: int
    delay: int
    """The sender's measure of how long our last packet took, in microseconds, clocks not set."""
    window: int
    seq: int
    ack: int
    selective: bytes
    """The mask, empty if there is none."""
    payload: memoryview


def parse_packet(data: memoryview) -> Packet:
    """Read a datagram; `RemoteProtocolError` when it is no uTP packet."""
    if len(data) < HEADER_BYTES:
        raise RemoteProtocolError(f"a uTP packet of {len(data)} bytes")
    first, extension, connection, timestamp, delay, window, seq, ack = HEADER.unpack_from(data)
    kind = first >> 4
    if first & 15 != VERSION or kind > SYN:
        raise RemoteProtocolError(f"a uTP packet that begins with {first}")
    at, selective = HEADER_BYTES, b""
    while extension:
        if len(data) < at + 2:
            raise RemoteProtocolError("a uTP extension is cut short")
        following, size = data[at], data[at + 1]
        if len(data) < at + 2 + size:
            raise RemoteProtocolError("a uTP extension is cut short")
        if extension == _SELECTIVE_ACK:
            # BEP 29 wants a multiple of 4; libtorrent sends what it has to say
            selective = bytes(data[at + 2 : at + 2 + size])
        extension = following
        at += 2 + size
    return Packet(
        *(kind, connection, timestamp, delay, window, seq, ack, selective),
        data[at:],
    )


def write_header(
    kind: int,
    connection: int,
    timestamp: int,
    delay: int,
    window: int,
    seq: int,
    ack: int,
    selective: bytes = b"",
) -> bytes:
    """Header and extensions; `seq` and `ack` are cut to what fits."""
    head = HEADER.pack(
        *(kind << 4 | VERSION, _SELECTIVE_ACK if selective else 0, connection, timestamp, delay),
        *(window, seq & MASK16, ack & MASK16),
    )
    if selective:
        return head + bytes((0, len(selective))) + selective
    return head


def refusal(packet: Packet, now: float) -> bytes:
    """The RESET that answers a packet of a connection that is not known here."""
    return write_header(RESET, packet.connection, micros(now), 0, 0, 0, packet.seq)


def micros(now: float) -> int:
    """A time as packets have it; `now` in seconds."""
    return int(now * 1_000_000) & MASK32


def padding(size: int) -> bytes:
    """`size` bytes (at least 2) of extensions that say nothing; the header's first is `PADDING`."""
    chain = bytearray()
    parts = -(-size // 257)
    for left in range(parts, 0, -1):
        part = (size - len(chain)) // left
        chain += bytes((PADDING if left > 1 else 0, part - 2)) + bytes(part - 2)
    return bytes(chain)


def selective_mask(ack: int, received: Collection[int]) -> bytes:
    """The mask of what was received beyond `ack + 1` (unwrapped numbers), empty if nothing."""
    if not received:
        return b""
    bits = 0
    for seq in received:
        offset = seq - ack - 2
        if 0 <= offset < 8 * _MAX_SELECTIVE_BYTES:
            bits |= 1 << offset
    if not bits:
        return b""
    size = -(-bits.bit_length() // 32) * 4
    return bits.to_bytes(size, "little")


def selected(ack: int, mask: bytes) -> Iterator[int]:
    """The (unwrapped) numbers that a mask names, ascending."""
    bits = int.from_bytes(mask, "little")
    seq = ack + 2
    while bits:
        skip = (bits & -bits).bit_length() - 1
        seq += skip
        yield seq
        bits >>= skip + 1
        seq += 1


def unwrap(number: int, near: int) -> int:
    """The integer nearest to `near` whose low 16 bits are `number`."""
    return near + ((number - near + 0x8000) & MASK16) - 0x8000
