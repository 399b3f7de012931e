"""Announces and scrapes over HTTP: the query of the URL and the bencoded reply (BEP 3, 7, 23, 48).

Replies are read as trackers really send them: peers compact or as dictionaries, IPv6 ones in
`peers6` or among the dictionaries, numbers missing. A reply that is no bencoded dictionary is a
`RemoteProtocolError`; `failure reason` is a `TrackerFailure`, which is one too. It may tell when
to ask again (BEP 31), and a reply where the tracker sees us (BEP 24).

A scrape's URL is the announce's with another word in it, where that word is (BEP 48).

The second half is the tracker's side, for trackers made of these functions.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, cast, get_args
from urllib.parse import parse_qsl, quote_from_bytes

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.metainfo.bencoding import BencodingError, decode, encode
from torrentfs.wire import limits
from torrentfs.wire.announce import (
    DEFAULT_INTERVAL,
    Address,
    AnnounceEvent,
    SwarmCounts,
    clamped_interval,
    literal_address,
    pack_peers,
    unpack_peers,
)
from torrentfs.wire.announce import AnnounceReply as AnnounceReply
from torrentfs.wire.announce import AnnounceRequest as AnnounceRequest
from torrentfs.wire.announce import TrackerFailure as TrackerFailure
from torrentfs.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EVENTS = get_args(AnnounceEvent)
_MAX_QUERY_BYTES = 8192
_MAX_AMOUNT = 1 << 63
_MAX_RETRY = 7 * 86400
"""Seconds that a tracker may keep us away, if it does not say `never`."""

SCRAPED_AT_ONCE = 40
"""Torrents in one URL, which stays below the 4 KiB that servers take."""

MAX_SCRAPED = 1000
"""Torrents taken from one answer to a scrape."""


def announce_url(tracker: str, request: AnnounceRequest) -> str:
    """The URL to GET. Keeps what is in the query already (passkeys); drops a fragment."""
    if len(request.info_hash) != 20 or len(request.peer_id) != 20:
        raise LocalProtocolError("an announce has an info-hash and a peer id of 20 bytes")
    fields: dict[str, object] = {
        "info_hash": request.info_hash,
        "peer_id": request.peer_id,
        "port": request.port,
        "uploaded": request.uploaded,
        "downloaded": request.downloaded,
        "left": request.left,
        "compact": 1,
        "no_peer_id": 1,
        "key": f"{request.key:08x}",
        "event": request.event or None,
        "numwant": request.num_want,
        "trackerid": request.tracker_id,
        "ip": request.ip,
    }
    query = "&".join(
        f"{name}={_quoted(value)}" for name, value in fields.items() if value is not None
    )
    return _extended(tracker.partition("#")[0], query)


def scrape_url(tracker: str, info_hashes: Sequence[bytes]) -> str | None:
    """The URL to GET for the counts of some torrents; None where BEP 48 has none."""
    if any(len(each) != 20 for each in info_hashes):
        raise LocalProtocolError("a scrape has info-hashes of 20 bytes")
    place, slash, rest = tracker.partition("#")[0].rpartition("/")
    if not slash or not rest.startswith("announce"):
        return None
    query = "&".join(f"info_hash={_quoted(each)}" for each in info_hashes)
    return _extended(f"{place}/scrape{rest.removeprefix('announce')}", query)


def _extended(url: str, query: str) -> str:
    known = url.partition("?")[2]
    joint = "" if url.endswith(("?", "&")) else "&" if known else "?"
    return url + joint + query


def _quoted(value: object) -> str:
    raw = value if isinstance(value, bytes) else str(value).encode()
    return quote_from_bytes(raw, safe="")


def parse_reply(body: bytes) -> AnnounceReply:
    """The tracker's answer in `body`."""
    table = _table(body)
    interval = _count(table, b"interval")
    min_interval = _count(table, b"min interval")
    warning = table.get(b"warning message")
    return AnnounceReply(
        interval=DEFAULT_INTERVAL if interval is None else clamped_interval(interval),
        min_interval=None if min_interval is None else clamped_interval(min_interval),
        seeders=_count(table, b"complete"),
        leechers=_count(table, b"incomplete"),
        peers=_read_peers(table),
        warning=printable(warning) if isinstance(warning, bytes) else None,
        tracker_id=_tracker_id(table),
        external_ip=_external_ip(table.get(b"external ip")),
    )


