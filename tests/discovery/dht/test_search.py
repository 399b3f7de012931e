"""A search: both families, peers as they come, the announce at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torrentfs.discovery.dht.lookup import Lookup
from torrentfs.discovery.dht.search import MAX_FOUND, Search
from torrentfs.wire.krpc import (
    Address,
    AnnouncePeer,
    Call,
    Contact,
    FindNode,
    GetPeers,
    Item,
    PutItem,
    Response,
)

HASH = b"h" * 20
FOUR = Contact(b"4" * 20, ("10.0.0.4", 5))
SIX = Contact(b"6" * 20, ("fd00::6", 5))


@dataclass
class Asked:
    address: Address
    call: Call
    on_answer: Callable[[Response, float], None]
    on_lost: Callable[[float], None]
    on_slow: Callable[[float], None] | None


@dataclass
class FakeAsker:
    """Keeps what is asked; `full` refuses."""

    asked: list[Asked] = field(default_factory=list)
    full: bool = False

    def ask(
        self,
        address: Address,
        call: Call,
        now: float,
        *,
        on_answer: Callable[[Response, float], None],
        on_lost: Callable[[float], None],
        on_slow: Callable[[float], None] | None = None,
    ) -> bool:
        if not self.full:
            self.asked.append(Asked(address, call, on_answer, on_lost, on_slow))
        return not self.full


class Run:
    """A search with an asker, and what it told."""

    def __init__(self, *start: Contact, port: int | None = None, peers: bool = True) -> None:
        self.asker = FakeAsker()
        self.told: list[Address] = []
        self.done = 0
        self.search = Search(
            HASH,
            self.asker,
            on_peers=self.told.extend if peers else None,
            on_done=self._on_done,
            announce_port=port,
        )
        families = {":" in contact.address[0] for contact in start}
        self.search.start({ipv6: Lookup(HASH, start, ipv6=ipv6) for ipv6 in sorted(families)}, 0.0)

    def _on_done(self, search: Search, now: float) -> None:
        self.done += 1


def response(contact: Contact, **fields: object) -> Response:
    return Response(b"", contact.id, **fields)  # type: ignore[arg-type]


def test_nobody_to_ask() -> None:
    run = Run()
    assert run.done == 1
    assert run.search.is_over


def test_peers_are_told_once_and_the_end_is_announced() -> None:
    run = Run(FOUR, port=7000)
    [asked] = run.asker.asked
    assert asked.call == GetPeers(HASH)
    peer = ("10.9.9.9", 1)
    asked.on_answer(response(FOUR, peers=(peer,), token=b"tok"), 1.0)
    assert run.told == [peer]
    assert run.done == 1
    announce = run.asker.asked[1]
    assert (announce.address, announce.call) == (FOUR.address, AnnouncePeer(HASH, 7000, b"tok"))
    announce.on_answer(response(FOUR), 2.0)
    assert run.search.announced == 1
    asked.on_answer(response(FOUR, peers=(peer,)), 3.0)
    assert run.told == [peer]


def test_nothing_is_announced_without_a_port() -> None:
    run = Run(FOUR)
    run.asker.asked[0].on_answer(response(FOUR, token=b"tok"), 1.0)
    assert len(run.asker.asked) == 1


def test_each_family_helps_the_other() -> None:
    run = Run(FOUR, SIX)
    four, six = run.asker.asked
    assert four.call == GetPeers(HASH, ("n4", "n6"))
    six.on_lost(0.5)
    assert run.done == 0
    other = Contact(b"7" * 20, ("fd00::7", 5))
    four.on_answer(response(FOUR, nodes6=(other,)), 1.0)
    assert run.asker.asked[-1].address != other.address  # that lookup was over already
    assert run.done == 1

    run = Run(FOUR, SIX)
    four, six = run.asker.asked
    four.on_answer(response(FOUR, nodes6=(other,)), 1.0)
    assert run.asker.asked[-1].address == other.address


def test_slow_ones_hold_nobody_up_and_late_peers_are_told() -> None:
    run = Run(FOUR)
    [asked] = run.asker.asked
    assert asked.on_slow is not None
    asked.on_slow(0.5)
    assert run.done == 1
    asked.on_answer(response(FOUR, peers=(("10.9.9.9", 1),)), 1.0)
    assert run.told == [("10.9.9.9", 1)]
    assert run.done == 1


def test_a_search_for_nodes_asks_for_nodes() -> None:
    run = Run(FOUR, peers=False)
    assert run.asker.asked[0].call == FindNode(HASH)


def test_cancelled_is_silent() -> None:
    run = Run(FOUR, port=7000)
    run.search.cancel()
    run.asker.asked[0].on_answer(response(FOUR, peers=(("10.9.9.9", 1),), token=b"t"), 1.0)
    assert (run.told, run.done, len(run.asker.asked)) == ([], 0, 1)


def test_when_too_much_is_asked_already_it_ends() -> None:
    asker = FakeAsker(full=True)
    search = Search(HASH, asker, on_peers=lambda peers: None)
    search.start({False: Lookup(HASH, [FOUR], ipv6=False)}, 0.0)
    assert search.is_over


def test_peers_are_bounded_and_not_our_neighbours() -> None:
    stranger = Contact(b"s" * 20, ("8.8.8.8", 5))
    run = Run(stranger)
    [asked] = run.asker.asked
    peers = [(f"9.{n >> 8}.{n & 255}.1", 5) for n in range(MAX_FOUND + 100)]
    home = (("127.0.0.1", 22), ("192.168.0.1", 80), ("224.0.0.1", 80))
    asked.on_answer(response(stranger, peers=(*home, *peers)), 1.0)
    assert run.told == peers[:MAX_FOUND]


def test_an_item_is_put_where_it_belongs() -> None:
    run = Run(FOUR, SIX)
    item = Item(b"1:x")
    search = Search(HASH, run.asker, on_item=lambda item: None, to_put=lambda: item)
    run.asker.asked.clear()
    search.start({False: Lookup(HASH, [FOUR], ipv6=False), True: Lookup(HASH, [SIX], ipv6=True)}, 0)
    four, six = run.asker.asked
    four.on_answer(response(FOUR, token=b"t4"), 1)
    [put] = run.asker.asked[2:]
    assert (put.address, put.call) == (FOUR.address, PutItem(item, b"t4"))
    six.on_answer(response(SIX), 2)  # without a token it would refuse
    assert len(run.asker.asked) == 3
    assert search.put == 0
    put.on_answer(response(FOUR), 3)
    assert search.put == 1


def test_who_has_no_item_puts_none() -> None:
    run = Run(FOUR)
    search = Search(HASH, run.asker, on_item=lambda item: None, to_put=lambda: None)
    run.asker.asked.clear()
    search.start({False: Lookup(HASH, [FOUR], ipv6=False)}, 0)
    run.asker.asked[0].on_answer(response(FOUR, token=b"t"), 1)
    assert len(run.asker.asked) == 1
    assert search.is_over
