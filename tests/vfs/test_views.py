"""Which files are shown."""

from __future__ import annotations

import time

import pytest

from tests.vfs.fakes import volume
from torrentfs.vfs.tree import ROOT, Tree, TreeOptions
from torrentfs.vfs.views import View

FILES = [
    ("Film.mkv", 4000),
    ("film.SRT", 40),
    ("Sample/sample-film.mkv", 400),
    ("CD1/raw/01.flac", 300),
    ("CD1/02.flac", 200),
    ("CD1/.pad|p", 100),
    ("Extras/cd1/caf\u00e9.nfo", 1),
    ("empty", 0),
]


def shown(view: View, within: tuple[int, ...] = ()) -> list[str]:
    found = view.files(volume("t", FILES).metainfo, within)
    if found is None:
        return []
    numbers = found or [n for n in range(len(FILES)) if not FILES[n][0].endswith("|p")]
    return [FILES[n][0] for n in numbers]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mkv", ["Film.mkv", "Sample/sample-film.mkv"]),
        ("*.MKV", ["Film.mkv", "Sample/sample-film.mkv"]),
        ("film.*", ["Film.mkv", "film.SRT"]),
        ("/*.mkv", ["Film.mkv"]),
        ("*/*.mkv", ["Sample/sample-film.mkv"]),
        ("sample/*", ["Sample/sample-film.mkv"]),
        ("CD1/*", ["CD1/02.flac"]),
        ("CD1/**", ["CD1/raw/01.flac", "CD1/02.flac"]),
        ("cd1/", ["CD1/raw/01.flac", "CD1/02.flac", "Extras/cd1/caf\u00e9.nfo"]),
        ("/cd1/", ["CD1/raw/01.flac", "CD1/02.flac"]),
        ("CD1/raw/", ["CD1/raw/01.flac"]),
        ("raw/", ["CD1/raw/01.flac"]),
        ("cd1", []),
        ("film.mkv/", []),
        ("**/*.flac", ["CD1/raw/01.flac", "CD1/02.flac"]),
        ("**/cd1/*", ["CD1/02.flac", "Extras/cd1/caf\u00e9.nfo"]),
        ("**/raw/**", ["CD1/raw/01.flac"]),
        ("0?.flac", ["CD1/raw/01.flac", "CD1/02.flac"]),
        ("0[!1].flac", ["CD1/02.flac"]),
        ("cafe\u0301.nfo", ["Extras/cd1/caf\u00e9.nfo"]),
        ("CAF\u00c9.*", ["Extras/cd1/caf\u00e9.nfo"]),
        ("**", [name for name, _ in FILES if not name.endswith("|p")]),
        ("/", [name for name, _ in FILES if not name.endswith("|p")]),
        ("", []),
        (".pad", []),
    ],
)
def test_patterns(pattern: str, expected: list[str]) -> None:
    assert shown(View(select=(pattern,))) == expected
    rest = [name for name, _ in FILES if name not in expected and not name.endswith("|p")]
    assert shown(View(exclude=(pattern,))) == rest


def test_what_is_selected_less_what_is_excluded() -> None:
    view = View(select=("*.mkv", "*.srt"), exclude=("sample*",))
    assert shown(view) == ["Film.mkv", "film.SRT"]


def test_small_files_can_be_left_out() -> None:
    assert shown(View(min_size=300)) == ["Film.mkv", "Sample/sample-film.mkv", "CD1/raw/01.flac"]
    assert shown(View(min_size=301, exclude=("film.mkv",))) == ["Sample/sample-film.mkv"]


def test_a_view_is_of_what_was_selected_before() -> None:
    assert shown(View(select=("*.mkv",)), within=(0, 1)) == ["Film.mkv"]
    assert shown(View(), within=(1, 0)) == ["Film.mkv", "film.SRT"]
    assert shown(View(select=("*.mkv",)), within=(1,)) == []


def test_all_is_not_a_list_of_all() -> None:
    metainfo = volume("t", FILES).metainfo
    assert View().files(metainfo) == []
    assert View(exclude=("*.exe",)).files(metainfo) == ()


def test_a_single_file_torrent_has_its_name() -> None:
    view = View(select=("*.mkv",))
    assert view.files(volume("Film.MKV", 5).metainfo, (7,)) == ()
    assert view.files(volume("book.pdf", 5).metainfo) is None


def test_a_torrent_of_which_nothing_is_left_is_not_shown() -> None:
    """docs/semantics.md: "A torrent of which nothing is left is not shown at all"."""
    tree = Tree(TreeOptions(view=View(select=("*.mkv",))), folder_times={(): 5.0})
    book, film = volume("book", [("a.pdf", 5)]), volume("film", [("a.mkv", 7), ("a.srt", 1)])
    single = volume("one.pdf", 5)
    key = book.metainfo.hashes.key
    assert tree.add(book, folder=("books",), now=10.0) == ()
    assert tree.add(single, now=11.0) == ()
    assert tree.attributes(ROOT).time_ns == 5 * 10**9
    assert len(tree.listing(ROOT)) == 2
    assert tree.is_empty(key)
    assert tree.path_of_key(key) == ()
    assert tree.name_of_key(key) == "book"
    assert tree.add(film, now=12.0) == ("film",)
    assert not tree.is_empty(film.metainfo.hashes.key)
    assert tree.totals() == (3, 1, 7)
    for number in (0, 1, 1 << 25):
        with pytest.raises(FileNotFoundError):
            tree.attributes(tree.inode_of(key, number))
    with pytest.raises(FileNotFoundError):
        tree.attributes(tree.inode_of(single.metainfo.hashes.key, 0))
    with pytest.raises(ValueError, match="already"):
        tree.add(book)
    assert tree.remove(key, now=13.0).entries == []
    assert tree.attributes(ROOT).time_ns == 12 * 10**9


def test_views_are_values() -> None:
    assert View(("*.mkv",)) == View(("*.mkv",)) != View(("*.avi",))
    assert hash(View(("*.mkv",))) == hash(View(("*.mkv",)))
    assert repr(View(min_size=1)) == "View(select=(), exclude=(), min_size=1)"


def test_no_pattern_takes_for_ever() -> None:
    """Names come from strangers; a backtracking matcher would take years for these."""
    deep = "/".join(["a" * 200] * 50) + "/x"
    view = View(select=("*a*a*a*a*a*a*a*a*b", "/".join(["**", "*a*"] * 12) + "/y"))
    began = time.process_time()
    assert view.files(volume("t", [(deep, 1)]).metainfo) is None
    assert time.process_time() - began < 2.0