def parse_scrape(body: bytes) -> dict[bytes, SwarmCounts]:
    """The counts in the tracker's answer to a scrape, by info-hash; malformed ones left out."""
    files = _table(body).get(b"files")
    if not isinstance(files, dict):
        raise RemoteProtocolError("the tracker's answer to a scrape has no torrents")
    found = {}
    for key, counts in list(files.items())[:MAX_SCRAPED]:
        info_hash = _scraped_hash(key)
        if info_hash is not None and isinstance(counts, dict):
            names = (b"complete", b"incomplete", b"downloaded")
            found[info_hash] = SwarmCounts(*(_count(counts, name) for name in names))
    return found


def _scraped_hash(key: bytes) -> bytes | None:
    """20 bytes; `bittorrent-tracker` takes them for text and sends them in UTF-8."""
    if 20 < len(key) <= 40:
        try:
            key = key.decode().encode("latin-1")
        except UnicodeError:
            return None
    return key if len(key) == 20 else None


def _table(body: bytes) -> dict[bytes, Any]:
    try:
        table = decode(body, max_size=limits.MAX_TRACKER_REPLY_BYTES)
    except BencodingError as error:
        raise RemoteProtocolError(f"the tracker's reply is no bencoding ({error})") from None
    if not isinstance(table, dict):
        raise RemoteProtocolError("the tracker's reply is not a dictionary")
    reason = table.get(b"failure reason")
    if reason is not None:
        retry_in = _retry_in(table.get(b"retry in"))
        raise TrackerFailure(reason if isinstance(reason, bytes) else b"", retry_in)
    return table


def _retry_in(value: object) -> float | None:
    """BEP 31: minutes, or `never`."""
    if value == b"never":
        return float("inf")
    if isinstance(value, bytes) and len(value) < 8 and value.isdigit():  # as some write it
        value = int(value)
    return min(60.0 * value, _MAX_RETRY) if isinstance(value, int) and value >= 0 else None


def _external_ip(value: object) -> str | None:
    """BEP 24: 4 or 16 bytes."""
    if not isinstance(value, bytes) or len(value) not in (4, 16):
        return None
    address = ipaddress.ip_address(value)
    return None if address.is_unspecified or address.is_multicast else str(address)


def _count(table: Mapping[bytes, Any], key: bytes) -> int | None:
    value = table.get(key)
    return value if isinstance(value, int) and 0 <= value < _MAX_AMOUNT else None


def _tracker_id(table: Mapping[bytes, Any]) -> bytes | None:
    value = table.get(b"tracker id")
    if not isinstance(value, bytes) or not 0 < len(value) <= limits.MAX_TRACKER_ID_BYTES:
        return None
    return value


def _read_peers(table: Mapping[bytes, Any]) -> tuple[Address, ...]:
    found: list[Address] = []
    for key, ipv6 in ((b"peers", False), (b"peers6", True)):
        peers = table.get(key)
        if isinstance(peers, bytes):
            found += unpack_peers(peers, ipv6=ipv6)
        elif isinstance(peers, list):
            found += _dictionary_peers(peers)
    # the same peer in both forms, or twice, is one peer; the tracker's order is kept
    return tuple(dict.fromkeys(found))[: limits.MAX_TRACKER_PEERS]


def _dictionary_peers(peers: list[Any]) -> list[Address]:
    found: list[Address] = []
    for peer in peers[: limits.MAX_TRACKER_PEERS]:
        if not isinstance(peer, dict):
            raise RemoteProtocolError("a peer of the tracker's reply is not a dictionary")
        host, port = literal_address(peer.get(b"ip")), peer.get(b"port")
        if host is not None and isinstance(port, int) and 0 < port < 65536:
            found.append((host, port))
    return found


