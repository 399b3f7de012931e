"""Which peer to connect to next: every address once, in a fair order, not too often.

An address is in the book from the moment it is told until it is pushed out by better ones. The
order of `next`: addresses that the user gave, then those that were useful before, then fewest
failures, then BEP 40 (canonical peer priority: both ends of a swarm prefer the same connections,
and nobody can choose his place in our order; it needs our own address, see `own_address`), then
order of arrival. After a failure an address rests 15 s, doubling to an hour; one that the user gave
rests from one second to a minute, as it may be all there is; after a useful connection an address
rests five seconds. While a read waits and nobody is connected, no rest is longer than 15 s.

Addresses that were useful in an earlier run (`FORMER`) may all be gone by now, while a tracker
names others in a moment: so `MOST_FORMER` of them are tried at a time, and one failure makes them
common.

A ban is of the host, because a liar comes back with another port. But an address that is not
global (loopback, a home's network, a provider's NAT, a tunnel's end) or a name stands for any
number of peers: there only the address with its port is banned. A liar among those who call us
from such a place can come back with a new port, and is then found and banned again.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Address = tuple[str, int]

MAX_ADDRESSES = 2000
"""Addresses remembered; a tracker gives 200 at most, peer exchange adds."""

MAX_BANNED = 4096
"""Bans at once; the oldest lapses."""

MAX_OURSELVES = 64
"""Addresses known to be our own; more than a machine has, and strangers may pose as us."""

ANY_PORT = 0
"""The port in a ban of a whole host."""

FIRST_REST = 15.0
LONGEST_REST = 3600.0
GIVEN_FIRST_REST = 1.0
GIVEN_LONGEST_REST = 60.0
USEFUL_REST = 5.0
"""Seconds; the first of each is doubled with every failure up to the longest."""

GIVEN = "user"
"""The `origin` of addresses that a user named (`--peer`, `x.pe`): tried first, never pushed out."""

FORMER = "last time"
"""The `origin` of addresses that were useful in an earlier run."""

MOST_FORMER = 8
"""Of those, dialled at once: half of what may be half open."""


class _Peer:
    __slots__ = (
        "busy",
        "failures",
        "former",
        "given",
        "not_before",
        "number",
        "origin",
        "priority",
        "reason",
        "useful",
    )

    def __init__(self, number: int, origin: str, priority: int) -> None:
        self.number = number
        self.origin = origin
        self.given = origin == GIVEN
        self.former = origin == FORMER
        self.priority = priority
        self.failures = 0
        self.useful = self.former
        self.busy = False
        self.not_before = float("-inf")
        self.reason = ""

    def rank(self) -> tuple[bool, bool, int, int, int]:
        """Smaller is sooner."""
        return not self.given, not self.useful, self.failures, -self.priority, self.number


class PeerBook:
    """Addresses of one torrent's swarm, their history and the bans."""

    def __init__(
        self,
        *,
        own_address: Address | None = None,
        most: int = MAX_ADDRESSES,
        blocks: Callable[[str], bool] = lambda host: False,
    ) -> None:
        """`blocks`: hosts that the user never wants to talk to (`ip_filter`)."""
        self._own = own_address
        self._blocks = blocks
        self._claim: tuple[Address | None, str] = None, ""
        self._most = most
        self._peers: dict[Address, _Peer] = {}
        self._banned: dict[Address, tuple[Address, str]] = {}
        self._ourselves: dict[Address, None] = {}
        self._tried: set[Address] = set()
        """Former ones that are being dialled."""
        self._arrivals = 0

    def set_own_address(self, own: Address) -> None:
        """Our address as peers see it (BEP 10 `yourip`, BEP 24): orders by BEP 40 from now on."""
        self._own = own
        for address, peer in self._peers.items():
            peer.priority = self._priority(address)

    def on_told_own_address(self, own: Address, by: str) -> None:
        """The host `by` says that it sees us at `own`; believed when another host says the same."""
        if own == self._own:
            return
        claim, host = self._claim
        if claim == own and host != by:
            self.set_own_address(own)
        else:
            self._claim = own, by

    def add(self, address: Address, origin: str, now: float) -> bool:
        """Note an address; False when it is known, banned, impossible or the book is full."""
        if not 0 < address[1] < 65536 or self.is_banned(address) or address in self._ourselves:
            return False
        known = self._peers.get(address)
        if known is not None:
            if origin == GIVEN:
                known.given = True
            return False
        if len(self._peers) >= self._most and not self._push_out():
            return False
        self._arrivals += 1
        self._peers[address] = _Peer(self._arrivals, origin, self._priority(address))
        return True

    def _push_out(self) -> bool:
        """Make room: the idle address with the most failures goes, if it has any."""
        idle = [
            (peer.failures, peer.number, address)
            for address, peer in self._peers.items()
            if not (peer.busy or peer.given or peer.useful) and peer.failures
        ]
        if not idle:
            return False
        del self._peers[max(idle)[2]]
        return True

    def _priority(self, address: Address) -> int:
        return 0 if self._own is None else canonical_priority(self._own, address)

    def next(self, now: float) -> Address | None:
        """Whom to connect to now, or None; call `on_connecting` for it."""
        enough = len(self._tried) >= MOST_FORMER
        ready = [
            (peer.rank(), address)
            for address, peer in self._peers.items()
            if not peer.busy and peer.not_before <= now and not (enough and peer.former)
        ]
        return min(ready)[1] if ready else None

    def addresses(self) -> list[Address]:
        """Everybody known, those we are connected to first, then in the order of `next`."""
        return sorted(self._peers, key=lambda a: (not self._peers[a].busy, self._peers[a].rank()))

    def next_time(self, now: float) -> float | None:
        """When `next` will have somebody: `now`, later, or None (nobody known)."""
        times = [peer.not_before for peer in self._peers.values() if not peer.busy]
        return max(now, min(times)) if times else None

    def on_connecting(self, address: Address, now: float) -> None:
        """A connection is being made; the address is not offered until `on_closed`."""
        peer = self._peers.get(address)
        if peer is not None:
            peer.busy = True
            if peer.former:
                self._tried.add(address)

    def on_connected(self, address: Address, now: float) -> None:
        """The handshake was made. Also for incoming connections (whose port tells nothing)."""
        self._tried.discard(address)
        peer = self._peers.get(address)
        if peer is not None:
            peer.busy = True
            peer.former = False

    def on_closed(self, address: Address, now: float, reason: str, useful: bool) -> None:
        """The attempt or connection is over. `useful`: it gave or took payload."""
        self._tried.discard(address)
        peer = self._peers.get(address)
        if peer is None:
            return
        if peer.former:  # it did not even answer: one like others from now on
            peer.former = peer.useful = False
        peer.busy = False
        peer.reason = reason
        if useful:
            peer.useful = True
            peer.failures = 0
            peer.not_before = now + (GIVEN_FIRST_REST if peer.given else USEFUL_REST)
        else:
            first, longest = FIRST_REST, LONGEST_REST
            if peer.given:
                first, longest = GIVEN_FIRST_REST, GIVEN_LONGEST_REST
            peer.not_before = now + min(longest, first * 2.0 ** min(peer.failures, 10))
            peer.failures += 1

    def on_left(self, address: Address) -> None:
        """We have ended the attempt or connection, for reasons of ours: nobody failed."""
        self._tried.discard(address)
        peer = self._peers.get(address)
        if peer is not None:
            peer.busy = False

    def on_gave(self, address: Address) -> None:
        """It gave payload: after a connection that we end ourselves it is among the first."""
        peer = self._peers.get(address)
        if peer is not None:
            peer.useful = True
            peer.failures = 0

    def shorten_rests(self, now: float) -> bool:
        """A read waits and nobody is connected: nobody rests longer than after a first failure.

        True when that made somebody's rest shorter.
        """
        latest = now + FIRST_REST
        resting = [peer for peer in self._peers.values() if peer.not_before > latest]
        for peer in resting:
            peer.not_before = latest
        return bool(resting)

    def forget_failures(self) -> None:
        """Nobody rests, and nobody has failed: it was our own network that did."""
        for peer in self._peers.values():
            peer.failures = 0
            peer.not_before = float("-inf")

    def ban(self, address: Address, reason: str) -> None:
        """Never again anything from this host, or from this address alone where several peers
        share the host. A user's own word outranks nobody's lies: a given address is banned too."""
        self._banned[_scope(address)] = (address, reason)
        if len(self._banned) > MAX_BANNED:
            del self._banned[next(iter(self._banned))]
        for known in [known for known in self._peers if self.is_banned(known)]:
            del self._peers[known]

    def on_ourselves(self, address: Address) -> None:
        """That was us: never dial it again. Others at the same host are welcome."""
        self._ourselves[address] = None
        if len(self._ourselves) > MAX_OURSELVES:
            del self._ourselves[next(iter(self._ourselves))]
        self._peers.pop(address, None)

    def keep_best(self, most: int) -> None:
        """Forget all addresses but `most`, the first by `next`; no ban is forgotten."""
        for address in self.addresses()[most:]:
            del self._peers[address]

    def is_ourselves(self, address: Address) -> bool:
        """Whether it is ours, as far as we know."""
        return address in self._ourselves or address == self._own

    def knows(self, address: Address) -> bool:
        """Whether it is in the book: then it can be dialled, which a caller's port cannot."""
        return address in self._peers

    def is_banned(self, address: Address) -> bool:
        """Whether this address, or its host, was banned, or is not wanted by the user."""
        if self._banned and _scope(address) in self._banned:
            return True
        return self._blocks(address[0])

    @property
    def banned(self) -> dict[Address, str]:
        """Who was banned and why, oldest first."""
        return dict(self._banned.values())

    def __len__(self) -> int:
        return len(self._peers)

    def __repr__(self) -> str:
        busy = sum(peer.busy for peer in self._peers.values())
        return f"<PeerBook {len(self._peers)} addresses, {busy} busy, {len(self._banned)} banned>"


