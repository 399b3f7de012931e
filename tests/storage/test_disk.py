"""The tree of one torrent: holes, borders, few descriptors, changes by others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.storage.torrents import KIB, Sample, make
from torrentfs.storage.descriptors import Descriptors
from torrentfs.storage.disk import Damaged, DiskTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
