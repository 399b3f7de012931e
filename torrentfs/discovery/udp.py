"""Trackers over UDP (BEP 15, 41, 48): connection ids, repetition, replies that are really theirs.

One socket per address family, opened at the first announce that needs it; the family of a socket
tells the family of the peers in its replies. A tracker whose name has both is announced to over
both. A reply counts only when its transaction id (32 random bits) is waited for *and* it comes
from the address that was asked: the id alone can be guessed by nobody, the address forged by many.

A datagram is repeated after `15 * 2 ** n` seconds as BEP 15 has it, but only for n = 0, 1, 2: the
full schedule of up to 3840 s is longer than any viewer waits, and `trackers` comes back by
itself. A repetition keeps its transaction id, so that a late reply to the first still counts.
A connection id is used for 60 s; a refusal of an id that was kept is answered by a new one, once.

The readers of the sockets are shielded from cancellation and end with the context of
`open_udp_trackers`, so that `stopped` can still be said while everything else shuts down.
"""

from __future__ import annotations

import logging
import secrets
import socket
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import trio

from torrentfs.discovery.base import Answer, ask_all
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.binding import attach, look
from torrentfs.transports.names import look_up
from torrentfs.transports.tcp import failure
from torrentfs.wire.udp_tracker import (
    CONNECTION_LIFETIME,
    FIRST_TIMEOUT,
    Announced,
    Connected,
    Refused,
    Scraped,
    announce_request,
    connect_request,
    parse_reply,
    scrape_request,
    url_data_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from torrentfs.wire.announce import AnnounceReply, AnnounceRequest, SwarmCounts

log = logging.getLogger(__name__)

TRIES = 3
"""Times that a datagram is sent: waits of 15, 30 and 60 s."""
_MAX_DATAGRAM = 65535
_IPV4, _IPV6 = trio.socket.AF_INET, trio.socket.AF_INET6

Place = tuple[Any, ...]
"""A socket address; host and port come first in both families."""


class DatagramSocket(Protocol):
    """What is needed of a trio UDP socket."""

    def sendto(self, data: bytes, address: Place, /) -> Awaitable[int]: ...
    def recvfrom(self, size: int, /) -> Awaitable[tuple[bytes, Any]]: ...
    def close(self) -> None: ...


class _Question:
    """A transaction that waits for its reply."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.transaction = secrets.randbits(32)
        self.reply: Connected | Announced | Scraped | Refused | None = None
        self.answered = trio.Event()


class UdpTrackers:
    """Announces to `udp:` trackers. Made by `open_udp_trackers`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        open_socket: Callable[[int], Awaitable[DatagramSocket]],
        resolve: Callable[[str, int], Awaitable[list[tuple[int, Place]]]],
        footing: Callable[[], object] = lambda: None,
    ) -> None:
        """`footing()` is equal to what it was as long as open sockets are good."""
        self._nursery = nursery
        self._footing = footing
        self._stood = footing()
        self._open_socket = open_socket
        self._resolve = resolve
        self._closed = False
        self._opening = trio.Lock()
        self._sockets: dict[int, DatagramSocket] = {}
        self._readers: list[trio.CancelScope] = []
        self._questions: dict[int, _Question] = {}
        self._connections: dict[Place, tuple[int, float]] = {}  # id, when it is too old

    async def announce(
        self, url: str, request: AnnounceRequest, on_reply: Callable[[AnnounceReply], None]
    ) -> None:
        """See `trackers.Announcer`."""
        url_data = url_data_of(url)

        async def ask(family: int, place: Place) -> AnnounceReply:
            reply = await self._ask_at(
                *(family, place),
                lambda connection, number: announce_request(connection, number, request, url_data),
            )
            if not isinstance(reply, Announced):
                raise RemoteProtocolError("the tracker answered an announce with something else")
            return reply.reply

        await self._ask_each(url, ask, on_reply)

    async def scrape(self, url: str, info_hashes: Sequence[bytes]) -> Mapping[bytes, SwarmCounts]:
        """See `trackers.Announcer`."""
        found: dict[bytes, SwarmCounts] = {}

        async def ask(family: int, place: Place) -> tuple[SwarmCounts, ...]:
            reply = await self._ask_at(
                *(family, place),
                lambda connection, number: scrape_request(connection, number, info_hashes),
            )
            if not isinstance(reply, Scraped):
                raise RemoteProtocolError("the tracker answered a scrape with something else")
            return reply.counts

        def on_counts(counts: tuple[SwarmCounts, ...]) -> None:
            for info_hash, each in zip(info_hashes, counts, strict=False):  # it may know fewer
                known = found.get(info_hash)
                found[info_hash] = each if known is None else known.or_more(each)

        await self._ask_each(url, ask, on_counts)
        return found

    async def _ask_each(
        self,
        url: str,
        ask: Callable[[int, Place], Awaitable[Answer]],
        on_answer: Callable[[Answer], None],
    ) -> None:
        """Ask over each address family that the tracker has."""
        host, port = _host_and_port(url)
        places: dict[int, Place] = {}
        for family, place in await self._resolve(host, port):
            places.setdefault(family, place)
        if not places:
            raise TransportError(f"{host} has no address")
        await ask_all([partial(ask, *item) for item in places.items()], on_answer)

    async def _ask_at(
        self, family: int, place: Place, datagram: Callable[[int, int], bytes]
    ) -> Connected | Announced | Scraped:
        """Ask under a connection id; `datagram` is made of that and the transaction's number."""
        kept = self._connection(place)
        try:
            connection = kept if kept is not None else await self._connect(family, place)
            return await self._ask(family, place, partial(datagram, connection))
        except RemoteProtocolError:
            self._connections.pop(place, None)
            if kept is None:
                raise
        connection = await self._connect(family, place)
        return await self._ask(family, place, partial(datagram, connection))

    def _connection(self, place: Place) -> int | None:
        connection, expiry = self._connections.get(place, (None, 0.0))
        return connection if trio.current_time() < expiry else None

    async def _connect(self, family: int, place: Place) -> int:
        reply = await self._ask(family, place, connect_request)
        if not isinstance(reply, Connected):
            raise RemoteProtocolError("the tracker answered a connect with something else")
        now = trio.current_time()
        self._connections = {p: c for p, c in self._connections.items() if c[1] > now}
        self._connections[place] = reply.connection, now + CONNECTION_LIFETIME
        return reply.connection

    async def _ask(
        self, family: int, place: Place, datagram: Callable[[int], bytes]
    ) -> Connected | Announced | Scraped:
        """Send until answered; `TransportError` when nothing ever comes."""
        question = _Question(place)
        self._questions[question.transaction] = question
        waited = 0.0
        try:
            for n in range(TRIES):
                link = await self._socket(family)
                await link.sendto(datagram(question.transaction), place)
                wait = FIRST_TIMEOUT * 2**n
                with trio.move_on_after(wait):
                    await question.answered.wait()
                if question.reply is not None:
                    break
                waited += wait
        except (OSError, trio.ClosedResourceError) as error:
            raise failure("asking the tracker", error) from error
        finally:
            del self._questions[question.transaction]
        if question.reply is None:
            raise TransportError(f"no answer within {waited:.0f} s")
        if isinstance(question.reply, Refused):
            raise question.reply.failure
        return question.reply

    async def _socket(self, family: int) -> DatagramSocket:
        async with self._opening:
            if self._closed:
                raise TransportError("closed by us")
            stands = self._footing()
            if stands != self._stood:  # another device by now, or another address
                self._stood = stands
                while self._sockets:
                    self._sockets.popitem()[1].close()
            if family not in self._sockets:
                link = await self._open_socket(family)
                self._sockets[family] = link
                self._nursery.start_soon(self._read, link, family == _IPV6)
        return self._sockets[family]

    async def _read(self, link: DatagramSocket, ipv6: bool) -> None:
        with trio.CancelScope(shield=True) as scope:
            self._readers.append(scope)
            while not self._closed:
                try:
                    data, sender = await link.recvfrom(_MAX_DATAGRAM)
                except trio.ClosedResourceError:
                    return
                except OSError as error:  # an ICMP error of some earlier datagram
                    log.debug("UDP tracker socket: %s", error)
                    await trio.sleep(0.01)
                    continue
                self._on_datagram(data, sender, ipv6)

    def _on_datagram(self, data: bytes, sender: Place, ipv6: bool) -> None:
        try:
            reply = parse_reply(data, ipv6=ipv6)
        except RemoteProtocolError as error:
            log.debug("dropped a datagram of %s: %s", sender[:2], error)
            return
        question = self._questions.get(reply.transaction)
        if question is None or question.place[:2] != tuple(sender[:2]):
            log.debug("dropped a datagram of %s: nobody asked for it", sender[:2])
            return
        question.reply = reply
        question.answered.set()

    def close(self) -> None:
        """End the readers and close the sockets."""
        self._closed = True
        for scope in self._readers:
            scope.cancel()
        for link in self._sockets.values():
            link.close()

    def __repr__(self) -> str:
        return f"<UdpTrackers {len(self._questions)} waiting>"


