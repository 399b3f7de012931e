"""Torrents made of files by several threads are those that libtorrent makes of them."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.swarm.payload import ODD_TREE, write_file, write_tree
from tests.swarm.torrents import Version, make_torrent
from torrentfs.errors import ConfigError
from torrentfs.metainfo import limits
from torrentfs.metainfo.create import TorrentBuilder
from torrentfs.metainfo.torrent_file import Metainfo, build_torrent, parse_torrent
from torrentfs.storage import hashing
from torrentfs.storage.hashing import Recipe, builder_for, check_payload, hash_payload
from torrentfs.storage.payload import PayloadChanged, list_payload, payload_of

VERSIONS: tuple[Version, ...] = ("v1", "hybrid", "v2")


def made(path: Path, version: Version, piece_length: int, **more: Any) -> Metainfo:
    payload = list_payload(path)
    builder = builder_for(payload, Recipe(version, piece_length))
    info, layers = hash_payload(payload, builder, **more)
    return parse_torrent(build_torrent(info, layers))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "törrent", ODD_TREE)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("piece_length", [16384, 65536, 1 << 20])
def test_the_info_hash_is_that_of_libtorrent(
    tree: Path, tmp_path: Path, version: Version, piece_length: int
) -> None:
    ours = made(tree, version, piece_length, threads=3)
    theirs = make_torrent(tree, tmp_path / "t.torrent", version=version, piece_length=piece_length)
    assert (ours.hashes.v1 or b"").hex() == (theirs.v1 or "")
    assert (ours.hashes.v2 or b"").hex() == (theirs.v2 or "")
    assert ours.missing_layers() == []
    assert dict(ours.piece_layers) == dict(parse_torrent(theirs.data).piece_layers)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [1, 16384, 65536, 65537, 3_000_001])
def test_so_is_that_of_one_file(tmp_path: Path, version: Version, size: int) -> None:
    file = write_file(tmp_path / "one.bin", 3, size)
    ours = made(file, version, 65536)
    theirs = make_torrent(file, tmp_path / "t.torrent", version=version, piece_length=65536)
    assert ours.is_single_file
    assert ours.hashes == parse_torrent(theirs.data).hashes


@pytest.mark.parametrize("version", VERSIONS)
def test_the_way_of_cutting_does_not_matter(
    tree: Path, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = made(tree, version, 65536).info
    monkeypatch.setattr(hashing, "_CHUNK", 10_007)
    monkeypatch.setattr(hashing, "_BATCH", 1)
    assert made(tree, version, 65536, threads=4).info == usual


@pytest.mark.parametrize("version", VERSIONS)
def test_programs_stay_programs(tmp_path: Path, version: Version) -> None:
    root = write_tree(tmp_path / "t", {"a": 5, "run": 70_000, "z": 0})
    (root / "run").chmod(0o755)
    marks = {f.path: f.executable for f in made(root, version, 16384).files if not f.pad}
    assert marks == {("a",): False, ("run",): True, ("z",): False}
    assert made(root / "run", version, 16384).files[0].executable


def test_progress_counts_every_byte(tree: Path) -> None:
    told: list[int] = []
    made(tree, "hybrid", 65536, on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == sum(ODD_TREE.values())


def test_no_worker_is_left(tree: Path) -> None:
    before = threading.active_count()
    made(tree, "v1", 65536)
    assert threading.active_count() == before


def test_as_many_workers_as_processors_that_we_may_use(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers: list[int] = []

    class Executor(hashing.ThreadPoolExecutor):
        def __init__(self, count: int, *args: Any) -> None:
            workers.append(count)
            super().__init__(count, *args)

    monkeypatch.setattr(hashing, "ThreadPoolExecutor", Executor)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 7})
    payload = list_payload(tree)
    hash_payload(payload, builder_for(payload, Recipe()))
    assert workers == [3]


def test_an_interruption_ends_the_workers(tmp_path: Path) -> None:
    file = write_file(tmp_path / "large", 1, 64 << 20)
    before = threading.active_count()

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(file, "hybrid", 1 << 20, on_progress=interrupt)
    assert threading.active_count() == before


@pytest.mark.parametrize("how", ["longer", "shorter", "other", "gone"])
def test_a_file_that_changes_is_named(
    tree: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another file is hashed: before it, or after."""
    victim = tree / "z/large.bin"
    payload = list_payload(tree)
    builder = builder_for(payload, Recipe("hybrid", 65536))
    changed = threading.Event()

    def change(done: int) -> None:
        if changed.is_set():
            return
        changed.set()
        match how:
            case "longer":
                with victim.open("ab") as file:
                    file.write(b"more")
            case "shorter":
                os.truncate(victim, 100_000)
            case "other":
                with victim.open("r+b") as file:
                    file.write(b"other")
            case _:
                victim.unlink()

    with pytest.raises(PayloadChanged, match=r"z/large\.bin"):
        hash_payload(payload, builder, on_progress=change)


