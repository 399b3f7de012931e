"""What a session is told by its user; each field is an option of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from torrentfs.scheduling.turns import IDLE, PLACES
from torrentfs.transports.webrtc.config import RtcConfig

if TYPE_CHECKING:
    from torrentfs.scheduling.ip_filter import IpFilter
    from torrentfs.transports.encrypted import Encryption
    from torrentfs.transports.proxy import Proxy

MIB = 1024 * 1024
GIB = 1024 * MIB


def default_cache_dir() -> Path:
    """The per-user cache directory of the platform (XDG_CACHE_HOME/torrentfs)."""
    return Path(platformdirs.user_cache_dir("torrentfs"))


@dataclass(frozen=True, slots=True)
class DhtConfig:
    """How to take part in the DHT."""

    bootstrap: tuple[tuple[str, int], ...] = ()
    """Hosts and ports of nodes to begin with, where those of the last time do not answer."""
    read_only: bool = False
    """Ask, and answer nobody (BEP 43)."""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Settings of one session; sizes in bytes, times in seconds."""

    cache_dir: Path = field(default_factory=default_cache_dir)
    cache_size: int = 10 * GIB
    memory_limit: int = 256 * MIB
    min_free: int = 512 * MIB
    readahead: int = 32 * MIB
    read_timeout: float = 120.0
    """Longest that a read waits without progress on a piece it needs."""
    port: int = 0
    """TCP port to listen on; 0 takes any free one."""
    bind: str | None = None
    """Local address every socket is bound to, or None for any."""
    proxy: Proxy | None = None
    """What every connection goes through; what cannot is off then (see `privacy`)."""
    listen: bool = True
    """Whether peers may connect to us over TCP."""
    tcp: bool = True
    utp: bool = False
    """Whether peers are reached over uTP, too (the command line does by default)."""
    pex: bool = True
    """Whether peers are told of each other (BEP 11)."""
    lsd: bool = False
    """Whether torrents are told to the local network (the command line does by default)."""
    encryption: Encryption = "off"
    """See `transports.encrypted` (the command line prefers it by default)."""
    rtc: RtcConfig | None = field(default_factory=RtcConfig)
    """How to speak WebRTC (`bind` above holds, not its own), or None for not at all."""
    dht: DhtConfig | None = field(default_factory=DhtConfig)
    """How to take part in the DHT, or None for not at all."""
    port_mapping: bool = False
    """Whether the gateway is asked to let peers in (the command line does by default)."""
    private: bool = False
    """Whether a magnet is taken for private until its metadata is known (see `privacy`)."""
    web_seeds: bool = True
    upload: bool = True
    download_limit: int | None = None
    upload_limit: int | None = None
    max_connections: int = 200
    """Peers connected at once in the whole session (libtorrent's default)."""
    max_peers: int = 50
    """Peers connected at once per torrent."""
    max_active: int = PLACES
    """Torrents of `Session.shelve` that have peers, trackers and web seeds at a time."""
    idle_timeout: float = IDLE
    """Seconds without a read or an upload until such a torrent goes back to sleep; 0: never."""
    max_half_open: int = 16
    """Connection attempts under way at once per torrent."""
    ip_filter: IpFilter | None = None
    """Addresses of peers never to talk to."""
    allow_local: bool = False
    """Whether a public URL may lead to an address of this host or its network."""
