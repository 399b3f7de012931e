"""libtorrent, which is no browser: it (libdatachannel) negotiates no SRTP for data alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.swarm.mounted import Mounted, mounted
from tests.swarm.payload import sha256_file, write_file
from tests.swarm.seeder import download, seed
from tests.swarm.torrents import MadeTorrent, make_torrent
from tests.swarm.tracker import tracker

pytestmark = pytest.mark.real

SIZE = 12_000_000
LOCAL = ("--bind-interface", "127.0.0.1", "--xattrs")


@pytest.fixture
def made(tmp_path: Path) -> MadeTorrent:
    write_file(tmp_path / "film.bin", 1, SIZE)
    return make_torrent(tmp_path / "film.bin", tmp_path / "t.torrent")


def over_webrtc(mount: Mounted) -> int:
    return int(os.getxattr(mount / "film.bin", "user.torrentfs.from_webrtc"))


def test_a_seeder(tmp_path: Path, made: MadeTorrent) -> None:
    file = tmp_path / "film.bin"
    with tracker(tmp_path) as server:
        url = server.websocket
        with (
            seed(made.torrent, file, tmp_path, trackers=[url]),
            mounted(made.magnet(tr=url), tmp_path, *LOCAL) as mount,
        ):
            assert sha256_file(mount / "film.bin") == sha256_file(file)
            assert over_webrtc(mount) >= SIZE


def test_a_downloader(tmp_path: Path, made: MadeTorrent) -> None:
    file = tmp_path / "film.bin"
    with tracker(tmp_path) as server:
        url = server.websocket
        with mounted(str(made.torrent), tmp_path, *LOCAL, "--tracker", url) as mount:
            with seed(made.torrent, file, tmp_path, trackers=[url]):
                assert sha256_file(mount / "film.bin") == sha256_file(file)
            with download(made.magnet(tr=url), tmp_path / "got", tmp_path) as peer:
                peer.wait_done(30)
        assert sha256_file(tmp_path / "got" / "film.bin") == sha256_file(file)
