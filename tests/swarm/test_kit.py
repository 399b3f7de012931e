"""The kit itself: a test that trusts a broken seeder proves nothing."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.swarm.hostile import Payload, hostile_peer, liar, staller
from tests.swarm.mounted import mounts_below
from tests.swarm.nginx import wait_quiet, web_seed
from tests.swarm.payload import ODD_TREE, chunks, files_below, payload, sha256_tree, write_tree
from tests.swarm.proxy import proxy
from tests.swarm.seeder import download, seed
from tests.swarm.torrents import Version, make_torrent
from tests.swarm.tracker import tracker

PIECE = 64 * 1024


def test_payload_is_the_same_every_time_and_of_the_size_asked_for() -> None:
    assert payload(3, 100_001) == b"".join(chunks(3, 100_001))
    assert len(payload(3, 100_001)) == 100_001
    assert payload(3, 2_500_000)[:1_048_576] != payload(3, 2_500_000)[1_048_576:2_097_152]
    assert payload(4, 64) != payload(3, 64)
    assert payload(4, 0) == b""


@pytest.mark.real
@pytest.mark.parametrize("version", ["v1", "v2", "hybrid"])
def test_libtorrent_downloads_from_libtorrent(tmp_path: Path, version: Version) -> None:
    tree = write_tree(tmp_path / "payload" / "tree")
    made = make_torrent(tree, tmp_path / "t.torrent", version=version, piece_length=PIECE)
    with (
        seed(made.torrent, tree, tmp_path, ipv6=True) as seeder,
        download(
            made.torrent, tmp_path / "out", tmp_path, peers=[("127.0.0.1", seeder.port)]
        ) as to,
    ):
        to.wait_done(30)
        assert to.recheck(30)
        assert seeder.status()["uploaded"] >= sum(ODD_TREE.values())
    assert sha256_tree(tmp_path / "out" / "tree") == sha256_tree(tree)


@pytest.mark.real
def test_the_tracker_brings_a_downloader_to_the_seeder(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "payload" / "tree")
    with tracker(tmp_path) as announced:
        made = make_torrent(tree, tmp_path / "t.torrent", trackers=[[announced.udp]])
        with seed(made.torrent, tree, tmp_path) as seeder:
            assert announced.wait_announce("start") == seeder.address
            with download(made.torrent, tmp_path / "out", tmp_path) as downloader:
                downloader.wait_done(30)


@pytest.mark.real
def test_nginx_serves_every_odd_name_and_counts_the_bytes(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    with web_seed(tmp_path, tmp_path) as seeded:
        for name, file in files_below(tree).items():
            with urllib.request.urlopen(seeded.url(f"tree/{name}"), timeout=10) as reply:
                assert reply.read() == file.read_bytes()
        wait_quiet(seeded)
        assert seeded.bytes_sent() == sum(ODD_TREE.values())


@pytest.mark.real
def test_the_proxy_caps_the_rate(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "payload" / "tree")
    made = make_torrent(tree, tmp_path / "t.torrent", piece_length=PIECE)
    with (
        seed(made.torrent, tree, tmp_path) as seeder,
        proxy(("127.0.0.1", seeder.port), tmp_path, round_trip=0.05, rate=2e6) as port,
        download(made.torrent, tmp_path / "out", tmp_path, peers=[("127.0.0.1", port)]) as to,
    ):
        assert to.wait_done(30) > sum(ODD_TREE.values()) / 2e6


@pytest.mark.real
def test_libtorrent_drops_the_liar_and_gets_nothing_from_the_staller(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "payload", {"one.bin": 1_000_000})
    made = make_torrent(tree / "one.bin", tmp_path / "t.torrent", piece_length=PIECE)
    right = Payload.of_file(made.path, PIECE)
    for behaviour in (liar(), staller()):
        with (
            hostile_peer(right, behaviour) as peer,
            download(
                made.torrent, tmp_path / "out", tmp_path, peers=[("127.0.0.1", peer.port)]
            ) as to,
        ):
            with pytest.raises(TimeoutError):
                to.wait_done(1)
            assert peer.connections
            assert not to.status()["seeding"]


@pytest.mark.real
def test_mount_points_are_listed_without_touching_them() -> None:
    assert isinstance(mounts_below("/"), list)
    assert mounts_below("/nowhere/at/all") == []


@pytest.mark.real
def test_the_guard_sees_a_process_that_left_its_parent(tmp_path: Path) -> None:
    inner = tmp_path / "test_inner.py"
    inner.write_text(
        "import subprocess, pytest\n"
        "pytestmark = pytest.mark.real\n"
        "def test_leaves_one():\n"
        "    subprocess.Popen(['setsid', 'sleep', '60'], start_new_session=True)\n"
    )
    options = "-m pytest -c pyproject.toml -m real -p tests.conftest -p no:cacheprovider"
    done = subprocess.run(
        [sys.executable, *options.split(), str(inner)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert "left behind: process" in done.stdout