@asynccontextmanager
async def open_udp_trackers(
    *,
    bind: str | None = None,
    open_socket: Callable[[int], Awaitable[DatagramSocket]] | None = None,
    resolve: Callable[[str, int], Awaitable[list[tuple[int, Place]]]] | None = None,
) -> AsyncIterator[UdpTrackers]:
    """Sockets are opened when needed and closed on leaving. `bind`: see `binding`.

    `open_socket(family)` and `resolve(host, port)` replace the network (tests).
    """

    async def open_bound(family: int) -> DatagramSocket:
        return await _open_bound(family, bind)

    async with trio.open_nursery() as nursery:
        trackers = UdpTrackers(
            nursery,
            open_socket or open_bound,
            resolve or partial(resolve_datagram, bind=bind),
            (lambda: look(bind)) if bind is not None else (lambda: None),
        )
        try:
            yield trackers
        finally:
            trackers.close()


async def _open_bound(family: int, bind: str | None) -> DatagramSocket:
    raw = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if bind is None:
            raw.bind(("::" if family == _IPV6 else "0.0.0.0", 0))
        attach(raw, bind)
    except BaseException:
        raw.close()
        raise
    return trio.socket.from_stdlib_socket(raw)


async def resolve_datagram(
    host: str, port: int, bind: str | None = None
) -> list[tuple[int, Place]]:
    """Family and socket address of each address of `host` that can be reached from `bind`."""
    try:
        return [*await look_up(host, port, socket.SOCK_DGRAM, bind)]
    except (OSError, UnicodeError) as error:
        raise failure(f"looking up {host}", error) from error


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise TransportError(f"not a URL that can be asked: {error}") from error
    if not host or not port:
        raise TransportError("a udp tracker's URL needs a host and a port")
    return host, port