def _scope(address: Address) -> Address:
    """What a ban of `address` covers: `(host, ANY_PORT)`, or just itself."""
    host, port = address
    try:
        ip = ip_address(host)
    except ValueError:
        return host, port
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return (host, ANY_PORT) if ip.is_global else (host, port)


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), as BEP 40 and allowed-fast lists use."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def canonical_priority(one: Address, other: Address) -> int:
    """BEP 40: the same number on both ends; the higher, the more the pair should connect.

    0 for addresses that are no IP addresses or of different families.
    """
    try:
        ips = [ip_address(one[0]), ip_address(other[0])]
    except ValueError:
        return 0
    if ips[0].version != ips[1].version:
        return 0
    if ips[0] == ips[1]:
        ports = sorted((one[1], other[1]))
        return crc32c(b"".join(port.to_bytes(2) for port in ports))
    masked = _masked(ips[0].packed, ips[1].packed, ips[0])
    return crc32c(b"".join(sorted(masked)))


def _masked(one: bytes, other: bytes, kind: IPv4Address | IPv6Address) -> list[bytes]:
    """Mask what an attacker could choose: FF.FF.55.55, or more bytes kept for close addresses.

    IPv6 does the same from its 48-bit prefix on: FFFF:FFFF:FFFF:5555..., /56, /64.
    """
    steps = (2, 3, 4) if isinstance(kind, IPv4Address) else (6, 7, 8)
    kept = steps[0]
    for step in steps[:-1]:
        if one[:step] == other[:step]:
            kept = step + 1
    mask = b"\xff" * kept + b"\x55" * (len(one) - kept)
    return [bytes(a & b for a, b in zip(ip, mask, strict=True)) for ip in (one, other)]
