"""Changes made through the mount: whose they are, and that they hit nothing else."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from torrentfs.vfs.publication import Publication, Step

DIRECTORY = stat.S_IFDIR | 0o555


def publication(root: Path) -> Publication:
    return Publication(str(root), root.stat().st_dev)


def test_each_kind_is_made_and_removed_at_its_place(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    ours = publication(tmp_path)
    link = stat.S_IFLNK | 0o777
    steps = [
        Step(5, 7, (b"films", b"show"), DIRECTORY),
        Step(5, 8, (b"films", b"film"), stat.S_IFREG | 0o444),
        Step(5, 9, (b"films", b"link"), link, b"film"),
    ]
    for step in steps:
        ours.make(step)
    assert (tmp_path / "films/show").is_dir()
    assert (tmp_path / "films/film").is_file()
    assert (tmp_path / "films/link").readlink() == Path("film")
    for step in steps:
        ours.remove(step)
    assert os.listdir(tmp_path / "films") == []


def test_only_the_thread_that_does_it_and_only_what_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = publication(tmp_path)
    answers: list[int | None] = []

    def mkdir(*_args: object, **_more: object) -> None:
        me = threading.get_native_id()
        answers.extend(
            [
                ours.expects(5, b"show", stat.S_IFDIR, me),
                ours.expects(5, b"show", stat.S_IFDIR, me + 1),
                ours.expects(5, b"show", stat.S_IFREG, me),
                ours.expects(6, b"show", stat.S_IFDIR, me),
                ours.expects(5, b"shows", stat.S_IFDIR, me),
            ]
        )

    monkeypatch.setattr(os, "mkdir", mkdir)
    ours.make(Step(5, 7, (b"films", b"show"), DIRECTORY))
    assert answers == [7, None, None, None, None]
    assert ours.expects(5, b"show", stat.S_IFDIR, threading.get_native_id()) is None


def test_what_is_not_our_mount_is_left_alone(tmp_path: Path) -> None:
    """After a lazy unmount the path leads to the directory that was below the mount."""
    ours = Publication(str(tmp_path), tmp_path.stat().st_dev + 1)
    with pytest.raises(FileNotFoundError, match=r"not at .* any more"):
        ours.make(Step(1, 7, (b"show",), DIRECTORY))
    (tmp_path / "show").mkdir()
    with pytest.raises(FileNotFoundError, match=r"not at .* any more"):
        ours.remove(Step(1, 7, (b"show",), DIRECTORY))
    assert os.listdir(tmp_path) == ["show"]


def test_a_failure_leaves_nothing_expected(tmp_path: Path) -> None:
    ours = publication(tmp_path)
    (tmp_path / "show").mkdir()
    with pytest.raises(FileExistsError):
        ours.make(Step(1, 7, (b"show",), DIRECTORY))
    assert ours.expects(1, b"show", stat.S_IFDIR, threading.get_native_id()) is None
