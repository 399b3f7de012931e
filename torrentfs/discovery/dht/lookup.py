"""An iterative lookup: from the nodes we know to the nodes closest to a target (BEP 5).

The closest candidates that were not asked yet are asked, `ALPHA` at a time; each answers with nodes
closer to the target. It is over when the `CLOSEST` nearest that are not silent have answered.

Dead nodes are the rule, not the exception, and each would cost its time-out. So a question that
takes longer than answers usually do counts as *slow*: another is asked in its stead, and nobody
waits for it any more; if its answer comes after all, it is used (as libtorrent does).

A liar can name eight nodes nearer to the target than any real one can be. If they do not exist,
they cost us their silence; if they do, they are all his. So only one node of a host and `PER_PLACE`
of a network are candidates, one answer adds at most `PER_ANSWER`, and the whole lookup asks
`MAX_QUESTIONS` at most. Nodes whose id BEP 42 forbids, which are free to be wherever they like, are
looked up beside the others, in a count of their own: a gang of them hides nobody from us.
`addresses.may_name` keeps strangers from naming our neighbours.

Routers (bootstrap nodes, whose id is not known) are asked when there are too few candidates, or
they seem to be dead; one that answers is a node like any other.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING

from torrentfs.discovery.dht.addresses import is_ipv6, may_name, owner, place, scope
from torrentfs.discovery.dht.ids import distance, may_be_at
from torrentfs.discovery.dht.routing import BUCKET_SIZE
from torrentfs.wire.krpc import Contact

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torrentfs.wire.krpc import Address

ALPHA = 4
"""Questions at once. The paper has 3, libtorrent 5."""

CLOSEST = BUCKET_SIZE
"""Nodes that have to answer, and that are told of a peer."""

PER_PLACE = 2
"""Candidates of one network (/24, /64)."""

PER_ANSWER = 8
"""Candidates taken from one answer: as many as BEP 5 says."""

MAX_CANDIDATES = 200
"""Kept at once, the closest."""

MAX_QUESTIONS = 120
"""In one lookup; one in the real DHT takes 20 to 50."""

ROUTER_TRIES = 3
"""How often a router is asked that does not answer, while nobody else does: there may be only one,
and a datagram gets lost now and then."""

MAX_ILLEGAL = 40
"""Of these, to nodes whose id BEP 42 forbids."""


class _State(Enum):
    FRESH = "not asked yet"
    ASKED = "asked"
    SLOW = "late with its answer"
    ANSWERED = "answered"
    SILENT = "did not answer"


class _Candidate:
    __slots__ = ("contact", "distance", "legal", "state", "token")

    def __init__(self, contact: Contact, target: bytes) -> None:
        self.contact = contact
        self.distance = distance(contact.id, target)
        self.state = _State.FRESH
        self.token: bytes | None = None
        self.legal = may_be_at(contact.id, contact.address[0])

    def __lt__(self, other: _Candidate) -> bool:
        return self.distance < other.distance


class Lookup:
    """One lookup in one address family; the caller sends, and tells what became of it."""

    def __init__(
        self,
        target: bytes,
        start: Iterable[Contact],
        *,
        ipv6: bool,
        routers: Iterable[Address] = (),
        own_id: bytes = b"",
    ) -> None:
        self.target = target
        self.questions = 0
        """How many nodes were asked, routers included."""
        self.answers = 0
        self._ipv6 = ipv6
        self._own_id = own_id
        self._candidates: list[_Candidate] = []
        self._by_address: dict[Address, _Candidate] = {}
        self._owners: set[object] = set()
        self._places: Counter[object] = Counter()
        self._routers = list(dict.fromkeys(router for router in routers if is_ipv6(router) is ipv6))
        self._routers_asked: set[Address] = set()
        self._late_routers: set[Address] = set()
        self._router_tries: Counter[Address] = Counter()
        self._in_flight = 0
        self._illegal = 0
        self._disappointments = 0
        for contact in start:
            self._add(contact)

    # -- what to do ---------------------------------------------------------------------------

    def next_questions(self) -> list[Address]:
        """Whom to ask now; they count as asked."""
        chosen = self._ask_candidates()
        if self._routers and (
            len(self._candidates) < CLOSEST
            or (self._disappointments and not self.answers)
            or (not self._in_flight and self.answers < CLOSEST)
        ):
            chosen += self._next_routers()
        return chosen

    def _ask_candidates(self) -> list[Address]:
        chosen: list[Address] = []
        near = {True: 0, False: 0}  # of those with a legal id and of those without
        under_way = {legal: self._count(_State.ASKED, legal) for legal in near}
        places = {True: ALPHA, False: ALPHA // 2 if self._count(_State.FRESH, True) else ALPHA}
        for candidate in self._candidates:
            legal = candidate.legal
            if candidate.state is _State.FRESH and (
                near[legal] < CLOSEST
                and under_way[legal] < places[legal]
                and self.questions < MAX_QUESTIONS
                and (legal or self._illegal < MAX_ILLEGAL)
            ):
                candidate.state = _State.ASKED
                under_way[legal] += 1
                self._in_flight += 1
                self._illegal += not legal
                self.questions += 1
                chosen.append(candidate.contact.address)
            near[legal] += candidate.state in (_State.ASKED, _State.ANSWERED)
            if near[True] >= CLOSEST:
                break
        return chosen

    def _count(self, state: _State, legal: bool) -> int:
        return sum(c.state is state and c.legal is legal for c in self._candidates)

    def _next_routers(self) -> list[Address]:
        chosen = [router for router in self._routers if router not in self._by_address]
        self._routers = []
        self._routers_asked.update(chosen)
        self._router_tries.update(chosen)
        self.questions += len(chosen)
        self._in_flight += len(chosen)
        return chosen

    @property
    def is_done(self) -> bool:
        """Whether nothing more will be asked, and nothing in time is waited for.

        To be asked after `next_questions` had its turn.
        """
        return self._in_flight == 0

    def closest(self) -> list[tuple[Contact, bytes]]:
        """The closest nodes that answered with a token, and their tokens."""
        found: list[tuple[Contact, bytes]] = []
        near = {True: 0, False: 0}
        for candidate in self._candidates:
            if candidate.state is _State.ANSWERED and near[candidate.legal] < CLOSEST:
                near[candidate.legal] += 1
                if candidate.token is not None:
                    found.append((candidate.contact, candidate.token))
            if near[True] >= CLOSEST:
                break
        return found

    # -- what became of it --------------------------------------------------------------------

    def on_answer(
        self, address: Address, node: bytes, nodes: Iterable[Contact], token: bytes | None
    ) -> None:
        """A node that was asked answered, in time or late."""
        if not self._end(address, _State.ANSWERED):
            return
        self.answers += 1
        if address not in self._by_address:  # a router: by now we know where it is
            self._add(Contact(node, address), _State.ANSWERED)
        candidate = self._by_address.get(address)
        if candidate is not None:
            candidate.token = token
            if candidate.contact.id != node:  # not who we were told: it counts where it is
                self._candidates.remove(candidate)
                candidate.contact = Contact(node, address)
                candidate.distance = distance(node, self.target)
                candidate.legal = may_be_at(node, address[0])
                insort(self._candidates, candidate)
        self.add_named(nodes, address[0])

    def add_named(self, nodes: Iterable[Contact], by: str) -> None:
        """Nodes of our family that the host `by` named."""
        named = [contact for contact in nodes if is_ipv6(contact.address) is self._ipv6]
        for contact in named[:PER_ANSWER]:
            if may_name(by, contact.address[0]):
                self._add(contact)

    def on_slow(self, address: Address) -> None:
        """A node takes long: go on without it."""
        self._end(address, _State.SLOW)

    def on_silence(self, address: Address) -> None:
        """A node will not answer any more, or refused to."""
        self._end(address, _State.SILENT)

    def _end(self, address: Address, state: _State) -> bool:
        """A question ends, or becomes slow; False when this was known already."""
        if address in self._routers_asked:
            self._in_flight -= 1
            self._routers_asked.discard(address)
            if state is not _State.SLOW:
                return True
            self._late_routers.add(address)
            if not self.answers and self._router_tries[address] < ROUTER_TRIES:
                self._routers.append(address)
            return False
        if address in self._late_routers:
            self._late_routers.discard(address)
            return True
        candidate = self._by_address.get(address)
        if candidate is None or candidate.state not in (_State.ASKED, _State.SLOW):
            return False
        self._in_flight -= candidate.state is _State.ASKED
        self._disappointments += state is not _State.ANSWERED
        candidate.state = state
        return True

    def _add(self, contact: Contact, state: _State = _State.FRESH) -> None:
        address = contact.address
        if (
            contact.id == self._own_id
            or is_ipv6(address) is not self._ipv6
            or not scope(address[0])
            or owner(address) in self._owners
            or self._places[place(address)] >= PER_PLACE
        ):
            return
        candidate = _Candidate(contact, self.target)
        candidate.state = state
        if len(self._candidates) >= MAX_CANDIDATES and not self._drop_farthest(candidate):
            return
        self._owners.add(owner(address))
        self._places[place(address)] += 1
        self._by_address[address] = candidate
        insort(self._candidates, candidate)

    def _drop_farthest(self, than: _Candidate) -> bool:
        """Make room by the farthest one not asked yet, if it is farther than `than`."""
        for at in range(len(self._candidates) - 1, -1, -1):
            farthest = self._candidates[at]
            if farthest < than:
                return False
            if farthest.state in (_State.FRESH, _State.SILENT):
                del self._candidates[at]
                del self._by_address[farthest.contact.address]
                return True
        return False

    def __repr__(self) -> str:
        return (
            f"<Lookup {self.target.hex()[:8]} {self.answers} of {self.questions} answered, "
            f"{len(self._candidates)} candidates>"
        )
