"""Descriptions of browsers and libraries as they really are, ours, and garbage."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import RemoteProtocolError
from torrentfs.transports.webrtc.protocol import MAX_SDP
from torrentfs.transports.webrtc.sdp import (
    MAX_CANDIDATES,
    Candidate,
    Description,
    parse,
    render,
    without_candidates,
)

DIGEST = ":".join(["AB"] * 32)

CHROMIUM = f"""v=0\r
o=- 5228595038118931041 2 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
a=group:BUNDLE 0\r
a=extmap-allow-mixed\r
a=msid-semantic: WMS\r
m=application 45678 UDP/DTLS/SCTP webrtc-datachannel\r
c=IN IP4 192.0.2.7\r
a=candidate:1467250027 1 udp 2122260223 4d2f1c7e-9b4f-4a07-9f5c-7a0c8e0b9b3d.local 45678 typ host \
generation 0 network-id 1\r
a=candidate:435653019 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active generation 0\r
a=candidate:842163049 1 udp 1677729535 198.51.100.9 51234 typ srflx raddr 0.0.0.0 rport 0\r
a=ice-ufrag:AbCd\r
a=ice-pwd:0123456789abcdefghijklmn\r
a=ice-options:trickle\r
a=fingerprint:sha-256 {DIGEST}\r
a=setup:actpass\r
a=mid:0\r
a=sctp-port:5000\r
a=max-message-size:262144\r
"""

LIBDATACHANNEL = f"""v=0
o=rtc 2988446293 0 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE data
a=group:LS data
a=msid-semantic:WMS *
a=setup:active
a=ice-ufrag:x/Yz
a=ice-pwd:abcdefghijklmnopqrstuv
a=ice-options:ice2,trickle
a=fingerprint:sha-256 {DIGEST.lower()}
m=application 50000 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 192.0.2.8
a=mid:data
a=sendrecv
a=sctp-port:5001
a=max-message-size:0
a=candidate:1 1 UDP 2122317823 192.0.2.8 50000 typ host
a=candidate:2 1 UDP 2122317823 2001:DB8::8 50000 typ host
a=end-of-candidates
"""


def test_chromium() -> None:
    found = parse(CHROMIUM)
    assert (found.ufrag, found.password) == ("AbCd", "0123456789abcdefghijklmn")
    assert found.setup == "actpass"
    assert found.fingerprints == (("sha-256", DIGEST),)
    assert found.max_message_size == 262144
    name, place = found.candidates  # the one over TCP is of no use
    assert name.is_name
    assert not place.is_name
    assert (place.host, place.port, place.kind) == ("198.51.100.9", 51234, "srflx")


def test_libdatachannel() -> None:
    found = parse(LIBDATACHANNEL)
    assert (found.ufrag, found.setup, found.mid) == ("x/Yz", "active", "data")
    assert found.fingerprints == (("sha-256", DIGEST),)
    assert (found.sctp_port, found.max_message_size) == (5001, 0)
    assert [each.host for each in found.candidates] == ["192.0.2.8", "2001:db8::8"]


CANDIDATES = st.builds(
    Candidate,
    foundation=st.from_regex(r"[A-Za-z0-9+/]{1,32}", fullmatch=True),
    priority=st.integers(0, 2**32 - 1),
    host=st.one_of(
        st.just("192.0.2.1"), st.just("2001:db8::2"), st.just("0f-a.local"), st.just("127.0.0.1")
    ),
    port=st.integers(1, 65535),
    kind=st.sampled_from(["host", "srflx", "prflx", "relay"]),
)
DESCRIPTIONS = st.builds(
    Description,
    ufrag=st.from_regex(r"[A-Za-z0-9+/]{4,30}", fullmatch=True),
    password=st.from_regex(r"[A-Za-z0-9+/]{22,40}", fullmatch=True),
    fingerprints=st.just((("sha-256", DIGEST),)),
    setup=st.sampled_from(["active", "passive", "actpass"]),
    candidates=st.lists(
        CANDIDATES, unique_by=lambda each: (each.host, each.port), max_size=MAX_CANDIDATES
    ).map(tuple),
    mid=st.from_regex(r"[a-z0-9]{1,16}", fullmatch=True),
    sctp_port=st.integers(1, 65535),
    max_message_size=st.just(0) | st.integers(1024, 2**40),
)


@given(DESCRIPTIONS)
def test_comes_back_as_it_was(description: Description) -> None:
    assert parse(render(description)) == description


def test_only_so_many_candidates_are_tried() -> None:
    many = tuple(Candidate("1", 1, f"192.0.2.{each}", 9, "host") for each in range(1, 100))
    text = render(Description("abcd", "x" * 22, (("sha-256", DIGEST),), "active", many))
    assert len(parse(text).candidates) == MAX_CANDIDATES


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("v=0", "v=1"),
        ("m=application", "m=audio"),
        ("webrtc-datachannel", "5000"),
        ("t=0 0", "t=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111"),
        ("a=ice-ufrag:AbCd", ""),
        ("a=ice-ufrag:AbCd", "a=ice-ufrag:a b cd"),
        ("a=ice-ufrag:AbCd", "a=ice-ufrag:ab:cd"),
        ("a=ice-ufrag:AbCd", "a=ice-ufrag:" + "a" * 300),
        ("a=ice-pwd:0123456789abcdefghijklmn", "a=ice-pwd"),
        ("a=setup:actpass", "a=setup:holdconn"),
        ("a=setup:actpass", ""),
        ("a=fingerprint:sha-256", "a=fingerprint:md5"),
        ("a=fingerprint:sha-256 AB", "a=fingerprint:sha-256 GG"),
        ("a=fingerprint:sha-256 AB", "a=fingerprint:sha-256 A"),
        ("a=sctp-port:5000", "a=sctp-port:0"),
        ("a=sctp-port:5000", "a=sctp-port:٥"),
        ("a=max-message-size:262144", "a=max-message-size:-1"),
        ("a=max-message-size:262144", "a=max-message-size:1"),
        ("a=max-message-size:262144", "a=max-message-size:" + "9" * 5000),
        ("a=mid:0", "a=mid:0 0"),
    ],
)
def test_what_is_refused(old: str, new: str) -> None:
    assert old in CHROMIUM
    with pytest.raises(RemoteProtocolError):
        parse(CHROMIUM.replace(old, new, 1))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1 1 udp",
        "1 2 udp 1 192.0.2.1 1000 typ host",  # of RTCP
        "1 1 udp 1 192.0.2.1 0 typ host",
        "1 1 udp 1 192.0.2.1 70000 typ host",
        "1 1 udp x 192.0.2.1 1000 typ host",
        "1 1 udp ² 192.0.2.1 1000 typ host",
        "1 1 udp 99999999999 192.0.2.1 1000 typ host",
        "1 1 udp 1 localhost 1000 typ host",
        "1 1 udp 1 evil.example.local 1000 typ host",
        "1 1 udp 1 0.0.0.0 1000 typ host",
        "1 1 udp 1 224.0.0.1 1000 typ host",
        "1 1 udp 1 fe80::1%eth0 1000 typ host",
        "1 1 udp 1 192.0.2.1 1000 typ odd",
        "1 1 udp 1 192.0.2.1 1000 kind host x",
    ],
)
def test_candidates_that_are_passed_over(line: str) -> None:
    text = CHROMIUM + f"a=candidate:{line}\r\n"
    assert parse(text).candidates == parse(CHROMIUM).candidates


def test_the_size_is_limited() -> None:
    with pytest.raises(RemoteProtocolError):
        parse(CHROMIUM + "a=x\r\n" * MAX_SDP)


@given(st.text(max_size=400))
def test_noise_is_a_declared_error(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse(text)


@given(st.lists(st.sampled_from(CHROMIUM.splitlines() + LIBDATACHANNEL.splitlines())))
def test_shuffled_lines_are_a_declared_error_or_a_description(lines: list[str]) -> None:
    with contextlib.suppress(RemoteProtocolError):
        parse("v=0\n" + "\n".join(lines))


def test_unwanted_addresses_are_taken_out() -> None:
    filtered = without_candidates(LIBDATACHANNEL, lambda address: address == ("192.0.2.8", 50000))
    assert [each.host for each in parse(filtered).candidates] == ["2001:db8::8"]
    ours, theirs = parse(LIBDATACHANNEL), parse(filtered)
    assert (ours.ufrag, ours.setup, ours.mid) == (theirs.ufrag, theirs.setup, theirs.mid)


def test_a_description_with_nothing_unwanted_is_left_as_it_is() -> None:
    for text in (CHROMIUM, LIBDATACHANNEL, "garbage", ""):
        assert without_candidates(text, lambda address: False) == text


def test_no_wanted_address_no_peer() -> None:
    for text in (LIBDATACHANNEL, CHROMIUM):  # a name is none
        with pytest.raises(RemoteProtocolError, match="not wanted"):
            without_candidates(text, lambda address: True)
    only_a_name = "\r\n".join(line for line in CHROMIUM.splitlines() if "srflx" not in line)
    assert without_candidates(only_a_name, lambda address: True) == only_a_name


@given(st.lists(st.sampled_from([*CHROMIUM.splitlines(), *LIBDATACHANNEL.splitlines()])))
def test_what_is_left_out_is_what_would_be_read(lines: list[str]) -> None:
    """No candidate that the worker would see slips through, whatever the rest is."""
    text = "\r\n".join(["v=0", *CHROMIUM.splitlines()[1:], *lines])
    with contextlib.suppress(RemoteProtocolError):
        left = parse(without_candidates(text, lambda address: address[0] != "2001:db8::8"))
        assert {each.host for each in left.candidates if not each.is_name} <= {"2001:db8::8"}
