"""`--inotify` with what changes a mount in daily life: a watch directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuse.inotify import Watcher
from tests.scale.torrents import library
from tests.swarm.mounted import mounted

pytestmark = pytest.mark.real


def test_a_watch_directory_is_followed_and_watchers_are_told(tmp_path: Path) -> None:
    first, second = library(2, 10)
    watched = tmp_path / "watched"
    (watched / "films").mkdir(parents=True)
    (watched / "first.torrent").write_bytes(first)
    watcher = Watcher()
    options = ("--watch", str(watched), "--inotify")
    with mounted(watched / "first.torrent", tmp_path, *options) as mount:
        watcher.watch(mount.path)
        (watched / "films/second.torrent").write_bytes(second)
        assert watcher.events(timeout=15) == ["CREATE DIR films"]
        assert os.listdir(mount.path / "films") == ["Show 0001"]
        (watched / "films/second.torrent").unlink()
        assert watcher.events(timeout=15) == ["DELETE DIR films"]
        assert os.listdir(mount.path) == ["Show 0000"]
    watcher.close()
