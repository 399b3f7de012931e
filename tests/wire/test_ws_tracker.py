"""WebTorrent's tracker protocol: round trips, messages of real trackers, and garbage."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.wire import limits
from torrentfs.wire.announce import AnnounceReply, AnnounceRequest, TrackerFailure
from torrentfs.wire.ws_tracker import (
    DEFAULT_INTERVAL,
    Announce,
    Announced,
    Answer,
    Message,
    Offer,
    PeerAnswer,
    PeerOffer,
    Refused,
    Request,
    Scrape,
    Scraped,
    encode_message,
    encode_request,
    parse_messages,
    parse_request,
)

HASH = bytes(range(236, 256))
PEER = b"-WW0109-\xff\x00abcdefghij"
ID = bytes(range(120, 140))
SDP = 'v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\na=ice-pwd:"\\é\r\n'

ids = st.binary(min_size=20, max_size=20)
sdps = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)
amounts = st.integers(0, 2**63 - 1)
counts = st.none() | st.integers(0, 2**31)
tracker_ids = st.none() | st.binary(min_size=1, max_size=30)
offers = st.lists(st.builds(Offer, ids, sdps), max_size=5).map(tuple)
requests = st.one_of(
    st.builds(
        Announce,
        st.builds(
            AnnounceRequest,
            info_hash=ids,
            peer_id=ids,
            port=st.just(0),
            uploaded=amounts,
            downloaded=amounts,
            left=amounts,
            event=st.sampled_from(["", "started", "stopped", "completed"]),
            tracker_id=tracker_ids,
        ),
        offers,
    ),
    st.builds(Answer, ids, ids, ids, st.binary(min_size=1, max_size=64), sdps),
    st.builds(Scrape, st.lists(ids, min_size=1).map(tuple)),
)
replies = st.builds(
    AnnounceReply,
    interval=st.integers(1, limits.MAX_INTERVAL),
    min_interval=st.none() | st.integers(0, limits.MAX_INTERVAL),
    seeders=counts,
    leechers=counts,
    tracker_id=tracker_ids,
)
messages = st.one_of(
    st.builds(Announced, ids, replies),
    st.builds(PeerOffer, ids, ids, st.binary(min_size=1, max_size=64), sdps),
    st.builds(PeerAnswer, ids, ids, st.binary(min_size=1, max_size=64), sdps),
    st.builds(Scraped, ids, counts, counts, counts),
)


@given(requests)
def test_requests_go_round(request: Request) -> None:
    expected = request
    if isinstance(request, Announce):
        wanted = len(request.offers)
        changed = {**_fields(request.request), "num_want": wanted}
        expected = Announce(AnnounceRequest(**changed), request.offers)
    assert parse_request(encode_request(request)) == expected
    assert parse_request(encode_request(request).encode()) == expected


def _fields(request: AnnounceRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in AnnounceRequest.__slots__}


@given(messages)
def test_messages_go_round(message: Message) -> None:
    assert parse_messages(encode_message(message)) == (message,)
    assert parse_messages(encode_message(message).encode()) == (message,)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=25),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
names = st.sampled_from(
    [
        *("action", "info_hash", "peer_id", "to_peer_id", "offer_id", "offer", "answer", "offers"),
        *("sdp", "interval", "complete", "files", "incomplete", "event", "left", "trackerid"),
        *("failure reason", "warning message", "tracker id"),
    ]
)
usable = st.sampled_from(
    ["announce", "scrape", "x" * 20, {"type": "offer", "sdp": "v=0"}, {"x" * 20: {"complete": 1}}]
)
objects = st.dictionaries(names, usable | json_values, max_size=8).map(json.dumps)


@given(st.one_of(objects, json_values.map(json.dumps), st.text(), st.binary()))
def test_any_garbage_is_a_value_or_a_remote_protocol_error(data: str | bytes) -> None:
    for parse in (parse_messages, parse_request):
        try:
            parse(data)
        except RemoteProtocolError as refused:
            reason = str(refused)
        else:
            continue
        assert reason.isprintable()


def said(**table: object) -> tuple[Message, ...]:
    return parse_messages(json.dumps({"action": "announce", "info_hash": "h" * 20, **table}))


def test_what_bittorrent_tracker_answers() -> None:
    text = (
        '{"complete":1,"incomplete":2,"action":"announce","interval":24,'
        '"info_hash":"\\u00ec\\u00edîïðñòóôõö÷øùúûüýþÿ"}'
    )
    reply = AnnounceReply(interval=24, seeders=1, leechers=2)
    assert parse_messages(text) == (Announced(HASH, reply),)


def test_what_it_passes_on() -> None:
    table = {"offer": {"type": "offer", "sdp": SDP}, "offer_id": "1", "peer_id": "p" * 20}
    assert said(**table) == (PeerOffer(b"h" * 20, b"p" * 20, b"1", SDP),)


def test_what_it_refuses() -> None:
    (refused,) = parse_messages('{"failure reason":"invalid\\u001b info_hash"}')
    assert isinstance(refused, Refused)
    assert refused.info_hash is None
    assert str(refused.failure) == "invalid? info_hash"
    (refused,) = said(**{"failure reason": 7})
    assert isinstance(refused, Refused)
    assert refused.info_hash == b"h" * 20
    assert parse_messages(encode_message(Refused(HASH, TrackerFailure(b"no"))))


def test_one_message_may_say_everything() -> None:
    sdp = {"sdp": "v=0"}
    found = said(interval=1, offer=sdp, answer=sdp, offer_id="o" * 20, peer_id="p" * 20)
    assert [type(each) for each in found] == [Announced, PeerOffer, PeerAnswer]


def test_what_is_missing_has_a_default_and_what_is_odd_is_bounded() -> None:
    assert parse_messages('{"info_hash":"hhhhhhhhhhhhhhhhhhhh"}') == (
        Announced(b"h" * 20, AnnounceReply(interval=DEFAULT_INTERVAL)),
    )
    odd: tuple[tuple[object, int], ...] = ((1e300, 120), (-5, 120), (59.9, 59), (True, 120))
    for interval, taken in (*odd, (10**9, limits.MAX_INTERVAL), ("60", 120)):
        (announced,) = said(interval=interval)
        assert isinstance(announced, Announced)
        assert announced.reply.interval == taken
    table = {"min interval": 90, "warning message": "slow\ndown", "tracker id": "é"}
    (announced,) = said(**table)
    assert isinstance(announced, Announced)
    assert announced.reply == AnnounceReply(90, 90, warning="slow?down", tracker_id=b"\xe9")
    (announced,) = said(**{"tracker id": "€", "min_interval": 7})
    assert isinstance(announced, Announced)
    assert (announced.reply.tracker_id, announced.reply.min_interval) == (None, 7)


def test_scrape() -> None:
    flags = {"min_request_interval": 120}
    files = {"h" * 20: {"complete": 3, "incomplete": 4, "downloaded": 5}, "short": {}, "€" * 20: {}}
    text = json.dumps({"action": "scrape", "files": files, "flags": flags})
    assert parse_messages(text) == (Scraped(b"h" * 20, 3, 4, 5),)
    request = json.loads(encode_request(Scrape((HASH,))))
    assert request == {"action": "scrape", "info_hash": [HASH.decode("latin-1")]}
    one = json.dumps({"action": "scrape", "info_hash": "h" * 20})
    assert parse_request(one) == Scrape((b"h" * 20,))


@pytest.mark.parametrize(
    "data",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 200_000,
        '{"a":' * 50_000,
        '{"action":"announce"}',
        '{"action":"dance","info_hash":"hhhhhhhhhhhhhhhhhhhh"}',
        '{"action":["x"],"info_hash":"hhhhhhhhhhhhhhhhhhhh"}',
        '{"action":"announce","info_hash":"short"}',
        '{"action":"announce","info_hash":"€€€€€€€€€€€€€€€€€€€€"}',
        '{"action":"announce","info_hash":["hhhhhhhhhhhhhhhhhhhh"]}',
        '{"action":"scrape","files":[]}',
        '{"interval":NaN}',
        '{"interval":' + "9" * 5000 + "}",
        '{"x":"' + "x" * limits.MAX_SIGNAL_BYTES + '"}',
        b"\xff\xfe{\x00}\x00",
    ],
    ids=lambda data: repr(data[:30]),
)
def test_what_is_refused_as_a_message(data: str | bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_messages(data)


@pytest.mark.parametrize(
    "table",
    [
        {"offer": "v=0"},
        {"offer": {"sdp": ""}},
        {"offer": {"sdp": 1}},
        {"offer": {"sdp": "\ud800"}},
        {"offer": {"sdp": "x" * (limits.MAX_SDP_BYTES + 1)}},
        {"offer": {"sdp": "€" * (limits.MAX_SDP_BYTES // 2)}},
        {"peer_id": "short"},
        {"peer_id": None},
        {"offer_id": ""},
        {"offer_id": "i" * 65},
        {"offer_id": "€"},
        {"offer_id": 5},
    ],
    ids=lambda table: repr(table)[:30],
)
def test_what_is_refused_as_an_offer(table: dict[str, object]) -> None:
    good = {"offer": {"sdp": "v=0"}, "offer_id": "o" * 20, "peer_id": "p" * 20}
    assert said(**good)
    with pytest.raises(RemoteProtocolError):
        said(**{**good, **table})


def test_our_own_mistakes_are_ours() -> None:
    announce = AnnounceRequest(HASH, b"short", 0)
    long = "x" * (limits.MAX_SDP_BYTES + 1)
    for request in (
        Announce(announce),
        Answer(HASH, PEER, PEER, ID, long),
        Scrape((b"short",)),
        Announce(AnnounceRequest(HASH, PEER, 0), (Offer(b"short", SDP),)),
    ):
        with pytest.raises(LocalProtocolError):
            encode_request(request)


@pytest.mark.parametrize(
    "data",
    [
        "{}",
        '{"action":"announce","info_hash":"hhhhhhhhhhhhhhhhhhhh"}',
        '{"action":"scrape"}',
        '{"action":"announce","info_hash":"hhhhhhhhhhhhhhhhhhhh","peer_id":"pppppppppppppppppppp",'
        '"offers":[1]}',
    ],
)
def test_what_a_tracker_refuses(data: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_request(data)
