"""The browser of the kit: pages of WebTorrent among themselves, and with libtorrent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.swarm.browser import Browser, browser, write_video
from tests.swarm.payload import files_below, payload, sha256_file, sha256_tree, write_file
from tests.swarm.seeder import download, seed
from tests.swarm.torrents import make_torrent
from tests.swarm.tracker import tracker

pytestmark = pytest.mark.real

MIB = 1 << 20


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


def test_a_directory_from_page_to_page(tmp_path: Path, chromium: Browser) -> None:
    tree = tmp_path / "Ünï tree"
    sizes = {"a/one.bin": 3 * MIB + 5, "b c.bin": 70_001, "last": 1}
    for number, (name, size) in enumerate(sizes.items()):
        write_file(tree / name, number, size)
    with tracker(tmp_path) as server, chromium.page() as seeding, chromium.page() as page:
        seeding.seed(tree, trackers=[server.websocket], piece_length=32768)
        page.add(seeding.wait("seeding")["magnet"])
        status = page.wait("done")
        assert [wire["type"] for wire in status["wires"]] == ["webrtc"]
        expected = sha256_tree(tree)
        assert page.digests() == {f"{tree.name}/{n}": expected[n] for n in files_below(tree)}


def test_with_libtorrent_both_ways(tmp_path: Path, chromium: Browser) -> None:
    file = write_file(tmp_path / "film.bin", 1, 4 * MIB + 99)
    made = make_torrent(file, tmp_path / "t.torrent")
    with tracker(tmp_path) as server:
        magnet = made.magnet(tr=server.websocket)
        with (
            seed(made.torrent, file, tmp_path, trackers=[server.websocket]),
            chromium.page() as page,
        ):
            page.add(magnet)
            assert "libtorrent" in page.wait("done")["wires"][0]["client"]
            assert page.digests() == {"film.bin": sha256_file(file)}
        with chromium.page() as page, download(magnet, tmp_path / "got", tmp_path) as peer:
            page.seed_torrent(made.torrent, file, trackers=[server.websocket])
            peer.wait_done(30)
            assert (tmp_path / "got" / file.name).read_bytes() == payload(1, 4 * MIB + 99)
        with (
            seed(made.torrent, file, tmp_path, trackers=[server.websocket]),
            chromium.page() as page,
        ):
            assert page.visit(magnet) < 15
            assert not page.status()["there"]


def test_a_video_is_streamed_and_sought(tmp_path: Path, chromium: Browser) -> None:
    video = write_video(tmp_path / "film.mp4", 8)
    made = make_torrent(video, tmp_path / "t.torrent", piece_length=65536)
    with tracker(tmp_path) as server, chromium.page() as page:
        magnet = made.magnet(tr=server.websocket)
        with seed(made.torrent, video, tmp_path, trackers=[server.websocket]):
            page.add(magnet, select=False)
            page.wait("ready")
            page.stream("film.mp4")
            page.wait_video(lambda video: video["frames"] > 5)
            page.seek(6)
            page.wait_video(lambda video: video["currentTime"] > 6.2 and not video["seeking"])
            assert page.screenshot(tmp_path / "shot.png").stat().st_size > 10_000
        assert page.status()["said"] == []


def test_chromium_ends_with_its_driver(tmp_path: Path) -> None:
    """However the driver ends: `leaves_nothing` sees what it leaves."""
    with browser(tmp_path) as running:
        running.open()
        below = psutil.Process(running.child.pid).children(recursive=True)
        assert len(below) > 2
        running.child.kill()
        psutil.wait_procs(below, 10)
        assert not any(process.is_running() for process in below)
