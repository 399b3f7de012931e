"""What is said to a tracker and what it answers, the same over HTTP and UDP (BEP 3, 15, 48)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire import limits
from torrentfs.wire.text import printable

AnnounceEvent = Literal["", "started", "stopped", "completed"]

DEFAULT_INTERVAL = 1800
"""Seconds between announces when a tracker names none."""

Address = tuple[str, int]


class TrackerFailure(RemoteProtocolError):
    """The tracker refused; `str()` is its own reason, made printable and short.

    `retry_in` is after how many seconds it may be asked again for this torrent (BEP 31), infinite
    for never, None where it did not say.
    """

    def __init__(self, reason: bytes, retry_in: float | None = None) -> None:
        super().__init__(printable(reason) or "the tracker refused and gave no reason")
        self.retry_in = retry_in


@dataclass(frozen=True, slots=True)
class AnnounceRequest:
    """One announce. Hash and id are 20 bytes; amounts are bytes of payload in this session."""

    info_hash: bytes
    peer_id: bytes
    port: int
    uploaded: int = 0
    downloaded: int = 0
    left: int = 0
    event: AnnounceEvent = ""
    num_want: int | None = None
    """Peers wanted; None leaves it to the tracker."""
    key: int = 0
    """32 bits that stay the same while our address changes."""
    tracker_id: bytes | None = None
    """What this tracker told us to repeat (HTTP only)."""
    ip: str | None = None
    """Our address where it is not that of the socket."""


@dataclass(frozen=True, slots=True)
class AnnounceReply:
    """What a tracker answered; seconds and counts. `peers` are literal addresses with ports."""

    interval: int = DEFAULT_INTERVAL
    min_interval: int | None = None
    seeders: int | None = None
    leechers: int | None = None
    peers: tuple[Address, ...] = ()
    warning: str | None = None
    tracker_id: bytes | None = None
    external_ip: str | None = None
    """Where it sees us (BEP 24)."""


@dataclass(frozen=True, slots=True)
class SwarmCounts:
    """How many peers of one torrent a tracker knows (BEP 48); None where it did not say."""

    seeders: int | None = None
    leechers: int | None = None
    downloaded: int | None = None
    """Times that somebody has finished it."""

    def over(self, older: SwarmCounts) -> SwarmCounts:
        """These, and of what was not said the older ones."""
        return SwarmCounts(
            older.seeders if self.seeders is None else self.seeders,
            older.leechers if self.leechers is None else self.leechers,
            older.downloaded if self.downloaded is None else self.downloaded,
        )

    def or_more(self, other: SwarmCounts) -> SwarmCounts:
        """Of each number the greater: of two that count overlapping swarms."""
        return SwarmCounts(
            _greater(self.seeders, other.seeders),
            _greater(self.leechers, other.leechers),
            _greater(self.downloaded, other.downloaded),
        )


def _greater(one: int | None, other: int | None) -> int | None:
    return max((each for each in (one, other) if each is not None), default=None)


def clamped_interval(seconds: int) -> int:
    """An interval as we keep it: never negative, never more than a day."""
    return max(0, min(seconds, limits.MAX_INTERVAL))


def unpack_peers(packed: bytes, *, ipv6: bool) -> list[Address]:
    """Compact peers (BEP 23: 6 bytes each; BEP 7: 18); useless ones (port 0, address 0) left out.

    `RemoteProtocolError` when the length is no multiple. At most `MAX_TRACKER_PEERS` are taken.
    """
    width = 16 if ipv6 else 4
    step = width + 2
    if len(packed) % step:
        raise RemoteProtocolError(f"compact peers of {len(packed)} bytes")
    found: list[Address] = []
    for at in range(0, min(len(packed), step * limits.MAX_TRACKER_PEERS), step):
        port = int.from_bytes(packed[at + width : at + step])
        address = ipaddress.ip_address(packed[at : at + width])
        if port and not address.is_unspecified:
            found.append((str(address), port))
    return found


def pack_peers(peers: tuple[Address, ...], *, ipv6: bool) -> bytes:
    """The peers of one family in compact form; those of the other are left out."""
    version = 6 if ipv6 else 4
    packed = bytearray()
    for host, port in peers:
        address = ipaddress.ip_address(host)
        if address.version == version:
            packed += address.packed + port.to_bytes(2)
    return bytes(packed)


def literal_address(raw: object) -> str | None:
    """`raw` as the text of an IP address, or None.

    BEP 3 also allows host names among peers; looking names up for a stranger is not our job.
    """
    if not isinstance(raw, bytes) or len(raw) > 64:
        return None
    try:
        address = ipaddress.ip_address(raw.decode("ascii"))
    except ValueError:
        return None
    return None if address.is_unspecified or "%" in str(address) else str(address)


def is_websocket(url: str) -> bool:
    """Whether `url` is one of a WebSocket tracker."""
    return url[:6].lower().startswith(("ws://", "wss://"))