def test_a_torrent_over_a_limit_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "huge"
    with file.open("wb") as sparse:
        sparse.truncate((limits.MAX_PIECES + 1) * 16384)
    with pytest.raises(ConfigError, match="larger --piece-size"):
        builder_for(list_payload(file), Recipe("v1", 16384))
    with pytest.raises(ConfigError, match="power of two"):
        builder_for(list_payload(file), Recipe("v2", 100_000))
    builder = builder_for(list_payload(file), Recipe("hybrid"))
    assert builder.geometry.piece_length == 16 << 20


@pytest.mark.parametrize("version", VERSIONS)
def test_files_are_checked_against_a_torrent_of_others(
    tree: Path, tmp_path: Path, version: Version
) -> None:
    theirs = make_torrent(tree, tmp_path / "t.torrent", version=version, piece_length=65536)
    metainfo = parse_torrent(theirs.data)
    moved = tree.rename(tmp_path / "another name")
    (moved / "more").write_bytes(b"does not matter")
    (moved / "a/empty").unlink()
    told: list[int] = []
    check_payload(payload_of(metainfo, moved), metainfo, on_progress=told.append)
    assert told[-1] >= sum(ODD_TREE.values())
    payload = payload_of(metainfo, moved)
    os.utime(moved / "z/large.bin")
    with pytest.raises(PayloadChanged, match=r"z/large\.bin changed"):
        check_payload(payload, metainfo)
    with (moved / "z/large.bin").open("r+b") as changing:
        changing.seek(1_000_000)
        changing.write(b"x")
    payload = payload_of(metainfo, moved)
    with pytest.raises(ConfigError, match=r"z/large\.bin is not what the torrent says"):
        check_payload(payload, metainfo)
    os.truncate(moved / "z/large.bin", 5)
    with pytest.raises(ConfigError, match="has 5 bytes, the torrent says 2345678"):
        payload_of(metainfo, moved)
    (moved / "z/large.bin").unlink()
    with pytest.raises(ConfigError, match="no such file"):
        payload_of(metainfo, moved)


def test_one_file_is_checked_under_any_name(tmp_path: Path) -> None:
    file = write_file(tmp_path / "one.bin", 3, 200_000)
    metainfo = made(file, "v1", 65536)
    check_payload(payload_of(metainfo, file.rename(tmp_path / "other")), metainfo)
    with pytest.raises(ConfigError, match="is not a file"):
        payload_of(metainfo, tmp_path)


@pytest.mark.parametrize("name", ["..", ".", "", "a/b"])
def test_a_torrent_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    builder = TorrentBuilder("t", [((name,), 1)], 16384)
    builder.update(b"x")
    metainfo = parse_torrent(build_torrent(builder.finish()[0]))
    with pytest.raises(ConfigError, match="is no path of a file"):
        payload_of(metainfo, tmp_path)


@pytest.mark.parametrize("version", ["v1", "hybrid", "v2"])
def test_pieces_of_sure_files_alone_are_not_read(
    tree: Path, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = list_payload(tree)
    info, layers = hash_payload(payload, builder_for(payload, Recipe(version, 65536)))
    metainfo = parse_torrent(build_torrent(info, layers))
    read: set[int] = set()
    examine = hashing.Originals.examine

    def counted(self: hashing.Originals, piece: int) -> object:
        read.add(piece)
        return examine(self, piece)

    monkeypatch.setattr(hashing.Originals, "examine", counted)
    places = range(len(payload.files))
    numbers = [number for number, file in enumerate(metainfo.files) if not file.pad]
    for doubtful in places:
        told: list[int] = []
        sure = [place for place in places if place != doubtful]
        check_payload(payload, metainfo, sure=sure, on_progress=told.append)
        wanted = metainfo.geometry.pieces_of_file(numbers[doubtful])
        assert read == (set(wanted) if payload.files[doubtful].length else set())
        pieces = range(metainfo.geometry.num_pieces)
        assert told[-1] == sum(map(metainfo.geometry.piece_size, pieces))
        read.clear()
    check_payload(payload, metainfo, sure=places)
    assert read == set()
