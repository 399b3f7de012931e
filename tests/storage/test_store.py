"""What a store trusts: nothing that was not proved, and proved bytes however they were harmed."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
import trio

from tests.storage.caches import MIB, opened, put_all, read_all, tree_of
from tests.storage.torrents import Sample, make
from torrentfs.storage import PieceLost

if TYPE_CHECKING:
    from pathlib import Path

    from torrentfs.storage import TorrentStore


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


async def test_what_is_verified_is_read_from_the_disk_again(tmp_path: Path) -> None:
    sample = make()
    async with opened(tmp_path, sample) as (cache, store, lost):
        await put_all(store, sample)
        assert await store.verify(0) is None  # it is in memory only
        await cache.flush()
        assert [await store.verify(number) for number in range(len(sample.pieces))] == [True] * 7
        place = tree_of(tmp_path, sample) / "sample" / "z" / "three.bin"
        with place.open("r+b") as file:
            file.seek(100_000)
            file.write(bytes(20_000))
        bad = {p for p, _, _ in sample.metainfo.geometry.file_spans(3, 100_000, 20_000)}
        found = [await store.verify(number) for number in range(len(sample.pieces))]
        assert {number for number, good in enumerate(found) if not good} == bad
        await cache.flush()
        # memory had them: they are whole again
        await read_all(store, sample)
        assert set(lost) <= bad
        assert await store.verify(0) is True


async def test_a_damaged_piece_that_memory_has_not_is_lost(tmp_path: Path) -> None:
    sample = make()
    async with opened(tmp_path, sample) as (cache, store, _):
        await put_all(store, sample)
        await cache.flush()
    place = tree_of(tmp_path, sample) / "sample" / "two.bin"
    async with opened(tmp_path, sample) as (_, store, lost):
        before = place.stat()
        place.write_bytes(bytes(16_384))
        os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
        bad = {p for p, _, _ in sample.metainfo.geometry.file_spans(2, 0, 16_384)}
        for number in range(len(sample.pieces)):
            assert await store.verify(number) is (number not in bad)
        assert set(lost) == bad
        assert not bad & set(store.have)
