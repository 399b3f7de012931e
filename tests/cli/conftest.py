"""A command line that knows nothing of the machine it is tested on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from click.testing import CliRunner

from torrentfs.cli import mount as mount_command
from torrentfs.cli.main import cli

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from torrentfs.daemon.config import MountConfig


class Run(Protocol):
    """Runs `torrentfs ARGS...` in this process."""

    def __call__(self, *args: str, **env: str) -> Result: ...


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; no TORRENTFS_* variables."""
    for name in list(os.environ):
        if name.startswith(("TORRENTFS_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def run() -> Run:
    """The command line."""

    def call(*args: str, **env: str) -> Result:
        return CliRunner().invoke(cli, args, env=env, prog_name="torrentfs")

    return call


def bencoded(value: object) -> bytes:
    """The bencoding of a value, written out here so that tests read no code of ours."""
    match value:
        case bytes():
            return b"%d:%s" % (len(value), value)
        case str():
            return bencoded(value.encode())
        case int():
            return b"i%de" % value
        case list():
            return b"l" + b"".join(map(bencoded, value)) + b"e"
        case dict():
            items = sorted((key.encode(), item) for key, item in value.items())
            return b"d" + b"".join(bencoded(k) + bencoded(v) for k, v in items) + b"e"
    raise TypeError(type(value))


@pytest.fixture
def torrent(tmp_path: Path) -> Path:
    """A v1 torrent of a directory with a file in a directory, a program and a pad."""
    info = {
        "name": "sample",
        "piece length": 16384,
        "pieces": b"x" * 40,
        "private": 1,
        "files": [
            {"length": 10000, "path": ["sub", "a\x1b[31m.bin"]},
            {"length": 6384, "path": [".pad", "6384"], "attr": "p"},
            {"length": 5, "path": ["run"], "attr": "x"},
        ],
    }
    outer = {
        "info": info,
        "announce-list": [["http://127.0.0.1:1/announce"], ["udp://127.0.0.1:2"]],
        "url-list": "http://127.0.0.1:3/",
        "creation date": 1700000000,
        "comment": "hello",
    }
    path = tmp_path / "sample.torrent"
    path.write_bytes(bencoded(outer))
    return path


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[MountConfig]:
    """What `mount` would have mounted; nothing is."""
    made: list[Any] = []

    def remember(config: MountConfig) -> int:
        made.append(config)
        return 0

    monkeypatch.setattr(mount_command, "_run_in_background", remember)
    return made
