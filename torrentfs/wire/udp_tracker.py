"""Announces and scrapes over UDP (BEP 15, 48); the path of the URL goes along (BEP 41).

    client                       tracker
    connect(transaction)   ->
                           <-    connected(transaction, connection id: valid one minute)
    announce(connection id, transaction, ...)  ->
                           <-    announced(transaction, interval, counts, peers)
    scrape(connection id, transaction, info-hashes)  ->
                           <-    scraped(transaction, counts of each, in the same order)
                                 or error(transaction, words), to anything

Datagrams get lost: the caller sends again after 15 * 2 ** n seconds (BEP 15). A reply is
believed only when its transaction is one that the caller waits for; `transaction` is 32 random bits
because the sender's address of a datagram proves nothing. Peers are IPv6 when the socket is.

Anything malformed is a `RemoteProtocolError`. The second half is the tracker's side.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.wire.announce import (
    AnnounceEvent,
    AnnounceReply,
    AnnounceRequest,
    SwarmCounts,
    TrackerFailure,
    clamped_interval,
    pack_peers,
    unpack_peers,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECTION_LIFETIME = 60.0
"""Seconds a client may use a connection id (BEP 15: one minute; a tracker takes it for two)."""

FIRST_TIMEOUT = 15.0
"""Seconds before the first repeat; doubles with each, up to 8 repeats (BEP 15)."""

SCRAPED_AT_ONCE = 74
"""Torrents in one scrape (BEP 15)."""

_PROTOCOL = 0x41727101980
_CONNECT, _ANNOUNCE, _SCRAPE, _ERROR = 0, 1, 2, 3
_EVENTS: tuple[AnnounceEvent, ...] = ("", "completed", "started", "stopped")
_CONNECT_REQUEST = Struct(">QII")
_CONNECT_REPLY = Struct(">IIQ")
_ANNOUNCE_REQUEST = Struct(">QII20s20sQQQIIIiH")
_ANNOUNCE_REPLY = Struct(">IIIII")
_REPLY_HEAD = Struct(">II")
_COUNTS = Struct(">III")
_END_OF_OPTIONS, _NOP, _URL_DATA = 0, 1, 2
_MAX_I32 = 0x7FFFFFFF
_MAX_URL_DATA = 1024


@dataclass(frozen=True, slots=True)
class Connected:
    """The tracker gave a connection id (an opaque 64-bit number)."""

    transaction: int
    connection: int


@dataclass(frozen=True, slots=True)
class Announced:
    """The tracker answered an announce."""

    transaction: int
    reply: AnnounceReply


@dataclass(frozen=True, slots=True)
class Scraped:
    """The tracker answered a scrape."""

    transaction: int
    counts: tuple[SwarmCounts, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The tracker answered with an error; raise `failure` if the transaction is ours."""

    transaction: int
    failure: TrackerFailure


def connect_request(transaction: int) -> bytes:
    """The first datagram to a tracker."""
    return _CONNECT_REQUEST.pack(_PROTOCOL, _CONNECT, transaction)


def announce_request(
    connection: int, transaction: int, request: AnnounceRequest, url_data: bytes = b""
) -> bytes:
    """An announce; `url_data` is from `url_data_of()`. A number too large: `LocalProtocolError`."""
    if len(request.info_hash) != 20 or len(request.peer_id) != 20:
        raise LocalProtocolError("an announce has an info-hash and a peer id of 20 bytes")
    ip = 0
    if request.ip is not None:
        address = ipaddress.ip_address(request.ip)
        ip = int(address) if address.version == 4 else 0
    try:
        head = _ANNOUNCE_REQUEST.pack(
            *(connection, _ANNOUNCE, transaction, request.info_hash, request.peer_id),
            *(request.downloaded, request.left, request.uploaded),
            *(_EVENTS.index(request.event), ip, request.key),
            *(-1 if request.num_want is None else request.num_want, request.port),
        )
    except struct.error as error:
        raise LocalProtocolError(f"announce: {error}") from None
    return head + _options(url_data)


def scrape_request(connection: int, transaction: int, info_hashes: Sequence[bytes]) -> bytes:
    """A scrape of 1 to `SCRAPED_AT_ONCE` torrents; other numbers are a `LocalProtocolError`."""
    if not 1 <= len(info_hashes) <= SCRAPED_AT_ONCE or any(len(h) != 20 for h in info_hashes):
        raise LocalProtocolError(f"a scrape of {len(info_hashes)} torrents")
    return _CONNECT_REQUEST.pack(connection, _SCRAPE, transaction) + b"".join(info_hashes)


def url_data_of(url: str) -> bytes:
    """Path and query of a `udp://` tracker URL, which BEP 41 sends along (virtual trackers)."""
    # not urlsplit(), which raises on the host names that strangers write into torrents
    rest = url.partition("#")[0].partition("://")[2]
    data = rest[min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest)) :]
    return b"" if data == "/" else data.encode("utf-8", "surrogateescape")[:_MAX_URL_DATA]


def _options(url_data: bytes) -> bytes:
    options = bytearray()
    for at in range(0, len(url_data), 255):
        part = url_data[at : at + 255]
        options += bytes([_URL_DATA, len(part)]) + part
    return bytes(options)


