"""Locks that the kernel keeps, and the names of trees."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from torrentfs.storage.locks import MOST_DOMAINS, FileLock, domain_names, key_of

if TYPE_CHECKING:
    from pathlib import Path


def test_one_at_a_time(tmp_path: Path) -> None:
    first = FileLock.take(tmp_path / "lock")
    assert first is not None
    assert FileLock.take(tmp_path / "lock") is None
    assert FileLock.take(tmp_path / "lock", shared=True) is None
    first.close()
    first.close()
    again = FileLock.take(tmp_path / "lock")
    assert again is not None
    again.close()


def test_a_shared_lock_becomes_exclusive_only_when_it_is_the_last(tmp_path: Path) -> None:
    one = FileLock.take(tmp_path / "lock", shared=True)
    two = FileLock.take(tmp_path / "lock", shared=True)
    assert one is not None
    assert two is not None
    assert not one.upgrade()
    assert FileLock.take(tmp_path / "lock") is None  # the failed attempt kept its share
    two.close()
    assert one.upgrade()
    assert FileLock.take(tmp_path / "lock", shared=True) is None
    one.downgrade()
    three = FileLock.take(tmp_path / "lock", shared=True)
    assert three is not None
    three.close()
    one.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (tmp_path / "lock").symlink_to(outside)
    with pytest.raises(OSError, match="symbolic links"):
        FileLock.take(tmp_path / "lock")
    assert outside.read_text() == "precious"


@pytest.mark.parametrize("key", ["0a" * 20, "0a" * 32])
def test_every_name_of_a_tree_leads_back_to_its_torrent(key: str) -> None:
    names = domain_names(key)
    assert names[0] == key
    assert len(set(names)) == MOST_DOMAINS
    assert {key_of(name) for name in names} == {key}


@pytest.mark.parametrize(
    "name",
    ["", "..", "lost+found", "0a" * 19, "0A" * 20, "0a" * 20 + ".", "0a" * 20 + ".2/..", "0a" * 33],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert key_of(name) is None


def test_a_child_of_a_fork_lets_go(tmp_path: Path) -> None:
    """Descriptors are shared with a child, and an flock is of the descriptor."""
    path = tmp_path / "lock"
    lock = FileLock.take(path)
    assert lock is not None
    child = os.fork()
    if child == 0:  # what pytest thinks of a test must not be said twice: no exception leaves here
        FileLock.let_go_after_fork()
        again = FileLock.take(path)
        os._exit(0 if again is None else 1)  # the parent has it still
    assert os.waitpid(child, 0)[1] == 0
    inheriting = os.fork()
    if inheriting == 0:
        FileLock.let_go_after_fork()
        time.sleep(20)
        os._exit(0)
    try:
        lock.close()
        deadline = time.monotonic() + 10
        while (again := FileLock.take(path)) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        again.close()
    finally:
        os.kill(inheriting, signal.SIGKILL)
        os.waitpid(inheriting, 0)
