"""Few open files, never closed under a user."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from torrentfs.storage.descriptors import Descriptors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Opener = Callable[[], int]


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    (tmp_path / "file").write_bytes(b"data")
    return lambda: os.open(tmp_path / "file", os.O_RDONLY)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def never() -> int:
    raise AssertionError("it is open already")


def test_a_file_is_opened_once_and_kept(opener: Opener) -> None:
    table = Descriptors(2)
    with table.borrow((1, 0), opener) as first:
        pass
    with table.borrow((1, 0), never) as again:
        assert again == first
    table.discard_tree(1)
    assert not is_open(first)


def test_the_least_recently_used_one_goes_but_not_from_under_its_user(opener: Opener) -> None:
    table = Descriptors(2)
    with table.borrow((1, 0), opener) as used:
        for file in (1, 2, 3):
            with table.borrow((1, file), opener) as fd:
                pass
        assert is_open(used)
        assert len(table) == 2
        assert table.borrow_open((1, 3)) == fd
        table.give_back((1, 3), fd)
        assert table.borrow_open((1, 1)) is None
    table.discard_tree(1)
    assert len(table) == 0


@pytest.mark.parametrize("how", ["borrow", "borrow_open"])
def test_what_is_discarded_in_use_is_closed_at_its_return(opener: Opener, how: str) -> None:
    table = Descriptors(2)
    with table.borrow((1, 0), opener) as fd:
        if how == "borrow_open":
            assert table.borrow_open((1, 0)) == fd
        table.discard((1, 0))
        assert is_open(fd)
        assert table.borrow_open((1, 0)) is None
        with table.borrow((1, 0), opener) as other:  # the file was made anew meanwhile
            assert other != fd
    if how == "borrow_open":
        assert is_open(fd)
        table.give_back((1, 0), fd)
    assert not is_open(fd)
    assert is_open(other)
    table.discard((1, 0))
    assert not is_open(other)


def test_a_file_that_cannot_be_opened_leaves_nothing(tmp_path: Path) -> None:
    table = Descriptors(2)
    with (
        pytest.raises(FileNotFoundError),
        table.borrow((1, 0), lambda: os.open(tmp_path / "none", os.O_RDONLY)),
    ):
        pass
    assert len(table) == 0
    table.discard((1, 0))


def test_trees_are_told_apart(opener: Opener) -> None:
    table = Descriptors(9)
    for tree in (1, 2):
        for file in range(3):
            with table.borrow((tree, file), opener):
                pass
    table.discard_tree(1)
    assert len(table) == 3
    table.discard_tree(2)
    assert len(table) == 0


def test_what_is_unused_can_be_closed_at_once(opener: Opener) -> None:
    table = Descriptors(9)
    with table.borrow((1, 0), opener) as used:
        for file in (1, 2):
            with table.borrow((1, file), opener) as unused:
                pass
        table.close_unused()
        assert (len(table), is_open(used), is_open(unused)) == (1, True, False)
    table.close_unused()
    assert (len(table), is_open(used)) == (0, False)
