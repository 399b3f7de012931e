"""Which mount is meant, and what is said when that is not clear or does not answer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from tests.cli.controlled import MOUNT, OTHER, ROOT, controlled
from torrentfs.cli import client as client_module
from torrentfs.cli.client import (
    Client,
    complete_torrent,
    connect,
    place_of,
    running_mounts,
    the_mount,
    torrent_of,
)
from torrentfs.errors import ConfigError, MetadataTimeout
from torrentfs.vfs.mountpoint import MountPoint

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.daemon.control.fakes import FakeMount

__all__ = ["controlled"]


def table(monkeypatch: pytest.MonkeyPatch, *mounts: MountPoint) -> None:
    monkeypatch.setattr(client_module, "mount_table", lambda: list(mounts))


def test_what_lies_under_another_mount_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    over = MountPoint("/m", "tmpfs", "tmpfs", "0:52")
    table(monkeypatch, ROOT, MOUNT, over, OTHER)
    assert running_mounts() == [OTHER]


def test_a_path_says_which_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inner = MountPoint("/m/inner", MOUNT.fstype, "torrentfs:3", "0:53")
    here = MountPoint(str(tmp_path / "real"), MOUNT.fstype, "torrentfs:4", "0:54")
    table(monkeypatch, ROOT, MOUNT, inner, here)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for path, expected in [
        ("/m/a/b", (MOUNT, ("a", "b"))),
        ("/m", (MOUNT, ())),
        ("/m/", (MOUNT, ())),
        ("/m/x/../a", (MOUNT, ("a",))),
        ("/m/inner/a", (inner, ("a",))),
        ("/mm/a", None),
        ("real/a", (here, ("a",))),
        ("link/a", (here, ("a",))),
        ("nothing", None),
    ]:
        assert place_of(path) == expected, path


def test_the_only_mount_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    table(monkeypatch, ROOT, MOUNT)
    assert the_mount(None) == MOUNT
    assert the_mount(Path("/m")) == MOUNT
    with pytest.raises(ConfigError, match="no torrentfs is mounted at /x"):
        the_mount(Path("/x"))
    table(monkeypatch, ROOT, MOUNT, OTHER)
    assert the_mount(Path("/other")) == OTHER
    with pytest.raises(ConfigError, match=r"several are mounted \(/m, /other\): say which by"):
        the_mount(None)
    table(monkeypatch, ROOT)
    with pytest.raises(ConfigError, match="no torrentfs is mounted here: torrentfs mount"):
        the_mount(None)


def test_a_mount_without_a_socket_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    table(
        monkeypatch, ROOT, MountPoint("/nowhere", MOUNT.fstype, f"torrentfs:{os.getpid()}", "0:9")
    )
    result = run("list")
    assert result.exit_code == 1
    assert "/nowhere has no control socket here" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # httpcore's socket
def test_a_socket_that_nobody_answers_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torrentfs.daemon.control.place import UnixSocket, runtime_directory, socket_name

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made = UnixSocket(runtime_directory() / socket_name("/m"))
    made.listener.close()
    with connect(MOUNT) as client, pytest.raises(Exception, match="/m does not answer"):
        client.get("/status")


def test_what_the_mount_says_is_the_error(controlled: FakeMount, run: Run) -> None:
    result = run("files", "nothing")
    assert (result.exit_code, result.stderr) == (1, "torrentfs: no torrent is called 'nothing'\n")


def test_what_does_not_come_in_time_has_a_code_of_its_own(
    controlled: FakeMount, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: object, **__: object) -> None:
        raise MetadataTimeout("http://x: no answer in 60 s")

    monkeypatch.setattr(controlled.library, "add", slow)
    assert run("add", "http://x.example/t.torrent").exit_code == 3


@pytest.mark.parametrize("text", ["sample", "/m/sample"])
def test_a_torrent_is_meant_by_name_key_or_path(controlled: FakeMount, text: str) -> None:
    with torrent_of(text, None) as (_, torrent):
        assert torrent["name"] == "sample"
    with torrent_of(controlled.item.key[:8], Path("/m")) as (_, torrent):
        assert torrent["key"] == controlled.item.key


def test_names_are_completed(controlled: FakeMount, monkeypatch: pytest.MonkeyPatch) -> None:
    context = click.Context(click.Command("x"))
    parameter = click.Argument(["torrent"])
    assert complete_torrent(context, parameter, "sam") == ["sample"]
    assert complete_torrent(context, parameter, "x") == []
    table(monkeypatch, ROOT)
    assert complete_torrent(context, parameter, "sam") == []


def test_events_are_read_line_by_line() -> None:
    lines = iter(["event: snapshot", 'data: {"a": 1}', "", ": nothing new", "", "event: change",
                  "data: {}", ""])  # fmt: skip
    assert list(client_module._parse_events(lines)) == [("snapshot", '{"a": 1}'), ("change", "{}")]
    assert Client is client_module.Client
