"""One torrent's part of the mount: numbers that never change, lookups, links."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vfs.fakes import volume
from torrentfs.vfs.branch import DIRECTORY, LOCAL_BITS, Branch
from torrentfs.vfs.folders import ROOT, Folder

FILES = [("a/b/one", 5), ("pad|p", 3), ("two", 7), ("a/three", 11), ("c/four", 13)]


def branch(files: list[tuple[str, int]] | int = FILES, select: tuple[int, ...] = ()) -> Branch:
    return Branch(volume("t", files), select, "t", 5, Folder(ROOT, (), None, 0))


def find(where: Branch, path: str) -> int | None:
    here: int | None = where.root
    for name in path.split("/"):
        here = where.lookup(here, name) if here is not None else None
    return here


def test_files_have_their_index_and_directories_their_first_mention() -> None:
    made = branch()
    assert [find(made, path) for path in ("a/b/one", "two", "a/three", "c/four")] == [0, 2, 3, 4]
    assert [find(made, path) for path in ("a", "a/b", "c")] == [DIRECTORY + n for n in (1, 2, 3)]
    assert made.base == 5 << LOCAL_BITS


def test_a_selection_changes_what_is_shown_and_no_number() -> None:
    made = branch(select=(4, 2, 99))
    assert find(made, "c/four") == 4
    assert find(made, "c") == DIRECTORY + 3
    assert find(made, "a") is None
    assert not made.exists(0)
    assert not made.exists(DIRECTORY + 1)
    assert made.exists(DIRECTORY + 3)
    assert made.totals() == (2, 20)
    assert made.directory(DIRECTORY).subdirectories == 1


def test_padding_is_never_shown() -> None:
    made = branch(select=(1, 2))
    assert find(made, "pad") is None
    assert not made.exists(1)
    assert made.totals() == (1, 7)


@pytest.mark.parametrize("number", [5, 99, DIRECTORY + 4, DIRECTORY + 999, 2 * DIRECTORY - 1])
def test_numbers_that_the_torrent_does_not_have(number: int) -> None:
    assert not branch().exists(number)


def test_every_shown_thing_leads_up_to_the_entry() -> None:
    made = branch()
    for path in ("a/b/one", "two", "a", "a/b"):
        number = find(made, path)
        names = []
        while number is not None and number != made.root:
            names.append(made.name_of(number))
            number = made.parent_of(number)
        assert "/".join(reversed(names)) == path
    assert made.parent_of(made.root) is None
    assert made.name_of(made.root) == "t"


def test_a_torrent_of_one_file_is_that_file_whatever_is_selected() -> None:
    made = branch(42, select=(7,))
    assert not made.is_directory
    assert made.totals() == (1, 42)
    assert made.exists(0)
    assert not made.exists(1)
    assert not made.exists(DIRECTORY)
    assert made.link_target(0) is None


@pytest.mark.parametrize(
    ("path", "target", "wanted"),
    [
        ("link", "a/x", "a/x"),
        ("a/link", "a/x", "x"),
        ("a/b/link", "c/x", "../../c/x"),
        ("a/b/link", "a", ".."),
        ("a/link", "a", "."),
    ],
)
def test_links_stay_inside(path: str, target: str, wanted: str) -> None:
    assert branch([(f"{path}|l={target}", 0)]).link_target(0) == wanted
    assert branch([(path, 5)]).link_target(0) is None


names = st.sampled_from(["x", "y", "z"])


@given(st.sets(st.lists(names, min_size=1, max_size=3).map(tuple), max_size=20), st.data())
def test_a_walk_finds_exactly_what_is_selected(
    paths: set[tuple[str, ...]], data: st.DataObject
) -> None:
    # a name is a file or a directory, never both: metainfo sees to that
    listing = sorted(p for p in paths if not any(q[: len(p)] == p for q in paths - {p}))
    if not listing:
        return
    chosen = data.draw(st.sets(st.sampled_from(range(len(listing)))))
    made = branch([("/".join(path), 1) for path in listing], tuple(chosen))
    found = []
    walk = [made.root]
    while walk:
        for child in made.directory(walk.pop()).children:
            if child & DIRECTORY:
                assert made.directory(child).children  # no empty directory is shown
                walk.append(child)
            else:
                found.append(child)
    assert sorted(found) == sorted(chosen or range(len(listing)))
