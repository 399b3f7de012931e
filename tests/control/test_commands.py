"""The commands of a running mount, as a shell runs them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.control.controlled import Controlled, controlled, of_user, sockets_of
from tests.swarm.mounted import TORRENTFS, is_mounted, mounted
from tests.swarm.payload import write_tree
from tests.swarm.torrents import make_torrent

pytestmark = pytest.mark.real

NOBODY = "magnet:?xt=urn:btih:" + "a" * 40 + "&dn=nobody"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def mount(work: Path) -> Iterator[Controlled]:
    with controlled(work) as made:
        yield made


@pytest.fixture(scope="module")
def second(work: Path) -> Path:
    """Another torrent, which nobody seeds."""
    payload = work / "other" / "second"
    write_tree(payload, {"x.bin": 100_000})
    return make_torrent(payload, work / "second.torrent").torrent


def until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_status_and_list(mount: Controlled) -> None:
    status = mount.json("status")
    assert status["mountpoint"] == os.path.realpath(mount.mount.path)
    assert status["pid"] == mount.mount.pid
    (torrent,) = mount.json("list")["torrents"]
    assert torrent["path"] == "tree"
    assert torrent["key"] == mount.made.v1
    done = mount.ask("list")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\t")[0] == "tree"
    assert mount.ask("status").stdout.startswith("mount ")


def test_details(mount: Controlled) -> None:
    (mount.mount / "tree/z/large.bin").read_bytes()
    found = {file["path"]: file for file in mount.json("files", "tree")["files"]}
    assert found["tree/z/large.bin"]["have"] == found["tree/z/large.bin"]["size"] == 2_345_678
    assert "tree/Ünïcødé/музыка/曲 №1 🎵.flac" in found
    assert [peer["kind"] for peer in mount.json("peers", "tree")["peers"]] == ["tcp"]
    assert mount.json("trackers", "tree")["trackers"] == []
    assert mount.json("status")["received"]["tcp"] >= 2_345_678


def test_a_mount_is_meant_by_a_path_inside(mount: Controlled, tmp_path: Path) -> None:
    inside = mount.mount / "tree"
    assert mount.run("files", str(inside)).returncode == 0
    assert mount.run("files", ".", cwd=inside).returncode == 0
    assert mount.ask("list").returncode == 0
    done = mount.run("list", "--mount", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"no torrentfs is mounted at {tmp_path}" in done.stderr


def test_two_mounts_must_be_told_apart(
    mount: Controlled, work: Path, second: Path, tmp_path: Path
) -> None:
    with mounted(second, tmp_path, environment=of_user(work), name="second") as other:
        done = mount.run("list")
        assert done.returncode == 1
        assert "say which by --mount MOUNTPOINT" in done.stderr
        for path, name in ((mount.mount.path, "tree"), (other.path, "second")):
            done = mount.run("list", "--mount", str(path))
            assert done.stdout.startswith(name)


def test_add_and_remove(mount: Controlled, second: Path) -> None:
    done = mount.ask("add", str(second), "--to", "films/new")
    assert done.stdout == f"{mount.mount.path}/films/new/second\n", done.stderr
    assert (mount.mount / "films/new/second/x.bin").stat().st_size == 100_000
    (torrent,) = (t for t in mount.json("list")["torrents"] if t["name"] == "second")
    assert (torrent["state"], torrent["origin"], torrent["folder"]) == (
        "asleep",
        "added",
        "films/new",
    )
    assert mount.run("remove", str(mount.mount / "films/new/second")).returncode == 0
    assert os.listdir(mount.mount.path) == ["tree"]


def test_a_link_that_nobody_knows_is_listed_and_not_mounted(mount: Controlled) -> None:
    done = mount.ask("add", NOBODY)
    assert done.returncode == 0, done.stderr
    assert "its metadata is looked for" in done.stdout
    states = {t["name"]: t["state"] for t in mount.json("list")["torrents"]}
    assert states["nobody"] == "metadata"
    assert os.listdir(mount.mount.path) == ["tree"]
    assert mount.ask("remove", "nobody").returncode == 0


def test_what_is_added_comes_back(work: Path, second: Path, tmp_path: Path) -> None:
    make = lambda *sources: mounted(  # noqa: E731
        list(sources), tmp_path, "--state-dir", str(tmp_path / "s"), environment=of_user(tmp_path)
    )
    first = make_torrent(write_tree(tmp_path / "p" / "first", {"y": 5}), tmp_path / "f.torrent")
    run = lambda *args: subprocess.run(  # noqa: E731
        [str(TORRENTFS), *args, "--mount", str(tmp_path / "mount")],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **of_user(tmp_path)},
    )  # fmt: skip
    with make(first.torrent):
        assert run("add", str(second)).returncode == 0
        assert run("pause", "second").returncode == 0
    with make() as again:
        until(lambda: os.listdir(again.path) == ["second"])
        found = json.loads(run("list", "--json").stdout)["torrents"]
        assert [(t["name"], t["state"]) for t in found] == [("second", "paused")]


def test_a_paused_torrent_has_no_traffic(mount: Controlled, second: Path) -> None:
    assert mount.ask("pause", "tree").returncode == 0
    with pytest.raises(OSError, match="Input/output error"):
        (mount.mount / "tree/b/deep/er/three-pieces-and-a-bit.bin").read_bytes()
    assert mount.ask("resume", "tree").returncode == 0
    data = (mount.mount / "tree/b/deep/er/three-pieces-and-a-bit.bin").read_bytes()
    assert len(data) == 3 * 65_536 + 17


def test_limits(mount: Controlled) -> None:
    assert "5 MiB/s" in mount.ask("set", "--download-limit", "5M").stdout
    assert mount.json("set") == {"download_limit": 5 << 20, "upload_limit": None, "max_active": 32}
    assert mount.json("set", "--download-limit", "0")["download_limit"] is None


def test_the_cache(mount: Controlled) -> None:
    large = mount.mount / "tree/z/large.bin"
    right = hashlib.sha256(large.read_bytes()).hexdigest()
    (torrent,) = mount.json("cache", "du")["torrents"]
    assert torrent["name"] == "tree"
    assert mount.json("cache", "verify")["bad"] == 0
    stored = next(mount.mount.cache.glob("torrents/*/data/**/large.bin"))
    about = stored.stat()
    with stored.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"damage")
    os.utime(stored, ns=(about.st_atime_ns, about.st_mtime_ns))
    done = mount.ask("cache", "verify", "tree")
    assert (done.returncode, done.stdout.rpartition(", ")[2]) == (1, "1 damaged\n")
    assert mount.ask("cache", "prune", "--to", "0").returncode == 0
    assert mount.json("cache", "du")["torrents"] == []
    assert hashlib.sha256(large.read_bytes()).hexdigest() == right


def test_watching_tells_what_happens(mount: Controlled) -> None:
    place = str(mount.mount.path)
    command = [str(TORRENTFS), "status", "--watch", "--json", "--mount", place]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=mount.environment
    ) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        assert (first["event"], len(first["torrents"])) == ("snapshot", 1)
        assert mount.ask("pause", "tree").returncode == 0
        for line in watching.stdout:
            news = json.loads(line)
            if any(torrent["state"] == "paused" for torrent in news["torrents"]):
                break
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130
    assert mount.ask("resume", "tree").returncode == 0


def test_a_crash_leaves_a_socket_that_the_next_mount_replaces(tmp_path: Path, second: Path) -> None:
    user = of_user(tmp_path)
    with mounted(second, tmp_path, environment=user) as crashed:
        assert len(sockets_of(tmp_path)) == 1
        crashed.kill()
    assert len(sockets_of(tmp_path)) == 1
    assert not is_mounted(crashed.path)
    with mounted(second, tmp_path, environment=user) as again:
        done = subprocess.run(
            [str(TORRENTFS), "list", "--mount", str(again.path)],
            capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **user},
        )  # fmt: skip
        assert done.stdout.startswith("second")
    assert sockets_of(tmp_path) == []
