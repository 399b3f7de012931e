"""Bytes at rest: verified pieces in memory and on disk, within limits, across restarts.

`open_cache(CacheConfig(...))` gives a `Cache`; `Cache.open_torrent` a `TorrentStore`. All else
is inside: `memory` (RAM), `tiered` (the writer between memory and disk), `store` (one torrent: what
can be trusted), `vault` (all torrents: space), `shelf` (one torrent on disk), `disk` (its files),
`catalog` (SQLite), `locks` (several processes).
"""

from __future__ import annotations

from torrentfs.storage.base import (
    CacheConfig,
    CacheStatistics,
    PieceLost,
    PieceStore,
    StoredMetadata,
    StoreStatistics,
)
from torrentfs.storage.tiered import Cache, TorrentStore, open_cache

__all__ = [
    "Cache",
    "CacheConfig",
    "CacheStatistics",
    "PieceLost",
    "PieceStore",
    "StoreStatistics",
    "StoredMetadata",
    "TorrentStore",
    "open_cache",
]
