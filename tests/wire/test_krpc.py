"""Messages of the DHT: they go round, those of the BEPs are read, anything else is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.metainfo.bencoding import encode
from torrentfs.wire import krpc
from torrentfs.wire.krpc import (
    AnnouncePeer,
    BadQuery,
    Contact,
    Failure,
    FindNode,
    GetItem,
    GetPeers,
    InfohashSample,
    Item,
    OtherCall,
    Ping,
    PutItem,
    Query,
    Response,
    SampleInfohashes,
    encode_message,
    parse_message,
)

ME, YOU = b"abcdefghij0123456789", b"mnopqrstuvwxyz123456"
SIGNED = {"id": ME, "token": b"t", "v": b"x", "k": b"k" * 32, "sig": b"s" * 64, "seq": 1}

twenty = st.binary(min_size=20, max_size=20)
ports = st.integers(1, 65535)
hosts4 = st.ip_addresses(v=4).filter(int).map(str)
hosts6 = st.ip_addresses(v=6).filter(int).map(str)
addresses4 = st.tuples(hosts4, ports)
addresses6 = st.tuples(hosts6, ports)
transactions = st.binary(max_size=krpc.MAX_TRANSACTION_BYTES)
versions = st.none() | st.binary(max_size=krpc.MAX_VERSION_BYTES)
tokens = st.binary(max_size=krpc.MAX_TOKEN_BYTES)
wants = st.sampled_from([(), ("n4",), ("n6",), ("n4", "n6")])
known = {b"ping", b"find_node", b"get_peers", b"announce_peer", b"get", b"put"}
known |= {b"sample_infohashes"}


def items(*, salted: bool) -> st.SearchStrategy[Item]:
    value = (st.binary(max_size=50) | st.integers(-9, 9) | st.just({"ih": ME})).map(encode)
    salt = st.binary(max_size=krpc.MAX_SALT_BYTES) if salted else st.just(b"")
    key, signature = (st.binary(min_size=size, max_size=size) for size in (32, 64))
    return st.builds(Item, value) | st.builds(
        Item, value, key, signature, st.integers(0, (1 << 63) - 1), salt
    )


calls = st.one_of(
    st.just(Ping()),
    st.builds(FindNode, twenty, wants),
    st.builds(GetPeers, twenty, wants),
    st.builds(AnnouncePeer, twenty, st.none() | ports, tokens),
    st.builds(GetItem, twenty, wants),
    st.builds(PutItem, items(salted=True), tokens, st.none() | st.integers(0, 1 << 62)),
    st.builds(SampleInfohashes, twenty, wants),
    st.builds(
        OtherCall, st.binary(max_size=20).filter(lambda n: n not in known), st.none() | twenty
    ),
)


def contacts(address: st.SearchStrategy[tuple[str, int]]) -> st.SearchStrategy[object]:
    one = st.builds(Contact, twenty, address)
    return st.none() | st.lists(one, max_size=8, unique_by=lambda c: c.address).map(tuple)


samples = st.builds(
    InfohashSample,
    st.integers(0, krpc.MAX_SAMPLE_INTERVAL),
    st.integers(0, (1 << 63) - 1),
    st.lists(twenty, max_size=krpc.MAX_SAMPLES).map(tuple),
)


messages = st.one_of(
    st.builds(Query, transactions, twenty, calls, st.booleans(), versions),
    st.builds(
        Response,
        transactions,
        twenty,
        contacts(addresses4),
        contacts(addresses6),
        st.none() | st.lists(addresses4 | addresses6, max_size=20, unique=True).map(tuple),
        st.none() | tokens,
        st.none() | items(salted=False),
        st.none() | addresses4 | addresses6,
        versions,
        st.none() | samples,
    ),
    st.builds(
        Failure,
        transactions,
        st.integers(-9999, 9999),
        st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=50),
        versions,
    ),
)


@given(messages)
def test_every_message_goes_round(message: krpc.Message) -> None:
    assert parse_message(encode_message(message)) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        parse_message(data)


def test_the_examples_of_bep_5() -> None:
    examples: list[tuple[bytes, krpc.Message]] = [
        (
            b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
            Query(b"aa", ME, Ping()),
        ),
        (b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re", Response(b"aa", YOU)),
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e"
            b"1:q9:find_node1:t2:aa1:y1:qe",
            Query(b"aa", ME, FindNode(YOU)),
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e"
            b"1:q9:get_peers1:t2:aa1:y1:qe",
            Query(b"aa", ME, GetPeers(YOU)),
        ),
        (
            b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee"
            b"1:t2:aa1:y1:re",
            Response(
                b"aa",
                ME,
                peers=(("97.120.106.101", 11893), ("105.100.104.116", 28269)),
                token=b"aoeusnth",
            ),
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti6881e"
            b"5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
            Query(b"aa", ME, AnnouncePeer(YOU, 6881, b"aoeusnth")),
        ),
        (
            b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:"
            b"mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
            Query(b"aa", ME, AnnouncePeer(YOU, None, b"aoeusnth")),
        ),
        (
            b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
            Failure(b"aa", 201, "A Generic Error Ocurred"),
        ),
    ]
    for data, message in examples:
        assert parse_message(data) == message


def test_read_only_and_own_address() -> None:
    query = encode({"t": b"x", "y": b"q", "q": b"ping", "a": {"id": ME}, "ro": 1})
    assert parse_message(query) == Query(b"x", ME, Ping(), read_only=True)
    reply = encode({"t": b"x", "y": b"r", "r": {"id": ME}, "ip": b"\x01\x02\x03\x04\x1a\xe1"})
    assert parse_message(reply) == Response(b"x", ME, seen_as=("1.2.3.4", 6881))
    odd = encode({"t": b"x", "y": b"r", "r": {"id": ME}, "ip": b"\x01\x02\x03\x04"})
    assert parse_message(odd) == Response(b"x", ME)


def test_whom_nobody_can_reach_is_left_out() -> None:
    good = ME + b"\x01\x02\x03\x04\x00\x05"
    nodes = good + ME + bytes(4) + b"\x00\x05" + ME + b"\x01\x02\x03\x04\x00\x00" + good
    values = [b"\x00\x00\x00\x00\x00\x05", b"\x01\x02\x03\x04\x00\x05", bytes(16) + b"\x00\x05"]
    reply = encode({"t": b"x", "y": b"r", "r": {"id": YOU, "nodes": nodes, "values": values}})
    address = ("1.2.3.4", 5)
    expected = Response(b"x", YOU, nodes=(Contact(ME, address),), peers=(address,))
    assert parse_message(reply) == expected


def test_samples_are_cut_and_nonsense_refused() -> None:
    """BEP 51: `samples`, also an empty one, says that the node knows the question."""

    def read(**values: object) -> krpc.Message:
        return parse_message(encode({"t": "x", "y": "r", "r": {"id": ME, **values}}))

    assert read(samples=b"", interval=0, num=0) == Response(
        b"x", ME, sample=InfohashSample(0, 0, ())
    )
    assert read(interval=5, num=9) == Response(b"x", ME)
    many = read(samples=YOU * 30, interval=21600, num=30)
    assert many == Response(b"x", ME, sample=InfohashSample(21600, 30, (YOU,) * krpc.MAX_SAMPLES))
    good: dict[str, object] = {"samples": YOU, "interval": 5, "num": 1}
    for key, value in [
        ("samples", b"short"),
        ("samples", 5),
        ("interval", -1),
        ("interval", 21601),
        ("interval", b"5"),
        ("num", -1),
        ("num", 1 << 63),
        ("num", None),
    ]:
        broken = {**good, key: value} if value is not None else {"samples": YOU, "interval": 5}
        with pytest.raises(RemoteProtocolError, match=key):
            read(**broken)
    bad = encode({"t": "x", "y": "q", "q": "sample_infohashes", "a": {"id": ME}})
    with pytest.raises(BadQuery, match="target"):
        parse_message(bad)


def test_lists_are_cut_at_their_limits() -> None:
    nodes = b"".join(ME + bytes([10, 0, 0, n, 1, 1]) for n in range(1, 100))
    values = [bytes([10, n >> 8, n & 255, 1, 1, 1]) for n in range(300)]
    reply = parse_message(encode({"t": "", "y": "r", "r": {"id": ME, "nodes": nodes}}))
    assert isinstance(reply, Response)
    assert reply.nodes is not None
    assert len(reply.nodes) == krpc.MAX_CONTACTS
    reply = parse_message(encode({"t": "", "y": "r", "r": {"id": ME, "values": values}}))
    assert isinstance(reply, Response)
    assert reply.peers is not None
    assert len(reply.peers) == krpc.MAX_PEERS


def test_unknown_calls_keep_their_target() -> None:
    for key in ("target", "info_hash"):
        data = encode({"t": b"x", "y": b"q", "q": b"vote", "a": {"id": ME, key: YOU}})
        assert parse_message(data) == Query(b"x", ME, OtherCall(b"vote", YOU))
    data = encode({"t": b"x", "y": b"q", "q": b"vote", "a": {"id": ME, "target": b"short"}})
    assert parse_message(data) == Query(b"x", ME, OtherCall(b"vote"))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (b"ping", {}),
        (b"ping", {"id": b"short"}),
        (b"ping", {"id": 5}),
        (b"find_node", {"id": ME}),
        (b"find_node", {"id": ME, "target": YOU + b"x"}),
        (b"get_peers", {"id": ME, "info_hash": [YOU]}),
        (b"announce_peer", {"id": ME, "info_hash": YOU, "port": 5}),
        (b"announce_peer", {"id": ME, "info_hash": YOU, "token": b"t"}),
        (b"announce_peer", {"id": ME, "info_hash": YOU, "port": 0, "token": b"t"}),
        (b"announce_peer", {"id": ME, "info_hash": YOU, "port": 65536, "token": b"t"}),
        (b"announce_peer", {"id": ME, "info_hash": YOU, "port": 5, "token": b"t" * 129}),
        (b"announce_peer", {"id": ME, "info_hash": YOU, "port": 5, "token": 1}),
        (b"announce_peer", {"id": ME, "info_hash": YOU, "implied_port": b"1", "token": b"t"}),
        (5, {"id": ME}),
        (b"ping", 5),
        (b"get", {"id": ME}),
        (b"put", {"id": ME, "token": b"t"}),
        (b"put", {"id": ME, "v": b"x"}),
        (b"put", {"id": ME, "token": b"t", "v": b"x" * 1000}),
        (b"put", {"id": ME, "token": b"t", "v": b"x", "cas": b"1"}),
        (b"put", {"id": ME, "token": b"t", "v": b"x", "k": b"short"}),
        (b"put", {"id": ME, "token": b"t", "v": b"x", "k": b"k" * 32, "seq": 1}),
        (b"put", {"id": ME, "token": b"t", "v": b"x", "k": b"k" * 32, "sig": b"s" * 64}),
        (b"put", {**SIGNED, "seq": -1}),
        (b"put", {**SIGNED, "salt": b"s" * 65}),
    ],
)
def test_bad_queries_can_be_answered(name: object, arguments: object) -> None:
    data = encode({"t": b"tt", "y": b"q", "q": name, "a": arguments})
    with pytest.raises(BadQuery) as caught:
        parse_message(data)
    assert caught.value.transaction == b"tt"
    assert caught.value.code == krpc.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"d",
        b"le",
        b"i5e",
        b"d1:t2:aa1:y1:qex",
        encode({"y": b"r", "r": {"id": ME}}),
        encode({"t": b"x" * 33, "y": b"r", "r": {"id": ME}}),
        encode({"t": 5, "y": b"r", "r": {"id": ME}}),
        encode({"t": b"x", "y": b"z"}),
        encode({"t": b"x", "y": b"r"}),
        encode({"t": b"x", "y": b"r", "r": {}}),
        encode({"t": b"x", "y": b"r", "r": {"id": ME, "nodes": b"n" * 25}}),
        encode({"t": b"x", "y": b"r", "r": {"id": ME, "nodes6": b"n" * 26}}),
        encode({"t": b"x", "y": b"r", "r": {"id": ME, "nodes": []}}),
        encode({"t": b"x", "y": b"r", "r": {"id": ME, "values": b"123456"}}),
        encode({"t": b"x", "y": b"r", "r": {"id": ME, "values": [b"12345"]}}),
        encode({"t": b"x", "y": b"r", "r": {"id": ME, "values": [5]}}),
        encode({"t": b"x", "y": b"r", "r": {"id": ME, "token": b"t" * 129}}),
        encode({"t": b"x", "y": b"e"}),
        encode({"t": b"x", "y": b"e", "e": [b"201", b"words"]}),
        encode({"t": b"x", "y": b"e", "e": [201]}),
        b"d1:t1:x1:y1:r1:r" + b"l" * 9 + b"e" * 9 + b"e",
        encode({"t": b"x", "y": b"r", "r": {"id": ME}, "junk": b"j" * 4096}),
    ],
)
def test_malformed_messages_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_message(data)
    assert not isinstance(caught.value, BadQuery)


@pytest.mark.parametrize(
    "message",
    [
        Query(b"x" * 33, ME, Ping()),
        Query(b"x", b"short", Ping()),
        Query(b"x", ME, FindNode(b"")),
        Query(b"x", ME, AnnouncePeer(YOU, 0, b"t")),
        Query(b"x", ME, AnnouncePeer(YOU, 5, b"t" * 129)),
        Response(b"x", ME, nodes=(Contact(YOU, ("::1", 5)),)),
        Response(b"x", ME, nodes6=(Contact(YOU, ("1.2.3.4", 5)),)),
        Response(b"x", ME, peers=(("a.example", 5),)),
        Response(b"x", ME, peers=(("1.2.3.4", 65536),)),
        Response(b"x", ME, peers=(("1.2.3", 6),)),
        Response(b"x", ME, peers=(("1::x", 6),)),
        Response(b"x", ME, version=b"v" * 17),
    ],
)
def test_what_nobody_may_send_is_our_bug(message: krpc.Message) -> None:
    with pytest.raises(LocalProtocolError):
        encode_message(message)
