"""The same paths, inodes, sizes and dates, whatever happens to the process, its disk and cache."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.library.looking import find, put, until
from tests.storage.test_small_disk import small_disk
from tests.swarm.mounted import TORRENTFS, MountFailed, mounted
from tests.swarm.quiet import quiet_environment

pytestmark = pytest.mark.real

KIB = 1024


@pytest.fixture
def watch(tmp_path: Path) -> Path:
    root = tmp_path / "watch"
    put(root / "1.torrent", "film")
    put(root / "series" / "a" / "2.torrent", "season")
    put(root / "series" / "b" / "3.torrent", "season", 2)
    put(root / "series" / "a" / "4.torrent", "season", 3)  # the name of another one in there
    return root


def test_a_restart_changes_nothing(tmp_path: Path, watch: Path) -> None:
    given = put(tmp_path / "given.torrent", "given")
    options = ("--watch", str(watch))
    with mounted(given, tmp_path, *options) as mount:
        before = find(mount.path)
        assert {"film/c", "given", "series/a/season", "series/b/season/a/b"} <= set(before)
        assert len([path for path in before if path.startswith("series/a/season [")]) == 4
    with mounted(given, tmp_path, *options) as mount:
        assert find(mount.path) == before
        mount.kill()
    with mounted(given, tmp_path, *options) as mount:
        assert find(mount.path) == before


def test_the_cache_is_deleted(tmp_path: Path, watch: Path) -> None:
    options = ("--watch", str(watch))
    with mounted([], tmp_path, *options) as mount:
        before = find(mount.path)
        shutil.rmtree(mount.cache)
        assert find(mount.path) == before
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    with mounted([], tmp_path, *options) as mount:
        assert find(mount.path) == before


def test_a_watch_directory_is_followed(tmp_path: Path, watch: Path) -> None:
    with mounted([], tmp_path, "--watch", str(watch)) as mount:
        before = find(mount.path)
        data = (watch / "1.torrent").read_bytes()
        new = watch / "series" / "c" / "5.torrent"
        new.parent.mkdir()
        with new.open("wb", buffering=0) as file:  # another torrent, written slowly
            whole = put(tmp_path / "5.torrent", "late").read_bytes()
            for place in range(0, len(whole), 60):
                file.write(whole[place : place + 60])
                time.sleep(0.02)
        until((mount / "series/c/late/c").exists)
        (watch / "1.torrent").rename(watch / "series" / "moved.torrent")
        until((mount / "series/film").exists)
        assert not (mount / "film").exists()
        after = find(mount.path)
        assert after["series/film/c"] == before["film/c"]
        assert after["series/a"] == before["series/a"]  # nothing came to it or went from it
        assert float(after[""][2]) > float(before[""][2])
        (watch / "series" / "b" / "3.torrent").unlink()
        until(lambda: not (mount / "series/b").exists())
        (watch / "series" / "moved.torrent").write_bytes(data[:40])
        time.sleep(3)
        assert (mount / "series/film/c").exists()  # it is not whole, and was something
        last = find(mount.path)
    with mounted([], tmp_path, "--watch", str(watch)) as mount:
        assert find(mount.path) == last


def test_killed_at_any_moment(tmp_path: Path, watch: Path) -> None:
    """Files come and go, the process is killed in the midst of it: what stays never moves."""
    rng = random.Random(7)
    options = ("--watch", str(watch))
    known: dict[str, tuple[str, ...]] = {}
    number = 100
    for round_ in range(8):
        with mounted([], tmp_path, *options, name=f"mount{round_ % 1}") as mount:
            there = find(mount.path)
            for path, about in known.items():
                if path in there and "." not in path:
                    assert there[path] == about, path
            names = {path.stem for path in watch.rglob("n*.torrent")}
            assert names == {path for path in there if path.startswith("n") and "/" not in path}
            deadline = time.monotonic() + rng.uniform(0.2, 1.5)
            while time.monotonic() < deadline:
                number += 1
                put(watch / f"n{number}.torrent", f"n{number}")
                if rng.random() < 0.3:
                    rng.choice(sorted(watch.glob("n*.torrent"))).unlink()
                time.sleep(rng.uniform(0, 0.2))
            # of directories whose entries come and go the date is not compared
            known = {path: about for path, about in find(mount.path).items() if path}
            mount.kill()
    with mounted([], tmp_path, *options, name="mount0") as mount:
        last = find(mount.path)
        assert {path.stem for path in watch.rglob("n*.torrent")} <= set(last)
    with mounted([], tmp_path, *options, name="mount0") as mount:
        assert find(mount.path) == last


def test_a_disk_that_is_not_mounted_empties_nothing(tmp_path: Path, watch: Path) -> None:
    options = ("--watch", str(watch))
    away = tmp_path / "away"
    with mounted([], tmp_path, *options) as mount:
        before = find(mount.path)
        watch.rename(away)
        mount.wait_log("cannot be read", 20)
        assert find(mount.path) == before
    watch.mkdir()
    with mounted([], tmp_path, *options) as mount:
        assert find(mount.path) == before
        assert "has lost 4 torrents at once" in mount.log()
        watch.rmdir()
        away.rename(watch)
        mount.wait_log("is as it should be again", 20)
        assert find(mount.path) == before


def test_a_full_disk(tmp_path: Path, watch: Path) -> None:
    with small_disk(tmp_path / "disk", 512 * KIB) as disk:
        options = ("--watch", str(watch), "--state-dir", str(disk / "state"))
        with mounted([], tmp_path, *options) as mount:
            before = find(mount.path)
        fill(disk)
        with mounted([], tmp_path, *options) as mount:  # it can be read, and that is enough
            assert find(mount.path) == before
            put(watch / "new.torrent", "new")
            until((mount / "new").exists)
            for number in range(30):
                put(watch / f"n{number}.torrent", f"n{number}" * 20)
            until(lambda: len(os.listdir(mount.path)) == 33)
            mount.wait_log("the library cannot be written down")
            assert mount.log().count("the library cannot be written down") == 1
            during = find(mount.path)
        (disk / "filler").unlink()
        with mounted([], tmp_path, *options) as mount:
            after = find(mount.path)
            assert set(after) == set(during)
            assert {path: about for path, about in after.items() if path in before and path} == {
                path: about for path, about in before.items() if path
            }


def fill(disk: Path) -> None:
    """Leave nothing."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (4096, 512, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_a_damaged_library_is_not_an_empty_mount(tmp_path: Path, watch: Path) -> None:
    state = tmp_path / "state" / "torrentfs" / "library"
    with mounted([], tmp_path, "--watch", str(watch)) as mount:
        before = find(mount.path)
    (records,) = state.glob("*.sqlite")
    data = bytearray(records.read_bytes())
    data[:4096] = bytes(4096)
    records.write_bytes(data)
    empty = tmp_path / "empty"
    empty.mkdir()
    with (
        pytest.raises(MountFailed, match=r"was damaged.*nothing is mounted"),
        mounted([], tmp_path, "--watch", str(empty)),
    ):
        pass
    records.write_bytes(data)
    with mounted([], tmp_path, "--watch", str(watch)) as mount:
        assert set(find(mount.path)) == set(before)
        assert "was damaged" in mount.log()
    assert list(state.glob("*.damaged-*"))