# -- the tracker's side ----------------------------------------------------------------------


def parse_query(query: str) -> AnnounceRequest:
    """The announce in the query of a URL (what is behind `?`), as a tracker gets it."""
    if len(query) > _MAX_QUERY_BYTES:
        raise RemoteProtocolError("the query is too long")
    try:
        # latin-1 gives each byte of a percent escape as one character
        pairs = dict(parse_qsl(query, keep_blank_values=True, encoding="latin-1"))
        event = pairs.get("event", "")
        if event not in _EVENTS:
            event = ""
        request = AnnounceRequest(
            info_hash=pairs["info_hash"].encode("latin-1"),
            peer_id=pairs["peer_id"].encode("latin-1"),
            port=_amount(pairs, "port", 65535),
            uploaded=_amount(pairs, "uploaded"),
            downloaded=_amount(pairs, "downloaded"),
            left=_amount(pairs, "left"),
            event=cast("AnnounceEvent", event),
            num_want=_amount(pairs, "numwant") if "numwant" in pairs else None,
            key=int(pairs.get("key") or "0", 16) & 0xFFFFFFFF,
            tracker_id=pairs["trackerid"].encode("latin-1") if "trackerid" in pairs else None,
            ip=literal_address(pairs.get("ip", "").encode("latin-1")),
        )
    except (KeyError, ValueError):
        raise RemoteProtocolError("this is no announce") from None
    if len(request.info_hash) != 20 or len(request.peer_id) != 20:
        raise RemoteProtocolError("info-hash and peer id have 20 bytes")
    return request


def parse_scrape_query(query: str) -> tuple[bytes, ...]:
    """The info-hashes of a scrape's query."""
    if len(query) > _MAX_QUERY_BYTES:
        raise RemoteProtocolError("the query is too long")
    pairs = parse_qsl(query, keep_blank_values=True, encoding="latin-1")
    found = tuple(value.encode("latin-1") for name, value in pairs if name == "info_hash")
    if any(len(each) != 20 for each in found):
        raise RemoteProtocolError("an info-hash has 20 bytes")
    return found


def _amount(pairs: Mapping[str, str], name: str, most: int = _MAX_AMOUNT) -> int:
    digits = pairs.get(name, "0")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20) or int(digits) > most:
        raise ValueError(name)
    return int(digits)


def encode_reply(reply: AnnounceReply, *, compact: bool = True) -> bytes:
    """A tracker's answer: IPv4 in `peers`, IPv6 in `peers6`; or dictionaries for both."""
    table: dict[str, object] = {"interval": reply.interval}
    optional = {
        "min interval": reply.min_interval,
        "complete": reply.seeders,
        "incomplete": reply.leechers,
        "warning message": reply.warning,
        "tracker id": reply.tracker_id,
        "external ip": reply.external_ip and ipaddress.ip_address(reply.external_ip).packed,
    }
    table.update((key, value) for key, value in optional.items() if value is not None)
    if compact:
        table["peers"] = pack_peers(reply.peers, ipv6=False)
        if peers6 := pack_peers(reply.peers, ipv6=True):
            table["peers6"] = peers6
    else:
        table["peers"] = [{"ip": host, "port": port} for host, port in reply.peers]
    return encode(table)


def encode_scrape(counts: Mapping[bytes, SwarmCounts]) -> bytes:
    """A tracker's answer to a scrape."""
    files = {}
    for info_hash, each in counts.items():
        named = {
            b"complete": each.seeders,
            b"incomplete": each.leechers,
            b"downloaded": each.downloaded,
        }
        files[info_hash] = {name: value for name, value in named.items() if value is not None}
    return encode({"files": files})


def encode_failure(reason: str, retry_in: int | str | None = None) -> bytes:
    """A tracker's refusal; `retry_in` in minutes, or `never`."""
    table: dict[str, object] = {"failure reason": reason}
    if retry_in is not None:
        table["retry in"] = retry_in
    return encode(table)
