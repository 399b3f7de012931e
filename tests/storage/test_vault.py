"""A cache directory: its catalog, its space, several processes on it."""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.storage.caches import MIB, disk_bytes, ignore, opened, put_all, read_all, tree_of
from tests.storage.torrents import KIB, make
from torrentfs.storage import PieceLost

if TYPE_CHECKING:
    from pathlib import Path


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


async def test_after_a_sync_that_failed_nothing_is_believed_unproved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells of a lost write once: the sync after that succeeds (fsync(2))."""
    sample = make()
    failed: list[int] = []

    def fdatasync(fd: int) -> None:
        if not failed:
            failed.append(fd)
            raise OSError(errno.EIO, "Input/output error")

    async with opened(tmp_path, sample) as (cache, store, _):
        await put_all(store, sample)
        [shelf] = cache.vault.shelves.values()
        await cache.flush()
        monkeypatch.setattr(os, "fdatasync", fdatasync)
        with pytest.raises(OSError, match="Input/output"):
            shelf.tree.sync()
    assert failed
    async with opened(tmp_path, sample) as (cache, store, _):
        [shelf] = cache.vault.shelves.values()
        assert shelf.unsure.count == len(sample.pieces)
        await read_all(store, sample)


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


async def test_what_another_process_left_is_evicted_before_our_own(tmp_path: Path) -> None:
    ours = make(2 * MIB, piece_length=128 * KIB, name="ours")
    theirs = make(2 * MIB, piece_length=128 * KIB, name="theirs")
    async with opened(tmp_path, ours, size=3 * MIB, memory_limit=0) as (cache, store, lost):
        async with opened(tmp_path, theirs, size=3 * MIB) as (_, other, _):
            await put_all(other, theirs)
        await put_all(store, ours)
        await cache.flush()
        assert store.have.complete
        assert not lost
        assert cache.trouble is None
        trees = [tree_of(tmp_path, sample) for sample in (ours, theirs)]
        assert sum(map(disk_bytes, trees)) <= 3 * MIB


async def test_a_process_is_seen_as_soon_as_it_takes_space(tmp_path: Path) -> None:
    ours = make(2 * MIB, piece_length=128 * KIB, name="ours")
    theirs = make(2 * MIB, piece_length=128 * KIB, name="theirs")
    async with (
        opened(tmp_path, ours, size=3 * MIB, memory_limit=0) as (cache, store, _),
        opened(tmp_path, theirs, size=3 * MIB) as (second, other, _),
    ):
        await put_all(other, theirs)
        await second.flush()
        await put_all(store, ours)
        await cache.flush()
        assert cache.statistics().others_bytes >= 2 * MIB
        assert cache.statistics().disk_bytes <= 3 * MIB // 2


# --- pins ---


async def test_pinned_pieces_outlive_what_streams_through(tmp_path: Path) -> None:
    sample = make(3_000_000, piece_length=64 * KIB)
    pinned = range(3, 12)
    async with opened(tmp_path, sample, size=MIB, memory_limit=0) as (cache, store, lost):
        await cache.keep_pins({sample.metainfo.hashes.key: [pinned]})
        await put_all(store, sample)
        await cache.flush()
        assert cache.trouble is None
        assert lost
        assert set(pinned) <= set(store.have)
        assert not set(lost) & set(pinned)
    async with opened(tmp_path, sample, size=MIB, memory_limit=0) as (cache, store, _):
        assert set(pinned) <= set(store.have)  # as they were at the end
        await cache.keep_pins({sample.metainfo.hashes.key: []})
        for number in range(20, 45):
            await store.put(number, sample.piece(number))
        await cache.flush()
        assert not set(pinned) & set(store.have)


async def test_pins_of_an_idle_tree_are_spared_and_the_rest_goes(tmp_path: Path) -> None:
    kept, other = make(MIB, name="kept"), make(3 * MIB, name="other")
    async with opened(tmp_path, kept, size=2 * MIB, memory_limit=0) as (cache, store, _):
        await put_all(store, kept)
        await cache.keep_pins({kept.metainfo.hashes.key: [range(5)]})
        await cache.flush()
    async with opened(tmp_path, other, size=2 * MIB, memory_limit=0) as (cache, store, _):
        await put_all(store, other)
        await cache.flush()
        assert cache.trouble is None
        again = await cache.open_torrent(kept.metainfo, ignore)
        assert list(again.have) == list(range(5))
        for number in range(5):
            assert await again.read(number, 0, 9) == kept.pieces[number][:9]


async def test_where_all_is_pinned_nothing_is_evicted_and_nothing_hangs(tmp_path: Path) -> None:
    kept, other = make(MIB, name="kept"), make(MIB, name="other")
    async with opened(tmp_path, kept, size=MIB + 64 * KIB, memory_limit=0) as (cache, store, _):
        await put_all(store, kept)
        await cache.keep_pins({kept.metainfo.hashes.key: [range(len(kept.pieces))]})
        await cache.flush()
    async with opened(tmp_path, other, size=MIB + 64 * KIB, memory_limit=0) as (cache, store, _):
        for number in range(2):
            await store.put(number, other.piece(number))
        await cache.flush()
        assert not await cache.vault.make_room(None, 512 * KIB)
        assert not await cache.vault.make_room(None, 512 * KIB)
        await cache.keep_pins({kept.metainfo.hashes.key: []})
        assert await cache.vault.make_room(None, 512 * KIB)


async def test_what_the_user_evicts_is_gone_at_once(tmp_path: Path) -> None:
    sample = make(MIB, piece_length=64 * KIB)
    async with opened(tmp_path, sample) as (cache, store, lost):
        await put_all(store, sample)
        await cache.flush()
        await store.put(15, sample.piece(15))
        await cache.keep_pins({sample.metainfo.hashes.key: [range(2)]})
        before = disk_bytes(tree_of(tmp_path, sample))
        assert await cache.evict(store, range(8)) == 6 * 64 * KIB
        assert before - disk_bytes(tree_of(tmp_path, sample)) == 6 * 64 * KIB
        assert lost == list(range(2, 8))
        assert list(store.have) == [0, 1, *range(8, 16)]
        with pytest.raises(PieceLost):
            await store.read(3, 0, 9)
    async with opened(tmp_path, sample) as (_, store, _):
        assert list(store.have) == [0, 1, *range(8, 16)]
