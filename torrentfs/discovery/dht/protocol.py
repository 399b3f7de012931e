"""A node of the DHT without its socket: datagrams in, datagrams out, time as an argument.

    protocol.receive(data, sender, now)     a datagram came
    protocol.on_time(now)                   `next_time()` has come
    protocol.take_datagrams()               what to send, after each of these

One node serves all torrents. Each address family has a routing table, and an id, of its own (BEP
32, 42); the id is random until other nodes agree on our address, then one that BEP 42 allows there.

Only what was asked for is believed: a response must fit a question (`calls`), and puts its sender
into the table. Silence counts against a node only if somebody else answered meanwhile; otherwise
it is our own line that is dead. The upkeep pings spares and silent nodes, one at a time, looks for
nodes in buckets that went quiet, and for the neighbours of our own id until there are enough.

A read-only node (BEP 43) asks and does not answer, so others do not keep it in their tables.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from torrentfs.discovery.dht.addresses import UNUSABLE, is_ipv6, scope
from torrentfs.discovery.dht.answers import VERSION, Answers
from torrentfs.discovery.dht.calls import Calls, Waiting
from torrentfs.discovery.dht.ids import distance, id_for, may_be_at, random_id
from torrentfs.discovery.dht.lookup import Lookup
from torrentfs.discovery.dht.own_address import OwnAddress
from torrentfs.discovery.dht.routing import BUCKET_SIZE, RoutingTable
from torrentfs.discovery.dht.search import Search
from torrentfs.errors import RemoteProtocolError
from torrentfs.wire.krpc import (
    BadQuery,
    Contact,
    Failure,
    Ping,
    Query,
    Response,
    encode_message,
    parse_message,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from random import Random

    from torrentfs.discovery.dht.search import OnPeers
    from torrentfs.wire.krpc import Address, Call, Item

log = logging.getLogger(__name__)

UPKEEP = 2.0
"""Seconds between two looks at the tables, each of which pings one node at most."""

FIRST_BOOTSTRAP, LONGEST_BOOTSTRAP = 5.0, 300.0
"""Seconds until a table that is nearly empty is tried to be filled again; doubles each time."""

EXPIRY = 300.0
"""Seconds between two sweeps of the peers that were announced to us."""

MAX_SEARCHES = 12
"""At once; others wait for their turn."""

MAX_WAITING = 4000
"""Searches that wait for their turn."""

MAX_ROUTERS = 16
MAX_REMEMBERED = 200
"""Nodes of a former run, of each family."""

MAX_KEPT = 100
"""Nodes of each family for the next run."""

MAX_LOCAL = 100
"""Peers of a search that were announced to ourselves, of each family."""

STARTING_POINTS = 16
"""Nodes that a lookup begins with, where the closest ones are not proved."""


class Dht:
    """One node. `rng` must be unpredictable; `families` says IPv6 or not of each socket; who
    is at an IP address that `blocks` does not exist for it."""

    def __init__(
        self,
        *,
        rng: Random,
        now: float,
        families: Iterable[bool] = (False, True),
        read_only: bool = False,
        blocks: Callable[[str], bool] | None = None,
    ) -> None:
        self.tables: dict[bool, RoutingTable] = {
            ipv6: RoutingTable(random_id(rng), ipv6=ipv6) for ipv6 in families
        }
        self.answers = Answers(self.tables, rng, now)
        self.calls = Calls(rng)
        self.read_only = read_only
        self.malformed = 0
        self.unasked = 0
        """Responses that fit no question."""
        self.own_addresses = {ipv6: OwnAddress() for ipv6 in self.tables}
        self._rng = rng
        self._blocks = blocks or (lambda host: False)
        self._outgoing: list[tuple[bytes, Address]] = []
        self._searches: set[Search] = set()
        self._waiting: deque[tuple[Search, list[Address]]] = deque()
        self._routers: list[Address] = []
        self._remembered: dict[bool, list[Contact]] = {ipv6: [] for ipv6 in self.tables}
        self._last_answer = float("-inf")
        self._upkeep_at = now
        self._bootstrap_at = dict.fromkeys(self.tables, now)
        self._bootstrapped = dict.fromkeys(self.tables, False)  # around the present id
        self._bootstrap_pause = dict.fromkeys(self.tables, FIRST_BOOTSTRAP)
        self._expire_at = now + EXPIRY

    # -- what we are told by our own side -----------------------------------------------------

    def add_routers(self, addresses: Iterable[Address], now: float) -> None:
        """Nodes to begin with, whose ids are not known (`--dht-bootstrap`)."""
        new = [a for a in addresses if self._is_askable(a) and a not in self._routers]
        self._routers += new[: MAX_ROUTERS - len(self._routers)]
        for ipv6 in {is_ipv6(address) for address in new}:
            self._bootstrap_at[ipv6] = self._upkeep_at = now

    def remember(self, contacts: Iterable[Contact], now: float) -> None:
        """Nodes of a former run: they are asked, and believed once they answer."""
        for contact in contacts:
            if not self._is_askable(contact.address):
                continue
            ipv6 = is_ipv6(contact.address)
            if len(self._remembered[ipv6]) < MAX_REMEMBERED:
                self._remembered[ipv6].append(contact)
                self._bootstrap_at[ipv6] = self._upkeep_at = now

    @property
    def own_ids(self) -> dict[bool, bytes]:
        """Our ids, by whether they are for IPv6."""
        return {ipv6: table.own_id for ipv6, table in self.tables.items()}

    def take_ids(self, ids: Mapping[bool, bytes]) -> None:
        """Be who we were in a former run, until BEP 42 wants another id (`_on_seen_as`)."""
        for ipv6, own_id in ids.items():
            if ipv6 in self.tables:
                self.tables[ipv6] = self.tables[ipv6].moved(own_id)

    def ping(self, address: Address, now: float) -> None:
        """Ask whether there is a node (a peer's PORT message, a torrent's `nodes`)."""
        if self._is_askable(address):
            self.ask(
                address,
                Ping(),
                now,
                on_answer=lambda response, now: None,
                on_lost=lambda now: None,
            )

    def search(
        self,
        info_hash: bytes,
        on_peers: OnPeers,
        now: float,
        *,
        announce_port: int | None = None,
        on_done: Callable[[Search, float], None] | None = None,
        routers: Iterable[Address] = (),
        urgent: bool = False,
    ) -> Search:
        """Look for the peers of a torrent, and announce us at `announce_port` unless None.

        An urgent search goes before those that wait; `routers` are asked if need be, for it alone.
        """
        search = Search(
            info_hash, self, on_peers=on_peers, on_done=on_done, announce_port=announce_port
        )
        for ipv6 in self.tables:  # what was announced to us is no farther than what others know
            peers = self.answers.storage.sample(info_hash, MAX_LOCAL, ipv6=ipv6, now=now)
            if peers:
                on_peers(peers)
        self._enqueue(search, routers, now, urgent=urgent)
        return search

    def search_item(
        self,
        target: bytes,
        on_item: Callable[[Item], None],
        now: float,
        *,
        on_done: Callable[[Search, float], None] | None = None,
        to_put: Callable[[], Item | None] | None = None,
    ) -> Search:
        """Look for an item (BEP 44); each that is found is told, whether it is genuine or not.

        What `to_put` gives at the end is put at the nodes closest to `target`.
        """
        search = Search(target, self, on_item=on_item, on_done=on_done, to_put=to_put)
        kept = self.answers.items.get(target, now)
        if kept is not None:
            on_item(kept)
        self._enqueue(search, (), now, urgent=True)
        return search

    def _enqueue(
        self, search: Search, routers: Iterable[Address], now: float, *, urgent: bool
    ) -> None:
        more = [router for router in routers if self._is_askable(router)]
        if urgent:
            self._waiting.appendleft((search, more))
        else:
            self._waiting.append((search, more))
        if len(self._waiting) > MAX_WAITING:
            last, _ = self._waiting.pop()
            last.start({}, now)
        self._start_searches(now)

    def contacts(self) -> list[Contact]:
        """Nodes worth remembering for the next run."""
        return [
            contact for table in self.tables.values() for contact in table.contacts()[:MAX_KEPT]
        ]

    @property
    def nodes(self) -> int:
        """Nodes in the tables."""
        return sum(map(len, self.tables.values()))

    @property
    def searching(self) -> int:
        """Searches under way or waiting."""
        return len(self._searches) + len(self._waiting)

    # -- datagrams and time -------------------------------------------------------------------

    def receive(self, data: bytes, sender: Address, now: float) -> None:
        """A datagram came from this address."""
        if self._blocks(sender[0]):
            return
        try:
            message = parse_message(data)
        except BadQuery as bad:
            self.malformed += 1
            if not self.read_only:
                self._send(self.answers.refuse(bad, sender, now), sender)
            return
        except RemoteProtocolError as error:
            self.malformed += 1
            log.debug("dropped a datagram of %s:%d: %s", *sender, error)
            return
        if isinstance(message, Query):
            self._on_query(message, sender, now)
        else:
            self._on_reply(message, sender, now)
        self._start_searches(now)

    def on_time(self, now: float) -> None:
        """Do what is due."""
        for waiting, lost in self.calls.overdue(now):
            if lost:
                self._on_lost(waiting, now)
            elif waiting.on_slow is not None:
                waiting.on_slow(now)
        if self._upkeep_at <= now:
            self._upkeep_at = now + UPKEEP
            for ipv6 in self.tables:
                self._keep_up(ipv6, now)
        if self._expire_at <= now:
            self._expire_at = now + EXPIRY
            self.answers.storage.expire(now)
            self.answers.items.expire(now)
        self._start_searches(now)

    def next_time(self) -> float:
        """When `on_time` has something to do."""
        return min(self.calls.next_time(), self._upkeep_at, self._expire_at)

    def take_datagrams(self) -> list[tuple[bytes, Address]]:
        """What is to be sent now, and where to."""
        taken, self._outgoing = self._outgoing, []
        return taken

    def _send(self, datagram: bytes | None, address: Address) -> None:
        if datagram is not None:
            self._outgoing.append((datagram, address))

    # -- questions of others ------------------------------------------------------------------

    def _on_query(self, query: Query, sender: Address, now: float) -> None:
        if self.read_only:
            return
        datagram = self.answers.answer(query, sender, now)
        if datagram is None:
            return
        self._send(datagram, sender)
        if not query.read_only:
            self.tables[is_ipv6(sender)].on_heard(Contact(query.id, sender))

    # -- our questions ------------------------------------------------------------------------

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
        """Send a question; False when there are too many already."""
        if self.calls.is_full or self._blocks(address[0]):
            return False
        transaction = self.calls.begin(Waiting(address, now, on_answer, on_lost, on_slow))
        query = Query(
            transaction,
            self.tables[is_ipv6(address)].own_id,
            call,
            read_only=self.read_only,
            version=VERSION,
        )
        self._send(encode_message(query), address)
        return True

    def _is_askable(self, address: Address) -> bool:
        return (
            0 < address[1] < 65536
            and scope(address[0]) != UNUSABLE
            and is_ipv6(address) in self.tables
        )

    def _on_reply(self, reply: Response | Failure, sender: Address, now: float) -> None:
        waiting = self.calls.end(reply.transaction, sender, now)
        if waiting is None:
            self.unasked += 1
            return
        self._last_answer = now
        if isinstance(reply, Failure):
            log.debug("%s:%d refused: %d %s", *sender, reply.code, reply.words)
            waiting.on_lost(now)
            return
        ipv6 = is_ipv6(sender)
        table = self.tables[ipv6]
        if not len(table):
            self._bootstrap_at[ipv6] = min(self._bootstrap_at[ipv6], now + UPKEEP)
        if sender not in self._routers or len(table) < BUCKET_SIZE:
            # public routers have millions of beginners: no need to ask them for good
            table.on_answer(Contact(reply.id, sender), now)
        if reply.seen_as is not None and is_ipv6(reply.seen_as) is ipv6:
            self._on_seen_as(reply.seen_as[0], sender, now)
        waiting.on_answer(reply, now)

    def _on_lost(self, waiting: Waiting, now: float) -> None:
        if self._last_answer > waiting.since:
            self.tables[is_ipv6(waiting.address)].on_silence(waiting.address)
        waiting.on_lost(now)

    def _on_seen_as(self, host: str, by: Address, now: float) -> None:
        """BEP 42: take an id that belongs to our address, once we know it."""
        ipv6 = is_ipv6(by)
        if not self.own_addresses[ipv6].on_told(host, by):
            return
        table = self.tables[ipv6]
        if may_be_at(table.own_id, host):
            return
        log.debug("other nodes see us at %s: taking an id for it", host)
        self.tables[ipv6] = table.moved(id_for(host, self._rng))
        self._bootstrapped[ipv6] = False
        self._bootstrap_at[ipv6] = self._upkeep_at = now

    # -- searches -----------------------------------------------------------------------------

    def _start_searches(self, now: float) -> None:
        self._searches = {search for search in self._searches if not search.is_over}
        while self._waiting and len(self._searches) < MAX_SEARCHES:
            search, routers = self._waiting.popleft()
            if search.is_over:  # cancelled while it waited
                continue
            lookups = {ipv6: self._lookup(search.target, ipv6, routers) for ipv6 in self.tables}
            search.start(lookups, now)
            if not search.is_over:
                self._searches.add(search)

    def _lookup(self, target: bytes, ipv6: bool, routers: Iterable[Address] = ()) -> Lookup:
        table = self.tables[ipv6]
        start = table.closest(target, STARTING_POINTS)
        if len(start) < BUCKET_SIZE:
            remembered = sorted(self._remembered[ipv6], key=lambda c: distance(c.id, target))
            start += remembered[:STARTING_POINTS]
        return Lookup(
            target, start, ipv6=ipv6, routers=[*routers, *self._routers], own_id=table.own_id
        )

    def _look_for_nodes(self, target: bytes, ipv6: bool, now: float) -> None:
        search = Search(target, self)
        self._searches.add(search)
        search.start({ipv6: self._lookup(target, ipv6)}, now)

    def _keep_up(self, ipv6: bool, now: float) -> None:
        table = self.tables[ipv6]
        if len(table) >= BUCKET_SIZE and self._bootstrapped[ipv6]:
            self._bootstrap_at[ipv6] = float("inf")
            self._bootstrap_pause[ipv6] = FIRST_BOOTSTRAP
        elif self._bootstrap_at[ipv6] == float("inf"):
            self._bootstrap_at[ipv6] = now + self._bootstrap_pause[ipv6]
        if self._bootstrap_at[ipv6] <= now:
            self._look_for_nodes(table.own_id, ipv6, now)
            self._bootstrapped[ipv6] = True
            pause = self._bootstrap_pause[ipv6]
            self._bootstrap_at[ipv6] = now + pause
            self._bootstrap_pause[ipv6] = min(2 * pause, LONGEST_BOOTSTRAP)
        contact = table.next_to_ask(now)
        if contact is not None:
            self.ping(contact.address, now)
        target = table.target_to_refresh(now, self._rng)
        if target is not None and len(self._searches) < MAX_SEARCHES:
            self._look_for_nodes(target, ipv6, now)

    def __repr__(self) -> str:
        return f"<Dht {self.tables} {self.searching} searches>"
