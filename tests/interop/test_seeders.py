"""Reading from libtorrent: what comes out of the mount is what went into the torrent."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.interop.copying import (
    KIB,
    MIB,
    STRANGE_TREE,
    VERSIONS,
    copy_equals,
    pread,
    reading,
)
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.nginx import web_seed
from tests.swarm.payload import files_below, sha256_file, write_file, write_tree
from tests.swarm.seeder import seed
from tests.swarm.torrents import MadeTorrent, Version, make_torrent

pytestmark = pytest.mark.real

WAYS = ("file", "magnet", "url")


@contextmanager
def seeded(made: MadeTorrent, work: Path, way: str = "file") -> Iterator[Mounted]:
    """A mount of a torrent that libtorrent seeds, named in one of three ways."""
    with ExitStack() as stack:
        source: str | Path = made.torrent
        if way == "magnet":
            source = made.magnet()
        elif way == "url":
            server = stack.enter_context(web_seed(made.torrent.parent, work))
            source = server.url(made.torrent.name)
        seeder = stack.enter_context(seed(made.torrent, made.path, work))
        yield stack.enter_context(mounted(source, work, "--peer", seeder.address))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_single_file(tmp_path: Path, version: Version, way: str) -> None:
    file = write_file(tmp_path / "payload" / "Ein Film №1.mkv", 5, 5 * MIB + 12_345)
    made = make_torrent(file, tmp_path / "t" / "film.torrent", version=version)
    with seeded(made, tmp_path, way) as mount:
        assert [entry.name for entry in mount.path.iterdir()] == [file.name]
        copy_equals(mount / file.name, file, tmp_path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_tree_with_odd_boundaries_and_names(tmp_path: Path, version: Version, way: str) -> None:
    tree = write_tree(tmp_path / "payload" / "wörld 🌍", STRANGE_TREE)
    made = make_torrent(
        tree, tmp_path / "t" / "t 1.torrent", version=version, piece_length=32 * KIB
    )
    with seeded(made, tmp_path, way) as mount:
        assert files_below(mount / tree.name).keys() == STRANGE_TREE.keys()
        copy_equals(mount / tree.name, tree, tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_pieces_of_16_mebibytes(tmp_path: Path, version: Version) -> None:
    tree = write_tree(
        tmp_path / "payload" / "big",
        {"first": 16 * MIB - 1, "second": 20 * MIB + 3, "small": 5, "third": 16 * MIB},
    )
    made = make_torrent(tree, tmp_path / "t.torrent", version=version, piece_length=16 * MIB)
    with seeded(made, tmp_path) as mount:
        copy_equals(mount / "big", tree, tmp_path)


@pytest.mark.parametrize("version", ["v2", "hybrid"])
def test_a_large_piece_layer_comes_in_many_hash_requests(tmp_path: Path, version: Version) -> None:
    tree = write_tree(
        tmp_path / "payload" / "layers", {"a": 33 * MIB + 1, "b": 9 * MIB, "c": 16 * KIB + 1}
    )
    made = make_torrent(tree, tmp_path / "t.torrent", version=version, piece_length=16 * KIB)
    with seeded(made, tmp_path, "magnet") as mount:
        copy_equals(mount / "layers", tree, tmp_path)


def test_ten_thousand_random_reads_of_three_torrents_in_one_mount(tmp_path: Path) -> None:
    payloads: list[Path] = []
    sources: list[str | Path] = []
    dice = random.Random(10_000)
    with ExitStack() as stack:
        peers = []
        for number, (version, piece) in enumerate(
            [("v1", 256 * KIB), ("v2", 64 * KIB), ("hybrid", MIB)]
        ):
            name = f"film {version}.mkv"
            file = write_file(tmp_path / "payload" / name, number, 24 * MIB + 7 * number + 1)
            made = make_torrent(
                file,
                tmp_path / f"{version}.torrent",
                version=version,  # type: ignore[arg-type]
                piece_length=piece,
            )
            payloads.append(file)
            sources.append(made.magnet() if version == "v2" else made.torrent)
            peers += ["--peer", stack.enter_context(seed(made.torrent, file, tmp_path)).address]
        mount = stack.enter_context(mounted(sources, tmp_path, *peers))
        pairs = [
            (stack.enter_context(_open(mount / file.name)), stack.enter_context(_open(file)))
            for file in payloads
        ]
        for _ in range(10_000):
            in_mount, original = dice.choice(pairs)
            length = os.fstat(original).st_size
            # most reads are small, some are large, some end behind the end
            size = int(2 ** dice.uniform(0, 18))
            offset = dice.randrange(length + 100)
            assert pread(in_mount, size, offset) == pread(original, size, offset)


@contextmanager
def _open(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("version", VERSIONS)
def test_four_readers_at_once(tmp_path: Path, version: Version) -> None:
    tree = write_tree(
        tmp_path / "payload" / "four", {"a": 12 * MIB + 1, "b": 8 * MIB, "c": 7 * MIB}
    )
    made = make_torrent(tree, tmp_path / "t.torrent", version=version)
    with seeded(made, tmp_path) as mount:
        names = ["a", "b", "c", "a"]  # two of them in the same file
        with reading(*(mount / "four" / name for name in names)) as readers:
            found = readers.digests()
        assert found == [sha256_file(tree / name) for name in names]


def test_two_torrents_of_one_name(tmp_path: Path) -> None:
    with ExitStack() as stack:
        made, peers = [], []
        for number in (1, 2):
            tree = write_tree(tmp_path / str(number) / "same name", {"x": 100_000}, seed=number)
            torrent = make_torrent(tree, tmp_path / f"{number}.torrent", piece_length=16 * KIB)
            made.append(torrent)
            seeder = stack.enter_context(seed(torrent.torrent, tree, tmp_path))
            peers += ["--peer", seeder.address]
        second = f"same name [{made[1].v1[:8]}]"  # type: ignore[index]
        sources: list[str | Path] = [made[0].torrent, made[1].magnet()]
        mount = stack.enter_context(mounted(sources, tmp_path, *peers))
        assert sorted(os.listdir(mount.path)) == ["same name", second]
        assert sha256_file(mount / "same name" / "x") == sha256_file(made[0].path / "x")
        assert sha256_file(mount / second / "x") == sha256_file(made[1].path / "x")
