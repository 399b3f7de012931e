"""Wrong sources, mount points and ports: one clear line, the documented code, nothing left."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.hardening_cli.command import TORRENT, check_refused, torrentfs
from tests.swarm.mounted import is_mounted, unmount

pytestmark = pytest.mark.real

UNKNOWN = "a" * 40


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    path = tmp_path / "mnt"
    path.mkdir()
    return path


def make_sources(place: Path) -> None:
    (place / "good.torrent").write_bytes(TORRENT)
    (place / "cut.torrent").write_bytes(TORRENT[:60])
    (place / "text").write_text("hello\n" * 100)
    (place / "page.html").write_text("<!DOCTYPE html><html></html>")
    (place / "empty").touch()
    (place / "film.mkv").touch()
    os.truncate(place / "film.mkv", 5 << 30)
    os.mkfifo(place / "pipe")
    (place / "loop").symlink_to("loop")
    (place / "directory").mkdir()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nothing.torrent", "no such file, and not a magnet link"),
        ("directory", "is a directory"),
        ("film.mkv", "5 GiB is too large for a .torrent file"),
        ("text", "not a torrent file"),
        ("page.html", "not a torrent file"),
        ("empty", "not a torrent file"),
        ("cut.torrent", "damaged or cut short"),
        ("pipe", "not a regular file"),
        ("loop", "too many levels"),
    ],
)
def test_files_that_are_no_torrent(
    tmp_path: Path, mountpoint: Path, source: str, said: str
) -> None:
    make_sources(tmp_path)
    done = torrentfs("mount", tmp_path / source, mountpoint, home=tmp_path)
    check_refused(done, 1, said, mountpoint)
    assert source in done.stderr


@pytest.mark.parametrize(
    ("link", "code", "said"),
    [
        ("magnet:?dn=x", 1, "no BitTorrent hash"),
        ("magnet:?xt=urn:btih:" + "g" * 40, 1, "not 40 hex or 32 base32 digits"),
        (UNKNOWN, 3, "name one with --tracker or --peer"),
    ],
)
def test_magnets(tmp_path: Path, mountpoint: Path, link: str, code: int, said: str) -> None:
    done = torrentfs("mount", link, mountpoint, "--metadata-timeout", "300ms", home=tmp_path)
    check_refused(done, code, said, mountpoint)


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        place = {"/moved": "/good", "/loop": "/loop", "/ftp": "ftp://x/"}.get(self.path)
        body = {"/good": TORRENT, "/html": b"<html>", "/short": TORRENT[:50]}.get(self.path)
        if place:
            self.send_response(302)
            self.send_header("Location", place)
        else:
            self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(TORRENT if body else b"")))
        self.end_headers()
        self.wfile.write(body or b"")
        self.close_connection = True


@pytest.fixture
def site() -> Iterator[str]:
    """The URL of a server with good and bad answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_urls(tmp_path: Path, mountpoint: Path, site: str) -> None:
    for page, said in (
        ("missing", "the server answered 404"),
        ("html", "peer closed connection"),
        ("short", "peer closed connection"),
        ("loop", "more than 5 redirects"),
        ("ftp", "redirects to ftp:, which is refused"),
    ):
        done = torrentfs("mount", f"{site}/{page}", mountpoint, home=tmp_path)
        check_refused(done, 1, said, mountpoint)
    done = torrentfs("mount", f"{site}/moved", mountpoint, home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(mountpoint) == ["x"]
    unmount(mountpoint)


def test_servers_that_are_not_there(tmp_path: Path, mountpoint: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.torrent"
        done = torrentfs("mount", "--metadata-timeout", "1s", url, mountpoint, home=tmp_path)
        check_refused(done, 3, "no answer in 1 s", mountpoint)
    done = torrentfs("mount", url, mountpoint, home=tmp_path)
    check_refused(done, 1, "cannot connect: connection refused", mountpoint)


def test_places(tmp_path: Path, mountpoint: Path) -> None:
    make_sources(tmp_path)
    good = tmp_path / "good.torrent"
    for place, said in (
        (tmp_path / "not there", f"create it with `mkdir -p '{tmp_path}/not there'`"),
        (tmp_path / "text", "is not a directory"),
        (tmp_path, "is not empty"),
        (Path("/proc"), "/proc is busy: proc is mounted there"),
    ):
        check_refused(torrentfs("mount", good, place, home=tmp_path), 2, said, mountpoint)
    cache = mountpoint / "cache"
    done = torrentfs("mount", good, mountpoint, "--cache-dir", cache, home=tmp_path)
    check_refused(done, 1, "the cache must not be in the mount point", mountpoint)
    assert os.listdir(mountpoint) == []
    assert torrentfs("mount", good, mountpoint, home=tmp_path).returncode == 0
    done = torrentfs("mount", good, mountpoint, home=tmp_path)
    assert done.returncode == 2
    assert "is busy: torrentfs is mounted there" in done.stderr
    assert torrentfs("umount", mountpoint, home=tmp_path).returncode == 0
    check_refused(torrentfs("umount", mountpoint, home=tmp_path), 2, "nothing is", mountpoint)
    check_refused(torrentfs("umount", "/proc", home=tmp_path), 2, "but proc", mountpoint)


def test_a_port_in_use(tmp_path: Path, mountpoint: Path) -> None:
    make_sources(tmp_path)
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        good = tmp_path / "good.torrent"
        done = torrentfs("mount", good, mountpoint, "--port", port, home=tmp_path)
    check_refused(done, 1, f"cannot listen on *:{port}: address already in use", mountpoint)


def test_a_cache_that_cannot_be_made_is_told_and_done_without(
    tmp_path: Path, mountpoint: Path
) -> None:
    make_sources(tmp_path)
    cache = tmp_path / "text" / "cache"
    done = torrentfs(
        "mount", tmp_path / "good.torrent", mountpoint, "--cache-dir", cache, home=tmp_path
    )
    assert done.returncode == 0
    said = f"torrentfs: mounted, but nothing is kept in the cache {cache} for now: not a directory"
    (line,) = done.stderr.splitlines()
    assert line.startswith(said)
    assert is_mounted(mountpoint)
    unmount(mountpoint)


def test_hostile_torrents_are_shown_safely(tmp_path: Path, mountpoint: Path) -> None:
    names = b"d5:filesld6:lengthi1e4:pathl2:..2:..6:passwdeed6:lengthi1e4:pathl300:%seee" % (
        b"n" * 300
    )
    info = names + b"4:name9:\x1b[2J\n..\xff/12:piece lengthi16384e6:pieces20:" + b"h" * 20 + b"e"
    hostile = tmp_path / "hostile.torrent"
    hostile.write_bytes(b"d7:comment4:\x1b]0;4:info" + info + b"e")
    done = torrentfs("inspect", hostile, home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert torrentfs("mount", hostile, mountpoint, home=tmp_path).returncode == 0
    try:
        shown = [Path(top, name) for top, _, files in os.walk(mountpoint) for name in files]
        assert len(shown) == 2
        assert all(len(os.fsencode(path.name)) <= 255 for path in shown)
    finally:
        unmount(mountpoint)
    for nested in (b"d4:info" + b"l" * 100_000, b"d4:info" + b"d1:a" * 100_000):
        hostile.write_bytes(nested)
        check_refused(torrentfs("inspect", hostile, home=tmp_path), 1, "malformed", mountpoint)
