"""inotify tells that something happened, or says why it cannot."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import inotify_simple
import pytest
import trio

from torrentfs.daemon.watch_events import Events, is_remote

if TYPE_CHECKING:
    from pathlib import Path

TABLE = [
    ("/", "ext4"),
    ("/net", "nfs4"),
    ("/net/local", "xfs"),
    ("/home/u/remote", "fuse.sshfs"),
    ("/disk", "fuseblk"),
    ("/disk", "ext4"),
]


@pytest.mark.parametrize(
    ("path", "remote"),
    [("/a", False), ("/net", True), ("/net/x/y", True), ("/network", False),
     ("/net/local/x", False), ("/home/u/remote/x", True), ("/disk/x", False)],
)  # fmt: skip
def test_where_events_do_not_come_from(path: str, remote: bool) -> None:
    assert is_remote(path, TABLE) == remote


def test_the_real_table_can_be_read(tmp_path: Path) -> None:
    assert not is_remote("/proc/self")


async def happens(events: Events) -> bool:
    with trio.move_on_after(0.3) as scope:
        await events.wait()
    return not scope.cancelled_caught


@pytest.mark.real
async def test_changes_are_heard_of(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    events = Events()
    events.open(str(tmp_path))
    assert not events.reason
    assert events.watch([str(one), str(tmp_path / "missing")])
    assert not events.watch([str(one)])
    assert not await happens(events)
    (one / "file").write_text("x")
    assert await happens(events)
    assert not await happens(events)  # all of it was taken in at once
    (two / "file").write_text("x")
    assert not await happens(events)
    assert events.watch([str(one), str(two)])
    (two / "file").rename(one / "other")
    assert await happens(events)
    assert not events.watch([str(two)])
    await happens(events)
    (one / "new").write_text("x")
    assert not await happens(events)
    two.rename(tmp_path / "three")
    assert await happens(events)
    two.mkdir()
    assert events.watch([str(two)])  # another directory of that name
    events.close()
    events.close()


@pytest.mark.parametrize("where", ["__init__", "add_watch"])
async def test_no_more_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, autojump_clock: object
) -> None:
    def refuse(*_arguments: Any, **_settings: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(inotify_simple.INotify, where, refuse)
    events = Events()
    events.open(str(tmp_path))
    assert not events.watch([str(tmp_path)])
    assert "no more watches (no space left on device)" in events.reason
    with trio.move_on_after(1000) as scope:
        await events.wait()
    assert scope.cancelled_caught


def test_network_file_systems_are_not_listened_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torrentfs.daemon.watch_events.is_remote", lambda _: True)
    events = Events()
    events.open(str(tmp_path))
    assert "not told of" in events.reason
    assert not events.watch([str(tmp_path)])


@pytest.mark.real
async def test_what_went_before_it_was_watched_is_news_once(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    events = Events()
    events.open(str(tmp_path))
    assert events.watch([str(tmp_path)])
    assert events.watch([str(tmp_path), gone])
    assert not events.watch([str(tmp_path), gone])
    assert not events.watch([str(tmp_path)])
    assert events.watch([str(tmp_path), gone])
    events.close()
