"""Chunks and packets of SCTP."""

from __future__ import annotations

from google_crc32c import value as crc32c
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.transports.webrtc.sctp import (
    CHUNK_HEADER,
    DATA_HEADER,
    MAX_PACKET,
    MAX_PAYLOAD,
    WRAP,
    data_chunk,
    is_sound,
    read_sack,
    sack_chunk,
    seal,
    unwrap,
)

WIRE = st.integers(0, WRAP - 1)


@given(near=st.integers(0, 1 << 40), step=st.integers(-(1 << 31) + 1, (1 << 31) - 1))
def test_unwrap_is_the_nearest(near: int, step: int) -> None:
    assert unwrap((near + step) % WRAP, near) == near + step


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=100))
def test_a_sealed_packet_is_sound(prefix: bytes, chunks: bytes) -> None:
    packet = seal(prefix, chunks)
    assert packet[:8] == prefix
    assert packet[12:] == chunks
    assert int.from_bytes(packet[8:12], "little") == crc32c(prefix + bytes(4) + chunks)
    assert is_sound(packet)
    for broken in (packet[:-1] + bytes([packet[-1] ^ 1]), packet + b"\0"):
        assert not is_sound(broken)


@given(payload=st.binary(min_size=1, max_size=MAX_PAYLOAD), tsn=st.integers(0, 1 << 40))
def test_a_data_chunk(payload: bytes, tsn: int) -> None:
    chunk = data_chunk(3, tsn, 7, 0x1FFFE, 53, payload)
    header = DATA_HEADER.unpack_from(chunk)
    assert header == (0, 3, 16 + len(payload), tsn % WRAP, 7, 0xFFFE, 53)
    assert chunk[16 : header[2]] == payload
    assert len(chunk) % 4 == 0
    assert len(chunk) - header[2] < 4


def test_the_largest_packet_is_full() -> None:
    packet = seal(bytes(8), data_chunk(3, 0, 0, 0, 53, bytes(MAX_PAYLOAD)))
    assert len(packet) == MAX_PACKET


@given(
    cumulative=st.integers(0, 1 << 40),
    window=WIRE,
    steps=st.lists(st.tuples(st.integers(1, 300), st.integers(0, 20)), max_size=40),
    duplicates=st.lists(WIRE, max_size=5),
)
def test_a_sack_there_and_back(
    cumulative: int, window: int, steps: list[tuple[int, int]], duplicates: list[int]
) -> None:
    gaps = []
    at = cumulative
    for skip, length in steps:
        first = at + skip
        at = first + length
        gaps.append((first, at))
    chunk = sack_chunk(cumulative, window, gaps, duplicates)
    kind, _, length = CHUNK_HEADER.unpack_from(chunk)
    assert (kind, length) == (3, len(chunk))
    assert read_sack(chunk, cumulative) == (cumulative, window, gaps)


def test_a_malformed_sack_is_none() -> None:
    good = sack_chunk(10, 1000, [(12, 13), (15, 15)], [])
    assert read_sack(good, 10) is not None
    assert read_sack(good[:-1], 10) is None
    assert read_sack(good[:8], 10) is None
    for gaps in ([(15, 15), (12, 13)], [(13, 12)], [(10, 11)], [(12, 14), (14, 15)]):
        assert read_sack(sack_chunk(10, 1000, gaps, []), 10) is None


@given(st.binary(max_size=80), st.integers(0, 1 << 40))
def test_any_bytes_are_a_sack_or_none(chunk: bytes, near: int) -> None:
    sack = read_sack(chunk, near)
    assert sack is None or sack[0] >= near - (1 << 31)
