"""Caches in a directory of a test, and what is in them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.storage.torrents import KIB, Sample
from torrentfs.storage import CacheConfig, open_cache

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from torrentfs.storage import Cache, TorrentStore


MIB = KIB * KIB


def config(directory: Path, **limits: int) -> CacheConfig:
    return CacheConfig(
        directory / "cache", **{"size": 64 * MIB, "memory_limit": 16 * MIB, "min_free": 0, **limits}
    )


def ignore(pieces: Sequence[int]) -> None:
    """An `on_evicted` that does not care."""


def tree_of(directory: Path, sample: Sample, domain: str = "") -> Path:
    key = domain or sample.metainfo.hashes.key
    return directory / "cache" / "torrents" / key / "data"


def disk_bytes(tree: Path) -> int:
    return sum(p.lstat().st_blocks * 512 for p in tree.rglob("*") if p.is_file())


@asynccontextmanager
async def opened(
    directory: Path, sample: Sample, **limits: int
) -> AsyncIterator[tuple[Cache, TorrentStore, list[int]]]:
    lost: list[int] = []
    async with open_cache(config(directory, **limits)) as cache:
        store = await cache.open_torrent(sample.metainfo, lost.extend)
        yield cache, store, lost


async def put_all(store: TorrentStore, sample: Sample) -> None:
    for number in range(len(sample.pieces)):
        await store.put(number, sample.piece(number))


async def read_all(store: TorrentStore, sample: Sample) -> None:
    for number, piece in enumerate(sample.pieces):
        assert await store.read(number, 0, len(piece)) == piece
