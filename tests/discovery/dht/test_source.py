"""When a torrent asks the DHT, and what it says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio
from trio.testing import MockClock

from torrentfs.discovery.dht.search import Search
from torrentfs.discovery.dht.source import FIRST_PAUSE, LEAST_PAUSE, REGULAR, DhtSource
from torrentfs.wire.krpc import Address

ONE, TWO = b"1" * 20, b"2" * 20
PEER = ("10.7.7.7", 7)


class FakeNode:
    """Searches that take a second."""

    def __init__(self) -> None:
        self.peers: list[Address] = []
        self.answers = 1
        self.dht = self
        self.nodes = 12
        self.on_nodes: set[Callable[[], None]] = set()
        self.searches: list[tuple[float, bytes, dict[str, Any]]] = []
        self.cancelled = 0

    async def addresses_of(self, places: Sequence[Address]) -> list[Address]:
        await trio.lowlevel.checkpoint()
        return [(f"10.0.0.{n}", port) for n, (_, port) in enumerate(places)]

    def search(
        self, info_hash: bytes, on_peers: Callable[[Sequence[Address]], None], **options: Any
    ) -> Search:
        node = self

        class Fake:
            answers = self.answers
            announced = 3

            def cancel(self) -> None:
                node.cancelled += 1

        async def finish() -> None:
            await trio.sleep(1)
            if self.peers:
                on_peers(self.peers)
            options["on_done"](None)

        self.searches.append((trio.current_time(), info_hash, options))
        trio.lowlevel.spawn_system_task(finish)
        return Fake()  # type: ignore[return-value]

    def times(self) -> list[float]:
        return [when for when, _, _ in self.searches]


class Run:
    def __init__(self, node: FakeNode, *hashes: bytes, **options: Any) -> None:
        self.told: list[tuple[list[Address], str]] = []
        options.setdefault("port", 7000)
        self.source = DhtSource(
            node,  # type: ignore[arg-type]
            hashes or (ONE,),
            on_peers=lambda peers, origin: self.told.append((list(peers), origin)),
            **options,
        )


async def test_peers_are_told_and_the_entry_renewed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = FakeNode()
    node.peers = [PEER, ("0.0.0.0", 1), PEER, ("127.0.0.1", 7000)]
    run = Run(node)
    nursery.start_soon(run.source.run)
    await trio.sleep(2 * REGULAR)
    assert run.told == [([PEER], "dht")] * 2
    assert node.times() == [0.0, REGULAR + 1]
    assert node.searches[0][2]["announce_port"] == 7000
    assert run.source.words() == "DHT: 12 nodes, 1 peers"
    assert run.source.announced == 3


async def test_every_form_of_the_hash_is_looked_for(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = FakeNode()
    node.peers = [PEER]
    run = Run(node, ONE, TWO, port=None)
    nursery.start_soon(run.source.run)
    await trio.sleep(2)
    assert {info_hash for _, info_hash, _ in node.searches} == {ONE, TWO}
    assert run.told == [([PEER], "dht")]
    assert node.searches[0][2]["announce_port"] is None


async def test_in_vain_it_comes_again_ever_more_rarely(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = FakeNode()
    run = Run(node)
    nursery.start_soon(run.source.run)
    assert run.source.words() == "DHT: 12 nodes, searching"
    await trio.sleep(3600)
    times = node.times()
    assert times[:3] == [0.0, 1 + FIRST_PAUSE, 2 + 3 * FIRST_PAUSE]
    assert 8 <= len(times) <= 13
    assert run.source.words() == "DHT: 12 nodes, no peers"
    assert not any(options["urgent"] for _, _, options in node.searches)


async def test_the_first_search_for_a_magnet_is_urgent(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = FakeNode()
    run = Run(node, urgent=True)
    nursery.start_soon(run.source.run)
    await trio.sleep(20)
    assert [options["urgent"] for _, _, options in node.searches[:2]] == [True, False]


async def test_wanted_sooner_but_not_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = FakeNode()
    node.peers = [PEER]
    run = Run(node)
    nursery.start_soon(run.source.run)
    await trio.sleep(3)
    run.source.search_soon()
    run.source.search_soon()
    await trio.sleep(100)
    assert node.times() == [0.0, 1 + LEAST_PAUSE]
    assert node.searches[1][2]["urgent"]
    run.source.search_soon()
    await trio.sleep(1)
    assert node.times()[2:] == [103.0]


async def test_wanted_in_vain_again_and_again_it_keeps_its_pace(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = FakeNode()
    node.answers = 0
    run = Run(node)
    nursery.start_soon(run.source.run)
    for _ in range(60):
        await trio.sleep(0.5)
        run.source.search_soon()
    assert node.times() == [0.0, 6.0, 12.0, 18.0, 24.0]


async def test_the_first_node_ends_the_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = FakeNode()
    node.answers = node.nodes = 0
    run = Run(node)
    assert run.source.words() == "DHT: looking for nodes"
    nursery.start_soon(run.source.run)
    await trio.sleep(50)
    assert run.source.words() == "DHT: no node answers"
    before = len(node.searches)
    node.nodes = node.answers = 1
    for call in node.on_nodes:
        call()
    await trio.sleep(0.5)
    assert len(node.searches) == before + 1


async def test_nodes_of_the_torrent_are_asked_too(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = FakeNode()
    run = Run(node, nodes=[("a.example", 5), ("b.example", 6)])
    nursery.start_soon(run.source.run)
    await trio.sleep(1)
    assert node.searches[0][2]["routers"] == [("10.0.0.0", 5), ("10.0.0.1", 6)]


async def test_the_end_cancels_what_is_under_way(autojump_clock: MockClock) -> None:
    node = FakeNode()
    run = Run(node)
    with trio.move_on_after(0.5):
        await run.source.run()
    assert node.cancelled == 1
    assert not node.on_nodes


async def test_at_another_place_it_is_announced_without_a_rest(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = FakeNode()
    node.peers = [PEER]
    run = Run(node)
    nursery.start_soon(run.source.run)
    await trio.sleep(2)
    run.source.announced_port = 7001
    run.source.search_anew()
    await trio.sleep(2)
    assert node.times() == [0, 2]
    assert node.searches[-1][2]["announce_port"] == 7001