def parse_reply(data: bytes, *, ipv6: bool = False) -> Connected | Announced | Scraped | Refused:
    """A tracker's datagram."""
    if len(data) < _REPLY_HEAD.size:
        raise RemoteProtocolError(f"a tracker's datagram of {len(data)} bytes")
    action, transaction = _REPLY_HEAD.unpack_from(data)
    if action == _ERROR:
        return Refused(transaction, TrackerFailure(data[_REPLY_HEAD.size :]))
    if action == _CONNECT and len(data) >= _CONNECT_REPLY.size:
        return Connected(transaction, _CONNECT_REPLY.unpack_from(data)[2])
    if action == _ANNOUNCE and len(data) >= _ANNOUNCE_REPLY.size:
        _, _, interval, leechers, seeders = _ANNOUNCE_REPLY.unpack_from(data)
        peers = unpack_peers(data[_ANNOUNCE_REPLY.size :], ipv6=ipv6)
        reply = AnnounceReply(
            # signed on the wire: a set top bit is a negative number
            interval=clamped_interval(interval if interval <= _MAX_I32 else 0),
            seeders=seeders if seeders <= _MAX_I32 else None,
            leechers=leechers if leechers <= _MAX_I32 else None,
            peers=tuple(dict.fromkeys(peers)),
        )
        return Announced(transaction, reply)
    if action == _SCRAPE:
        body = data[_REPLY_HEAD.size :]
        whole = min(len(body) // _COUNTS.size, SCRAPED_AT_ONCE) * _COUNTS.size
        found = []
        for counts in _COUNTS.iter_unpack(body[:whole]):
            seeders, downloaded, leechers = (n if n <= _MAX_I32 else None for n in counts)
            found.append(SwarmCounts(seeders, leechers, downloaded))
        return Scraped(transaction, tuple(found))
    raise RemoteProtocolError(f"a tracker's datagram of action {action} and {len(data)} bytes")


# -- the tracker's side ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A client wants a connection id."""

    transaction: int


@dataclass(frozen=True, slots=True)
class UdpAnnounce:
    """A client announces under the connection id that it was given."""

    connection: int
    transaction: int
    request: AnnounceRequest
    url_data: bytes = b""


@dataclass(frozen=True, slots=True)
class UdpScrape:
    """A client wants counts."""

    connection: int
    transaction: int
    info_hashes: tuple[bytes, ...]


def parse_request(data: bytes) -> ConnectRequest | UdpAnnounce | UdpScrape:
    """A client's datagram."""
    if len(data) < _CONNECT_REQUEST.size:
        raise RemoteProtocolError(f"a client's datagram of {len(data)} bytes")
    connection, action, transaction = _CONNECT_REQUEST.unpack_from(data)
    if action == _CONNECT and connection == _PROTOCOL:
        return ConnectRequest(transaction)
    if action == _SCRAPE:
        hashes = data[_CONNECT_REQUEST.size :][: 20 * SCRAPED_AT_ONCE]
        if not hashes or len(hashes) % 20:
            raise RemoteProtocolError(f"a scrape with {len(hashes)} bytes of info-hashes")
        each = tuple(hashes[at : at + 20] for at in range(0, len(hashes), 20))
        return UdpScrape(connection, transaction, each)
    if action != _ANNOUNCE or len(data) < _ANNOUNCE_REQUEST.size:
        raise RemoteProtocolError(f"a client's datagram of action {action}")
    (_, _, _, info_hash, peer_id, downloaded, left, uploaded, event, ip, key, num_want, port) = (
        _ANNOUNCE_REQUEST.unpack_from(data)
    )
    if event >= len(_EVENTS):
        raise RemoteProtocolError(f"an announce of event {event}")
    request = AnnounceRequest(
        info_hash=info_hash,
        peer_id=peer_id,
        port=port,
        uploaded=uploaded,
        downloaded=downloaded,
        left=left,
        event=_EVENTS[event],
        num_want=None if num_want < 0 else num_want,
        key=key,
        ip=str(ipaddress.IPv4Address(ip)) if ip else None,
    )
    return UdpAnnounce(connection, transaction, request, _read_options(data))


def _read_options(data: bytes) -> bytes:
    """The URL data of BEP 41 behind an announce."""
    url_data = bytearray()
    at = _ANNOUNCE_REQUEST.size
    while at < len(data):
        option = data[at]
        if option == _END_OF_OPTIONS:
            break
        at += 1
        if option == _NOP:
            continue
        if at >= len(data) or at + 1 + data[at] > len(data):
            raise RemoteProtocolError("an option of the announce is cut short")
        if option == _URL_DATA:
            url_data += data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
    return bytes(url_data)


def connect_reply(transaction: int, connection: int) -> bytes:
    """A connection id for a client."""
    return _CONNECT_REPLY.pack(_CONNECT, transaction, connection)


def announce_reply(transaction: int, reply: AnnounceReply, *, ipv6: bool = False) -> bytes:
    """The answer to an announce; peers of the socket's family only."""
    counts = (reply.interval, reply.leechers or 0, reply.seeders or 0)
    head = _ANNOUNCE_REPLY.pack(_ANNOUNCE, transaction, *counts)
    return head + pack_peers(reply.peers, ipv6=ipv6)


def scrape_reply(transaction: int, counts: Sequence[SwarmCounts]) -> bytes:
    """The answer to a scrape, in the order of its info-hashes."""
    return _REPLY_HEAD.pack(_SCRAPE, transaction) + b"".join(
        _COUNTS.pack(each.seeders or 0, each.downloaded or 0, each.leechers or 0) for each in counts
    )


def error_reply(transaction: int, reason: str) -> bytes:
    """A refusal in words."""
    return _REPLY_HEAD.pack(_ERROR, transaction) + reason.encode()
