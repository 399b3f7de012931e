"""Local service discovery (BEP 14): peers on the same network, found by multicast.

One for the session. Each torrent that may be told (never a private one: `engine.privacy`) is
announced soon after it was added and every five minutes from then on, several in one datagram, and
no more than one datagram a minute (BEP 14). What others announce is given to the torrent that it is
about; our own announces come back to us and are known by their cookie.

The datagrams have a time to live of one hop, so they stay on the network; with `bind` they leave by
the interface of that address only. A machine where multicast does not work, or whose port 6771 is
taken by a program that does not share it, goes without, and says so once.
"""

from __future__ import annotations

import logging
import secrets
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import trio

from torrentfs.discovery.base import clean_peers
from torrentfs.errors import RemoteProtocolError
from torrentfs.transports.binding import hold, look
from torrentfs.transports.tcp import failure
from torrentfs.wire.lsd import (
    GROUP4,
    GROUP6,
    MAX_BYTES,
    MOST,
    LocalAnnounce,
    parse_announce,
    write_announce,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from torrentfs.transports.base import Address

    OnPeers = Callable[[Sequence[Address], str], None]

log = logging.getLogger(__name__)

INTERVAL = 300.0
"""Seconds between announces of one torrent (BEP 14)."""

SPACING = 60.0
"""Seconds between our datagrams, at least (BEP 14)."""

GATHER = 0.2
"""Seconds in which torrents that are added one after the other come together."""

MAX_HEARD = 50
"""Announces of others that are read in a second; a network has some dozens of clients at most."""

ORIGIN = "lsd"

_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class DatagramSocket(Protocol):
    """What is needed of a trio UDP socket."""

    def sendto(self, data: bytes, address: Any, /) -> Awaitable[int]: ...
    def recvfrom(self, size: int, /) -> Awaitable[tuple[bytes, Any]]: ...
    def close(self) -> None: ...


class Link(NamedTuple):
    """A socket that is in the group."""

    socket: DatagramSocket
    group: Address
    ipv6: bool


class _Told:
    """A torrent that is announced."""

    def __init__(self, hashes: tuple[bytes, ...], on_peers: OnPeers, now: float) -> None:
        self.hashes = hashes
        self.on_peers = on_peers
        self.due = now


class LocalDiscovery:
    """Announces and listens; `port` is where peers reach us, `bind` see `binding`.

    `links` replace the network (tests).
    """

    def __init__(
        self, port: int, links: Iterable[Link] | None = None, *, bind: str | None = None
    ) -> None:
        self.announces = 0
        """Datagrams sent, on each link once."""
        self.heard = 0
        """Announces of others that were of interest to us."""
        self._port = port
        self._bind = bind
        self._stands = look(bind) if bind is not None else None
        self._links = tuple(open_links(bind) if links is None else links)
        self._nursery: trio.Nursery | None = None
        self._cookie = secrets.token_hex(4)
        self._told: list[_Told] = []
        self._by_hash: dict[bytes, _Told] = {}
        self._changed = trio.Event()
        self._read_at, self._read = float("-inf"), 0

    @property
    def works(self) -> bool:
        """Whether anybody can hear us."""
        return bool(self._links)

    def add(self, hashes: Sequence[bytes], on_peers: OnPeers) -> None:
        """Find local peers of a torrent, and be found; `hashes` are its info-hashes, 20 bytes."""
        told = _Told(tuple(hashes), on_peers, trio.current_time() + GATHER)
        self._told.append(told)
        for info_hash in hashes:
            self._by_hash[info_hash] = told
        self._changed.set()

    def remove(self, hashes: Sequence[bytes]) -> None:
        """Say no more about this torrent."""
        gone = {id(self._by_hash.pop(h)) for h in hashes if h in self._by_hash}
        self._told = [told for told in self._told if id(told) not in gone]
        self._changed.set()

    def follow(self) -> str:
        """Be where `bind` stands now, while `run` runs: then all are announced there. Empty."""
        if self._bind is None or (stands := look(self._bind)) == self._stands:
            return ""
        self._stands = stands
        for link in self._links:
            link.socket.close()
        self._links = tuple(open_links(self._bind)) if not stands.trouble else ()
        if self._nursery is not None:
            for link in self._links:
                self._nursery.start_soon(self._listen, link)
        for told in self._told:
            told.due = trio.current_time() + GATHER
        self._changed.set()
        return ""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; the sockets are closed then."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for link in self._links:
                    nursery.start_soon(self._listen, link)
                task_status.started()
                await self._announce_loop()
        finally:
            self._nursery = None
            for link in self._links:
                link.socket.close()

    async def _announce_loop(self) -> None:
        while True:
            self._changed = trio.Event()
            waiting = [told.due for told in self._told] if self._links else []
            due = min(waiting, default=float("inf"))
            with trio.move_on_at(due) as scope:
                await self._changed.wait()
            if scope.cancelled_caught and await self._announce(trio.current_time()):
                await trio.sleep(SPACING)

    async def _announce(self, now: float) -> bool:
        """Name those that are due in one datagram; False if nobody is, any more."""
        hashes: list[bytes] = []
        for told in sorted(self._told, key=lambda told: told.due):
            if told.due <= now and len(hashes) + len(told.hashes) <= MOST:
                hashes += told.hashes
                told.due = now + INTERVAL
        if not hashes:
            return False
        announce = LocalAnnounce(self._port, tuple(hashes), self._cookie)
        for link in self._links:
            try:
                await link.socket.sendto(write_announce(announce, ipv6=link.ipv6), link.group)
                self.announces += 1
            except (OSError, trio.ClosedResourceError) as error:  # it may be up the next time
                log.debug("%s", failure("local discovery", error))
        return True

    async def _listen(self, link: Link) -> None:
        while True:
            try:
                data, sender = await link.socket.recvfrom(MAX_BYTES + 1)
            except trio.ClosedResourceError:  # `follow`: another one is at its place
                return
            except OSError as error:
                log.debug("%s", failure("local discovery", error))
                await trio.sleep(1)
                continue
            self._on_datagram(data, sender)

    def _on_datagram(self, data: bytes, sender: Any) -> None:
        now = trio.current_time()
        if now - self._read_at >= 1:
            self._read_at, self._read = now, 0
        self._read += 1
        if self._read > MAX_HEARD:
            return
        try:
            announce = parse_announce(data)
        except RemoteProtocolError as error:
            log.debug("dropped a datagram of %s: %s", sender[0], error)
            return
        if announce.cookie == self._cookie:
            return
        peers = clean_peers([(sender[0], announce.port)], own_port=self._port)
        for info_hash in announce.info_hashes:
            told = self._by_hash.get(info_hash)
            if told is not None and peers:
                self.heard += 1
                told.on_peers(peers, ORIGIN)

    def __repr__(self) -> str:
        return f"<LocalDiscovery {len(self._told)} torrents, {self.announces} announces>"


def open_links(bind: str | None = None) -> list[Link]:
    """Join the groups, in each family that works; `bind`: see `binding`."""
    links: list[Link] = []
    reasons: list[str] = []
    footing = look(bind) if bind is not None else None
    for ipv6 in (False, True):
        if footing is not None and footing.address(_FAMILIES[ipv6]) is None:
            continue
        try:
            links.append(_open_link(bind, ipv6))
        except OSError as error:
            reasons.append(str(failure("IPv6" if ipv6 else "IPv4", error)))
    if not links:
        log.info("no local discovery (%s)", "; ".join(reasons))
    return links


def _open_link(bind: str | None, ipv6: bool) -> Link:
    group = GROUP6 if ipv6 else GROUP4
    made = socket.socket(_FAMILIES[ipv6], socket.SOCK_DGRAM)
    footing = look(bind) if bind is not None else None
    address = footing.address(made.family) if footing is not None else None
    try:
        hold(made, bind)
        made.setblocking(False)
        # other clients on this machine listen there, too
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        packed = socket.inet_pton(made.family, group[0])
        if ipv6:
            number = footing.number if footing is not None else 0
            if address is not None and not number:
                number = _interface_of(address.partition("%")[0])
            interface = struct.pack("@I", number)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
            made.bind(group)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + interface)
        else:
            local = socket.inet_pton(socket.AF_INET, address or "0.0.0.0")
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, local)
            made.bind(group)  # not the port alone: what is sent to us directly is not for us
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, packed + local)
    except BaseException:
        made.close()
        raise
    return Link(trio.socket.from_stdlib_socket(made), group, ipv6)


def _interface_of(address: str) -> int:
    """The number of the interface that has an IPv6 address."""
    wanted = socket.inet_pton(socket.AF_INET6, address).hex()
    with open("/proc/net/if_inet6", encoding="ascii") as table:
        for line in table:
            packed, number, *_ = line.split()
            if packed == wanted:
                return int(number, 16)
    raise OSError(None, f"no interface has {address}")
