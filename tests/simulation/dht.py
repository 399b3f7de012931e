"""A DHT in virtual time: real `Dht` objects on a simulated network, churn, and hostile nodes.

No trio, no sockets; time is a heap. A datagram takes half the sum of its ends' distances from the
middle of the network, or gets lost; one to an address where nobody is vanishes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count
from random import Random
from typing import Protocol

from torrentfs.discovery.dht.ids import id_for
from torrentfs.discovery.dht.protocol import Dht
from torrentfs.discovery.dht.search import Search
from torrentfs.wire.krpc import Address, Contact, Query, parse_message


class Host(Protocol):
    """Somebody with an address."""

    def receive(self, data: bytes, sender: Address, now: float) -> None: ...
    def take_datagrams(self) -> list[tuple[bytes, Address]]: ...


class Network:
    """Hosts by address, and the datagrams between them."""

    def __init__(self, rng: Random, *, loss: float = 0.0, rtt: tuple[float, float] = (0.02, 0.2)):
        self.rng = rng
        self.now = 1000.0
        self.loss = loss
        self.hosts: dict[Address, Host] = {}
        self.sent = 0
        self.bytes_from: dict[Address, int] = {}
        self.bytes_to: dict[Address, int] = {}
        self._rtt = rtt
        self._delays: dict[Address, float] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._timers: dict[Address, float] = {}

    def free_address(self) -> Address:
        """A global IPv4 address where nobody is."""
        while True:
            host = f"{self.rng.randrange(11, 100)}." + ".".join(
                str(self.rng.randrange(1, 255)) for _ in range(3)
            )
            if host not in {address[0] for address in self.hosts}:
                return host, self.rng.randrange(1024, 65536)

    def join(self, host: Host, address: Address) -> None:
        self.hosts[address] = host
        self._delays[address] = self.rng.uniform(*self._rtt) / 2
        self.flush(address)

    def leave(self, address: Address) -> None:
        del self.hosts[address]
        self._timers.pop(address, None)

    def at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), call))

    def run(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, at most so many seconds."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end and not until():
            when, _, call = heapq.heappop(self._events)
            self.now = max(self.now, when)
            call()
        if not until():
            self.now = end

    def flush(self, address: Address) -> None:
        """Send what a host wants to send, and set its timer."""
        host = self.hosts[address]
        for data, to in host.take_datagrams():
            self.send(data, address, to)
        if isinstance(host, Dht):
            due = host.next_time()
            if due < self._timers.get(address, float("inf")):
                self._timers[address] = due
                self.at(due, lambda: self._wake(host, address))

    def _wake(self, host: Dht, address: Address) -> None:
        if self.hosts.get(address) is not host:
            return
        if self._timers.get(address, 0.0) <= self.now:
            self._timers.pop(address, None)
        if host.next_time() <= self.now:
            host.on_time(self.now)
        self.flush(address)

    def send(self, data: bytes, sender: Address, to: Address) -> None:
        self.sent += 1
        self.bytes_from[sender] = self.bytes_from.get(sender, 0) + len(data)
        self.bytes_to[to] = self.bytes_to.get(to, 0) + len(data)
        if to not in self.hosts or self.rng.random() < self.loss:
            return
        delay = self._delays.get(sender, 0.05) + self._delays[to]

        def arrive() -> None:
            host = self.hosts.get(to)
            if host is not None:
                host.receive(data, sender, self.now)
                self.flush(to)

        self.at(self.now + delay * self.rng.uniform(1.0, 1.2), arrive)


def add_node(network: Network, *, legal: bool = True, read_only: bool = False) -> Address:
    """A node of ours with an id that fits its address."""
    address = network.free_address()
    node = Dht(rng=network.rng, now=network.now, families=[False], read_only=read_only)
    if legal:
        node.tables[False].own_id = id_for(address[0], network.rng)
    network.join(node, address)
    return address


def acquaint(
    network: Network, addresses: list[Address], *, each: int = 40, others: Sequence[Contact] = ()
) -> None:
    """Fill the tables as some hours of life would: some of all, and the nearest of each.

    `others` are in the tables too, but have none.
    """
    ours = [Contact(node_of(network, a).tables[False].own_id, a) for a in addresses]
    contacts = [*ours, *others]
    keys = [(int.from_bytes(contact.id), contact) for contact in contacts]
    for contact in ours:
        table = node_of(network, contact.address).tables[False]
        own = int.from_bytes(contact.id)
        near = heapq.nsmallest(17, keys, key=lambda item: item[0] ^ own)
        for other in [c for _, c in near] + network.rng.sample(contacts, min(each, len(contacts))):
            # spread over the last quarter of an hour, as answers come
            table.on_answer(other, network.now - network.rng.uniform(0.0, 800.0))
        while table.target_to_refresh(network.now, network.rng) is not None:
            pass  # its buckets have been looked after
        node = node_of(network, contact.address)
        node._bootstrapped[False] = True
        node._bootstrap_at[False] = float("inf")


def node_of(network: Network, address: Address) -> Dht:
    host = network.hosts[address]
    assert isinstance(host, Dht)
    return host


class Hostile:
    """Answers in bad faith, without a table: `answer(query, sender)` gives its datagrams."""

    def __init__(self, answer: Callable[[Query, Address], list[bytes]]) -> None:
        self._answer = answer
        self._outgoing: list[tuple[bytes, Address]] = []

    def receive(self, data: bytes, sender: Address, now: float) -> None:
        message = parse_message(data)
        if isinstance(message, Query):
            self._outgoing += [(answer, sender) for answer in self._answer(message, sender)]

    def take_datagrams(self) -> list[tuple[bytes, Address]]:
        taken, self._outgoing = self._outgoing, []
        return taken


class Found:
    """What a search tells."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.started = network.now
        self.peers: list[Address] = []
        self.first_after: float | None = None
        self.done_after: float | None = None
        self.search: Search | None = None

    def on_peers(self, peers: list[Address]) -> None:
        if self.first_after is None:
            self.first_after = self._network.now - self.started
        self.peers += peers

    def on_done(self, search: Search, now: float) -> None:
        self.search = search
        self.done_after = now - self.started


def search(
    network: Network, address: Address, info_hash: bytes, announce_port: int | None = None
) -> Found:
    """Begin a search at a node."""
    found = Found(network)
    node_of(network, address).search(
        info_hash,
        found.on_peers,  # type: ignore[arg-type]
        network.now,
        announce_port=announce_port,
        on_done=found.on_done,
    )
    network.flush(address)
    return found
