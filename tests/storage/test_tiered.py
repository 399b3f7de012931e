"""The cache as a whole: the suite on every kind of cache, restarts, limits, trouble."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import pytest
import trio

from tests.storage.store_suite import StoreSuite
from tests.storage.torrents import KIB, Sample, make
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.storage import CacheConfig, PieceLost, open_cache

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


# --- damage ---


def crash(directory: Path) -> None:
    """Make the directory look as if the process had died: a copy of it while it is in use."""
    shutil.copytree(directory / "cache", directory / "copy" / "cache")


async def test_after_an_unclean_stop_each_piece_is_checked_before_its_first_use(
    tmp_path: Path,
) -> None:
    sample = make()
    async with opened(tmp_path, sample) as (cache, store, _):
        await put_all(store, sample)
        await cache.flush()
        crash(tmp_path)
    torn = tree_of(tmp_path / "copy", sample) / "sample" / "z" / "three.bin"
    with torn.open("r+b") as file:
        file.seek(100_000)
        file.write(bytes(20_000))
    bad = {p for p, _, _ in sample.metainfo.geometry.file_spans(3, 100_000, 20_000)}
    async with opened(tmp_path / "copy", sample) as (_, store, lost):
        assert store.have.complete
        assert store.statistics().unsure == len(sample.pieces)
        for number, piece in enumerate(sample.pieces):
            assert store.read_nowait(number, 0, 1) is None
            if number in bad:
                with pytest.raises(PieceLost):
                    await store.read(number, 0, len(piece))
            else:
                assert await store.read(number, 0, len(piece)) == piece
        assert set(lost) == bad
        assert not store.statistics().unsure
        for number in bad:
            await store.put(number, sample.piece(number))
    async with opened(tmp_path / "copy", sample) as (_, store, _):
        assert store.have.complete
        assert not store.statistics().unsure
        await read_all(store, sample)


async def test_what_was_not_checked_stays_unsure_over_a_clean_stop(tmp_path: Path) -> None:
    sample = make()
    async with opened(tmp_path, sample) as (cache, store, _):
        await put_all(store, sample)
        await cache.flush()
        crash(tmp_path)
    async with opened(tmp_path / "copy", sample) as (_, store, _):
        await store.read(1, 0, 1)
    async with opened(tmp_path / "copy", sample) as (_, store, _):
        assert store.statistics().unsure == len(sample.pieces) - 1
        await read_all(store, sample)


@pytest.mark.parametrize("while_open", [False, True])
async def test_a_bit_flipped_by_hand_is_never_served(tmp_path: Path, while_open: bool) -> None:
    sample = make(500_000)
    path = tree_of(tmp_path, sample) / "sample"

    def flip() -> None:
        before = path.stat()
        with path.open("r+b") as file:
            file.seek(70_000)
            byte = file.read(1)[0]
            file.seek(70_000)
            file.write(bytes([byte ^ 1]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    async with opened(tmp_path, sample, memory_limit=0) as (cache, store, lost):
        await put_all(store, sample)
        await cache.flush()
        if while_open:
            await read_all(store, sample)
            await trio.sleep(0.02)  # longer than the kernel's clock of file times
            flip()
            await expect_damage(store, sample, lost)
    if not while_open:
        flip()
        async with opened(tmp_path, sample, memory_limit=0) as (_, store, lost):
            assert store.have.complete
            await expect_damage(store, sample, lost)


async def expect_damage(store: TorrentStore, sample: Sample, lost: list[int]) -> None:
    """Piece 2 is lost, the others are right."""
    for number, piece in enumerate(sample.pieces):
        data = store.read_nowait(number, 0, len(piece))
        assert data is None or data == piece
        if number == 2:
            with pytest.raises(PieceLost):
                await store.read(number, 0, len(piece))
        else:
            assert await store.read(number, 0, len(piece)) == piece
    assert lost == [2]


@pytest.mark.expect_log("going on in memory")
@pytest.mark.parametrize("harm", ["truncate", "remove", "directory"])
async def test_a_cache_file_that_is_cut_or_gone_only_loses_pieces(
    tmp_path: Path, harm: str
) -> None:
    sample = make(300_000)
    async with opened(tmp_path, sample) as (_, store, _):
        await put_all(store, sample)
    path = tree_of(tmp_path, sample) / "sample"
    if harm == "truncate":
        os.truncate(path, 100_000)
    else:
        path.unlink()
        if harm == "directory":
            path.mkdir()
    async with opened(tmp_path, sample, memory_limit=MIB) as (_, store, lost):
        for number, piece in enumerate(sample.pieces):
            try:
                assert await store.read(number, 0, len(piece)) == piece
            except PieceLost:
                await store.put(number, sample.piece(number))
        assert set(lost) == set(range(3 if harm == "truncate" else 0, len(sample.pieces)))
        await read_all(store, sample)


@pytest.mark.expect_log("moved to")
@pytest.mark.parametrize("harm", ["garbage", "newer"])
async def test_an_unusable_catalog_is_moved_aside(tmp_path: Path, harm: str) -> None:
    sample = make()
    async with opened(tmp_path, sample) as (_, store, _):
        await put_all(store, sample)
    path = tmp_path / "cache" / "catalog.sqlite"
    if harm == "garbage":
        path.write_bytes(b"SQLite format 3\0" + os.urandom(50_000))
    else:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    for complete in (False, True):
        async with opened(tmp_path, sample) as (cache, store, _):
            assert store.have.complete == complete
            await put_all(store, sample)
            await read_all(store, sample)
            assert cache.trouble is None
    assert list(path.parent.glob("catalog.sqlite.damaged-*"))


async def test_flipped_bits_in_the_catalog_do_not_make_pieces(tmp_path: Path) -> None:
    sample = make(600_000)
    async with opened(tmp_path, sample) as (_, store, _):
        await store.put(0, sample.piece(0))
        await store.put(18, sample.piece(18))
    with sqlite3.connect(tmp_path / "cache" / "catalog.sqlite") as db:
        db.execute("UPDATE bits SET bits = x'FFFFE0'")
    db.close()
    async with opened(tmp_path, sample) as (_, store, lost):
        for number, piece in enumerate(sample.pieces):
            if number in (0, 18):
                assert await store.read(number, 0, len(piece)) == piece
            else:
                with pytest.raises(PieceLost):
                    await store.read(number, 0, len(piece))
        assert lost == list(range(1, 18))


# --- limits ---


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_the_size_holds_while_three_times_as_much_streams_through(
    tmp_path: Path, version: str
) -> None:
    files = tuple((f"f{n}", 700_001) for n in range(9))
    sample = make(files, piece_length=64 * KIB, version=version)
    size = 2 * MIB
    tree = tree_of(tmp_path, sample)
    async with opened(tmp_path, sample, size=size, memory_limit=0) as (cache, store, lost):
        for number in range(len(sample.pieces)):
            await store.put(number, sample.piece(number))
            await cache.flush()
            assert disk_bytes(tree) <= size + 64 * KIB
            assert cache.vault.used == disk_bytes(tree)
        assert size // 2 <= disk_bytes(tree)
        assert store.have.count + len(lost) == len(sample.pieces)
        assert lost == sorted(lost)
        for number in store.have:
            assert await store.read(number, 0, 9) == sample.pieces[number][:9]


async def test_what_is_read_stays_and_what_is_not_goes(tmp_path: Path) -> None:
    sample = make(6 * MIB, piece_length=MIB)
    async with opened(tmp_path, sample, size=4 * MIB, memory_limit=0) as (cache, store, lost):
        for number in range(4):
            await store.put(number, sample.piece(number))
            await cache.flush()
        await store.read(0, 0, 10)
        await store.put(4, sample.piece(4))
        await cache.flush()
        assert 0 in store.have
        assert 1 in lost


async def test_idle_torrents_make_room_first(tmp_path: Path) -> None:
    old, new = (make(2 * MIB, piece_length=128 * KIB, name=name) for name in ("old", "new"))
    async with opened(tmp_path, old, size=3 * MIB) as (_, store, _):
        await put_all(store, old)
    async with opened(tmp_path, new, size=3 * MIB) as (cache, store, lost):
        assert cache.statistics().idle_bytes >= 2 * MIB
        await put_all(store, new)
        await cache.flush()
        assert not lost
        assert disk_bytes(tmp_path) <= 3 * MIB + 512 * KIB
        await read_all(store, new)
    async with opened(tmp_path, old, size=3 * MIB) as (_, store, _):
        assert 0 < store.have.count < store.have.size
        for number in store.have:
            assert await store.read(number, 0, 64) == old.pieces[number][:64]


async def test_a_file_system_without_holes_evicts_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torrentfs.storage.disk.punch_hole", lambda *_: False)
    files = tuple((f"f{n}", 300_000) for n in range(12))
    sample = make(files, piece_length=64 * KIB)
    size = MIB
    async with opened(tmp_path, sample, size=size, memory_limit=0) as (cache, store, lost):
        for number in range(len(sample.pieces)):
            await store.put(number, sample.piece(number))
            await cache.flush()
            assert disk_bytes(tree_of(tmp_path, sample)) <= size + 64 * KIB
        assert lost
        for number in store.have:
            assert await store.read(number, 0, 9) == sample.pieces[number][:9]


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


@pytest.mark.expect_log("no room")
async def test_min_free_is_left_free(tmp_path: Path) -> None:
    sample = make()
    async with opened(tmp_path, sample, min_free=1 << 60) as (cache, store, _):
        await serve_on(store, cache, sample)
        assert not disk_bytes(tree_of(tmp_path, sample))


# --- several processes ---


async def test_two_processes_share_a_directory_each_with_its_torrent(tmp_path: Path) -> None:
    one, two = make(name="one"), make(name="two")
    async with opened(tmp_path, one) as (_, first, _), opened(tmp_path, two) as (_, second, _):
        await put_all(first, one)
        await put_all(second, two)
        await read_all(first, one)
        await read_all(second, two)
    async with opened(tmp_path, two) as (cache, store, _):
        assert store.have.complete
        assert (await cache.open_torrent(one.metainfo, ignore)).have.complete


async def test_the_same_torrent_twice_gets_two_trees(tmp_path: Path) -> None:
    sample = make()
    async with (
        opened(tmp_path, sample) as (_, first, _),
        opened(tmp_path, sample) as (_, second, _),
    ):
        await put_all(first, sample)
        assert not second.have
        await put_all(second, sample)
    assert disk_bytes(tree_of(tmp_path, sample))
    assert disk_bytes(tree_of(tmp_path, sample, sample.metainfo.hashes.key + ".2"))


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
