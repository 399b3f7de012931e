"""Numbers about a living session, frozen at one moment: for the status line, xattrs and tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torrentfs.discovery.dht.node import DhtStatistics
    from torrentfs.discovery.port_mapping import PortMappingStatistics
    from torrentfs.discovery.tracker import TrackerStatistics
    from torrentfs.discovery.websocket_statistics import SignallingStatistics
    from torrentfs.transports.webrtc.bridge import RtcStatistics


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """One source of a torrent: a connected peer or a web seed. Rates are bytes a second."""

    address: str
    kind: str
    client: str
    progress: float
    downloaded: int
    uploaded: int
    download_rate: float
    upload_rate: float
    flags: str
    """`d` we want and they choke us, `D` we may ask; `u`/`U` the same the other way round."""


@dataclass(frozen=True, slots=True)
class TorrentStatistics:
    """One torrent."""

    name: str
    key: str
    state: str
    size: int
    pieces_have: int
    pieces_total: int
    download_rate: float
    upload_rate: float
    downloaded: int
    uploaded: int
    wasted: int
    hash_failures: int
    waiting_reads: int
    peers: tuple[PeerStatistics, ...] = ()
    bytes_by_kind: Mapping[str, int] = field(default_factory=dict)
    trackers: tuple[TrackerStatistics, ...] = ()
    """In the order in which they are asked."""

    @property
    def progress(self) -> float:
        """Share of the pieces that are here, 0 to 1."""
        return self.pieces_have / self.pieces_total if self.pieces_total else 1.0


@dataclass(frozen=True, slots=True)
class WebRtcStatistics:
    """Browsers as peers, for all torrents: what there is, and what went through their trackers."""

    bridge: RtcStatistics
    signalling: SignallingStatistics


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """All torrents of a session."""

    port: int
    torrents: tuple[TorrentStatistics, ...] = ()
    dht: DhtStatistics | None = None
    mapping: PortMappingStatistics | None = None
    webrtc: WebRtcStatistics | None = None
    """None: it is off, or no torrent had a WebSocket tracker so far."""
    proxy: str = ""
    """What goes through it, and what is off, in words."""
