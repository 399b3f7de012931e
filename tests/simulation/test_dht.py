"""A thousand DHT nodes in virtual time: churn, dead and hostile nodes, and what they cost us."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from statistics import median

import pytest

from tests.simulation.dht import (
    Found,
    Hostile,
    Network,
    acquaint,
    add_node,
    node_of,
    search,
)
from torrentfs.discovery.dht.ids import distance, id_for
from torrentfs.discovery.dht.lookup import MAX_QUESTIONS
from torrentfs.discovery.dht.protocol import Dht
from torrentfs.discovery.dht.storage import MAX_PER_HOST
from torrentfs.discovery.dht.throttle import ANSWER_BURST, ANSWER_RATE, ASKER_BURST, ASKER_RATE
from torrentfs.wire.krpc import (
    Address,
    AnnouncePeer,
    Contact,
    GetPeers,
    Query,
    Response,
    encode_message,
)

NODES = 1000


def world(seed: int, *, nodes: int = NODES, loss: float = 0.02) -> tuple[Network, list[Address]]:
    """A network of nodes that have lived for a while."""
    network = Network(Random(seed), loss=loss)
    addresses = [add_node(network) for _ in range(nodes)]
    acquaint(network, addresses)
    return network, addresses


def finish(network: Network, *found: Found, seconds: float = 60.0) -> None:
    network.run(seconds, until=lambda: all(f.done_after is not None for f in found))
    assert all(f.done_after is not None for f in found)


def newcomer(network: Network, routers: list[Address], info_hash: bytes) -> Found:
    """A node that has just started, with nothing but bootstrap nodes, looks for peers."""
    address = add_node(network, legal=False)
    node_of(network, address).add_routers(routers, network.now)
    return search(network, address, info_hash)


def announced(network: Network, addresses: list[Address], count: int) -> list[bytes]:
    """So many torrents, each announced by a node."""
    hashes = [network.rng.randbytes(20) for _ in range(count)]
    for info_hash in hashes:
        finish(network, search(network, network.rng.choice(addresses), info_hash, 7000))
    return hashes


def test_a_newcomer_finds_what_was_announced() -> None:
    network, addresses = world(1)
    hashes = announced(network, addresses, 20)
    found = [newcomer(network, [network.rng.choice(addresses)], h) for h in hashes]
    finish(network, *found)
    assert all(f.peers for f in found)
    assert max(f.first_after or 99.0 for f in found) < 3.0
    assert max(f.search.questions for f in found if f.search) < 40


def test_the_closest_nodes_are_told() -> None:
    network, addresses = world(2, loss=0.0)
    [info_hash] = announced(network, addresses, 1)
    nearest = sorted(
        addresses, key=lambda a: distance(node_of(network, a).tables[False].own_id, info_hash)
    )
    network.run(5.0)
    told = {a for a in addresses if len(node_of(network, a).answers.storage)}
    assert len(told) == 8
    assert len(told & set(nearest[:8])) >= 7


def churn(network: Network, addresses: list[Address], seconds: float, every: float) -> None:
    """One node leaves without a word and another one joins, again and again."""
    end = network.now + seconds
    while network.now < end:
        gone = addresses.pop(network.rng.randrange(len(addresses)))
        network.leave(gone)
        fresh = add_node(network)
        node_of(network, fresh).add_routers(network.rng.sample(addresses, 2), network.now)
        network.flush(fresh)
        addresses.append(fresh)
        network.run(every)


def test_churn() -> None:
    """A seventh of all nodes is replaced within half a minute; lookups stay short and right."""
    network, addresses = world(3)
    churn(network, addresses, 30.0, 0.2)
    hashes = announced(network, addresses, 15)
    found = [newcomer(network, network.rng.sample(addresses, 2), h) for h in hashes]
    finish(network, *found)
    assert sum(bool(f.peers) for f in found) == len(found)
    assert median(f.first_after or 99.0 for f in found) < 1.5
    assert max(f.first_after or 99.0 for f in found) < 3.0
    tables = [node_of(network, a).tables[False] for a in addresses]
    assert all(4 < len(table) < 350 for table in tables)
    # what the upkeep of a node costs: datagrams a second, both directions
    before = network.sent
    network.run(20.0)
    assert (network.sent - before) / 20.0 / len(addresses) < 3.0


# -- hostile nodes -----------------------------------------------------------------------------


def target_of(query: Query) -> bytes | None:
    return getattr(query.call, "info_hash", None) or getattr(query.call, "target", None)


def near(target: bytes, rng: Random) -> bytes:
    """An id closer to the target than any honest one."""
    return target[:16] + rng.randbytes(4)


def inventor(network: Network, own: bytes) -> Callable[[Query, Address], list[bytes]]:
    """Names nodes that do not exist, right beside the target."""

    def answer(query: Query, sender: Address) -> list[bytes]:
        target = target_of(query)
        if target is None:
            return []
        names = tuple(Contact(near(target, network.rng), network.free_address()) for _ in range(8))
        return [encode_message(Response(query.transaction, own, nodes=names, token=b"t"))]

    return answer


def colluder(
    network: Network, own: bytes, gang: list[Address]
) -> Callable[[Query, Address], list[bytes]]:
    """Names his friends, with ids right beside the target, and keeps nothing."""

    def answer(query: Query, sender: Address) -> list[bytes]:
        target = target_of(query)
        if target is None:
            return []
        friends = network.rng.sample(gang, min(8, len(gang)))
        names = tuple(Contact(near(target, network.rng), friend) for friend in friends)
        me = near(target, network.rng)
        return [encode_message(Response(query.transaction, me, nodes=names, token=b"t"))]

    return answer


def babbler(network: Network, own: bytes) -> Callable[[Query, Address], list[bytes]]:
    """Answers with bytes that mean nothing, and with answers to questions nobody asked."""

    def answer(query: Query, sender: Address) -> list[bytes]:
        good = encode_message(Response(query.transaction, own, nodes=()))
        return [
            b"d" + network.rng.randbytes(50),
            good[:-1],
            encode_message(Response(network.rng.randbytes(4), own, nodes=())),
            encode_message(Response(query.transaction, own, nodes=())) * 2,
        ]

    return answer


@pytest.mark.parametrize("kind", ["inventor", "colluder", "babbler", "silent"])
def test_hostile_nodes(kind: str) -> None:
    """A tenth of the network is hostile, and in everybody's table."""
    network = Network(Random(4), loss=0.02)
    addresses = [add_node(network) for _ in range(NODES * 9 // 10)]
    everybody = list(addresses)
    hostile = [network.free_address() for _ in range(NODES // 10)]
    ids = {address: id_for(address[0], network.rng) for address in hostile}
    for address in hostile:
        everybody.append(address)
        if kind == "silent":
            continue
        make = {
            "inventor": lambda own: inventor(network, own),
            "colluder": lambda own: colluder(network, own, hostile),
            "babbler": lambda own: babbler(network, own),
        }[kind]
        network.join(Hostile(make(ids[address])), address)
    acquaint(network, addresses, others=[Contact(ids[a], a) for a in hostile])
    hashes = announced(network, addresses, 15)
    found = [newcomer(network, network.rng.sample(addresses, 3), h) for h in hashes]
    finish(network, *found)
    assert sum(bool(f.peers) for f in found) >= 14
    assert median(f.first_after or 99.0 for f in found) < 2.0
    assert max(f.search.questions for f in found if f.search) <= MAX_QUESTIONS


def test_a_flood_of_announces_is_bounded() -> None:
    """One host announces thousands of torrents, with the tokens for it."""
    network = Network(Random(5))
    victim, attacker = add_node(network), network.free_address()
    node = node_of(network, victim)
    tokens: list[bytes] = []
    network.join(Hostile(lambda query, sender: []), attacker)
    for n in range(3000):
        info_hash = network.rng.randbytes(20)
        token = node.answers._tokens.make(attacker[0], info_hash, network.now)
        tokens.append(token)
        query = Query(b"x", b"a" * 20, AnnouncePeer(info_hash, 1 + n, token))
        network.send(encode_message(query), attacker, victim)
        network.run(0.25)
    assert 0 < node.answers.storage.peers <= MAX_PER_HOST


def test_we_cannot_be_made_to_flood_somebody() -> None:
    """Questions with a forged sender, from one and from a thousand addresses."""
    network, addresses = world(6, nodes=100, loss=0.0)
    node = addresses[0]
    victim = network.free_address()
    question = encode_message(Query(b"x", b"a" * 20, GetPeers(b"h" * 20, ("n4", "n6"))))
    network.bytes_to.clear()
    asked = 0
    start = network.now
    while network.now < start + 20.0:
        network.send(question, victim, node)
        asked += 1
        network.run(0.01)
    answers = ASKER_BURST + ASKER_RATE * 20
    assert network.bytes_to[victim] <= answers * 500
    assert network.bytes_to[victim] < asked * len(question)
    network.bytes_from.clear()
    start = network.now
    while network.now < start + 20.0:
        forged = (f"150.{network.rng.randrange(255)}.{network.rng.randrange(255)}.1", 5)
        network.send(question, forged, node)
        network.run(0.005)
    assert network.bytes_from[node] <= ANSWER_BURST + 25 * ANSWER_RATE


def test_a_dead_line_costs_no_nodes() -> None:
    network, addresses = world(7, nodes=300)
    node = addresses[0]
    before = len(node_of(network, node).tables[False])
    network.loss = 1.0
    for _ in range(5):
        search(network, node, network.rng.randbytes(20))
        network.run(60.0)
    assert len(node_of(network, node).tables[False]) >= 0.9 * before
    network.loss = 0.0
    found = search(network, node, network.rng.randbytes(20))
    finish(network, found)
    assert found.search is not None
    assert found.search.answers >= 8


def test_the_same_seed_gives_the_same_life() -> None:
    def life() -> tuple[int, float | None]:
        network, addresses = world(8, nodes=100)
        found = search(network, addresses[0], b"h" * 20)
        finish(network, found)
        return network.sent, found.done_after

    assert life() == life()


def test_no_leftovers() -> None:
    """After its searches a node waits for nothing but its upkeep."""
    network, addresses = world(9, nodes=100)
    for _ in range(5):
        finish(network, search(network, addresses[0], network.rng.randbytes(20), 7000))
    network.run(30.0)
    node = node_of(network, addresses[0])
    assert isinstance(node, Dht)
    assert node.searching <= 1
    assert len(node.calls) < 20
