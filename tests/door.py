"""A torrent whose every byte is in the cache already: read through the Python door with no network.

The cache is filled with storage's own methods, so what the door reads is what a mount would have
kept. Nothing is listened on, and nobody is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from tests.metainfo.torrents import PAYLOAD, PIECE_LENGTH, build
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.storage.base import CacheConfig
from torrentfs.storage.tiered import open_cache

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

SILENT: dict[str, Any] = {
    "tcp": False,
    "utp": False,
    "dht": False,
    "lsd": False,
    "webrtc": False,
    "web_seeds": False,
}


class Cached(NamedTuple):
    """A .torrent file, what its files hold, and the settings with which all of that is there."""

    torrent: Path
    files: dict[str, bytes]
    settings: dict[str, Any]


def cached(
    work: Path,
    payload: Mapping[tuple[str, ...], bytes] = PAYLOAD,
    *,
    name: str = "törrent",
    without: Collection[int] = (),
) -> Cached:
    """Put a torrent of `payload` below `work`, and its pieces into a cache, except some."""
    data = build("v1", payload, name=name)
    torrent = work / "t.torrent"
    torrent.write_bytes(data)
    whole = b"".join(payload.values())
    metainfo = parse_torrent(data)

    async def fill() -> None:
        async with open_cache(CacheConfig(work / "cache", min_free=0)) as cache:
            await cache.keep_metadata(metainfo, 1e9)
            store = await cache.open_torrent(metainfo, lambda _: None)
            for piece in range(metainfo.geometry.num_pieces):
                if piece not in without:
                    begin = piece * PIECE_LENGTH
                    await store.put(piece, bytearray(whole[begin : begin + PIECE_LENGTH]))

    trio.run(fill)
    files = {"/".join(path): content for path, content in payload.items()}
    settings = {**SILENT, "cache_dir": work / "cache", "min_free_space": 0}
    return Cached(torrent, files, settings)
