"""Who may learn of a torrent: the one place that decides it (BEP 27).

The peers of a private torrent come from its own trackers, and from what the user names, and from
nobody else: it is looked up in no DHT, exchanged with no peer, told to no local network. Its own
trackers are those of whoever knows it best: its .torrent, else its magnet link, else the mount
(`trackers_of`). Whether a torrent is private stands in its metadata; before a magnet's is known,
the user's word (`--private`) counts, and without it the torrent is taken for a public one, as most
are. Peers and web seeds that the user names are asked all the same: who is asked for bytes tells
nobody of us, as a tracker does, and libtorrent has it so.

And the one place that decides what is left of a session behind a proxy (`--proxy`): who asks for
one wants to be seen by nobody else. What cannot go through it is off, never sent beside it: all of
UDP, and so uTP, the DHT, WebRTC and UDP trackers (`discovery.trackers` passes these over); what
asks the local network (local discovery, port mapping); and peers that come to us.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.engine.config import SessionConfig


log = logging.getLogger(__name__)

Named = TypeVar("Named")

OFF_BEHIND_PROXY: dict[str, Any] = {
    "utp": False,
    "dht": None,
    "rtc": None,
    "lsd": False,
    "port_mapping": False,
    "listen": False,
}
"""Fields of a `SessionConfig`, and what they are behind a proxy."""
_NAMES = "uTP, DHT, WebRTC, local discovery, port mapping, UDP trackers, incoming peers"


@dataclass(frozen=True, slots=True)
class Ways:
    """Ways to find peers, besides trackers and the user, that a torrent may use."""

    dht: bool
    """Ask it, announce there, say the port of our node (BEP 5)."""
    peer_exchange: bool
    """Tell peers of each other (BEP 11)."""
    local_discovery: bool
    """Multicast the info-hash (BEP 14)."""
    hole_punching: bool
    """Tell peers behind NAT when to dial each other, and be told so (BEP 55). It is of use only
    with peer exchange, says no less about peers, and goes over uTP."""


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
        hole_punching=public and config.pex and config.utp and config.proxy is None,
    )


def trackers_of(private: bool, *named: Sequence[Named]) -> list[Named]:
    """Whom to announce to, of the trackers (or tiers) that each teller named, the best one first.

    Tellers are the torrent itself, the magnet link, the mount. All of them count, but of a private
    torrent only the first that names any: what is for every torrent must not learn of this one.
    """
    if private:
        return list(next(filter(None, named), ()))
    return [one for each in named for one in each]


def behind_proxy(config: SessionConfig) -> SessionConfig:
    """The settings less what cannot go through the proxy, if there is one; says so in the log."""
    if config.proxy is None:
        return config
    log.info("%s", proxy_words(config))
    return replace(config, **OFF_BEHIND_PROXY)


def proxy_words(config: SessionConfig) -> str:
    """What goes through the proxy and what is off; empty without one."""
    if config.proxy is None:
        return ""
    return f"everything goes through {config.proxy}; off, as they cannot: {_NAMES}"
