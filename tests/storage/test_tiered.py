"""The cache as a whole: the suite on every kind of cache, restarts, trouble with the disk."""

from __future__ import annotations

import resource
import shutil
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import trio

from tests.storage.caches import (
    MIB,
    config,
    disk_bytes,
    ignore,
    opened,
    put_all,
    read_all,
    tree_of,
)
from tests.storage.store_suite import StoreSuite
from tests.storage.torrents import KIB, Sample, make
from torrentfs.errors import StorageError
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.storage import Cache, open_cache, tiered
from torrentfs.storage.catalog import Known

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from torrentfs.storage import TorrentStore


class _Suite(StoreSuite):
    limits: ClassVar[dict[str, int]]

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    @asynccontextmanager
    async def open_store(self, sample: Sample) -> AsyncIterator[TorrentStore]:
        async with opened(self.directory, sample, **self.limits) as (_, store, _):
            yield store


class TestBothTiers(_Suite):
    limits: ClassVar[dict[str, int]] = {}


class TestHardlyAnyMemory(_Suite):
    limits: ClassVar[dict[str, int]] = {"memory_limit": 40 * KIB}


@pytest.mark.expect_log("going on in memory")
class TestNoDisk(_Suite):
    limits: ClassVar[dict[str, int]] = {}

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


async def test_what_we_wrote_ourselves_is_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = make()
    async with opened(tmp_path, sample, memory_limit=0) as (cache, store, _):
        monkeypatch.setattr(cache, "verifier", None)
        for number in reversed(range(len(sample.pieces))):
            await store.put(number, sample.piece(number))
            await cache.flush()
            assert await store.read(number, 0, 1) == sample.pieces[number][:1]
        await read_all(store, sample)
        assert not store.statistics().unsure


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


@pytest.mark.expect_log("metadata of")
async def test_damaged_metadata_is_not_given_out(tmp_path: Path) -> None:
    sample = make()
    async with open_cache(config(tmp_path)) as cache:
        await cache.keep_metadata(sample.metainfo, 1.0)
    with sqlite3.connect(tmp_path / "cache" / "catalog.sqlite") as db:
        db.execute("UPDATE metadata SET torrent = ?", (sample.metainfo.to_torrent() + b"e",))
    db.close()
    async with open_cache(config(tmp_path)) as cache:
        assert await cache.metadata(sample.metainfo.hashes) is None
        await cache.keep_metadata(sample.metainfo, 2.0)
        assert await cache.metadata(sample.metainfo.hashes) is not None


# --- trouble ---


async def serve_on(store: TorrentStore, cache: Cache, sample: Sample) -> None:
    """Everything that is put is right when it is read, whatever the disk does."""
    for number, piece in enumerate(sample.pieces):
        await store.put(number, sample.piece(number))
        await cache.flush()
        assert await store.read(number, 0, len(piece)) == piece