def test_nothing_to_mount(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    environment = {**quiet_environment(without=("TORRENTFS_", "XDG_")), "HOME": str(tmp_path)}
    done = subprocess.run(
        [TORRENTFS, "mount", str(tmp_path / "mnt")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("torrentfs: nothing to mount: name a .torrent file")
    assert len(done.stderr.splitlines()) == 1


def test_a_command_hears_of_changes(tmp_path: Path, watch: Path) -> None:
    told = tmp_path / "told"
    command = f'echo "$TORRENTFS_EVENT $TORRENTFS_PATH" >> {told}'
    with mounted([], tmp_path, "--watch", str(watch), "--on-change", command) as mount:
        until(lambda: told.exists() and len(told.read_text().splitlines()) == 4)
        put(watch / "more" / "new.torrent", "new")
        until(lambda: len(told.read_text().splitlines()) == 5)
        assert told.read_text().splitlines()[-1] == f"added {mount.path}/more/new"
        (watch / "more" / "new.torrent").unlink()
        until(lambda: len(told.read_text().splitlines()) == 6)
        assert told.read_text().splitlines()[-1] == f"removed {mount.path}/more/new"


def test_a_media_server_is_asked_by_ourselves_whatever_torrents_go_through(
    tmp_path: Path, watch: Path
) -> None:
    """Its `localhost` is ours and not the proxy's, who is not to read the token either."""
    asked: list[tuple[str, str, str]] = []

    class MediaServer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.client_address[0], self.path, self.headers["Authorization"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with (
        socket.create_server(("127.0.0.1", 0)) as proxy,
        ThreadingHTTPServer(("127.0.0.1", 0), MediaServer) as server,
    ):
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            with mounted(
                *([], tmp_path, "--watch", str(watch), "--bind-interface", "127.0.0.2"),
                *("--proxy", f"socks5://127.0.0.1:{proxy.getsockname()[1]}"),
                *("--refresh", f"jellyfin=http://127.0.0.1:{server.server_port}"),
                environment={"TORRENTFS_JELLYFIN_TOKEN": "secret"},
            ):
                until(lambda: asked)
        finally:
            server.shutdown()
            thread.join()
        told = "127.0.0.1", "/Library/Media/Updated", 'MediaBrowser Token="secret"'
        assert set(asked) == {told}
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
