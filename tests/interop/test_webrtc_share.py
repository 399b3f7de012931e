"""`torrentfs share` for people who have nothing but a web page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.copying import KIB, MIB
from tests.swarm.browser import Browser, browser, write_video
from tests.swarm.payload import sha256_tree, write_file
from tests.swarm.shared import shared
from tests.swarm.tracker import tracker

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 40 s with files around it."""
    folder = tmp_path_factory.mktemp("payload") / "A holiday №1"
    write_file(folder / "notes" / "début.txt", 1, 12_345)
    write_file(folder / "pictures" / "1.raw", 2, 3 * MIB + 7)
    write_video(folder / "film.mp4", 40)
    return folder


@pytest.mark.parametrize("version", ["v1", "hybrid"])
def test_a_page_downloads_a_shared_folder(
    tmp_path: Path, chromium: Browser, folder: Path, version: str
) -> None:
    with (
        tracker(tmp_path) as server,
        shared(folder, tmp_path, "--format", version, "--tracker", server.websocket) as share,
        chromium.page() as page,
    ):
        page.add(share.magnet)
        status = page.wait("done", 40)
        expected = sha256_tree(folder)
        # a client of v1 sees the pad files of a hybrid torrent as files
        found = {name: sha for name, sha in page.digests().items() if "/.pad/" not in name}
        assert found == {f"{folder.name}/{name}": sha for name, sha in expected.items()}
        assert [(wire["type"], wire["client"][:9]) for wire in status["wires"]] == [
            ("webrtc", "torrentfs")
        ]
        assert status["said"] == []


def test_a_page_streams_a_video_of_a_shared_folder(
    tmp_path: Path, chromium: Browser, folder: Path
) -> None:
    """It plays before it is all there; a seek to the end plays from there at once."""
    size = (folder / "film.mp4").stat().st_size
    with (
        tracker(tmp_path) as server,
        shared(
            folder,
            tmp_path,
            *("--tracker", server.websocket, "--upload-limit", "3M", "--piece-size", "64K"),
        ) as share,
        chromium.page() as page,
    ):
        page.add(share.magnet, select=False)
        page.wait("ready")
        page.stream("film.mp4")
        first = page.wait_video(lambda video: video["currentTime"] > 1 and video["frames"] > 10)
        assert (first["videoWidth"], round(first["duration"])) == (640, 40)
        pictures = [page.screenshot(tmp_path / "1.png", "video").read_bytes()]
        later = page.wait_video(lambda video: video["currentTime"] > first["currentTime"] + 1)
        pictures.append(page.screenshot(tmp_path / "2.png", "video").read_bytes())
        assert later["frames"] > first["frames"] + 10
        assert page.status()["downloaded"] < size  # and is not done
        page.seek(36)
        page.wait_video(lambda video: video["currentTime"] > 37 and not video["seeking"])
        page.pause()
        pictures.append(page.screenshot(tmp_path / "3.png", "video").read_bytes())
        assert len(set(pictures)) == 3
        assert min(map(len, pictures)) > 10_000  # a test picture, not one colour
        # and what differs is the picture: while it stands still, nothing does
        assert page.screenshot(tmp_path / "4.png", "video").read_bytes() == pictures[2]
        assert page.status()["downloaded"] < size + 16 * KIB
        assert page.status()["said"] == []
