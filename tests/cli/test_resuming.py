"""What was hashed for one share is not hashed for the next, unless it may have changed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.swarm.payload import ODD_TREE, write_tree
from torrentfs.cli.making import Made, Making
from torrentfs.cli.resuming import Resuming
from torrentfs.errors import ConfigError
from torrentfs.storage import hashing, remembered
from torrentfs.storage.originals import Originals

MAKING = Making(
    version="v2",
    piece_size=65536,
    trackers=(),
    web_seeds=(),
    private=False,
    comment=None,
    source=None,
    name=None,
    hidden=False,
    exclude=(),
)
SIZE = sum(ODD_TREE.values())
LARGE = "z/large.bin"


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the files of a test had been there for a while."""
    monkeypatch.setattr(remembered, "SETTLED_NS", -(10**12))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "what", ODD_TREE)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each time that something was hashed."""
    read: list[int] = []

    class Counted(hashing._Work):
        def count(self, size: int) -> None:
            read.append(size)
            super().count(size)

    def examine(self: Originals, piece: int) -> object:
        read.append(self.metainfo.geometry.piece_size(piece))
        return right(self, piece)

    right = Originals.examine
    monkeypatch.setattr(hashing, "_Work", Counted)
    monkeypatch.setattr(Originals, "examine", examine)
    return read


def share(place: Path, tree: Path, making: Making = MAKING, *, check: bool = False) -> Made:
    """One share of `tree`, whose .torrent goes to `place`."""
    resuming = Resuming(check=check)
    made = resuming.make(making, making.list_payload(tree))
    place.write_bytes(made.torrent)
    resuming.keep(made, place, making)
    return made


def test_a_torrent_of_the_same_files_is_there_already(
    tmp_path: Path, tree: Path, hashed: list[int]
) -> None:
    first = share(tmp_path / "t", tree)
    assert sum(hashed) == SIZE
    second = share(tmp_path / "elsewhere", tree)
    third = share(tmp_path / "t", tree)
    assert sum(hashed) == SIZE
    assert first.torrent == second.torrent == third.torrent
    assert second.payload == first.payload
    assert second.metainfo.hashes == first.metainfo.hashes
    assert share(tmp_path / "t", tree, check=True).torrent == first.torrent
    assert sum(hashed) == 2 * SIZE


@pytest.mark.parametrize(
    "change",
    ["comment", "tracker", "a file", "a new file", "a gone file", "torrent gone", "torrent other"],
)
def test_it_is_made_anew_when_anything_is_otherwise(
    tmp_path: Path, tree: Path, hashed: list[int], change: str
) -> None:
    first = share(tmp_path / "t", tree)
    hashed.clear()
    making = MAKING
    match change:
        case "comment":
            making = replace(MAKING, comment="x")
        case "tracker":
            making = replace(MAKING, trackers=(("http://127.0.0.1:1/announce",),))
        case "a file":
            before = (tree / LARGE).stat()
            with (tree / LARGE).open("r+b") as file:
                file.write(b"other")
            os.utime(tree / LARGE, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "a new file":
            (tree / "new").write_bytes(b"x")
        case "a gone file":
            (tree / "z/last").unlink()
        case "torrent gone":
            (tmp_path / "t").unlink()
        case _:
            (tmp_path / "t").write_bytes(first.torrent + b"x")
    again = share(tmp_path / "t", tree, making)
    assert sum(hashed) == again.payload.size
    hashed.clear()
    assert share(tmp_path / "t", tree, making).torrent == again.torrent
    assert hashed == []
    same = change.startswith("torrent")
    assert (again.torrent == first.torrent) is same


def test_a_check_reads_what_is_not_sure(tmp_path: Path, tree: Path, hashed: list[int]) -> None:
    torrent = tmp_path / "t"
    share(torrent, tree)
    hashed.clear()

    def check(*, everything: bool = False) -> int:
        resuming = Resuming(check=everything)
        made = resuming.check(tree, torrent)
        resuming.keep(made, torrent, None)
        read = sum(hashed)
        hashed.clear()
        return read

    assert check() == SIZE  # what was made here says nothing of what is checked
    assert check() == 0
    assert check(everything=True) == SIZE
    os.utime(tree / LARGE)
    assert check() == ODD_TREE[LARGE]
    assert check() == 0
    before = (tree / LARGE).stat()
    with (tree / LARGE).open("r+b") as file:
        file.write(b"other")
    os.utime(tree / LARGE, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ConfigError, match=r"large\.bin is not what the torrent says"):
        check()


def test_a_torrent_of_others_is_not_taken_for_this_one(
    tmp_path: Path, tree: Path, hashed: list[int]
) -> None:
    """One torrent was checked, and another of the same name and sizes takes its place."""
    share(tmp_path / "t", tree)
    resuming = Resuming(check=False)
    resuming.keep(resuming.check(tree, tmp_path / "t"), tmp_path / "t", None)
    other = write_tree(tmp_path / "other" / "what", ODD_TREE)
    (other / "z/last").write_bytes(b"7 bytes")
    share(tmp_path / "t", other)
    with pytest.raises(ConfigError, match="z/last is not what the torrent says"):
        Resuming(check=False).check(tree, tmp_path / "t")


def test_a_state_directory_that_cannot_be_written(
    tmp_path: Path,
    tree: Path,
    hashed: list[int],
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (home / ".local").write_bytes(b"no directory")
    for _ in range(2):
        share(tmp_path / "t", tree)
        (line,) = capsys.readouterr().err.splitlines()
        assert "torrentfs/shared (not a directory): the next share hashes everything" in line
    assert sum(hashed) == 2 * SIZE
