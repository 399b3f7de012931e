"""The node with a clock, names and a file, on a port in memory."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio
from trio.testing import MockClock

from tests.discovery.dht.test_items import signed
from torrentfs.discovery.dht import node as node_module
from torrentfs.discovery.dht.kept import pack_kept, unpack_kept
from torrentfs.discovery.dht.node import SAVE_EVERY, DhtNode
from torrentfs.discovery.dht.search import Search
from torrentfs.errors import TransportError
from torrentfs.metainfo.bencoding import encode
from torrentfs.wire.krpc import (
    Address,
    Contact,
    GetItem,
    GetPeers,
    Item,
    Ping,
    PutItem,
    Query,
    Response,
    encode_message,
    parse_message,
)

HASH = b"h" * 20
PEER = ("10.7.7.7", 7)


class FakePort:
    """Datagrams to scripted nodes: `nodes` are answered at once, others never."""

    families = frozenset({socket.AF_INET, socket.AF_INET6})
    port = 6881

    def __init__(self) -> None:
        self.nodes: dict[Address, bytes] = {}
        self.items: dict[int, Item] = {}  # by the port of the node that has it
        self.sent: list[tuple[float, Query, Address]] = []
        self._handler: Callable[[memoryview, Address], None] | None = None

    def register(self, kind: str, handler: Callable[[memoryview, Address], None]) -> None:
        assert kind == "dht"
        self._handler = handler

    def deliver(self, data: bytes, sender: Address) -> None:
        assert self._handler is not None
        self._handler(memoryview(data), sender)

    def send(self, datagram: bytes, address: Address) -> bool:
        query = parse_message(datagram)
        assert isinstance(query, Query)
        self.sent.append((trio.current_time(), query, address))
        node = self.nodes.get(address)
        if node is not None:
            peers = (PEER,) if isinstance(query.call, GetPeers) else None
            item = self.items.get(address[1]) if isinstance(query.call, GetItem) else None
            if item is not None:
                item = replace(item, salt=b"")
            answer = Response(query.transaction, node, nodes=(), peers=peers, token=b"t", item=item)
            # not from within: a datagram never arrives while one is being sent
            trio.lowlevel.current_trio_token().run_sync_soon(
                self.deliver, encode_message(answer), address
            )
        return True

    def asked(self) -> set[Address]:
        return {address for _, _, address in self.sent}


async def resolve(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    if host == "gone.example":
        raise TransportError("looking up gone.example: no such host")
    if host == "router.example":
        return [
            (socket.AF_INET6, ("fd00::9", port)),
            (socket.AF_INET, ("10.0.0.9", port)),
            (socket.AF_INET, ("10.0.0.10", port)),
        ]
    return [(socket.AF_INET, (host, port))]


def make(port: FakePort, **options: object) -> DhtNode:
    return DhtNode(port, rng=Random(1), resolve=resolve, **options)  # type: ignore[arg-type]


async def begin(nursery: trio.Nursery, node: DhtNode) -> None:
    """Run a node that a torrent wants."""
    await nursery.start(node.run)
    node.take_part()


async def test_nobody_is_asked_before_a_torrent_needs_it(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    kept = tmp_path / "dht"
    kept.write_bytes(pack_kept([Contact(b"k" * 20, ("10.0.1.1", 5))]))
    port = FakePort()
    node = make(port, bootstrap=[("10.0.0.1", 5)], keep=kept)
    await nursery.start(node.run)
    await trio.sleep(10_000)
    assert port.sent == []
    node.take_part()
    await trio.sleep(10)
    assert port.asked() == {("10.0.1.1", 5), ("10.0.0.1", 5)}


async def test_names_are_looked_up_and_one_address_of_each_family_asked(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    port = FakePort()
    node = make(port, bootstrap=[("gone.example", 1), ("router.example", 2)])
    await nursery.start(node.run)
    node.take_part()
    await trio.sleep(1)
    assert port.asked() == {("10.0.0.9", 2), ("fd00::9", 2)}


async def test_a_search(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    port = FakePort()
    port.nodes["10.0.0.1", 5] = b"n" * 20
    node = make(port, bootstrap=[("10.0.0.1", 5)])
    await nursery.start(node.run)
    node.take_part()
    await trio.sleep(1)
    assert node.statistics().nodes == 1
    told: list[Address] = []
    done: list[Search] = []
    node.search(HASH, told.extend, announce_port=None, on_done=done.append)
    await trio.sleep(10)
    assert told == [PEER]
    assert done[0].answers >= 1


async def test_silence_is_noticed_in_time(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    port = FakePort()
    node = make(port)
    await nursery.start(node.run)
    node.take_part()
    await trio.sleep(1.7)
    done: list[float] = []
    node.search(
        HASH,
        lambda peers: None,
        announce_port=None,
        on_done=lambda search: done.append(trio.current_time()),
        routers=[("10.0.0.1", 5)],
    )
    await trio.sleep(30)
    assert done == [pytest.approx(1.7 + 3 * 0.5, abs=0.05)]


async def test_the_newest_item_of_a_publisher(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    port = FakePort()
    old, new = signed("old", 1, b"salt"), signed("new", 2, b"salt")
    forged = Item(encode("forged"), new.key, new.signature, 3)
    port.items = {1: old, 2: new, 3: forged, 4: signed("another salt", 9), 5: old}
    for n in range(1, 7):
        port.nodes[f"10.0.0.{n}", n] = bytes([n]) * 20
    node = make(port, bootstrap=list(port.nodes))
    await begin(nursery, node)
    assert new.key is not None
    with trio.fail_after(60):
        found = await node.newest_item(new.key, b"salt")
    assert found == new


def puts(port: FakePort) -> list[tuple[int, Item]]:
    """By the port of the node that is to keep it."""
    sent = [(address[1], query.call) for _, query, address in port.sent]
    return [(where, call.item) for where, call in sent if isinstance(call, PutItem)]


async def test_an_item_is_put_again_and_outlives_its_publisher(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    port = FakePort()
    old, new = signed("old", 1, b"salt"), signed("new", 2, b"salt")
    assert new.key is not None
    for n in range(1, 4):
        port.nodes[f"10.0.0.{n}", n] = bytes([n]) * 20
    node = make(port, bootstrap=list(port.nodes))
    await begin(nursery, node)
    with trio.fail_after(60):
        assert await node.newest_item(new.key, b"salt", old) == old  # nobody has it any more
        assert sorted(puts(port)) == [(1, old), (2, old), (3, old)]
        port.sent.clear()
        port.items = {1: old, 2: new, 3: signed("forged", 9)}
        assert await node.newest_item(new.key, b"salt", old) == new
        assert {item for _, item in puts(port)} == {new}
        port.sent.clear()
        port.items = {1: old}  # a node that plays back what was
        assert await node.newest_item(new.key, b"salt", new) == new
        assert {item for _, item in puts(port)} == {new}
        port.sent.clear()
        port.items = {1: new}
        assert await node.newest_item(new.key, b"salt") == new
        assert not puts(port)  # who asks once has no business to


async def test_what_is_known_is_no_answer_of_a_dht_that_is_silent(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    node = make(FakePort(), bootstrap=[("10.0.0.1", 1)])
    await begin(nursery, node)
    item = signed("known")
    assert item.key is not None
    with trio.move_on_after(60):
        await node.newest_item(item.key, b"", item)
        raise AssertionError("nobody answered")


async def test_an_item_that_nobody_has_is_waited_for(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    port = FakePort()
    port.nodes["10.0.0.1", 1] = b"n" * 20
    node = make(port, bootstrap=[("10.0.0.1", 1)])
    await begin(nursery, node)
    item = signed("late")
    assert item.key is not None
    with trio.move_on_after(30):
        await node.newest_item(item.key, b"")
        raise AssertionError("nobody has it")
    assert node.dht.searching == 0
    port.items[1] = item
    with trio.fail_after(10):
        assert await node.newest_item(item.key, b"") == item


async def test_a_port_message_makes_a_node(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    port = FakePort()
    port.nodes["10.0.0.1", 5] = b"n" * 20
    node = make(port)
    calls: list[int] = []
    node.on_nodes.add(lambda: calls.append(node.dht.nodes))
    await nursery.start(node.run)
    node.take_part()
    node.on_told(("10.0.0.1", 5))
    await trio.sleep(1)
    assert calls == [1]  # one node was known when it was told
    assert any(query.call == Ping() for _, query, _ in port.sent)


@pytest.mark.usefixtures("no_threads")
async def test_nodes_are_kept_at_the_end_and_asked_first_at_the_start(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    kept = tmp_path / "dht"
    port = FakePort()
    port.nodes["10.0.0.1", 5] = b"n" * 20
    async with trio.open_nursery() as inner:
        await begin(inner, make(port, bootstrap=[("10.0.0.1", 5)], keep=kept))
        await trio.sleep(1)
        inner.cancel_scope.cancel()
    assert unpack_kept(kept.read_bytes()) == [Contact(b"n" * 20, ("10.0.0.1", 5))]
    assert os.listdir(tmp_path) == ["dht"]

    port = FakePort()
    await begin(nursery, make(port, bootstrap=[("router.example", 2)], keep=kept))
    await trio.sleep(0.5)
    assert port.asked() == {("10.0.0.1", 5)}
    await trio.sleep(1.0)  # silent: now the routers
    assert ("10.0.0.9", 2) in port.asked()


@pytest.mark.usefixtures("no_threads")
async def test_at_the_same_port_we_are_who_we_were(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    ids = []
    for seed, number in ((1, 6881), (2, 6881), (3, 6882)):
        port = FakePort()
        port.port = number
        port.nodes["10.0.0.1", 5] = b"n" * 20
        node = DhtNode(port, rng=Random(seed), resolve=resolve, keep=tmp_path / "dht")  # type: ignore[arg-type]
        async with trio.open_nursery() as inner:
            await inner.start(node.run)
            node.take_part()
            node.on_told(("10.0.0.1", 5))
            await trio.sleep(1)
            inner.cancel_scope.cancel()
        ids.append(node.dht.own_ids)
        assert {query.id for _, query, _ in port.sent} <= set(ids[-1].values())
    assert ids[0] == ids[1]
    assert not set(ids[2].values()) & set(ids[0].values())


async def test_routers_are_not_asked_when_kept_nodes_do(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    kept = tmp_path / "dht"
    contacts = [Contact(bytes([n]) * 20, (f"10.0.0.{n}", 5)) for n in range(20, 40)]
    kept.write_bytes(pack_kept(contacts))
    port = FakePort()
    port.nodes = {contact.address: contact.id for contact in contacts}
    await begin(nursery, make(port, bootstrap=[("router.example", 2)], keep=kept))
    await trio.sleep(100)
    assert len(port.asked()) >= 8
    assert ("10.0.0.9", 2) not in port.asked()


@pytest.mark.usefixtures("no_threads")
async def test_nodes_are_kept_now_and_then(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    port = FakePort()
    port.nodes["10.0.0.1", 5] = b"n" * 20
    await begin(nursery, make(port, bootstrap=[("10.0.0.1", 5)], keep=tmp_path / "dht"))
    await trio.sleep(SAVE_EVERY + 1)
    assert unpack_kept((tmp_path / "dht").read_bytes())


async def test_a_disk_that_hangs_holds_up_nothing(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "SAVE_EVERY", 0.01)
    monkeypatch.setattr(node_module, "LAST_SAVE", 0.01)
    hanging, free = threading.Event(), threading.Event()
    done: list[str] = []

    def replace(source: object, target: object) -> None:
        hanging.set()
        free.wait(30)
        done.append("")

    monkeypatch.setattr(os, "replace", replace)
    port = FakePort()
    port.nodes["10.0.0.1", 5] = b"n" * 20
    try:
        async with trio.open_nursery() as inner:
            await begin(inner, make(port, bootstrap=[("10.0.0.1", 5)], keep=tmp_path / "dht"))
            with trio.fail_after(20):
                while not hanging.is_set():  # noqa: ASYNC110
                    await trio.sleep(0.01)
                assert not done  # and everything else goes on
                inner.cancel_scope.cancel()
        assert not done
    finally:
        free.set()


@pytest.mark.usefixtures("no_threads")
async def test_a_directory_that_is_gone_harms_nothing(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    port = FakePort()
    port.nodes["10.0.0.1", 5] = b"n" * 20
    async with trio.open_nursery() as inner:
        keep = tmp_path / "gone" / "dht"
        await begin(inner, make(port, bootstrap=[("10.0.0.1", 5)], keep=keep))
        await trio.sleep(1)
        inner.cancel_scope.cancel()
    (tmp_path / "dht").mkdir()
    async with trio.open_nursery() as inner:
        await begin(inner, make(port, bootstrap=[("10.0.0.1", 5)], keep=tmp_path / "dht"))
        await trio.sleep(1)
        inner.cancel_scope.cancel()
    assert os.listdir(tmp_path) == ["dht"]


@pytest.mark.expect_log("a bug in the DHT")
async def test_a_bug_costs_a_datagram(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = FakePort()
    node = make(port)
    await nursery.start(node.run)
    node.take_part()

    def broken(*args: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(node.dht, "receive", broken)
        port.deliver(b"d", ("10.0.0.1", 5))
    port.deliver(b"d", ("10.0.0.1", 5))
    assert node.statistics().malformed == 1


async def test_without_a_line_names_are_tried_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    tries: list[float] = []

    async def failing(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
        tries.append(trio.current_time())
        raise TransportError("no line")

    node = DhtNode(FakePort(), bootstrap=[("a.example", 1)], resolve=failing)
    await nursery.start(node.run)
    node.take_part()
    await trio.sleep(4000)
    assert tries[1] - tries[0] == node_module.FIRST_RETRY
    assert 6 <= len(tries) <= 14


async def test_on_another_network_names_are_tried_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    tries: list[float] = []

    async def failing(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
        tries.append(trio.current_time())
        raise TransportError("the interface vpn0 is gone")

    node = DhtNode(FakePort(), bootstrap=[("a.example", 1)], resolve=failing)
    await nursery.start(node.run)
    node.take_part()
    await trio.sleep(3000)
    seen = len(tries)
    node.begin_again()
    await trio.sleep(node_module.FIRST_RETRY + 1)
    assert [round(when - tries[seen]) for when in tries[seen:]] == [0, node_module.FIRST_RETRY]
