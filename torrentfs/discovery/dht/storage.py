"""The peers that others announced to us, as our share of the table.

Everything is bounded, because anybody can announce: peers per torrent, torrents, and torrents per
host (whose announcements beyond are refused). When there are too many torrents, the one farthest
from our id goes: it is for other nodes to keep, who are closer to it. A peer is forgotten
`LIFETIME` seconds after its last announce.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from torrentfs.discovery.dht.addresses import is_ipv6, owner
from torrentfs.discovery.dht.ids import distance

if TYPE_CHECKING:
    from random import Random

    from torrentfs.wire.krpc import Address

LIFETIME = 45 * 60.0
"""Seconds. Clients announce every 15 (libtorrent) to 30 minutes."""

MAX_TORRENTS = 2000
"""As libtorrent."""

MAX_PEERS = 500
"""Of one torrent; as libtorrent."""

MAX_PER_HOST = 100
"""Announcements of one host that are kept; one client has some dozens of torrents near us."""


class Storage:
    """Announced peers by info-hash."""

    def __init__(self, rng: Random) -> None:
        self.peers = 0
        self._rng = rng
        self._torrents: dict[bytes, dict[Address, float]] = {}  # to the time of its last announce
        self._per_host: Counter[object] = Counter()

    def add(self, info_hash: bytes, peer: Address, own_id: bytes, now: float) -> bool:
        """A peer announced itself; False when it is one too many."""
        torrent = self._torrents.get(info_hash, {})
        if peer in torrent:
            del torrent[peer]  # so that the oldest stay in front
            torrent[peer] = now
            return True
        if self._per_host[owner(peer)] >= MAX_PER_HOST:
            return False
        if not torrent and not self._make_room(info_hash, own_id, now):
            return False
        while len(torrent) >= MAX_PEERS:
            self._forget(info_hash, next(iter(torrent)))
        self._torrents.setdefault(info_hash, torrent)[peer] = now
        self._per_host[owner(peer)] += 1
        self.peers += 1
        return True

    def _make_room(self, info_hash: bytes, own_id: bytes, now: float) -> bool:
        if len(self._torrents) < MAX_TORRENTS:
            return True
        self.expire(now)
        if len(self._torrents) < MAX_TORRENTS:
            return True
        farthest = max(self._torrents, key=lambda known: distance(known, own_id))
        if distance(farthest, own_id) < distance(info_hash, own_id):
            return False
        for peer in list(self._torrents[farthest]):
            self._forget(farthest, peer)
        return True

    def _forget(self, info_hash: bytes, peer: Address) -> None:
        torrent = self._torrents[info_hash]
        del torrent[peer]
        if not torrent:
            del self._torrents[info_hash]
        self.peers -= 1
        self._per_host[owner(peer)] -= 1
        if not self._per_host[owner(peer)]:
            del self._per_host[owner(peer)]

    def sample(self, info_hash: bytes, most: int, *, ipv6: bool, now: float) -> tuple[Address, ...]:
        """Up to `most` peers of one family, at random."""
        peers = [
            peer
            for peer, seen in self._torrents.get(info_hash, {}).items()
            if seen + LIFETIME > now and is_ipv6(peer) is ipv6
        ]
        return tuple(self._rng.sample(peers, min(most, len(peers))))

    def info_hashes(self) -> list[bytes]:
        """The torrents that have announced peers, in no order that tells anything."""
        return list(self._torrents)

    def __contains__(self, info_hash: bytes) -> bool:
        return info_hash in self._torrents

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        for info_hash, torrent in list(self._torrents.items()):
            for peer in [peer for peer, seen in torrent.items() if seen + LIFETIME <= now]:
                self._forget(info_hash, peer)

    def __len__(self) -> int:
        return len(self._torrents)

    def __repr__(self) -> str:
        return f"<Storage {self.peers} peers of {len(self)} torrents>"
