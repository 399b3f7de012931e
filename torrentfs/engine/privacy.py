"""Who may learn of a torrent: the one place that decides it (BEP 27).

The peers of a private torrent come from its own trackers, and from what the user names, and from
nobody else: it is looked up in no DHT, exchanged with no peer, told to no local network. Whether a
torrent is private stands in its metadata; before a magnet's is known, the user's word
(`--private`) counts, and without it the torrent is taken for a public one, as most are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torrentfs.engine.config import SessionConfig


@dataclass(frozen=True, slots=True)
class Ways:
    """Ways to find peers, besides trackers and the user, that a torrent may use."""

    dht: bool
    """Ask it, announce there, say the port of our node (BEP 5)."""
    peer_exchange: bool
    """Tell peers of each other (BEP 11)."""
    local_discovery: bool
    """Multicast the info-hash (BEP 14)."""


def is_private(config: SessionConfig, private: bool | None) -> bool:
    """Whether a torrent is private; `private` is what its metadata says, None while unknown."""
    return config.private if private is None else private


def ways(config: SessionConfig, private: bool | None) -> Ways:
    """What a torrent may use, of what the user left switched on."""
    public = not is_private(config, private)
    return Ways(
        dht=public and config.dht is not None,
        peer_exchange=public and config.pex,
        local_discovery=public and config.lsd,
    )
