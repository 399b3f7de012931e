"""What others get when they ask us."""

from __future__ import annotations

from random import Random

from torrentfs.discovery.dht.answers import MAX_VALUES, Answers
from torrentfs.discovery.dht.items import target_of
from torrentfs.discovery.dht.routing import RoutingTable
from torrentfs.discovery.dht.throttle import ASKER_BURST
from torrentfs.metainfo.bencoding import encode
from torrentfs.wire import krpc
from torrentfs.wire.krpc import (
    AnnouncePeer,
    BadQuery,
    Call,
    Contact,
    Failure,
    FindNode,
    GetItem,
    GetPeers,
    Item,
    OtherCall,
    Ping,
    PutItem,
    Query,
    Response,
    SampleInfohashes,
    parse_message,
)

OWN, THEIRS, HASH = b"o" * 20, b"t" * 20, b"h" * 20
FOUR, SIX = ("8.8.8.8", 5), ("2a00::5", 6)


class Server:
    """Our answers, asked by hand."""

    def __init__(self, *, known: int = 20) -> None:
        self.tables = {ipv6: RoutingTable(OWN, ipv6=ipv6) for ipv6 in (False, True)}
        rng = Random(1)
        for n in range(known):
            self.tables[False].on_answer(Contact(rng.randbytes(20), (f"9.9.{n}.1", 5)), 0.0)
            self.tables[True].on_answer(Contact(rng.randbytes(20), (f"2a00:{n}::1", 5)), 0.0)
        self.answers = Answers(self.tables, rng, 0.0)

    def ask(
        self, call: Call, sender: krpc.Address = FOUR, now: float = 0.0
    ) -> Response | Failure | None:
        datagram = self.answers.answer(Query(b"tt", THEIRS, call), sender, now)
        if datagram is None:
            return None
        assert len(datagram) < 1300
        reply = parse_message(datagram)
        assert isinstance(reply, Response | Failure)
        assert reply.transaction == b"tt"
        return reply

    def value(self, call: Call, sender: krpc.Address = FOUR, now: float = 0.0) -> Response:
        reply = self.ask(call, sender, now)
        assert isinstance(reply, Response)
        return reply


def test_ping_tells_who_we_are_and_how_we_see_them() -> None:
    reply = Server().value(Ping())
    assert (reply.id, reply.seen_as) == (OWN, FOUR)
    assert reply.nodes is None
    assert reply.nodes6 is None


def test_nodes_of_the_family_of_the_socket_or_as_wanted() -> None:
    server = Server()
    closest = {ipv6: tuple(table.closest(HASH)) for ipv6, table in server.tables.items()}
    for sender, want, families in [
        (FOUR, (), {False}),
        (SIX, (), {True}),
        (FOUR, ("n6",), {True}),
        (SIX, ("n4", "n6"), {False, True}),
    ]:
        reply = server.value(FindNode(HASH, want), sender)
        assert reply.nodes == (closest[False] if False in families else None)
        assert reply.nodes6 == (closest[True] if True in families else None)


def test_announce_and_find() -> None:
    server = Server()
    first = server.value(GetPeers(HASH))
    assert first.peers is None
    assert first.nodes
    assert first.token
    assert server.value(AnnouncePeer(HASH, 7000, first.token)).id == OWN
    assert server.value(GetPeers(HASH), ("8.8.4.4", 5)).peers == (("8.8.8.8", 7000),)
    assert server.value(GetPeers(HASH), SIX).peers is None
    server.value(AnnouncePeer(HASH, None, first.token))
    found = server.value(GetPeers(HASH)).peers
    assert found is not None
    assert set(found) == {("8.8.8.8", 7000), FOUR}


def test_a_token_of_another_host_is_refused() -> None:
    server = Server()
    token = server.value(GetPeers(HASH)).token
    assert token
    reply = server.ask(AnnouncePeer(HASH, 7000, token), ("8.8.4.4", 5))
    assert isinstance(reply, Failure)
    assert (reply.code, reply.words) == (krpc.PROTOCOL_ERROR, "bad token")
    assert server.answers.storage.peers == 0


