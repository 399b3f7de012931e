"""uTP packets: round trips, extensions, masks, and numbers that wrap around."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire.utp import (
    DATA,
    HEADER_BYTES,
    PADDING,
    STATE,
    SYN,
    Packet,
    padding,
    parse_packet,
    selected,
    selective_mask,
    unwrap,
    write_header,
)

u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
masks = st.binary(max_size=64)


headers = st.tuples(st.integers(DATA, SYN), u16, u32, u32, u32, u16, u16, masks)


@given(headers, st.binary(max_size=50))
def test_round_trip(
    header: tuple[int, int, int, int, int, int, int, bytes], payload: bytes
) -> None:
    parsed = parse_packet(memoryview(write_header(*header) + payload))
    assert parsed == Packet(*header, memoryview(payload))


def test_a_packet_as_it_is_on_the_wire() -> None:
    data = write_header(DATA, 0x0102, 3, 4, 5, 0x10006, 7) + b"hi"
    assert data.hex() == "01000102" + "00000003" + "00000004" + "00000005" + "00060007" + "6869"


def test_extensions_that_nobody_knows_are_skipped() -> None:
    plain = write_header(STATE, 1, 2, 3, 4, 5, 6)
    chained = plain[:1] + b"\x02" + plain[2:] + b"\x01\x08" + bytes(8) + b"\x00\x04\x01\0\0\x80"
    packet = parse_packet(memoryview(chained + b"rest"))
    assert (packet.selective, bytes(packet.payload)) == (b"\x01\0\0\x80", b"rest")


@given(st.integers(2, 3000))
def test_padding_of_any_size_is_skipped(size: int) -> None:
    head = bytearray(write_header(DATA, 1, 2, 3, 4, 5, 6))
    head[1] = PADDING
    datagram = bytes(head) + padding(size) + b"rest"
    assert len(datagram) == HEADER_BYTES + size + 4
    packet = parse_packet(memoryview(datagram))
    assert (packet.kind, packet.selective, bytes(packet.payload)) == (DATA, b"", b"rest")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(HEADER_BYTES),  # version 0
        b"\x51" + bytes(HEADER_BYTES),  # a type that does not exist
        b"\x21\x01" + bytes(HEADER_BYTES - 2),
        b"\x21\x01" + bytes(HEADER_BYTES - 2) + b"\0",
        b"\x21\x01" + bytes(HEADER_BYTES - 2) + b"\0\x04abc",
        b"\x21\x07" + bytes(HEADER_BYTES - 2) + b"\x07\0" * 3 + b"\x07",
    ],
)
def test_what_is_no_packet(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_packet(memoryview(data))


@given(st.sets(st.integers(2, 1025)), st.integers(-5, 70_000))
def test_masks_name_what_was_received(offsets: set[int], ack: int) -> None:
    mask = selective_mask(ack, {ack + offset for offset in offsets})
    assert len(mask) % 4 == 0
    assert list(selected(ack, mask)) == sorted(ack + offset for offset in offsets)


def test_masks_are_bounded() -> None:
    assert selective_mask(0, []) == b""
    assert selective_mask(0, [1, 0, -7, 5000]) == b""
    assert len(selective_mask(0, range(2, 5000))) == 128


@given(st.integers(0, 1 << 40), st.integers(-0x8000, 0x7FFF))
def test_numbers_come_back_near_where_we_are(near: int, off: int) -> None:
    assert unwrap((near + off) & 0xFFFF, near) == near + off
