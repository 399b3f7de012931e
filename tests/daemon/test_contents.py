"""The files of a torrent by path, and what is said of a path that is not there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.metainfo.torrents import PAYLOAD, build
from torrentfs.daemon.contents import Contents
from torrentfs.metainfo.files import File
from torrentfs.metainfo.torrent_file import parse_torrent


def contents_of(*files: File, selected: frozenset[int] = frozenset()) -> Contents:
    metainfo: Any = SimpleNamespace(name="album", is_single_file=False, files=files)
    return Contents(metainfo, selected)


@pytest.mark.parametrize("version", ["v1", "v2", "hybrid"])
def test_each_file_has_its_number(version: Any) -> None:
    metainfo = parse_torrent(build(version))
    contents = Contents(metainfo)
    assert set(contents.files) == {"/".join(path) for path in PAYLOAD}
    for path, number in contents.files.items():
        assert "/".join(metainfo.files[number].path) == path
        assert contents.size(path) == len(PAYLOAD[tuple(path.split("/"))])
        assert contents.number(f"/{path}/") == number


def test_directories() -> None:
    contents = contents_of(File(("a", "b", "c"), 1, 0), File(("a", "d"), 1, 1), File(("e",), 1, 2))
    assert list(contents.children("")) == [("a", "a"), ("e", "e")]
    assert list(contents.children("/a/")) == [("b", "a/b"), ("d", "a/d")]
    assert contents.is_directory("")
    assert contents.is_directory("a/b")
    assert not contents.is_directory("e")
    with pytest.raises(FileNotFoundError, match="no directory 'x' in album"):
        contents.children("x")


def test_a_single_file_has_its_name() -> None:
    metainfo: Any = SimpleNamespace(name="film.mkv", is_single_file=True, files=[File((), 7, 0)])
    contents = Contents(metainfo)
    assert contents.files == {"film.mkv": 0}
    assert contents.only() == "film.mkv"
    assert list(contents.children("")) == [("film.mkv", "film.mkv")]


def test_padding_is_no_file_and_a_selection_selects() -> None:
    files = File(("a",), 1, 0), File((".pad", "9"), 9, 1, pad=True), File(("b",), 1, 10)
    assert contents_of(*files).files == {"a": 0, "b": 2}
    assert contents_of(*files, selected=frozenset({2})).files == {"b": 2}


def test_a_link_is_what_it_leads_to() -> None:
    contents = contents_of(
        File(("real",), 5, 0),
        File(("link",), 0, 5, symlink=("other",)),
        File(("other",), 0, 5, symlink=("real",)),
        File(("nowhere",), 0, 5, symlink=("gone",)),
        File(("circle",), 0, 5, symlink=("elcric",)),
        File(("elcric",), 0, 5, symlink=("circle",)),
    )
    assert contents.files == {"real": 0, "link": 0, "other": 0}
    assert contents.size("link") == 5
    beside = contents_of(
        File(("real",), 5, 0), File(("link",), 0, 5, symlink=("real",)), selected=frozenset({1})
    )
    assert beside.files == {"link": 0}  # what it leads to need not be selected itself


def test_a_wrong_path_says_what_there_is() -> None:
    many = contents_of(*(File(("d", f"track {n:02}.flac"), 1, n) for n in range(12)))
    with pytest.raises(FileNotFoundError, match=r"did you mean 'd/track 1[01].flac' or"):
        many.number("d/track 1.flac")
    with pytest.raises(FileNotFoundError, match=r"without the torrent's name, 'd/track 00.flac'"):
        many.number("album/d/track 00.flac")
    with pytest.raises(FileNotFoundError, match=r"there is 'd/track 00.flac', .* and 4 more$"):
        many.number("x")
    with pytest.raises(IsADirectoryError, match="'d' is a directory: there is 'd/track 00"):
        many.number("d")
    with pytest.raises(IsADirectoryError, match="album has 12 files: there is"):
        many.only()
