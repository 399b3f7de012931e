"""WebTorrent's tracker protocol: JSON messages over a WebSocket, by which browsers find peers.

There is no BEP; this is what the `bittorrent-tracker` package does, and after it libtorrent,
anacrolix/torrent and aquatic. A tracker passes session descriptions (SDP) between peers that
cannot reach each other yet:

    client                                tracker                          peers of the swarm
    announce(event, offers)          ->
                                     <-   announced(interval, counts)
                                          offer 1 to some peer, 2 to another ...  -> PeerOffer
                                          answer(to_peer_id, offer_id, sdp)       <-
                                     <-   PeerAnswer

One socket serves any number of torrents, so each message names its info-hash. Nothing ties a
message to an announce: a reply is a message with counts or an interval, and one message may be a
reply, an offer and an answer at once; `parse_messages` gives a value for each. Binary strings are
text whose characters are the bytes (latin-1).

Anything malformed is a `RemoteProtocolError`; what is merely missing is None. Sizes are capped
by `limits` before anything is decoded, and nesting by the JSON decoder's own limit. The second
half is the tracker's side.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast, get_args

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.wire import limits
from torrentfs.wire.announce import (
    AnnounceEvent,
    AnnounceReply,
    AnnounceRequest,
    TrackerFailure,
    clamped_interval,
)
from torrentfs.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_INTERVAL = 120
"""Seconds between announces when a tracker names none: what `bittorrent-tracker` names."""

MAX_SCRAPED = 1000
"""Torrents taken from one answer to a scrape."""

_MAX_AMOUNT = 1 << 63
_EVENTS = get_args(AnnounceEvent)


@dataclass(frozen=True, slots=True)
class Offer:
    """A session description for whichever peer the tracker picks; `offer_id` has 20 bytes."""

    offer_id: bytes
    sdp: str


# -- what a client says -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Announce:
    """An announce (its port and address mean nothing here) with an offer for each peer wanted."""

    request: AnnounceRequest
    offers: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """`peer_id` answers the offer that `to_peer_id` made."""

    info_hash: bytes
    peer_id: bytes
    to_peer_id: bytes
    offer_id: bytes
    sdp: str


@dataclass(frozen=True, slots=True)
class Scrape:
    """How many peers have these torrents?"""

    info_hashes: tuple[bytes, ...]


Request = Announce | Answer | Scrape


# -- what a tracker says ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Announced:
    """The tracker answered an announce. Its reply never has peers."""

    info_hash: bytes
    reply: AnnounceReply


@dataclass(frozen=True, slots=True)
class Refused:
    """The tracker refused something; None where it did not say of which torrent."""

    info_hash: bytes | None
    failure: TrackerFailure


@dataclass(frozen=True, slots=True)
class PeerOffer:
    """A peer of the swarm wants to connect. `offer_id` is as that peer chose it."""

    info_hash: bytes
    peer_id: bytes
    offer_id: bytes
    sdp: str


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """A peer took an offer of ours."""

    info_hash: bytes
    peer_id: bytes
    offer_id: bytes
    sdp: str


@dataclass(frozen=True, slots=True)
class Scraped:
    """Counts of one torrent; None where the tracker did not say."""

    info_hash: bytes
    seeders: int | None
    leechers: int | None
    downloads: int | None


Message = Announced | Refused | PeerOffer | PeerAnswer | Scraped


def encode_request(request: Request) -> str:
    """What to send. Wrong sizes of our own are a `LocalProtocolError`."""
    match request:
        case Announce(announce, offers):
            table: dict[str, object] = {
                "action": "announce",
                "info_hash": _text(announce.info_hash, 20),
                "peer_id": _text(announce.peer_id, 20),
                "uploaded": announce.uploaded,
                "downloaded": announce.downloaded,
                "left": announce.left,
                "numwant": len(offers),
                "offers": [
                    {"offer_id": _text(offer.offer_id, 20), "offer": _sdp("offer", offer.sdp)}
                    for offer in offers
                ],
            }
            if announce.event:
                table["event"] = announce.event
            if announce.tracker_id is not None:
                table["trackerid"] = announce.tracker_id.decode("latin-1")
        case Answer(info_hash, peer_id, to_peer_id, offer_id, sdp):
            table = {
                "action": "announce",
                "info_hash": _text(info_hash, 20),
                "peer_id": _text(peer_id, 20),
                "to_peer_id": _text(to_peer_id, 20),
                "offer_id": _text(offer_id),
                "answer": _sdp("answer", sdp),
            }
        case Scrape(info_hashes):
            table = {"action": "scrape", "info_hash": [_text(each, 20) for each in info_hashes]}
    return json.dumps(table, separators=(",", ":"))


def parse_messages(data: str | bytes) -> tuple[Message, ...]:
    """What the tracker says in one WebSocket message, a reply before an offer or answer."""
    table = _decode(data)
    action = table.get("action", "announce")
    reason = table.get("failure reason")
    if reason is not None:
        failure = TrackerFailure(_bytes(reason) if isinstance(reason, str) else b"")
        return (Refused(_info_hash_or_none(table), failure),)
    if action == "scrape":
        return _scraped(table)
    if action != "announce":
        raise RemoteProtocolError(f"a message of action {_shown(action)}")
    info_hash = _binary(table, "info_hash", 20)
    found: list[Message] = []
    offered, answered = table.get("offer"), table.get("answer")
    counts = ("interval", "min interval", "min_interval", "complete", "incomplete")
    if (offered is None and answered is None) or any(name in table for name in counts):
        found.append(Announced(info_hash, _reply(table)))
    for kind, value in ((PeerOffer, offered), (PeerAnswer, answered)):
        if value is not None:
            peer_id = _binary(table, "peer_id", 20)
            offer_id = _binary(table, "offer_id", 1, limits.MAX_OFFER_ID_BYTES)
            found.append(kind(info_hash, peer_id, offer_id, _read_sdp(value)))
    return tuple(found)


def _decode(data: str | bytes) -> dict[str, Any]:
    if len(data) > limits.MAX_SIGNAL_BYTES:
        raise RemoteProtocolError(f"a message of {len(data)} bytes")
    try:
        text = data if isinstance(data, str) else data.decode()
        table = _JSON.decode(text)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("a message that is no JSON") from None
    if not isinstance(table, dict):
        raise RemoteProtocolError("a message that is no JSON object")
    return table


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


_JSON = json.JSONDecoder(parse_constant=_no_number)


def _reply(table: Mapping[str, Any]) -> AnnounceReply:
    interval = _count(table, "interval")
    least = _count(table, "min interval")
    if least is None:
        least = _count(table, "min_interval")  # libtorrent reads it under this name
    warning = table.get("warning message")
    tracker_id = table.get("tracker id")
    return AnnounceReply(
        interval=clamped_interval(interval or least or DEFAULT_INTERVAL),
        min_interval=None if least is None else clamped_interval(least),
        seeders=_count(table, "complete"),
        leechers=_count(table, "incomplete"),
        warning=printable(_bytes(warning)) if isinstance(warning, str) else None,
        tracker_id=_tracker_id(tracker_id),
    )


def _tracker_id(value: object) -> bytes | None:
    if not isinstance(value, str) or not 0 < len(value) <= limits.MAX_TRACKER_ID_BYTES:
        return None
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return None


def _scraped(table: Mapping[str, Any]) -> tuple[Scraped, ...]:
    files = table.get("files")
    if not isinstance(files, dict):
        raise RemoteProtocolError("an answer to a scrape without torrents")
    found = []
    for name, counts in list(files.items())[:MAX_SCRAPED]:
        info_hash = _info_hash_or_none({"info_hash": name})
        if info_hash is not None and isinstance(counts, dict):
            names = ("complete", "incomplete", "downloaded")
            found.append(Scraped(info_hash, *(_count(counts, each) for each in names)))
    return tuple(found)


def _count(table: Mapping[str, Any], name: str) -> int | None:
    value = table.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if 0 <= value < _MAX_AMOUNT else None


def _binary(table: Mapping[str, Any], name: str, least: int, most: int | None = None) -> bytes:
    value = table.get(name)
    if isinstance(value, str) and least <= len(value) <= (most or least):
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            pass
    raise RemoteProtocolError(f"a message without a usable {name}")


def _info_hash_or_none(table: Mapping[str, Any]) -> bytes | None:
    try:
        return _binary(table, "info_hash", 20)
    except RemoteProtocolError:
        return None


def _read_sdp(value: object) -> str:
    sdp = value.get("sdp") if isinstance(value, dict) else None
    if not isinstance(sdp, str) or not sdp:
        raise RemoteProtocolError("a message without a session description")
    try:
        size = len(sdp) if sdp.isascii() else len(sdp.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        raise RemoteProtocolError("a session description that is no text") from None
    if size > limits.MAX_SDP_BYTES:
        raise RemoteProtocolError(f"a session description of {size} bytes")
    return sdp


def _sdp(kind: str, sdp: str) -> dict[str, str]:
    if len(sdp.encode()) > limits.MAX_SDP_BYTES:
        raise LocalProtocolError("a session description of ours is too long")
    return {"type": kind, "sdp": sdp}


def _text(raw: bytes, size: int | None = None) -> str:
    if size is not None and len(raw) != size:
        raise LocalProtocolError(f"{raw!r} has not {size} bytes")
    return raw.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text[: limits.MAX_TEXT_BYTES].encode("utf-8", "replace")


def _shown(value: object) -> str:
    return repr(printable(_bytes(value))) if isinstance(value, str) else type(value).__name__


# -- the tracker's side -------------------------------------------------------------------------


def parse_request(data: str | bytes) -> Request:
    """What a client says."""
    table = _decode(data)
    if table.get("action") == "scrape":
        hashes = table.get("info_hash")
        many = hashes if isinstance(hashes, list) else [hashes]
        return Scrape(tuple(_binary({"info_hash": each}, "info_hash", 20) for each in many))
    if table.get("action") != "announce":
        raise RemoteProtocolError("a request without an action")
    info_hash, peer_id = _binary(table, "info_hash", 20), _binary(table, "peer_id", 20)
    if table.get("answer") is not None:
        return Answer(
            info_hash,
            peer_id,
            _binary(table, "to_peer_id", 20),
            _binary(table, "offer_id", 1, limits.MAX_OFFER_ID_BYTES),
            _read_sdp(table["answer"]),
        )
    event = table.get("event")
    offers = table.get("offers")
    return Announce(
        AnnounceRequest(
            info_hash=info_hash,
            peer_id=peer_id,
            port=0,
            uploaded=_count(table, "uploaded") or 0,
            downloaded=_count(table, "downloaded") or 0,
            left=_count(table, "left") or 0,
            event=cast("AnnounceEvent", event) if event in _EVENTS else "",
            num_want=_count(table, "numwant"),
            tracker_id=_tracker_id(table.get("trackerid")),
        ),
        tuple(_offer(each) for each in offers) if isinstance(offers, list) else (),
    )


def _offer(value: object) -> Offer:
    if not isinstance(value, dict):
        raise RemoteProtocolError("an offer that is no JSON object")
    return Offer(_binary(value, "offer_id", 20), _read_sdp(value.get("offer")))


def encode_message(message: Message) -> str:
    """What a tracker sends."""
    table: dict[str, object] = {"action": "announce"}
    if not isinstance(message, Scraped) and message.info_hash is not None:
        table["info_hash"] = _text(message.info_hash)
    match message:
        case Announced(_, reply):
            optional = {
                "interval": reply.interval,
                "min interval": reply.min_interval,
                "complete": reply.seeders,
                "incomplete": reply.leechers,
                "warning message": reply.warning,
                "tracker id": reply.tracker_id and reply.tracker_id.decode("latin-1"),
            }
            table.update((name, value) for name, value in optional.items() if value is not None)
        case Refused(_, failure):
            table["failure reason"] = str(failure)
        case PeerOffer(_, peer_id, offer_id, sdp):
            table.update(peer_id=_text(peer_id), offer_id=_text(offer_id), offer=_sdp("offer", sdp))
        case PeerAnswer(_, peer_id, offer_id, sdp):
            table.update(peer_id=_text(peer_id), offer_id=_text(offer_id))
            table["answer"] = _sdp("answer", sdp)
        case Scraped(info_hash, seeders, leechers, downloads):
            named = {"complete": seeders, "incomplete": leechers, "downloaded": downloads}
            counts = {name: value for name, value in named.items() if value is not None}
            table = {"action": "scrape", "files": {_text(info_hash): counts}}
    return json.dumps(table, separators=(",", ":"))
