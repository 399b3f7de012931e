"""`torrentfs create`: what is in the file, what is said, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.swarm.payload import ODD_TREE, write_tree
from tests.swarm.torrents import make_torrent
from torrentfs.metainfo.magnet import parse_magnet
from torrentfs.metainfo.torrent_file import parse_torrent

if TYPE_CHECKING:
    from tests.cli.conftest import Run

FORMATS = ("v1", "hybrid", "v2")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return write_tree(tmp_path / "täst", ODD_TREE)


@pytest.mark.parametrize("version", FORMATS)
def test_it_is_what_libtorrent_makes(run: Run, tree: Path, tmp_path: Path, version: str) -> None:
    options = ["--format", version, "--piece-size", "64K", "--private", "--json"]
    result = run("create", *options, str(tree))
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    theirs = make_torrent(
        tree,
        tmp_path / "theirs.torrent",
        version=version,  # type: ignore[arg-type]
        piece_length=65536,
        private=True,
    )
    assert (told["info_hash_v1"], told["info_hash_v2"]) == (theirs.v1, theirs.v2)
    ours = parse_torrent(Path("täst.torrent").read_bytes())
    assert ours.info == parse_torrent(theirs.data).info
    assert ours.missing_layers() == []
    assert told["size"] == sum(ODD_TREE.values())
    assert told["file_count"] == len(ODD_TREE)
    assert parse_magnet(told["magnet"]).hashes == ours.hashes


def test_everything_that_can_be_said(run: Run, tree: Path) -> None:
    result = run(
        *("create", str(tree), "-o", "x.torrent", "--name", "other", "--source", "ABC"),
        *("--comment", "hällo", "--web-seed", "http://w/1", "--web-seed", "http://w/2"),
        *("--tracker", "http://a/announce,udp://b:1", "--tracker", "wss://c/"),
    )
    assert result.exit_code == 0, result.stderr
    data = Path("x.torrent").read_bytes()
    made = parse_torrent(data)
    assert made.name == "other"
    assert made.comment == "hällo"
    assert made.trackers == (("http://a/announce", "udp://b:1"), ("wss://c/",))
    assert made.web_seeds == ("http://w/1", "http://w/2")
    assert not made.private
    assert b"6:source3:ABC" in made.info
    assert made.created_by is not None
    assert made.created_by.startswith("torrentfs/")
    assert made.has_v1
    assert made.has_v2
    lines = dict(line.split(":", 1) for line in result.stdout.splitlines())
    assert lines["Torrent"].strip() == str(Path("x.torrent").absolute())
    assert lines["Name"].strip() == "other (9 files, 2.6 MiB, 172 pieces of 16 KiB)"
    assert parse_magnet(lines["Magnet"].strip()).trackers == (
        "http://a/announce",
        "udp://b:1",
        "wss://c/",
    )


def test_nothing_is_added_by_itself(run: Run, tree: Path) -> None:
    assert run("create", str(tree)).exit_code == 0
    made = parse_torrent(Path("täst.torrent").read_bytes())
    assert (made.trackers, made.web_seeds, made.nodes) == ((), (), ())
    assert (made.creation_date, made.comment) == (None, None)


def test_the_same_files_give_the_same_bytes(run: Run, tree: Path) -> None:
    for name in ("one", "two"):
        assert run("create", str(tree), "-o", name).exit_code == 0
        for path in tree.rglob("*"):
            os.utime(path)
    assert Path("one").read_bytes() == Path("two").read_bytes()


def test_nothing_is_overwritten_unless_asked(run: Run, tree: Path) -> None:
    Path("täst.torrent").write_bytes(b"mine")
    result = run("create", str(tree))
    assert result.exit_code == 1
    assert "täst.torrent exists: --force overwrites it" in result.stderr
    assert Path("täst.torrent").read_bytes() == b"mine"
    assert run("create", "--force", str(tree)).exit_code == 0
    assert Path("täst.torrent").read_bytes() != b"mine"


def test_several_paths_are_several_torrents(run: Run, tree: Path) -> None:
    Path("out").mkdir()
    result = run("create", str(tree / "a"), str(tree / "b"), "-o", "out", "--json")
    assert result.exit_code == 0
    told = [json.loads(line)["torrent"] for line in result.stdout.splitlines()]
    assert told == [str(Path(f"out/{name}.torrent").absolute()) for name in "ab"]
    assert sorted(os.listdir("out")) == ["a.torrent", "b.torrent"]


def test_what_is_left_out_is_told(run: Run, tree: Path) -> None:
    (tree / ".secret").write_bytes(b"x")
    (tree / "x.tmp").write_bytes(b"x")
    result = run("create", str(tree), "--exclude", "*.tmp", "--json")
    assert "left out 1 hidden, 1 excluded (--hidden takes what is hidden)" in result.stderr
    assert json.loads(result.stdout)["file_count"] == len(ODD_TREE)
    result = run("create", str(tree), "--hidden", "--force", "--json")
    assert result.stderr == ""
    assert json.loads(result.stdout)["file_count"] == len(ODD_TREE) + 2


def test_names_that_are_no_text(run: Run, tree: Path) -> None:
    with open(os.fsencode(tree) + b"/\xff", "wb") as file:
        file.write(b"x")
    result = run("create", str(tree), "-o", "x.torrent")
    assert result.exit_code == 0
    assert "some names are not UTF-8" in result.stderr
    raw = [file.raw_path for file in parse_torrent(Path("x.torrent").read_bytes()).files]
    assert (b"\xff",) in raw


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["missing"], "cannot read missing: no such file"),
        (["{tree}", "--piece-size", "100000"], "power of two"),
        (["{tree}", "--piece-size", "1G"], "a piece has 1 to"),
        (["{tree}", "--tracker", "a:1"], "is not a URL"),
        (["{tree}", "--web-seed", "udp://a"], "is not a URL"),
        (["{tree}", "--name", "a/b"], "one file name"),
        (["{tree}/a", "{tree}/b", "--name", "x"], "--name is for one PATH"),
        (["{tree}/a", "{tree}/b", "-o", "x"], "must be a directory"),
        (["{tree}", "{tree}"], "same name"),
        (["{tree}", "-o", "no/x"], "no directory"),
        (["{tree}", "-o", "{tree}/x"], "inside what"),
        (["{tree}", "--format", "v3"], "v3"),
        ([""], "must not be empty"),
        ([], "Missing argument"),
    ],
)
def test_refusals_are_one_line_and_write_nothing(
    run: Run, tree: Path, args: list[str], words: str
) -> None:
    result = run("create", *(arg.replace("{tree}", str(tree)) for arg in args))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("torrentfs: ")
    assert words in line
    assert os.listdir(".") == []
