"""The routing table: which nodes of one address family we know, many near us and few far away.

Bucket `n` holds nodes whose id has its first `n` bits in common with ours. A bucket has 8 places
(BEP 5); the first four have more, as in libtorrent, which saves a lookup a step. A node gets a
place only by *answering* us: who merely asks, or is named by others, waits among the bucket's
spares and is pinged when there is a place, so nobody gets in by writing to us.

A node that answered stays. It loses its place when it misses two answers in a row, or one if there
is a spare that answered, which then takes it. Only one whose id breaks BEP 42 gives way to one that
keeps it. Nodes not heard of for 15 minutes are asked, the silent longest first.

One host has one place in the table, and one owner (`addresses.place`) one in each bucket: so the
price of surrounding us is paid in networks, not in ports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.discovery.dht.addresses import is_ipv6, owner, place, scope
from torrentfs.discovery.dht.ids import ID_BITS, common_bits, id_with_common_bits, may_be_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from torrentfs.wire.krpc import Address, Contact

BUCKET_SIZE = 8
"""Places of a bucket: the K of BEP 5."""

LARGE_BUCKETS = (16, 8, 4, 2)
"""How many times as many the first ones have, as in libtorrent."""

MAX_SPARES = 8
"""Spares of a bucket."""

QUESTIONABLE = 15 * 60.0
"""Seconds of silence after which a node is asked again (BEP 5)."""

MAX_FAILURES = 2
"""Answers missed in a row after which a node is out; one may be lost on the way."""

SECOND_CHANCE = 5.0
"""Seconds after which a node that missed an answer is asked again."""


class _Entry:
    """A node, and what we know of it; times in seconds."""

    __slots__ = ("answered", "asked", "contact", "failures", "key", "legal", "owner", "place")

    def __init__(self, contact: Contact) -> None:
        self.contact = contact
        self.key = int.from_bytes(contact.id)
        self.owner = owner(contact.address)
        self.place = place(contact.address)
        self.legal = may_be_at(contact.id, contact.address[0])
        self.answered: float | None = None
        self.asked = float("-inf")
        self.failures = 0


class _Bucket:
    __slots__ = ("changed", "live", "size", "spares")

    def __init__(self, bits: int) -> None:
        self.size = BUCKET_SIZE * (LARGE_BUCKETS[bits] if bits < len(LARGE_BUCKETS) else 1)
        self.live: list[_Entry] = []
        self.spares: list[_Entry] = []  # heard of last: last
        self.changed = float("-inf")


class RoutingTable:
    """Nodes of one family around `own_id`."""

    def __init__(self, own_id: bytes, *, ipv6: bool) -> None:
        self.own_id = own_id
        self.ipv6 = ipv6
        self._buckets: dict[int, _Bucket] = {}
        self._owners: dict[object, _Entry] = {}

    # -- what was learned ---------------------------------------------------------------------

    def on_heard(self, contact: Contact) -> None:
        """A node asked us, or was named, or is remembered: it may get a place once it answers."""
        known = self._known(contact)
        if known is not None or not self._is_possible(contact):
            return
        bucket = self._bucket(contact)
        if not self._is_distinct(bucket, contact):
            return
        if len(bucket.spares) >= MAX_SPARES:
            # those that answered once are worth more than a name
            unproved = next((spare for spare in bucket.spares if spare.answered is None), None)
            if unproved is None:
                return
            self._drop(bucket.spares, unproved)
        self._keep(bucket.spares, _Entry(contact))

    def on_answer(self, contact: Contact, now: float) -> None:
        """A node answered us, from this address."""
        entry = self._known(contact)
        if entry is None:
            stale = self._owners.get(owner(contact.address))
            if stale is not None and stale.contact.address == contact.address:
                self._forget(stale)  # the same node with a new id
            if not self._is_possible(contact):
                return
            entry = _Entry(contact)
        entry.answered = now
        entry.failures = 0
        bucket = self._bucket(contact)
        bucket.changed = now
        if entry in bucket.live:
            return
        self._settle(bucket, entry)

    def _settle(self, bucket: _Bucket, entry: _Entry) -> None:
        """Give an entry that answered a place, or keep it as a spare."""
        if entry in bucket.spares:
            self._drop(bucket.spares, entry)
        if not self._is_distinct(bucket, entry.contact):
            return
        if len(bucket.live) >= bucket.size:
            loser = self._weakest(bucket)
            if loser is None or (loser.failures == 0 and not entry.legal):
                if len(bucket.spares) >= MAX_SPARES:
                    self._drop(bucket.spares, bucket.spares[0])
                self._keep(bucket.spares, entry)
                return
            self._drop(bucket.live, loser)
        self._keep(bucket.live, entry)

    def _weakest(self, bucket: _Bucket) -> _Entry | None:
        """Who would give way: one that failed, or one whose id BEP 42 forbids."""
        worst = max(bucket.live, key=lambda entry: (entry.failures, not entry.legal))
        return worst if worst.failures or not worst.legal else None

    def on_silence(self, address: Address) -> None:
        """The node at this address did not answer."""
        entry = self._owners.get(owner(address))
        if entry is None or entry.contact.address != address:
            return
        bucket = self._bucket(entry.contact)
        entry.failures += 1
        if entry in bucket.spares:
            self._drop(bucket.spares, entry)
            return
        proved = [spare for spare in bucket.spares if spare.answered is not None]
        if proved:
            self._drop(bucket.live, entry)
            self._settle(bucket, proved[-1])
        elif entry.failures >= MAX_FAILURES:
            self._drop(bucket.live, entry)

    def _known(self, contact: Contact) -> _Entry | None:
        entry = self._owners.get(owner(contact.address))
        return entry if entry is not None and entry.contact == contact else None

    def _is_possible(self, contact: Contact) -> bool:
        return (
            contact.id != self.own_id
            and bool(scope(contact.address[0]))
            and is_ipv6(contact.address) is self.ipv6
            and owner(contact.address) not in self._owners
        )

    def _is_distinct(self, bucket: _Bucket, contact: Contact) -> bool:
        """Whether it is nobody's neighbour in this bucket."""
        where = place(contact.address)
        return not any(
            where == entry.place or contact.id == entry.contact.id
            for entry in (*bucket.live, *bucket.spares)
        )

    def _bucket(self, contact: Contact) -> _Bucket:
        bits = min(common_bits(contact.id, self.own_id), ID_BITS - 1)
        bucket = self._buckets.get(bits)
        if bucket is None:
            bucket = self._buckets[bits] = _Bucket(bits)
        return bucket

    def _keep(self, group: list[_Entry], entry: _Entry) -> None:
        group.append(entry)
        self._owners[entry.owner] = entry

    def _drop(self, group: list[_Entry], entry: _Entry) -> None:
        group.remove(entry)
        del self._owners[entry.owner]

    def _forget(self, entry: _Entry) -> None:
        bucket = self._bucket(entry.contact)
        self._drop(bucket.live if entry in bucket.live else bucket.spares, entry)

    # -- what is asked of it ------------------------------------------------------------------

    def closest(self, target: bytes, count: int = BUCKET_SIZE) -> list[Contact]:
        """The nodes with a place that are closest to `target`, the closest first.

        One that missed its last answer is named only when there are not enough others.
        """
        good: list[Contact] = []
        poor: list[Contact] = []
        key = int.from_bytes(target)
        for group in self._groups(common_bits(target, self.own_id)):
            if len(good) >= count:
                break
            group.sort(key=lambda entry: entry.key ^ key)
            for entry in group:
                (poor if entry.failures else good).append(entry.contact)
        return [*good, *poor][:count]

    def _groups(self, bits: int) -> Iterator[list[_Entry]]:
        """All entries with a place, in groups each of which is closer to a target than the next.

        The target has `bits` bits in common with us: closest are those in the same bucket, then
        all that are closer to us, then bucket by bucket those farther away.
        """
        at = min(bits, ID_BITS - 1)
        yield list(self._live(at))
        yield [entry for n in self._buckets if n > at for entry in self._live(n)]
        for n in sorted((n for n in self._buckets if n < at), reverse=True):
            yield list(self._live(n))

    def _live(self, bits: int) -> list[_Entry]:
        bucket = self._buckets.get(bits)
        return bucket.live if bucket is not None else []

    def next_to_ask(self, now: float) -> Contact | None:
        """Whom to ping now: a spare for a free place, or the node that was silent longest."""
        silent: _Entry | None = None
        longest = now
        for bits in sorted(self._buckets, reverse=True):  # the buckets near us matter most
            bucket = self._buckets[bits]
            if len(bucket.live) < bucket.size:
                for spare in reversed(bucket.spares):
                    if spare.asked + QUESTIONABLE <= now:
                        spare.asked = now
                        return spare.contact
            for entry in bucket.live:
                last = max(entry.answered or 0.0, entry.asked)
                rest = SECOND_CHANCE if entry.failures else QUESTIONABLE
                if last + rest <= now and last < longest:
                    silent, longest = entry, last
        if silent is None:
            return None
        silent.asked = now
        return silent.contact

    def target_to_refresh(self, now: float, rng: Random) -> bytes | None:
        """An id to look for, in a bucket where nothing has answered for 15 minutes; else None.

        Each bucket is named once in that time. The farthest buckets that are needed are those up
        to the deepest that has a node.
        """
        deepest = max((n for n, bucket in self._buckets.items() if bucket.live), default=-1)
        for bits in range(min(deepest + 1, ID_BITS)):
            bucket = self._buckets.get(bits)
            if bucket is None:
                bucket = self._buckets[bits] = _Bucket(bits)
            if bucket.changed + QUESTIONABLE <= now:
                bucket.changed = now
                return id_with_common_bits(self.own_id, bits, rng)
        return None

    def contacts(self) -> list[Contact]:
        """All nodes with a place, those that answered last first."""
        entries = [entry for bits in self._buckets for entry in self._live(bits)]
        entries.sort(key=lambda entry: -(entry.answered or 0.0))
        return [entry.contact for entry in entries]

    def moved(self, own_id: bytes) -> RoutingTable:
        """The same nodes around another id of ours."""
        table = RoutingTable(own_id, ipv6=self.ipv6)
        for bucket in self._buckets.values():
            for entry in bucket.live:
                if entry.contact.id != own_id and entry.answered is not None:
                    table.on_answer(entry.contact, entry.answered)
        return table

    @property
    def spares(self) -> int:
        """Nodes without a place."""
        return sum(len(bucket.spares) for bucket in self._buckets.values())

    def __len__(self) -> int:
        return sum(len(bucket.live) for bucket in self._buckets.values())

    def __repr__(self) -> str:
        family = "IPv6" if self.ipv6 else "IPv4"
        return f"<RoutingTable {family} {len(self)} nodes, {self.spares} spares>"