@pytest.mark.expect_log("going on in memory")
async def test_a_write_that_fails_half_way_is_not_believed(tmp_path: Path) -> None:
    sample = make(600_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with opened(tmp_path, sample) as (cache, store, _):
        await store.put(0, sample.piece(0))
        await cache.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
        try:
            await serve_on(store, cache, sample)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert cache.trouble
        assert store.statistics().on_disk < len(sample.pieces)
    async with opened(tmp_path, sample) as (_, store, _):
        for number in store.have:
            assert await store.read(number, 0, 100) == sample.pieces[number][:100]


@pytest.mark.expect_log("going on in memory")
async def test_a_directory_that_vanishes_does_not_stop_reads(tmp_path: Path) -> None:
    sample = make()
    async with opened(tmp_path, sample) as (cache, store, _):
        await store.put(0, sample.piece(0))
        await cache.flush()
        shutil.rmtree(tmp_path / "cache")
        await serve_on(store, cache, sample)
        assert not tree_of(tmp_path, sample).exists()


@pytest.mark.expect_log("the disk does not answer; going on in memory")
async def test_a_disk_that_hangs_holds_up_what_is_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = make(2_000_000)
    half = len(sample.pieces) // 2
    async with opened(tmp_path, sample, memory_limit=512 * KIB) as (cache, store, _):
        write, answers = cache.vault.write, trio.Event()

        async def hang(*args: Any) -> list[int]:
            await answers.wait()
            return await write(*args)

        monkeypatch.setattr(cache.vault, "write", hang)
        monkeypatch.setattr(tiered, "STUCK_SECONDS", 0.1)
        for number in range(half):
            await store.put(number, sample.piece(number))
            assert await store.read(number, 0, 100) == sample.pieces[number][:100]
            assert cache.memory.size <= 512 * KIB + len(sample.pieces[0])
        assert cache.trouble == "the disk does not answer"
        monkeypatch.setattr(tiered, "STUCK_SECONDS", 60.0)
        answers.set()
        await cache.flush()
        assert cache.trouble is None
        for number in range(half, len(sample.pieces)):
            await store.put(number, sample.piece(number))
        await cache.flush()
        assert store.statistics().on_disk >= len(sample.pieces) - half


@pytest.mark.expect_log("no room")
async def test_min_free_is_left_free(tmp_path: Path) -> None:
    sample = make()
    async with opened(tmp_path, sample, min_free=1 << 60) as (cache, store, _):
        await serve_on(store, cache, sample)
        assert not disk_bytes(tree_of(tmp_path, sample))


async def test_a_cancelled_user_still_leaves_a_clean_cache(tmp_path: Path) -> None:
    sample = make()
    with trio.CancelScope() as scope:
        async with opened(tmp_path, sample) as (_, store, _):
            await put_all(store, sample)
            scope.cancel()
            await trio.sleep_forever()
    async with opened(tmp_path, sample) as (_, store, _):
        assert store.have.complete
        assert not store.statistics().unsure


async def test_an_error_of_the_user_is_not_wrapped(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_cache(config(tmp_path)):
            raise ZeroDivisionError


def test_a_torrent_of_many_files_creates_none_before_it_is_needed(tmp_path: Path) -> None:
    sample = make(tuple((f"d/{n}", 1) for n in range(2000)))

    async def main() -> None:
        async with opened(tmp_path, sample):
            assert not list(tree_of(tmp_path, sample).iterdir())

    trio.run(main)


async def test_useful_peers_are_remembered_as_long_as_there_is_a_catalog(tmp_path: Path) -> None:
    hashes = InfoHashes(v1=bytes(20))
    async with open_cache(config(tmp_path)) as cache:
        assert await cache.peers(hashes, 0.0) == []
        await cache.keep_peers(hashes, [("10.0.0.1", 1), ("10.0.0.2", 2)], [], 1.0)
        await cache.keep_peers(hashes, [], [("10.0.0.1", 1)], 1.0)
    async with open_cache(config(tmp_path)) as cache:
        assert await cache.peers(hashes, 2.0) == [("10.0.0.2", 2)]


@pytest.mark.expect_log("going on in memory")
async def test_without_a_catalog_nobody_is_remembered(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"this is a file, not a directory")
    hashes = InfoHashes(v1=bytes(20))
    async with open_cache(config(tmp_path)) as cache:
        await cache.keep_peers(hashes, [("10.0.0.1", 1)], [], 1.0)
        assert await cache.peers(hashes, 2.0) == []


async def test_the_cache_tells_who_takes_how_much_and_shrinks(tmp_path: Path) -> None:
    small, large = make(), make(4 * MIB, name="large")
    async with open_cache(config(tmp_path)) as cache:
        store = await cache.open_torrent(large.metainfo, ignore)
        await put_all(store, large)
        await cache.close_torrent(store)
        lost: list[int] = []
        store = await cache.open_torrent(small.metainfo, lost.extend)
        await put_all(store, small)
        await cache.flush()
        uses = await cache.uses()
        assert [(use.key, use.open) for use in uses] == [
            (large.metainfo.hashes.key, False),
            (small.metainfo.hashes.key, True),
        ]
        assert uses[0].used >= 4 * MIB
        freed = await cache.shrink(1 * MIB)  # the idle one was used longer ago
        assert freed >= 3 * MIB
        assert sum(use.used for use in await cache.uses()) <= 1 * MIB
        assert not lost
        assert await cache.shrink(1 * MIB) == 0
        await cache.shrink(0)
        assert sum(use.used for use in await cache.uses()) == 0


async def test_a_cache_without_a_disk_says_so(tmp_path: Path) -> None:
    cache = Cache(config(tmp_path))
    with pytest.raises(StorageError, match="in memory only"):
        await cache.uses()
    with pytest.raises(StorageError, match="in memory only"):
        await cache.shrink(0)


async def test_many_are_kept_at_once_with_what_is_here_of_them(tmp_path: Path) -> None:
    sample, other = make(), make(version="v2")
    both = [sample.metainfo, other.metainfo]
    async with opened(tmp_path, sample) as (cache, store, _):
        await store.put(0, sample.piece(0))
        await cache.flush()
        known = await cache.keep_many(both, [1.0, 2.0])
        assert [row.pieces for row in known] == [1, 0]
        assert known[1].added == 2.0
    async with open_cache(config(tmp_path)) as cache:
        assert await cache.keep_many(both, [8.0, 9.0]) == known


async def test_without_a_disk_nothing_is_known(tmp_path: Path) -> None:
    cache = Cache(config(tmp_path))  # never opened
    assert await cache.keep_many([make().metainfo], [3.0]) == [Known(3.0, 0)]
