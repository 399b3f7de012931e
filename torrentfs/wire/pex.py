"""Peer exchange (BEP 11): what a peer tells about its peers, and what it is told about ours.

    {"added": compact IPv4, "added.f": a byte of flags each, "dropped": compact IPv4,
     "added6": ..., "added6.f": ..., "dropped6": ...}

A message names who came and who went since the last one, 50 each at most, once a minute at most.
`Gossip` keeps what one peer was told, and how often it tells us.

Only addresses that somebody could reach are passed on, and those of a home's network or of the
host itself only where both ends are such (`may_be_told`): a stranger must neither learn what is
behind our router nor make us connect to it.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from torrentfs.errors import RemoteProtocolError
from torrentfs.metainfo.bencoding import decode_prefix, encode
from torrentfs.wire import messages as m
from torrentfs.wire.announce import Address, pack_peers, unpack_peers

if TYPE_CHECKING:
    from collections.abc import Mapping

ENCRYPTS, SEED, UTP, HOLEPUNCH, REACHABLE = 0x01, 0x02, 0x04, 0x08, 0x10
"""Flags: prefers encryption, downloads nothing, speaks uTP, speaks BEP 55, was dialled."""

INTERVAL = 60.0
"""Seconds between messages to one peer, at least (BEP 11)."""

MOST = 50
"""Peers added, and dropped, in one message (BEP 11)."""

MAX_TAKEN = 100
"""Peers that are taken of one message; some clients send more than they should the first time."""

MAX_BYTES = 8192
"""A message of 200 IPv6 peers has half of it."""

MAX_PUNCHABLE = 200
"""Peers remembered of one who named them as speakers of BEP 55; a message adds 50."""

PATIENCE = 0.5
"""A message after less than this part of the interval is not looked at; clocks differ."""


def read_pex(payload: memoryview) -> m.PeerExchange:
    """A message's payload; `RemoteProtocolError` when it is malformed."""
    if len(payload) > MAX_BYTES:
        raise RemoteProtocolError(f"a peer exchange of {len(payload)} bytes")
    table, _ = decode_prefix(payload)
    if not isinstance(table, dict):
        raise RemoteProtocolError("a peer exchange is not a dictionary")
    added: dict[Address, int] = {}
    dropped: dict[Address, None] = {}
    for suffix, ipv6 in ((b"", False), (b"6", True)):
        packed, flags = table.get(b"added" + suffix), table.get(b"added" + suffix + b".f")
        added.update(_read_added(packed, flags, ipv6))
        gone = table.get(b"dropped" + suffix)
        if isinstance(gone, bytes):
            dropped.update(dict.fromkeys(unpack_peers(gone, ipv6=ipv6)[:MAX_TAKEN]))
    return m.PeerExchange(dict(list(added.items())[:MAX_TAKEN]), tuple(dropped)[:MAX_TAKEN])


def _read_added(packed: object, flags: object, ipv6: bool) -> dict[Address, int]:
    if not isinstance(packed, bytes):
        return {}
    width = 18 if ipv6 else 6
    if len(packed) % width:
        raise RemoteProtocolError(f"peers of {len(packed)} bytes")
    if not isinstance(flags, bytes) or len(flags) * width != len(packed):
        flags = bytes(len(packed) // width)
    found: dict[Address, int] = {}
    for number, flag in enumerate(flags[:MAX_TAKEN]):
        # one by one: those that cannot be are left out, and the flags must not shift
        for address in unpack_peers(packed[number * width : (number + 1) * width], ipv6=ipv6):
            found[address] = flag
    return found


def write_pex(message: m.PeerExchange) -> bytes:
    """The payload of a message."""
    table: dict[str, bytes] = {}
    for suffix, ipv6 in (("", False), ("6", True)):
        added = {a: flag for a, flag in message.added.items() if (":" in a[0]) is ipv6}
        dropped = tuple(address for address in message.dropped if (":" in address[0]) is ipv6)
        if added:
            table["added" + suffix] = pack_peers(tuple(added), ipv6=ipv6)
            table["added" + suffix + ".f"] = bytes(added.values())
        if dropped:
            table["dropped" + suffix] = pack_peers(dropped, ipv6=ipv6)
    return encode(table)


def may_be_told(address: Address, other: Address) -> bool:
    """Whether `address` may pass between us and the peer at `other`, either way."""
    try:
        one, two = ipaddress.ip_address(address[0]), ipaddress.ip_address(other[0])
    except ValueError:  # a name, or an address with a scope
        return False
    return one.is_global or (not two.is_global and one.is_loopback <= two.is_loopback)


class Gossip:
    """What one peer was told, and when; and when it last told us, and of whom (BEP 55)."""

    __slots__ = ("_heard_at", "_punchable", "_told", "_told_at")

    def __init__(self) -> None:
        self._punchable: dict[Address, None] = {}
        self._told: dict[Address, None] = {}
        self._told_at = float("-inf")
        self._heard_at = float("-inf")

    def is_due(self, now: float) -> bool:
        """Whether this peer may be told something again."""
        return now - self._told_at >= INTERVAL

    def next_message(self, peers: Mapping[Address, int], now: float) -> m.PeerExchange | None:
        """What is to be said about `peers` (those of now, with flags), if it is time, and news."""
        if not self.is_due(now):
            return None
        fresh = [address for address in peers if address not in self._told][:MOST]
        gone = [address for address in self._told if address not in peers][:MOST]
        if not fresh and not gone:
            return None
        self._told_at = now
        self._told.update(dict.fromkeys(fresh))
        for address in gone:
            del self._told[address]
        return m.PeerExchange({address: peers[address] for address in fresh}, tuple(gone))

    def is_welcome(self, now: float) -> bool:
        """Whether a message that came now is to be looked at; notes that it came."""
        if now - self._heard_at < INTERVAL * PATIENCE:
            return False
        self._heard_at = now
        return True

    def on_told(self, message: m.PeerExchange) -> None:
        """It named peers: with those that speak BEP 55 it can bring us together."""
        for address in message.dropped:
            self._punchable.pop(address, None)
        for address, flags in message.added.items():
            if flags & HOLEPUNCH:
                self._punchable[address] = None
        for address in list(self._punchable)[: max(0, len(self._punchable) - MAX_PUNCHABLE)]:
            del self._punchable[address]

    def can_introduce(self, address: Address) -> bool:
        """Whether it is connected to this peer, as far as we know, and may bring us together."""
        return address in self._punchable

    def on_cannot_introduce(self, address: Address) -> None:
        """It says that it cannot."""
        self._punchable.pop(address, None)
