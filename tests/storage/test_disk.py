"""The tree of one torrent: holes, borders, few descriptors, changes by others."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import pytest

from tests.storage.torrents import KIB, Sample, make
from torrentfs.storage import disk
from torrentfs.storage.descriptors import Descriptors
from torrentfs.storage.disk import Damaged, DiskTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torrentfs.storage.layout import Run

SAMPLE = make((("a", 100_001), ("b", 7), ("c", 200_000)), piece_length=16 * KIB)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[DiskTree]:
    made = DiskTree(tmp_path, SAMPLE.metainfo, Descriptors(2), 1)
    yield made
    made.close()


def fill(tree: DiskTree, sample: Sample = SAMPLE) -> None:
    tree.write([(number, sample.piece(number)) for number in range(len(sample.pieces))])


def actual(root: Path) -> int:
    return sum(p.stat().st_blocks * 512 for p in root.rglob("*") if p.is_file())


def test_every_order_of_release_gives_all_space_back(tree: DiskTree, tmp_path: Path) -> None:
    for order in (1, -1, 5):
        fill(tree)
        assert tree.used == actual(tmp_path) > 0
        held = set(range(len(SAMPLE.pieces)))
        for number in sorted(held, key=lambda n: n * order % len(SAMPLE.pieces)):
            held.discard(number)
            tree.release([number], lambda pieces, held=held: not held.isdisjoint(pieces))
            assert tree.used == actual(tmp_path)
            for kept in held:
                assert tree.read(kept, 0, len(SAMPLE.pieces[kept])) == SAMPLE.pieces[kept]
            # a block at each border may be shared with a held piece, on both sides of each file
            assert tree.used <= len(held) * (16 * KIB + 2 * 4096) + 3 * 4096
        assert tree.used == 0
        assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_descriptors_stay_few(tmp_path: Path) -> None:
    sample = make(tuple((f"f{n}", 5000) for n in range(50)), piece_length=16 * KIB)
    descriptors = Descriptors(4)
    tree = DiskTree(tmp_path, sample.metainfo, descriptors, 1)
    fill(tree, sample)
    assert len(descriptors) <= 4
    for number, piece in enumerate(sample.pieces):
        assert tree.read(number, 0, len(piece)) == piece
    assert not tree.take_suspects()
    assert len(descriptors) <= 4
    tree.close()
    assert not len(descriptors)


def test_what_was_written_while_a_sync_went_on_needs_another(
    tree: DiskTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = disk._write_run

    def sync_first(fd: int, run: Run) -> None:
        tree.sync()
        write(fd, run)

    monkeypatch.setattr(disk, "_write_run", sync_first)
    tree.write([(0, SAMPLE.piece(0))])
    assert tree.needs_sync


def test_a_sync_waits_for_one_that_has_begun(
    tree: DiskTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        began.set()
        assert go_on.wait(20)

    fill(tree)
    monkeypatch.setattr(os, "fdatasync", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(tree.sync)
        assert began.wait(20)
        second = pool.submit(tree.sync)  # nothing is left to it, and nothing is on the disk yet
        assert not wait([second], 0.1).done
        go_on.set()
        first.result(20)
        second.result(20)


def test_a_change_by_somebody_else_is_suspected_once(tree: DiskTree, tmp_path: Path) -> None:
    fill(tree)
    path = tmp_path / "sample" / "c"
    path.write_bytes(path.read_bytes()[:150_000])
    os.utime(path, ns=(1, 1))
    last = len(SAMPLE.pieces) - 1
    with pytest.raises(Damaged):
        tree.read(last, 0, 10)
    assert tree.take_suspects() == {2}
    assert tree.read(0, 0, 10) == SAMPLE.pieces[0][:10]
    assert not tree.take_suspects()
    assert tree.used == actual(tmp_path)


def test_a_link_in_place_of_a_file_is_not_followed(tree: DiskTree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "a").symlink_to(outside)
    with pytest.raises(OSError, match="symbolic links"):
        tree.write([(0, SAMPLE.piece(0))])
    assert outside.read_bytes() == b"precious"


def test_a_path_that_is_too_long_has_a_short_one(tmp_path: Path) -> None:
    sample = make((("/".join(["n" * 200] * 20), 100),))
    tree = DiskTree(tmp_path, sample.metainfo, Descriptors(2), 1)
    fill(tree, sample)
    assert tree.read(0, 0, 100) == sample.pieces[0]
    tree.close()
