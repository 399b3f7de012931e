"""Filters of addresses: three kinds of lines, and what they block."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.scheduling.ip_filter import LONGEST_LINE, IpFilter, parse_ip_filter

DAT = b"""# eMule
001.002.004.000 - 001.002.004.255 , 000 , Some organisation, Inc.
009.000.000.000 - 009.255.255.255 , 127 , just blocked
010.000.000.000 - 010.255.255.255 , 128 , just allowed
5.6.7.8 - 5.6.7.8
"""
P2P = b"""// PeerGuardian
Some: organisation: with colons:20.0.0.0-20.0.255.255
:21.0.0.1-21.0.0.1
"""
CIDR = b"""; a list
192.0.2.0/24
198.51.100.7 # one
2001:db8::/32
2001:db9::1
"""


@pytest.mark.parametrize(
    ("host", "blocked"),
    [
        ("1.2.3.255", False), ("1.2.4.0", True), ("1.2.4.77", True), ("1.2.4.255", True),
        ("1.2.5.0", False), ("9.1.1.1", True), ("10.1.1.1", False), ("5.6.7.8", True),
        ("5.6.7.9", False), ("20.0.0.0", True), ("20.1.0.0", False), ("21.0.0.1", True),
        ("192.0.2.200", True), ("192.0.3.0", False), ("198.51.100.7", True),
        ("198.51.100.8", False), ("2001:db8:1::5", True), ("2001:db9::1", True),
        ("2001:db9::2", False), ("::ffff:1.2.4.9", True), ("fe80::1%eth0", False),
        ("name.example", False), ("", False),
    ],
)  # fmt: skip
def test_lines_of_every_kind(host: str, blocked: bool) -> None:
    made = parse_ip_filter((DAT + P2P + CIDR).splitlines())
    assert made.unread == 0
    assert made.blocks(host) is blocked


def test_an_empty_filter_blocks_nothing() -> None:
    made = parse_ip_filter([b"", b"# nothing"])
    assert (made.ranges, made.blocks("1.2.3.4")) == (0, False)


@pytest.mark.parametrize(
    "line",
    [
        b"words", b"1.2.3.4 - 1.2.3", b"1.2.3.9 - 1.2.3.1 , 0 , backwards", b"300.0.0.0/8",
        b"a:1.2.3.256-1.2.4.0", b"1.2.3.4/33", b"\xff\xfe\x00", b"x" * (LONGEST_LINE + 1),
        b"1" * 1000 + b"/8", b"1.2.3.4 - 1.2.3.5 , x , y",
    ],
)  # fmt: skip
def test_what_is_no_range_is_counted_and_named(line: bytes) -> None:
    made = parse_ip_filter([b"# a comment", line, line])
    assert (made.ranges, made.unread) == (0, 2)
    assert made.first_bad.startswith("line 2: ")
    assert len(made.first_bad) < 200


def test_ranges_that_touch_or_overlap_are_one() -> None:
    made = parse_ip_filter([b"1.0.0.0/24", b"1.0.1.0/24", b"1.0.0.128 - 1.0.1.7 , 0 ,"])
    assert made.ranges == 1
    assert made.blocks("1.0.1.255")
    assert not made.blocks("1.0.2.0")


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=8),
    st.integers(0, 301),
)
def test_as_a_set_of_addresses(pairs: list[tuple[int, int]], probe: int) -> None:
    ranges = [(4, min(pair), max(pair)) for pair in pairs]
    expected = any(low <= probe <= high for _, low, high in ranges)
    assert IpFilter(ranges).blocks(str(IPv4Address(probe))) is expected


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes(lines: list[bytes]) -> None:
    made = parse_ip_filter(lines)
    assert made.unread <= len(lines)
    made.blocks(str(ip_address("192.0.2.1")))
