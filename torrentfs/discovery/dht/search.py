"""A search: a lookup in each address family for one target, and what is done with its findings.

A search for peers (`get_peers`) tells them as they come and, if it is to announce us, gives our
port to the nodes closest to the info-hash at its end; one for an item (`get`) tells each that is
found, genuine or not, and may put one at the closest nodes at its end (`put`), for an item is
forgotten that nobody puts again (BEP 44); one for nodes (`find_node`) only fills the routing
tables. The two families are separate tables (BEP 32), but each answers with nodes of the other too
if it is asked (`want`), which helps the lookup there on its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torrentfs.discovery.dht.addresses import may_name
from torrentfs.wire.krpc import AnnouncePeer, FindNode, GetItem, GetPeers, PutItem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torrentfs.discovery.dht.lookup import Lookup
    from torrentfs.wire.krpc import Address, Call, Item, Response, Want

    OnPeers = Callable[[Sequence[Address]], None]

MAX_FOUND = 2000
"""Peers told by one search: as many as a peer book has room for."""


class Asker(Protocol):
    """Sends a question; False when there are too many already."""

    def ask(
        self,
        address: Address,
        call: Call,
        now: float,
        *,
        on_answer: Callable[[Response, float], None],
        on_lost: Callable[[float], None],
        on_slow: Callable[[float], None] | None = None,
    ) -> bool: ...


class Search:
    """One search; `lookups` by whether they are IPv6."""

    def __init__(
        self,
        target: bytes,
        asker: Asker,
        *,
        on_peers: OnPeers | None = None,
        on_item: Callable[[Item], None] | None = None,
        on_done: Callable[[Search, float], None] | None = None,
        announce_port: int | None = None,
        to_put: Callable[[], Item | None] | None = None,
    ) -> None:
        """`to_put` is asked at the end of each lookup; its item must be one of `target`."""
        self.target = target
        self.found: set[Address] = set()
        self.is_over = False
        self.announced = 0
        """Nodes that were told of us."""
        self.put = 0
        """Nodes that took the item."""
        self.lookups: Mapping[bool, Lookup] = {}
        self._asker = asker
        self._on_peers = on_peers
        self._on_item = on_item
        self._on_done = on_done
        self._announce_port = announce_port
        self._to_put = to_put
        self._open: set[bool] = set()

    @property
    def questions(self) -> int:
        """Nodes asked in all."""
        return sum(lookup.questions for lookup in self.lookups.values())

    @property
    def answers(self) -> int:
        """Nodes that answered."""
        return sum(lookup.answers for lookup in self.lookups.values())

    def start(self, lookups: Mapping[bool, Lookup], now: float) -> None:
        """Begin with these lookups; with none of them it is over at once."""
        self.lookups = lookups
        self._open = set(lookups)
        for ipv6 in lookups:
            self._advance(ipv6, now)
        self._check_over(now)

    def cancel(self) -> None:
        """Ask and tell nothing any more."""
        self._open.clear()
        self._on_peers = self._on_item = self._on_done = self._to_put = None
        self.is_over = True

    def _advance(self, ipv6: bool, now: float) -> None:
        """Ask whom the lookup wants; at its end, announce or put."""
        if ipv6 not in self._open:
            return
        lookup = self.lookups[ipv6]
        while questions := lookup.next_questions():
            for address in questions:
                if not self._ask(ipv6, address, now):
                    lookup.on_silence(address)
        if lookup.is_done:
            self._open.discard(ipv6)
            if self._announce_port is not None:
                for contact, token in lookup.closest():
                    self._announce(contact.address, token, self._announce_port, now)
            item = self._to_put() if self._to_put is not None else None
            if item is not None:
                for contact, token in lookup.closest():
                    self._put(contact.address, token, item, now)

    def _ask(self, ipv6: bool, address: Address, now: float) -> bool:
        lookup = self.lookups[ipv6]
        want: tuple[Want, ...] = ("n4", "n6") if len(self.lookups) > 1 else ()

        def on_answer(response: Response, now: float) -> None:
            self._on_answer(ipv6, address, response, now)

        def on_slow(now: float) -> None:
            lookup.on_slow(address)
            self._go_on(ipv6, now)

        def on_lost(now: float) -> None:
            lookup.on_silence(address)
            self._go_on(ipv6, now)

        call: Call = FindNode(self.target, want)
        if self._on_peers is not None:
            call = GetPeers(self.target, want)
        elif self._on_item is not None:
            call = GetItem(self.target, want)
        return self._asker.ask(
            address, call, now, on_answer=on_answer, on_slow=on_slow, on_lost=on_lost
        )

    def _on_answer(self, ipv6: bool, address: Address, response: Response, now: float) -> None:
        named = (*(response.nodes or ()), *(response.nodes6 or ()))
        self.lookups[ipv6].on_answer(address, response.id, named, response.token)
        other = self.lookups.get(not ipv6)
        if other is not None:
            other.add_named(named, address[0])
        if response.item is not None and self._on_item is not None:
            self._on_item(response.item)
        if response.peers:
            self._tell(response.peers, address[0])
        self._go_on(ipv6, now)

    def _tell(self, peers: Sequence[Address], by: str) -> None:
        new = [p for p in peers if p not in self.found and may_name(by, p[0])]
        new = new[: MAX_FOUND - len(self.found)]
        self.found.update(new)
        if new and self._on_peers is not None:
            self._on_peers(new)

    def _announce(self, address: Address, token: bytes, port: int, now: float) -> None:
        def on_answer(response: Response, now: float) -> None:
            self.announced += 1

        call = AnnouncePeer(self.target, port, token)
        self._asker.ask(address, call, now, on_answer=on_answer, on_lost=lambda now: None)

    def _put(self, address: Address, token: bytes, item: Item, now: float) -> None:
        def on_answer(response: Response, now: float) -> None:
            self.put += 1

        call = PutItem(item, token)
        self._asker.ask(address, call, now, on_answer=on_answer, on_lost=lambda now: None)

    def _go_on(self, ipv6: bool, now: float) -> None:
        if self.is_over:
            return
        self._advance(ipv6, now)
        self._advance(not ipv6, now)
        self._check_over(now)

    def _check_over(self, now: float) -> None:
        if not self._open and not self.is_over:
            self.is_over = True
            if self._on_done is not None:
                self._on_done(self, now)

    def __repr__(self) -> str:
        return f"<Search {self.target.hex()[:8]} {self.answers} answers, {len(self.found)} peers>"
