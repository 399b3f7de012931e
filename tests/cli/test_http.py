"""The options about the HTTP server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run
    from torrentfs.daemon.config import MountConfig


def test_off_unless_asked_for(run: Run, torrent: Path, configs: list[MountConfig]) -> None:
    assert run("mount", str(torrent), "/m").exit_code == 0
    assert configs[0].control.http is None


def test_address_and_names(run: Run, torrent: Path, configs: list[MountConfig]) -> None:
    result = run("mount", "--http", ":8080", "--http-name", "Films.Example", str(torrent), "/m")
    assert result.exit_code == 0, result.output
    assert configs[0].control.http == ("127.0.0.1", 8080)
    assert configs[0].control.names == ("films.example",)


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "192.0.2.1:80"])
def test_other_machines_must_be_meant(
    run: Run, torrent: Path, configs: list[MountConfig], address: str
) -> None:
    result = run("mount", "--http", address, str(torrent), "/m")
    assert result.exit_code == 1
    assert "--http-allow-remote" in result.stderr
    assert result.stderr.count("\n") == 1
    assert run("mount", "--http", address, "--http-allow-remote", str(torrent), "/m").exit_code == 0
    assert configs[0].control.allow_remote


def test_names_without_an_address_are_a_slip(run: Run, torrent: Path) -> None:
    assert run("mount", "--http-name", "a.example", str(torrent), "/m").exit_code == 1
