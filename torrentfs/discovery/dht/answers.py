"""What we answer to the questions of others (BEP 5, 32, 42, 44, 51), and when we do not.

Nothing is done for somebody who asks too much (`throttle`), or whose address cannot be one. An
answer fits into one packet: 8 nodes of each family asked for, and at most `MAX_VALUES` peers, a
random choice of what we keep. A peer is kept only with a token that was given to its host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.discovery.dht.addresses import is_ipv6, owner, scope
from torrentfs.discovery.dht.items import Items, Refused, target_of
from torrentfs.discovery.dht.sampling import Sampling
from torrentfs.discovery.dht.storage import Storage
from torrentfs.discovery.dht.throttle import Throttle
from torrentfs.discovery.dht.tokens import Tokens
from torrentfs.wire.krpc import (
    METHOD_UNKNOWN,
    PROTOCOL_ERROR,
    AnnouncePeer,
    BadQuery,
    Failure,
    FindNode,
    GetItem,
    GetPeers,
    OtherCall,
    Ping,
    PutItem,
    Query,
    Response,
    SampleInfohashes,
    encode_message,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from torrentfs.discovery.dht.routing import RoutingTable
    from torrentfs.wire.krpc import Address, Contact, InfohashSample, Item, Want

MAX_VALUES = {False: 50, True: 20}
"""Peers in an answer, over IPv4 and IPv6: 400 bytes each."""

NODES_BESIDE_ITEM = 4
"""Nodes in an answer that has an item."""

VERSION = b"TF\x00\x01"


class Answers:
    """Our side of the table. `tables` are those of the protocol, by whether they are IPv6."""

    def __init__(self, tables: Mapping[bool, RoutingTable], rng: Random, now: float) -> None:
        self.storage = Storage(rng)
        self.items = Items()
        self.throttle = Throttle(now)
        self.answered = 0
        self._tables = tables
        self._tokens = Tokens(rng, now)
        self._sampling = Sampling(self.storage, rng, now)

    def answer(self, query: Query, sender: Address, now: float) -> bytes | None:
        """The datagram that answers a query; None when it gets none."""
        if not self._may_ask(sender, now):
            return None
        return self._limited(self._reply(query, sender, now), now)

    def refuse(self, bad: BadQuery, sender: Address, now: float) -> bytes | None:
        """The datagram that answers a malformed query; None when it gets none."""
        if not self._may_ask(sender, now):
            return None
        return self._limited(Failure(bad.transaction, bad.code, str(bad), VERSION), now)

    def _may_ask(self, sender: Address, now: float) -> bool:
        if not sender[1] or not scope(sender[0]) or is_ipv6(sender) not in self._tables:
            return False
        return self.throttle.may_ask(owner(sender), now)

    def _limited(self, message: Response | Failure, now: float) -> bytes | None:
        datagram = encode_message(message)
        if not self.throttle.may_answer(len(datagram), now):
            return None
        self.answered += 1
        return datagram

    def _reply(self, query: Query, sender: Address, now: float) -> Response | Failure:
        call = query.call
        ipv6 = is_ipv6(sender)
        own_id = self._tables[ipv6].own_id
        nodes: dict[bool, Sequence[Contact]] = {}
        peers: tuple[Address, ...] = ()
        token: bytes | None = None
        item: Item | None = None
        sample: InfohashSample | None = None
        match call:
            case Ping():
                pass
            case FindNode(target, want):
                nodes = self._closest(target, want, ipv6)
            case GetPeers(info_hash, want):
                nodes = self._closest(info_hash, want, ipv6)
                peers = self.storage.sample(info_hash, MAX_VALUES[ipv6], ipv6=ipv6, now=now)
                token = self._tokens.make(sender[0], info_hash, now)
            case AnnouncePeer(info_hash, port, their_token):
                if not self._tokens.is_good(their_token, sender[0], info_hash, now):
                    return Failure(query.transaction, PROTOCOL_ERROR, "bad token", VERSION)
                self.storage.add(info_hash, (sender[0], port or sender[1]), own_id, now)
            case GetItem(target, want):
                nodes = self._closest(target, want, ipv6)
                token = self._tokens.make(sender[0], target, now)
                item = self.items.get(target, now)
                if item is not None:  # which has up to 1,200 bytes itself
                    nodes = {ipv6: self._tables[ipv6].closest(target, NODES_BESIDE_ITEM)}
            case PutItem(kept, their_token):
                if not self._tokens.is_good(their_token, sender[0], target_of(kept), now):
                    return Failure(query.transaction, PROTOCOL_ERROR, "bad token", VERSION)
                try:
                    self.items.put(call, own_id, now)
                except Refused as refused:
                    return Failure(query.transaction, refused.code, str(refused), VERSION)
            case SampleInfohashes(target, want):
                nodes = self._closest(target, want, ipv6)
                sample = self._sampling.sample(now)
            case OtherCall(_, bytes(target)):
                nodes = self._closest(target, (), ipv6)
            case OtherCall():
                return Failure(query.transaction, METHOD_UNKNOWN, "method unknown", VERSION)
        return Response(
            query.transaction,
            own_id,
            nodes=tuple(nodes[False]) if False in nodes else None,
            nodes6=tuple(nodes[True]) if True in nodes else None,
            peers=peers or None,
            token=token,
            item=item,
            seen_as=sender,
            version=VERSION,
            sample=sample,
        )

    def _closest(
        self, target: bytes, want: tuple[Want, ...], ipv6: bool
    ) -> dict[bool, Sequence[Contact]]:
        families = {word == "n6" for word in want} or {ipv6}
        return {
            family: self._tables[family].closest(target)
            for family in families
            if family in self._tables
        }

    def __repr__(self) -> str:
        return f"<Answers {self.answered} given, {self.throttle.refused} refused>"
