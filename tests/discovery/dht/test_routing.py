"""The routing table: who gets a place, who loses it, who is named."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from torrentfs.discovery.dht.ids import common_bits, distance, id_for, id_with_common_bits
from torrentfs.discovery.dht.routing import (
    BUCKET_SIZE,
    LARGE_BUCKETS,
    MAX_SPARES,
    QUESTIONABLE,
    SECOND_CHANCE,
    RoutingTable,
)
from torrentfs.wire.krpc import Contact

OWN = bytes(20)
RNG = Random(5)
SIXTH = BUCKET_SIZE  # places of a bucket behind the large ones


def contact(number: int, bits: int = 6, *, host: str = "") -> Contact:
    """A node on a local network, where any id is allowed."""
    address = host or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Contact(id_with_common_bits(OWN, bits, Random(number)), (address, 6881))


def table(*live: Contact, now: float = 0.0) -> RoutingTable:
    made = RoutingTable(OWN, ipv6=False)
    for one in live:
        made.on_answer(one, now)
    return made


def test_only_answers_give_a_place() -> None:
    nodes = table()
    nodes.on_heard(contact(1))
    assert (len(nodes), nodes.spares) == (0, 1)
    assert nodes.closest(OWN) == []
    nodes.on_answer(contact(1), 1.0)
    assert (len(nodes), nodes.spares) == (1, 0)
    assert nodes.closest(OWN) == [contact(1)]


def test_a_spare_is_asked_while_there_is_a_place() -> None:
    nodes = table()
    nodes.on_heard(contact(1))
    assert nodes.next_to_ask(0.0) == contact(1)
    assert nodes.next_to_ask(1.0) is None
    nodes.on_silence(contact(1).address)
    assert nodes.spares == 0


def test_buckets_are_bounded_and_the_first_are_larger() -> None:
    nodes = table()
    for bits in range(6):
        for n in range(300):
            nodes.on_answer(contact(1000 * bits + n, bits), float(n))
        size = BUCKET_SIZE * (LARGE_BUCKETS[bits] if bits < len(LARGE_BUCKETS) else 1)
        assert len(nodes._buckets[bits].live) == size
        assert len(nodes._buckets[bits].spares) <= MAX_SPARES


def test_who_answers_stays() -> None:
    first = [contact(n) for n in range(SIXTH)]
    nodes = table(*first)
    for n in range(100, 200):
        nodes.on_answer(contact(n), 5.0)
    assert set(nodes.closest(OWN)) == set(first)


def test_one_missed_answer_gives_the_place_to_a_proved_spare() -> None:
    nodes = table(*(contact(n) for n in range(SIXTH + 2)))
    nodes.on_heard(contact(50))
    nodes.on_silence(contact(3).address)
    assert contact(3) not in nodes.closest(OWN)
    assert contact(SIXTH + 1) in nodes.closest(OWN)  # the one that answered last
    assert contact(50) not in nodes.closest(OWN)


def test_without_a_spare_it_takes_two() -> None:
    nodes = table(contact(1), contact(2))
    nodes.on_silence(contact(1).address)
    assert nodes.closest(OWN, 1) == [contact(2)]  # but it is not named first
    assert set(nodes.closest(OWN)) == {contact(1), contact(2)}
    assert nodes.next_to_ask(SECOND_CHANCE) == contact(1)
    nodes.on_silence(contact(1).address)
    assert nodes.closest(OWN) == [contact(2)]


def test_silence_of_a_stranger_means_nothing() -> None:
    nodes = table(contact(1))
    nodes.on_silence(("10.0.0.1", 1))
    nodes.on_silence(("9.9.9.9", 1))
    assert nodes.closest(OWN) == [contact(1)]


def test_the_longest_silent_is_asked_first() -> None:
    nodes = RoutingTable(OWN, ipv6=False)
    for n in range(5):
        nodes.on_answer(contact(n, 6 + n), 100.0 - n)
    assert nodes.next_to_ask(99.0 + QUESTIONABLE - 10) is None
    assert nodes.next_to_ask(96.0 + QUESTIONABLE) == contact(4, 10)
    assert nodes.next_to_ask(96.0 + QUESTIONABLE) is None
    assert nodes.next_to_ask(98.0 + QUESTIONABLE) == contact(3, 9)


def test_one_host_has_one_place() -> None:
    nodes = table(*(contact(n, host="8.8.8.8") for n in range(1, 9)))
    assert len(nodes) == 1
    nodes = table(*(Contact(contact(n).id, ("127.0.0.1", n)) for n in range(1, 9)))
    assert len(nodes) == 8


def test_one_network_has_one_place_in_a_bucket() -> None:
    nodes = table(*(contact(n, host=f"8.8.8.{n}") for n in range(1, 9)))
    assert len(nodes) == 1
    nodes.on_answer(contact(9, 7, host="8.8.8.9"), 0.0)
    assert len(nodes) == 2


def test_the_same_id_is_not_taken_twice() -> None:
    nodes = table(contact(1), Contact(contact(1).id, ("10.9.9.9", 1)))
    assert nodes.closest(OWN) == [contact(1)]


def test_a_node_may_change_its_id() -> None:
    changed = Contact(contact(2).id, contact(1).address)
    nodes = table(contact(1), changed)
    assert nodes.closest(OWN) == [changed]


def test_ids_that_bep_42_forbids_give_way() -> None:
    forbidden = [contact(n, host=f"8.8.{n}.1") for n in range(SIXTH)]
    nodes = table(*forbidden)
    assert len(nodes) == SIXTH
    nodes.on_answer(contact(50, host="8.9.9.9"), 1.0)  # no better
    assert set(nodes.closest(OWN)) == set(forbidden)
    rng = Random(1)
    while True:
        host = f"9.{rng.randrange(1, 255)}.{rng.randrange(255)}.1"
        good = Contact(id_for(host, rng), (host, 5))
        if common_bits(good.id, OWN) == 6:
            break
    nodes.on_answer(good, 2.0)
    assert good in nodes.closest(OWN)
    assert len(nodes) == SIXTH


def test_strange_contacts_are_not_taken() -> None:
    nodes = table(
        Contact(OWN, ("8.8.8.8", 1)),
        Contact(b"a" * 20, ("2a00::1", 1)),
        Contact(b"b" * 20, ("224.0.0.1", 1)),
    )
    assert len(nodes) == 0


@given(
    st.lists(st.binary(min_size=20, max_size=20), max_size=200), st.binary(min_size=20, max_size=20)
)
def test_closest_is_what_sorting_all_gives(ids: list[bytes], target: bytes) -> None:
    nodes = RoutingTable(b"\x55" * 20, ipv6=False)
    for n, node in enumerate(ids):
        nodes.on_answer(Contact(node, (f"10.0.{n >> 8}.{n & 255}", 5)), 0.0)
    everybody = sorted(nodes.contacts(), key=lambda c: distance(c.id, target))
    assert nodes.closest(target, 8) == everybody[:8]
    assert nodes.closest(target, 1000) == everybody


def test_quiet_buckets_are_refreshed_once() -> None:
    nodes = table(contact(1, 6), now=1000.0)
    targets = []
    while (target := nodes.target_to_refresh(1000.0, RNG)) is not None:
        targets.append(common_bits(target, OWN))
    assert targets == [0, 1, 2, 3, 4, 5]
    assert nodes.target_to_refresh(1000.0 + QUESTIONABLE - 1, RNG) is None
    assert nodes.target_to_refresh(1000.0 + QUESTIONABLE, RNG) is not None
    assert table().target_to_refresh(1e6, RNG) is None


def test_moving_keeps_the_nodes() -> None:
    nodes = table(*(contact(n) for n in range(SIXTH)))
    moved = nodes.moved(b"\xff" * 20)
    assert moved.own_id == b"\xff" * 20
    assert set(moved.contacts()) == set(nodes.contacts())


def test_contacts_come_with_the_latest_first() -> None:
    nodes = table()
    for n in range(5):
        nodes.on_answer(contact(n, 6 + n), float(n % 3))
    assert contact(2, 8) == nodes.contacts()[0]


def test_a_random_life_keeps_every_bound() -> None:
    rng = Random(3)
    nodes = RoutingTable(OWN, ipv6=False)
    for step in range(20_000):
        host = f"8.{rng.randrange(4)}.{rng.randrange(40)}.{rng.randrange(1, 9)}"
        one = Contact(id_with_common_bits(OWN, rng.randrange(9), rng), (host, rng.randrange(1, 4)))
        match rng.randrange(4):
            case 0:
                nodes.on_heard(one)
            case 1:
                nodes.on_answer(one, float(step))
            case 2 if known := nodes.contacts():
                nodes.on_silence(rng.choice(known).address)
            case _:
                nodes.next_to_ask(float(step))
        if step % 1000 == 0:
            entries = [e for b in nodes._buckets.values() for e in (*b.live, *b.spares)]
            assert len({e.contact.address[0] for e in entries}) == len(entries)
            assert {e.owner for e in entries} == set(nodes._owners)
            for bucket in nodes._buckets.values():
                places = [e.place for e in (*bucket.live, *bucket.spares)]
                assert len(set(places)) == len(places)
                assert len(bucket.live) <= bucket.size
                assert len(bucket.spares) <= MAX_SPARES