def test_the_largest_answer_fits_into_a_packet() -> None:
    server = Server()
    for n in range(300):
        server.answers.storage.add(HASH, (f"7.7.{n >> 8}.{n & 255}", 5), OWN, 0.0)
        server.answers.storage.add(HASH, (f"2a01:{n:x}::1", 5), OWN, 0.0)
    for sender in (FOUR, SIX):
        reply = server.value(GetPeers(HASH, ("n4", "n6")), sender)  # looks at the size
        assert reply.peers is not None
        assert len(reply.peers) == MAX_VALUES[sender is SIX]
        assert reply.nodes
        assert reply.nodes6


def test_items_are_kept_for_others() -> None:
    server = Server()
    item = Item(b"12:Hello World!")
    target = target_of(item)
    first = server.value(GetItem(target))
    assert first.item is None
    assert first.nodes
    assert first.token
    refused = server.ask(PutItem(item, b"wrong"))
    assert isinstance(refused, Failure)
    assert server.value(PutItem(item, first.token)).id == OWN
    assert server.value(GetItem(target, ("n4", "n6")), ("8.8.4.4", 5)).item == item
    forged = Item(b"1:x", b"k" * 32, b"s" * 64, 1)
    token = server.value(GetItem(target_of(forged))).token
    assert token
    refused = server.ask(PutItem(forged, token))
    assert isinstance(refused, Failure)
    assert refused.code == krpc.BAD_SIGNATURE


def test_the_largest_item_fits_into_a_packet() -> None:
    server = Server()
    item = Item(encode(b"v" * 996), b"k" * 32, b"s" * 64, 1 << 62)
    target = target_of(item)
    server.answers.items._kept[target] = item, 0.0
    for sender in (FOUR, SIX):
        query = Query(b"transact", THEIRS, GetItem(target, ("n4", "n6")))
        datagram = server.answers.answer(query, sender, 0.0)
        assert datagram is not None
        assert len(datagram) < 1452  # of IPv6 over Ethernet


def test_an_indexer_gets_torrents_and_nodes_that_fit_into_a_packet() -> None:
    server = Server()
    for n in range(100):
        server.answers.storage.add(n.to_bytes(20), FOUR, OWN, 0.0)
    for sender in (FOUR, SIX):
        query = Query(b"transact", THEIRS, SampleInfohashes(HASH, ("n4", "n6")))
        datagram = server.answers.answer(query, sender, 1000.0)
        assert datagram is not None
        assert len(datagram) < 1400
        reply = parse_message(datagram)
        assert isinstance(reply, Response)
        assert reply.sample is not None
        assert reply.sample.total == 100
        assert len(set(reply.sample.info_hashes)) == krpc.MAX_SAMPLES
        assert reply.nodes is not None
        assert reply.nodes6 is not None
        assert len(reply.nodes) == len(reply.nodes6) == 8


def test_who_keeps_nothing_says_so() -> None:
    sample = Server().value(SampleInfohashes(HASH)).sample
    assert sample is not None
    assert (sample.total, sample.info_hashes) == (0, ())


def test_unknown_calls() -> None:
    server = Server()
    assert server.value(OtherCall(b"vote", HASH)).nodes
    reply = server.ask(OtherCall(b"vote"))
    assert isinstance(reply, Failure)
    assert reply.code == krpc.METHOD_UNKNOWN


def test_bad_queries_are_refused_in_words() -> None:
    server = Server()
    datagram = server.answers.refuse(BadQuery("a wrong id", b"tt"), FOUR, 0.0)
    assert datagram is not None
    assert isinstance(parse_message(datagram), Failure)


def test_who_asks_too_much_gets_nothing() -> None:
    server = Server()
    answers = [server.ask(Ping()) for _ in range(int(ASKER_BURST) + 10)]
    assert answers[-10:] == [None] * 10
    assert server.answers.refuse(BadQuery("bad", b"tt"), FOUR, 0.0) is None
    assert server.ask(Ping(), ("8.8.4.4", 5)) is not None
    assert server.answers.throttle.refused == 11


def test_all_together_get_so_many_bytes() -> None:
    server = Server()
    sent = 0
    for n in range(2000):
        datagram = server.answers.answer(
            Query(b"tt", THEIRS, FindNode(HASH)), (f"7.{n >> 8}.{n & 255}.1", 5), 0.0
        )
        sent += len(datagram or b"")
    assert sent <= 100_000


def test_impossible_senders_get_nothing() -> None:
    server = Server()
    assert server.ask(Ping(), ("224.0.0.1", 5)) is None
    assert server.ask(Ping(), ("8.8.8.8", 0)) is None
