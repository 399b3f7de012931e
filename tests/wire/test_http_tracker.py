"""HTTP tracker codecs, both sides (BEP 3, 7, 23, 24, 31, 48)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.metainfo.bencoding import encode
from torrentfs.wire import limits
from torrentfs.wire.announce import AnnounceReply, AnnounceRequest, SwarmCounts, TrackerFailure
from torrentfs.wire.http_tracker import (
    MAX_SCRAPED,
    SCRAPED_AT_ONCE,
    announce_url,
    encode_failure,
    encode_reply,
    encode_scrape,
    parse_query,
    parse_reply,
    parse_scrape,
    parse_scrape_query,
    scrape_url,
)

twenty = st.binary(min_size=20, max_size=20)
amount = st.integers(0, (1 << 63) - 1)
port = st.integers(1, 65535)
addresses = st.ip_addresses().filter(lambda a: not a.is_unspecified).map(str)
requests = st.builds(
    AnnounceRequest,
    twenty,
    twenty,
    port,
    amount,
    amount,
    amount,
    st.sampled_from(["", "started", "stopped", "completed"]),
    st.none() | st.integers(0, 1000),
    st.integers(0, 0xFFFFFFFF),
    st.none() | st.binary(min_size=1, max_size=20),
    st.none() | addresses,
)
seconds = st.integers(0, limits.MAX_INTERVAL)
count = st.none() | st.integers(0, 1 << 31)
replies = st.builds(
    AnnounceReply,
    seconds,
    st.none() | seconds,
    count,
    count,
    st.lists(st.tuples(addresses, port), unique=True, max_size=20).map(tuple),
    st.none() | st.text("warning ", min_size=1, max_size=20).map(str.strip).filter(bool),
    st.none() | st.binary(min_size=1, max_size=20),
    st.none() | addresses.filter(lambda a: not ipaddress.ip_address(a).is_multicast),
)
REQUEST = AnnounceRequest(b"\x00\xff &=%+?#/" + b"h" * 10, b"-TF0100-abcdefghijkl", 6881)


@given(requests, st.sampled_from(["http://t/a", "http://t/a?", "http://t/a?x=1", "http://t/a?x&"]))
def test_request_round_trip(request: AnnounceRequest, tracker: str) -> None:
    url = announce_url(tracker, request)
    assert url.startswith(tracker)
    assert parse_query(url.partition("?")[2]) == request


def test_a_passkey_stays_and_a_fragment_goes() -> None:
    url = announce_url("http://t/a?passkey=secret#frag", REQUEST)
    assert url.startswith("http://t/a?passkey=secret&info_hash=%00%FF%20%26%3D%25%2B%3F%23%2F")
    assert "frag" not in url
    announce_url("http://[broken", REQUEST)


def test_hash_and_id_have_twenty_bytes() -> None:
    with pytest.raises(LocalProtocolError):
        announce_url("http://t/", AnnounceRequest(b"", b"", 1))


@given(replies, st.booleans())
def test_reply_round_trip(reply: AnnounceReply, compact: bool) -> None:
    parsed = parse_reply(encode_reply(reply, compact=compact))
    assert sorted(parsed.peers) == sorted(reply.peers)
    facts = [
        (r.interval, r.min_interval, r.seeders, r.leechers, r.warning, r.tracker_id)
        for r in (parsed, reply)
    ]
    assert facts[0] == facts[1]


def test_refusal_in_the_trackers_words() -> None:
    with pytest.raises(TrackerFailure, match="not registered"):
        parse_reply(encode_failure("not registered"))
    with pytest.raises(TrackerFailure) as caught:
        parse_reply(encode({"failure reason": b"\x1b[2J" + b"x" * 5000}))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= limits.MAX_TEXT_BYTES
    with pytest.raises(TrackerFailure, match="no reason"):
        parse_reply(encode({"failure reason": 5}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>404</html>",
        b"le",
        b"d8:intervali1800e",
        b"d" * 5000,
        b"l" * 100000,
        encode({"peers": b"12345"}),
        encode({"peers6": b"x" * 17}),
        encode({"peers": [1]}),
        b"d5:peers999999999999:xe",
    ],
)
def test_bodies_that_are_no_reply(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_reply(body)


def test_odd_values_count_as_absent() -> None:
    body = encode(
        {
            "interval": -5,
            "min interval": b"x",
            "complete": 1 << 70 if False else b"many",
            "warning message": 3,
            "tracker id": b"x" * 5000,
            "peers": [
                {"ip": b"192.0.2.1", "port": 6881},
                {"ip": b"192.0.2.1", "port": 6881},
                {"ip": b"2001:db8::1", "port": 1},
                {"ip": b"example.com", "port": 6881},
                {"ip": b"0.0.0.0", "port": 6881},
                {"ip": b"192.0.2.2", "port": 0},
                {"ip": b"192.0.2.2", "port": 65536},
                {"ip": b"192.0.2.2", "port": b"1"},
                {"ip": b"fe80::1%eth0", "port": 5},
                {},
            ],
        }
    )
    assert parse_reply(body) == AnnounceReply(
        peers=(("192.0.2.1", 6881), ("2001:db8::1", 1)),
    )


def test_intervals_are_bounded() -> None:
    reply = parse_reply(encode({"interval": 1 << 40, "min interval": 1 << 40}))
    assert reply.interval == reply.min_interval == limits.MAX_INTERVAL


def test_useless_and_too_many_compact_peers() -> None:
    packed = b"".join(n.to_bytes(4) + b"\x1a\xe1" for n in range(limits.MAX_TRACKER_PEERS + 10))
    peers = parse_reply(encode({"peers": packed})).peers
    assert len(peers) == limits.MAX_TRACKER_PEERS - 1  # 0.0.0.0 is nobody
    assert parse_reply(encode({"peers": b"\1\2\3\4\0\0"})).peers == ()


@pytest.mark.parametrize(
    "query",
    [
        "",
        "info_hash=short&peer_id=short",
        "info_hash=" + "a" * 20,
        f"info_hash={'a' * 20}&peer_id={'b' * 20}&port=65536",
        f"info_hash={'a' * 20}&peer_id={'b' * 20}&left=-1",
        f"info_hash={'a' * 20}&peer_id={'b' * 20}&key=nothex",
        f"info_hash=%E2%82%AC{'a' * 17}&peer_id=\N{EURO SIGN}",
        "x" * 10000,
    ],
)
def test_queries_that_are_no_announce(query: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_query(query)


def test_an_unknown_event_is_none() -> None:
    query = f"info_hash={'a' * 20}&peer_id={'b' * 20}&event=paused"
    assert parse_query(query).event == ""


@given(st.lists(twenty, min_size=1, max_size=SCRAPED_AT_ONCE))
def test_a_scrape_goes_round_and_fits_a_request_line(hashes: list[bytes]) -> None:
    url = scrape_url("https://t.example/x/announce?passkey=0123456789abcdef", hashes)
    assert url is not None
    assert url.startswith("https://t.example/x/scrape?passkey=0123456789abcdef&info_hash=")
    assert len(url) < 4096
    assert parse_scrape_query(url.partition("?")[2]) == tuple(hashes)


@pytest.mark.parametrize(
    ("announce", "scrape"),
    [  # the examples of BEP 48
        ("http://example.com/announce", "http://example.com/scrape"),
        ("http://example.com/x/announce", "http://example.com/x/scrape"),
        ("http://example.com/announce.php", "http://example.com/scrape.php"),
        ("http://example.com/a", None),
        ("http://example.com/announce?x2%0644", "http://example.com/scrape?x2%0644"),
        ("http://example.com/announce?x=2/4", None),
        ("http://example.com/x%064announce", None),
        ("http://example.com/announce#part", "http://example.com/scrape"),
        ("nonsense", None),
    ],
)
def test_where_counts_are(announce: str, scrape: str | None) -> None:
    url = scrape_url(announce, [b"h" * 20])
    if scrape is None:
        assert url is None
    else:
        joint = "&" if "?" in scrape else "?"
        assert url == f"{scrape}{joint}info_hash={'h' * 20}"


def test_scrapes_of_wrong_sizes() -> None:
    with pytest.raises(LocalProtocolError):
        scrape_url("http://t/announce", [b"short"])
    with pytest.raises(RemoteProtocolError):
        parse_scrape_query("info_hash=short")
    with pytest.raises(RemoteProtocolError):
        parse_scrape_query("x" * 9000)


counts = st.builds(SwarmCounts, count, count, count)


@given(st.dictionaries(twenty, counts, max_size=20))
def test_counts_round_trip(told: dict[bytes, SwarmCounts]) -> None:
    assert parse_scrape(encode_scrape(told)) == told


def test_hostile_answers_to_a_scrape() -> None:
    bad = {b"h" * 20: {b"complete": -1, b"incomplete": b"x", b"downloaded": []}}
    odd = {b"short": {b"complete": 1}, b"i" * 20: 5}
    assert parse_scrape(encode({b"files": bad | odd})) == {b"h" * 20: SwarmCounts()}
    many = {b"%020d" % n: {} for n in range(2 * MAX_SCRAPED)}
    assert len(parse_scrape(encode({b"files": many}))) == MAX_SCRAPED
    for body in (b"", b"de", b"le", encode({b"files": []}), b"d5:files" + b"d" * 500):
        with pytest.raises(RemoteProtocolError):
            parse_scrape(body)
    with pytest.raises(TrackerFailure, match="not here"):
        parse_scrape(encode_failure("not here"))


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("never", float("inf")),
        (0, 0.0),
        (5, 300.0),
        (b"5", 300.0),
        (10**9, 7 * 86400.0),
        (-1, None),
        ("soon", None),
        (b"9" * 30, None),
        (None, None),
    ],
)
def test_when_to_retry(told: object, seconds: float | None) -> None:
    table = {"failure reason": "busy"} | ({} if told is None else {"retry in": told})
    with pytest.raises(TrackerFailure, match="busy") as caught:
        parse_reply(encode(table))
    assert caught.value.retry_in == seconds


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\xc0\0\2\7", "192.0.2.7"),
        (bytes.fromhex("20010db8") + bytes(11) + b"\1", "2001:db8::1"),
        (bytes(4), None),
        (b"\xe0\0\0\1", None),
        (b"192.0.2.7", None),
        (5, None),
    ],
)
def test_where_a_tracker_sees_us(raw: object, shown: str | None) -> None:
    assert parse_reply(encode({"interval": 5, "external ip": raw})).external_ip == shown


@given(twenty)
def test_info_hashes_that_a_tracker_took_for_text(info_hash: bytes) -> None:
    body = encode({b"files": {info_hash.decode("latin-1").encode(): {b"complete": 4}}})
    assert parse_scrape(body) == {info_hash: SwarmCounts(4)}
    assert parse_scrape(encode({b"files": {b"\xff" * 30: {b"complete": 4}}})) == {}
