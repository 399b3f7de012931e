"""The cache as a whole: the suite on every kind of cache, restarts, limits, trouble."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.storage import CacheConfig, PieceLost, open_cache
from torrentfs.storage.disk import DiskTree

from tests.storage.store_suite import StoreSuite
from tests.storage.torrents import KIB, Sample, make

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


class _Suite(StoreSuite):
    limits: dict[str, int]

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    @asynccontextmanager
    async def open_store(self, sample: Sample) -> AsyncIterator[TorrentStore]:
        async with opened(self.directory, sample, **self.limits) as (_, store, _):
            yield store


class TestBothTiers(_Suite):
    limits: dict[str, int] = {}


class TestHardlyAnyMemory(_Suite):
    limits = {"memory_limit": 40 * KIB}


class TestNoDisk(_Suite):
    limits: dict[str, int] = {}

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path
        (tmp_path / "cache").write_bytes(b"this is a file, not a directory")


async def test_a_complete_torrent_is_simply_its_files(tmp_path: Path) -> None:
    sample = make(version="hybrid")
    async with opened(tmp_path, sample) as (cache, store, _):
        await put_all(store, sample)
        await cache.flush()
    space = b"".join(sample.pieces)
    root = tree_of(tmp_path, sample) / sample.metainfo.name
    for file in sample.metainfo.files:
        path = root.joinpath(*file.path)
        if file.pad or not file.length:
            assert not path.exists()
        else:
            assert path.read_bytes() == space[file.start : file.start + file.length]


async def test_pieces_survive_a_restart_and_are_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = make()
    async with opened(tmp_path, sample) as (_, store, _):
        await put_all(store, sample)
    async with opened(tmp_path, sample) as (cache, store, _):
        monkeypatch.setattr(cache, "verifier", None)
        assert store.have.complete
        assert not store.statistics().unsure
        await read_all(store, sample)
        assert store.read_nowait(0, 5, 7) == sample.pieces[0][5:12]


async def test_metadata_is_found_by_either_hash(tmp_path: Path) -> None:
    sample = make(version="hybrid")
    hashes = sample.metainfo.hashes
    async with open_cache(config(tmp_path)) as cache:
        assert await cache.keep_metadata(sample.metainfo, 12.5) == 12.5
    async with open_cache(config(tmp_path)) as cache:
        assert await cache.keep_metadata(sample.metainfo, 99.0) == 12.5
        for known in (hashes, InfoHashes(v1=hashes.v1), InfoHashes(v2=hashes.v2)):
            stored = await cache.metadata(known)
            assert stored is not None
            assert stored.added == 12.5
            assert parse_torrent(stored.torrent).hashes == hashes
        assert await cache.metadata(InfoHashes(v1=bytes(20))) is None
