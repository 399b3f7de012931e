"""File systems of a few megabytes: really full, really read-only. Needs the right to mount."""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.storage.caches import MIB, disk_bytes, opened, put_all, read_all, tree_of
from tests.storage.torrents import KIB, make
from torrentfs.storage.disk import DiskTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

_MS_RDONLY = 1
_MS_REMOUNT = 32
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def mount_tmpfs(place: Path, options: str, flags: int = 0) -> None:
    """mount(2) of a tmpfs; `OSError` when it may not be."""
    words = (b"tmpfs", os.fsencode(place), b"tmpfs", ctypes.c_ulong(flags), options.encode())
    if _libc.mount(*words) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """A tmpfs of `size` bytes."""
    place.mkdir()
    try:
        mount_tmpfs(place, f"size={size}")
    except PermissionError:
        pytest.skip("no right to mount a tmpfs")
    try:
        yield place
    finally:
        assert _libc.umount2(os.fsencode(place), _MNT_DETACH) == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 6 * MIB) as place:
        yield place


SAMPLE = make(12 * MIB, piece_length=128 * KIB)


async def test_three_times_a_small_disk_streams_through_it(disk: Path) -> None:
    async with opened(disk, SAMPLE, memory_limit=MIB) as (cache, store, lost):
        await put_all(store, SAMPLE)
        await cache.flush()
        assert cache.trouble is None
        assert disk_bytes(tree_of(disk, SAMPLE)) >= 3 * MIB
        for piece in store.have:
            assert await store.read(piece, 0, 128 * KIB) == SAMPLE.pieces[piece]
        assert len(set(lost)) + store.have.count == len(SAMPLE.pieces)


@pytest.mark.parametrize("filled", [0, 2 * MIB])
async def test_a_disk_that_has_less_than_it_says_is_made_room_on(
    disk: Path, monkeypatch: pytest.MonkeyPatch, filled: int
) -> None:
    # as with quotas, and with other programs that write between the look and the write
    monkeypatch.setattr(DiskTree, "free_space", lambda _: 1 << 40)
    (disk / "other").write_bytes(bytes(filled))
    async with opened(disk, SAMPLE, memory_limit=MIB) as (cache, store, _):
        for piece in range(len(SAMPLE.pieces)):
            await store.put(piece, SAMPLE.piece(piece))
            await cache.flush()
            assert await store.read(piece, 0, 128 * KIB) == SAMPLE.pieces[piece]
        assert cache.statistics().written_bytes == 12 * MIB
        assert cache.statistics().evicted_pieces
        assert cache.trouble is None
        for piece in list(store.have):
            assert await store.read(piece, 0, 128 * KIB) == SAMPLE.pieces[piece]
    async with opened(disk, SAMPLE) as (_, store, _):
        assert store.have
        for piece in list(store.have):
            assert await store.read(piece, 0, 128 * KIB) == SAMPLE.pieces[piece]


@pytest.mark.expect_log("going on in memory")
async def test_a_disk_without_a_free_byte_leaves_reads_alone(disk: Path) -> None:
    sample = make(MIB, piece_length=128 * KIB)
    with (
        pytest.raises(OSError, match="No space"),
        (disk / "other").open("wb", buffering=0) as other,
    ):
        other.writelines(bytes(4096) for _ in range(6 * MIB))
    async with opened(disk, sample) as (_, store, lost):
        await put_all(store, sample)
        await read_all(store, sample)
        assert not lost


@pytest.mark.expect_log("going on in memory")
async def test_a_read_only_disk_leaves_reads_alone(disk: Path) -> None:
    sample = make(MIB, piece_length=128 * KIB)
    async with opened(disk, sample) as (_, store, _):
        await put_all(store, sample)
    mount_tmpfs(disk, "", _MS_REMOUNT | _MS_RDONLY)
    async with opened(disk, sample) as (cache, store, _):
        assert cache.trouble
        await put_all(store, sample)
        await read_all(store, sample)
    mount_tmpfs(disk, "", _MS_REMOUNT)
    async with opened(disk, sample) as (_, store, _):
        assert store.have.complete
        await read_all(store, sample)
