"""UDP tracker codecs, both sides (BEP 15, 41, 48)."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.wire import udp_tracker as udp
from torrentfs.wire.announce import AnnounceReply, AnnounceRequest, SwarmCounts

u32, u64 = st.integers(0, 0xFFFFFFFF), st.integers(0, (1 << 64) - 1)
i31 = st.integers(0, 0x7FFFFFFF)
twenty = st.binary(min_size=20, max_size=20)
requests = st.builds(
    AnnounceRequest,
    twenty,
    twenty,
    st.integers(0, 65535),
    u64,
    u64,
    u64,
    st.sampled_from(["", "started", "stopped", "completed"]),
    st.none() | i31,
    u32,
    st.none(),
    st.none() | st.ip_addresses(v=4).filter(int).map(str),
)
REQUEST = AnnounceRequest(b"h" * 20, b"p" * 20, 6881)


@given(u32, u64)
def test_connect(transaction: int, connection: int) -> None:
    assert udp.parse_request(udp.connect_request(transaction)) == udp.ConnectRequest(transaction)
    reply = udp.parse_reply(udp.connect_reply(transaction, connection))
    assert reply == udp.Connected(transaction, connection)


@given(u64, u32, requests, st.binary(max_size=600))
def test_announce(connection: int, transaction: int, request: AnnounceRequest, url: bytes) -> None:
    data = udp.announce_request(connection, transaction, request, url)
    expected = udp.UdpAnnounce(connection, transaction, request, url)
    assert udp.parse_request(data) == expected


@given(u32, st.integers(0, 86400), i31, i31, st.booleans(), st.data())
def test_announced(
    transaction: int, interval: int, seeders: int, leechers: int, ipv6: bool, data: st.DataObject
) -> None:
    address = st.ip_addresses(v=6 if ipv6 else 4).filter(int).map(str)
    one = st.tuples(address, st.integers(1, 65535))
    peers = tuple(data.draw(st.lists(one, max_size=10, unique=True)))
    reply = AnnounceReply(interval, None, seeders, leechers, peers)
    packet = udp.announce_reply(transaction, reply, ipv6=ipv6)
    assert udp.parse_reply(packet, ipv6=ipv6) == udp.Announced(transaction, reply)


def test_refused() -> None:
    reply = udp.parse_reply(udp.error_reply(7, "go away\x07"))
    assert isinstance(reply, udp.Refused)
    assert reply.transaction == 7
    assert str(reply.failure) == "go away?"


def test_the_layout_of_bep_15() -> None:
    packet = udp.announce_request(1, 2, replace(REQUEST, event="started", key=9))
    assert len(packet) == 98
    assert packet[:16].hex() == "00000000000000010000000100000002"
    assert packet[80:84] == b"\0\0\0\2"
    assert packet[92:98].hex() == "ffffffff1ae1"
    assert udp.connect_request(5).hex() == "00000417271019800000000000000005"


@pytest.mark.parametrize(
    ("url", "data"),
    [
        ("udp://t:80/announce?key=1#x", b"/announce?key=1"),
        ("udp://t:80?key=1", b"?key=1"),
        ("udp://t:80/", b""),
        ("udp://t:80", b""),
        ("udp://[broken/path", b"/path"),
    ],
)
def test_url_data(url: str, data: bytes) -> None:
    assert udp.url_data_of(url) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(7),
        bytes(15),
        b"\0\0\0\1" + bytes(15),
        b"\0\0\0\1" + bytes(16) + b"12345",
        b"\0\0\0\4" + bytes(16),
        b"\xff" * 20,
    ],
)
def test_datagrams_that_are_no_reply(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        udp.parse_reply(data)


def test_negative_numbers_of_a_tracker() -> None:
    reply = udp.parse_reply(b"\0\0\0\1" + bytes(4) + b"\xff" * 12)
    assert isinstance(reply, udp.Announced)
    assert (reply.reply.interval, reply.reply.seeders, reply.reply.leechers) == (0, None, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(16),
        udp.announce_request(1, 2, REQUEST)[:-1],
        udp.announce_request(1, 2, REQUEST) + b"\x02",
        udp.announce_request(1, 2, REQUEST) + b"\x02\x05abc",
        udp.announce_request(1, 2, REQUEST)[:83] + b"\x04" + bytes(14),
    ],
)
def test_datagrams_that_are_no_request(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        udp.parse_request(data)


def test_other_options_are_passed_over() -> None:
    options = b"\x01\x07\x02xx\x02\x03abc\x02\x02de\x00\x02\x01z"
    request = udp.parse_request(udp.announce_request(1, 2, REQUEST) + options)
    assert isinstance(request, udp.UdpAnnounce)
    assert request.url_data == b"abcde"


@pytest.mark.parametrize(
    "request_",
    [
        replace(REQUEST, info_hash=b"h"),
        replace(REQUEST, port=65536),
        replace(REQUEST, left=-1),
        replace(REQUEST, key=1 << 32),
    ],
)
def test_numbers_that_do_not_fit(request_: AnnounceRequest) -> None:
    with pytest.raises(LocalProtocolError):
        udp.announce_request(1, 2, request_)


@given(st.binary(max_size=200), st.booleans())
def test_any_datagram(data: bytes, ipv6: bool) -> None:
    for parse in (lambda: udp.parse_reply(data, ipv6=ipv6), lambda: udp.parse_request(data)):
        with contextlib.suppress(RemoteProtocolError):
            parse()


@given(u64, u32, st.lists(twenty, min_size=1, max_size=udp.SCRAPED_AT_ONCE))
def test_scrape(connection: int, transaction: int, hashes: list[bytes]) -> None:
    data = udp.scrape_request(connection, transaction, hashes)
    assert udp.parse_request(data) == udp.UdpScrape(connection, transaction, tuple(hashes))
    assert len(data) <= 1500


@given(u32, st.lists(st.builds(SwarmCounts, i31, i31, i31), max_size=udp.SCRAPED_AT_ONCE))
def test_scraped(transaction: int, counts: list[SwarmCounts]) -> None:
    packet = udp.scrape_reply(transaction, counts)
    assert udp.parse_reply(packet) == udp.Scraped(transaction, tuple(counts))


def test_scrapes_as_they_should_not_be() -> None:
    for hashes in ([], [b"h" * 20] * 75, [b"short"]):
        with pytest.raises(LocalProtocolError):
            udp.scrape_request(1, 2, hashes)
    for body in (b"", b"h" * 19, b"h" * 21):
        with pytest.raises(RemoteProtocolError):
            udp.parse_request(udp.scrape_request(1, 2, [b"h" * 20])[:16] + body)
    # a negative number is none, what is cut short is left out, and so is what nobody can have asked
    packet = udp.scrape_reply(9, [SwarmCounts(0xFFFFFFFF, 2, 3)])
    cut = udp.parse_reply(packet + bytes(11))
    assert cut == udp.Scraped(9, (SwarmCounts(None, 2, 3),))
    long = udp.parse_reply(udp.scrape_reply(9, [SwarmCounts(1, 2, 3)] * 200))
    assert isinstance(long, udp.Scraped)
    assert len(long.counts) == udp.SCRAPED_AT_ONCE
