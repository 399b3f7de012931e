"""Configuration that does not depend on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.daemon.fakes import config
from torrentfs.daemon.config import (
    absolute,
    default_config_file,
    default_log_file,
    default_state_dir,
    library_file,
    read_config_file,
)
from torrentfs.engine.config import SessionConfig
from torrentfs.errors import ConfigError


def test_default_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    assert default_config_file() == Path("/c/torrentfs/config.toml")
    assert default_log_file(Path("/mnt/my films")) == Path("/s/torrentfs/log/mnt-my-films.log")
    assert default_log_file(Path("/")).name == "root.log"
    assert default_state_dir() == Path("/s/torrentfs")
    assert len(default_log_file(Path("/" + "x" * 300)).name) <= 104


def test_each_mount_point_has_a_library_of_its_own() -> None:
    names = {
        library_file(Path("/s"), path).name
        for path in ("/m", "/m/", "/m-", "/é", "/e", "/", "/" + "x" * 300, "/" + "x" * 301)
    }
    assert len(names) == 8
    assert all(len(name) < 100 for name in names)
    assert library_file(Path("/s"), "/mnt/a").parent == Path("/s/library")


def test_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/h")
    assert absolute("a/../b") == tmp_path / "b"
    assert absolute("~/a") == Path("/h/a")


def test_impossible_configurations() -> None:
    with pytest.raises(ConfigError, match="must not be in the mount point: /m/w"):
        config(watch=(Path("/m/w"),))
    with pytest.raises(ConfigError, match="/w/a is watched already"):
        config(watch=(Path("/w"), Path("/w/a")))
    assert config(watch=(Path("/w"), Path("/w"), Path("/wa"))).watch
    with pytest.raises(ConfigError, match="allow-root"):
        config(allow_other=True, allow_root=True)
    with pytest.raises(ConfigError, match="--umask 027 cannot forbid it"):
        config(inotify=True, allow_root=True, umask=0o027)
    assert config(inotify=True, umask=0o077).inotify
    with pytest.raises(ConfigError, match="timeout"):
        config(metadata_timeout=0.0)
    with pytest.raises(ConfigError, match="--follow-interval must be 1s"):
        config(follow_interval=0.5)
    with pytest.raises(ConfigError, match="timeout"):
        config(session=SessionConfig(read_timeout=0.0))


def test_config_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("cache-size = '1G'\nport = 5\npeer = ['a:1', 'b:2']\nno_tcp = true")
    assert read_config_file(path, {"cache_size", "port", "peer", "no_tcp"}) == {
        "cache_size": "1G",
        "port": 5,
        "peer": ["a:1", "b:2"],
        "no_tcp": True,
    }
    for wrong in (b"\xff", b"port = 5", b"x = [[1]]", b"x = 2000-01-01", b"x = " + b"[" * 10000):
        path.write_bytes(wrong)
        with pytest.raises(ConfigError, match=r"c\.toml"):
            read_config_file(path, {"x"})
    with pytest.raises(ConfigError, match="is a directory"):
        read_config_file(tmp_path, {"x"})
