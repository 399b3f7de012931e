"""One node, datagram by datagram."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from torrentfs.discovery.dht import protocol
from torrentfs.discovery.dht.calls import LOST
from torrentfs.discovery.dht.ids import may_be_at
from torrentfs.discovery.dht.protocol import MAX_SEARCHES, UPKEEP, Dht
from torrentfs.discovery.dht.search import Search
from torrentfs.metainfo.bencoding import encode
from torrentfs.wire.krpc import (
    Address,
    AnnouncePeer,
    Contact,
    Failure,
    FindNode,
    GetPeers,
    Ping,
    Query,
    Response,
    encode_message,
    parse_message,
)

HASH, THEIRS = b"h" * 20, b"t" * 20
THERE = ("10.0.0.1", 5)


def make(**options: object) -> Dht:
    return Dht(rng=Random(1), now=0.0, **options)  # type: ignore[arg-type]


def sent(dht: Dht) -> list[tuple[object, Address]]:
    return [(parse_message(data), address) for data, address in dht.take_datagrams()]


def queries(dht: Dht) -> list[tuple[Query, Address]]:
    return [(message, to) for message, to in sent(dht) if isinstance(message, Query)]


def reply(dht: Dht, query: Query, sender: Address, now: float, **fields: object) -> None:
    node = fields.pop("id", THEIRS)
    response = Response(query.transaction, node, **fields)  # type: ignore[arg-type]
    dht.receive(encode_message(response), sender, now)


def test_a_ping_that_is_answered_makes_a_node() -> None:
    dht = make()
    dht.ping(THERE, 0.0)
    [(query, to)] = queries(dht)
    assert (query.call, to) == (Ping(), THERE)
    assert dht.nodes == 0
    reply(dht, query, THERE, 0.1)
    assert dht.nodes == 1
    assert dht.contacts() == [Contact(THEIRS, THERE)]


def test_unasked_and_malformed_datagrams_do_nothing() -> None:
    dht = make()
    dht.ping(THERE, 0.0)
    [(query, _)] = queries(dht)
    reply(dht, query, ("10.0.0.2", 5), 0.1)
    reply(dht, Query(b"none", THEIRS, Ping()), THERE, 0.1)
    dht.receive(b"d", THERE, 0.1)
    dht.receive(b"", THERE, 0.1)
    assert (dht.nodes, dht.unasked, dht.malformed) == (0, 2, 2)
    assert sent(dht) == []


def test_who_asks_is_answered_and_asked_back() -> None:
    dht = make()
    dht.receive(encode_message(Query(b"x", THEIRS, Ping())), THERE, 0.0)
    [(answer, to)] = sent(dht)
    assert isinstance(answer, Response)
    assert (answer.transaction, to) == (b"x", THERE)
    assert dht.nodes == 0
    dht.on_time(UPKEEP)
    assert (Ping(), THERE) in [(query.call, to) for query, to in queries(dht)]


def test_a_read_only_node_is_not_asked_back() -> None:
    dht = make()
    dht.receive(encode_message(Query(b"x", THEIRS, Ping(), read_only=True)), THERE, 0.0)
    assert len(sent(dht)) == 1
    dht.on_time(UPKEEP)
    assert queries(dht) == []


def test_read_only_ourselves() -> None:
    dht = make(read_only=True)
    dht.receive(encode_message(Query(b"x", THEIRS, Ping())), THERE, 0.0)
    dht.receive(encode({"t": b"x", "y": b"q", "q": b"ping", "a": {}}), THERE, 0.0)
    assert sent(dht) == []
    dht.ping(THERE, 0.0)
    [(query, _)] = queries(dht)
    assert query.read_only


def test_a_bad_query_is_refused() -> None:
    dht = make()
    dht.receive(encode({"t": b"x", "y": b"q", "q": b"ping", "a": {}}), THERE, 0.0)
    [(answer, _)] = sent(dht)
    assert isinstance(answer, Failure)


def test_a_search_by_a_router_to_the_peers_and_the_announce() -> None:
    dht = make(families=[False])
    router, node, peer = ("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)
    dht.add_routers([router], 0.0)
    told: list[Address] = []
    done: list[Search] = []
    dht.search(
        HASH,
        told.extend,
        0.0,
        announce_port=7000,
        on_done=lambda search, now: done.append(search),
    )
    [(query, to)] = queries(dht)
    assert (query.call, to) == (GetPeers(HASH), router)
    reply(dht, query, router, 0.1, nodes=(Contact(b"n" * 20, node),))
    [(query, to)] = queries(dht)
    assert to == node
    reply(dht, query, node, 0.2, id=b"n" * 20, peers=(peer,), token=b"tok")
    assert told == [peer]
    [(query, to)] = queries(dht)
    assert (query.call, to) == (AnnouncePeer(HASH, 7000, b"tok"), node)
    assert done[0].found == {peer}
    assert dht.searching == 0


def test_peers_that_were_announced_to_us_are_told_at_once() -> None:
    dht = make()
    peers = [("10.0.0.7", 7), ("fd00::7", 7)]
    for peer in peers:
        dht.answers.storage.add(HASH, peer, dht.tables[False].own_id, 0.0)
    told: list[Address] = []
    dht.search(HASH, told.extend, 1.0)
    assert sorted(told) == sorted(peers)


def test_a_refusal_ends_the_question() -> None:
    dht = make(families=[False])
    dht.add_routers([THERE], 0.0)
    done: list[Search] = []
    dht.search(HASH, lambda p: None, 0.0, on_done=lambda search, now: done.append(search))
    [(query, to)] = queries(dht)
    dht.receive(encode_message(Failure(query.transaction, 201, "no")), to, 0.1)
    assert done
    assert dht.nodes == 0


def test_silence_counts_only_when_somebody_else_answers() -> None:
    dht = make(families=[False])
    other = ("10.0.0.2", 5)
    for n, address in enumerate((THERE, other)):
        dht.ping(address, 0.0)
        [(query, _)] = queries(dht)
        reply(dht, query, address, 0.1, id=bytes([n]) * 20)
    for start in (10.0, 20.0, 30.0):  # our line is dead
        dht.ping(THERE, start)
        dht.on_time(start + LOST)
    assert dht.nodes == 2
    dht.take_datagrams()
    for start in (40.0, 50.0):
        dht.ping(THERE, start)
        dht.ping(other, start)
        query = next(query for query, to in queries(dht) if to == other)
        reply(dht, query, other, start + 1, id=b"\1" * 20)
        dht.on_time(start + LOST)
    assert [contact.address for contact in dht.contacts()] == [other]


def test_kept_nodes_are_asked_first() -> None:
    dht = make(families=[False])
    router = ("10.0.0.9", 9)
    kept = [Contact(bytes([n]) * 20, (f"10.0.1.{n}", 5)) for n in range(1, 20)]
    dht.remember(kept, 0.0)
    dht.add_routers([router], 0.0)
    dht.on_time(0.0)
    asked = queries(dht)
    assert asked
    assert all(isinstance(query.call, FindNode) for query, _ in asked)
    assert router not in {to for _, to in asked}
    dht.on_time(1.0)  # they are slow
    assert router in {to for _, to in queries(dht)}


def test_searches_take_turns_and_urgent_ones_go_first() -> None:
    dht = make(families=[False])
    dht.add_routers([THERE], 0.0)
    hashes = [bytes([n]) * 20 for n in range(MAX_SEARCHES + 3)]
    for info_hash in hashes:
        dht.search(info_hash, lambda p: None, 0.0)
    urgent = dht.search(b"u" * 20, lambda p: None, 0.0, urgent=True)
    dropped = dht.search(b"d" * 20, lambda p: None, 0.0)
    dropped.cancel()
    asked = queries(dht)
    assert [query.call for query, _ in asked] == [GetPeers(h) for h in hashes[:MAX_SEARCHES]]
    reply(dht, asked[0][0], THERE, 0.1)
    [(query, _)] = queries(dht)
    assert query.call == GetPeers(urgent.target)
    for query, _ in asked[1:]:
        reply(dht, query, THERE, 0.2)
    assert {query.call for query, _ in queries(dht)} == {GetPeers(h) for h in hashes[MAX_SEARCHES:]}


def test_of_too_many_searches_the_last_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_WAITING", 3)
    dht = make(families=[False])
    dht.add_routers([THERE], 0.0)
    searches = [dht.search(bytes([n]) * 20, lambda p: None, 0.0) for n in range(MAX_SEARCHES + 4)]
    urgent = dht.search(b"u" * 20, lambda p: None, 0.0, urgent=True)
    assert not urgent.is_over
    assert [search.is_over for search in searches[-4:]] == [False, False, True, True]


def test_our_id_follows_our_address() -> None:
    dht = make(families=[False])
    before = dht.tables[False].own_id
    own = ("9.9.9.9", 7)
    for n in range(6):
        node = (f"8.8.{n}.1", 5)
        dht.ping(node, 0.0)
        [(query, _)] = queries(dht)
        reply(dht, query, node, 0.1, id=bytes([n + 1]) * 20, seen_as=own)
    after = dht.tables[False].own_id
    assert after != before
    assert may_be_at(after, "9.9.9.9")
    assert dht.nodes == 6
    dht.ping(THERE, 1.0)
    assert queries(dht)[-1][0].id == after
    # what we answer is said under the new id too
    dht.receive(encode_message(Query(b"x", THEIRS, Ping())), THERE, 1.0)
    [(answer, _)] = sent(dht)
    assert isinstance(answer, Response)
    assert answer.id == after


def test_impossible_addresses_are_never_asked() -> None:
    dht = make(families=[False])
    impossible = [("224.0.0.1", 5), ("8.8.8.8", 0), ("::1", 5), ("a.example", 5)]
    dht.add_routers(impossible, 0.0)
    dht.remember([Contact(THEIRS, address) for address in impossible], 0.0)
    for address in impossible:
        dht.ping(address, 0.0)
    dht.search(HASH, lambda p: None, 0.0, routers=impossible)
    dht.on_time(0.0)
    assert dht.take_datagrams() == []


def test_an_idle_node_says_nothing() -> None:
    dht = make()
    for _ in range(100):
        now = dht.next_time()
        dht.on_time(now)
        assert dht.next_time() > now
    assert dht.take_datagrams() == []


def test_an_empty_table_is_tried_again_ever_more_rarely() -> None:
    dht = make(families=[False])
    dht.add_routers([THERE], 0.0)
    asked: list[float] = []
    while (now := dht.next_time()) < 600.0:
        dht.on_time(now)
        asked += [now for _ in queries(dht)]
    gaps = [later - earlier for earlier, later in pairwise(asked) if later - earlier > 1.0]
    assert asked[0] == 0.0
    assert gaps == sorted(gaps)
    assert 5 <= len(gaps) <= 8
