"""Serving: libtorrent gets whole torrents, their metadata and their hashes from a mount alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.copying import (
    KIB,
    MIB,
    STRANGE_TREE,
    VERSIONS,
    assert_same,
    copy_equals,
    reading,
    wait_until,
)
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.payload import sha256_file, write_file, write_tree
from tests.swarm.ports import free_port
from tests.swarm.seeder import LibtorrentPeer, download, seed
from tests.swarm.torrents import MadeTorrent, Version, make_torrent

pytestmark = pytest.mark.real


@contextmanager
def cached(
    made: MadeTorrent, work: Path, *options: str, magnet: bool = False
) -> Iterator[tuple[Mounted, int]]:
    """A mount that has read everything and whose only peer is dead; and its port."""
    port = free_port()
    source = made.magnet() if magnet else made.torrent
    with (
        seed(made.torrent, made.path, work) as seeder,
        mounted(source, work, "--peer", seeder.address, "--port", str(port), *options) as mount,
    ):
        copy_equals(mount / made.path.name, made.path, work)
        seeder.kill()
        yield mount, port


def leech(source: str | Path, name: str, port: int, work: Path) -> LibtorrentPeer:
    """Download everything from `port`; give the peer (ended by now) for its numbers."""
    with download(source, work / name, work, peers=[("127.0.0.1", port)]) as peer:
        peer.wait_done(30)
        return peer


@pytest.mark.parametrize("by_magnet", [False, True], ids=["we by file", "we by magnet"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_tree_from_the_cache(tmp_path: Path, version: Version, by_magnet: bool) -> None:
    tree = write_tree(tmp_path / "payload" / "tree", STRANGE_TREE)
    made = make_torrent(tree, tmp_path / "t.torrent", version=version, piece_length=32 * KIB)
    with cached(made, tmp_path, magnet=by_magnet) as (_, port):
        for source, name in ((made.torrent, "by file"), (made.magnet(), "by magnet")):
            leech(source, name, port, tmp_path)
            assert_same(tmp_path / name / "tree", tree)


@pytest.mark.parametrize("version", VERSIONS)
def test_after_a_restart_without_reading(tmp_path: Path, version: Version) -> None:
    file = write_file(tmp_path / "payload" / "film.mkv", 3, 9 * MIB + 1)
    made = make_torrent(file, tmp_path / "t.torrent", version=version, piece_length=16 * KIB)
    with cached(made, tmp_path):
        pass
    port = free_port()
    with mounted(made.magnet(), tmp_path, "--port", str(port), name="again"):
        leech(made.magnet(), "got", port, tmp_path)
        assert_same(tmp_path / "got" / file.name, file)


@pytest.mark.parametrize("version", VERSIONS)
def test_while_we_download_from_another(tmp_path: Path, version: Version) -> None:
    """The downloader knows only us; we have nothing yet and read from a slow seeder."""
    file = write_file(tmp_path / "payload" / "film.mkv", 4, 12 * MIB + 5)
    made = make_torrent(file, tmp_path / "t.torrent", version=version, piece_length=128 * KIB)
    port = free_port()
    with (
        seed(made.torrent, file, tmp_path, upload_limit=6 * MIB) as seeder,
        mounted(
            made.torrent, tmp_path, "--peer", seeder.address, "--port", str(port), "-vv"
        ) as mount,
        download(made.magnet(), tmp_path / "got", tmp_path, peers=[("127.0.0.1", port)]) as peer,
    ):
        with reading(mount / file.name) as readers:
            wait_until(lambda: peer.status()["downloaded"])
            # Served before the seeder gave us everything.
            assert seeder.status()["uploaded"] < file.stat().st_size
            assert readers.digests() == [sha256_file(file)]
        peer.wait_done(30)
        assert_same(tmp_path / "got" / file.name, file)


def test_two_downloaders_at_once_by_both_hashes_of_a_hybrid(tmp_path: Path) -> None:
    file = write_file(tmp_path / "payload" / "film.mkv", 6, 6 * MIB + 9)
    made = make_torrent(file, tmp_path / "t.torrent", version="hybrid", piece_length=64 * KIB)
    with cached(made, tmp_path, magnet=True) as (_, port):
        here = [("127.0.0.1", port)]
        old = f"magnet:?xt=urn:btih:{made.v1}"
        new = f"magnet:?xt=urn:btmh:1220{made.v2}"
        with (
            download(old, tmp_path / "old", tmp_path / "1", peers=here) as first,
            download(new, tmp_path / "new", tmp_path / "2", peers=here) as second,
        ):
            first.wait_done(30)
            second.wait_done(30)
        assert_same(tmp_path / "old" / file.name, file)
        assert_same(tmp_path / "new" / file.name, file)


def test_no_upload_serves_nothing(tmp_path: Path) -> None:
    file = write_file(tmp_path / "payload" / "film.mkv", 7, 2 * MIB)
    made = make_torrent(file, tmp_path / "t.torrent", piece_length=64 * KIB)
    with (
        cached(made, tmp_path, "--no-upload") as (_, port),
        download(made.torrent, tmp_path / "got", tmp_path, peers=[("127.0.0.1", port)]) as peer,
    ):
        wait_until(lambda: peer.status()["peers"])
        with pytest.raises(TimeoutError):
            peer.wait_done(3)
        assert peer.status()["downloaded"] == 0


def test_the_upload_limit(tmp_path: Path) -> None:
    """No faster than the limit, a first second's allowance aside; and not much slower."""
    size, rate = 4 * MIB, MIB
    file = write_file(tmp_path / "payload" / "film.mkv", 8, size)
    made = make_torrent(file, tmp_path / "t.torrent", piece_length=64 * KIB)
    with cached(made, tmp_path, "--upload-limit", "1M") as (_, port):
        began = time.monotonic()
        leech(made.torrent, "got", port, tmp_path)
        assert size / rate - 1 < time.monotonic() - began < 4 * size / rate
        assert_same(tmp_path / "got" / file.name, file)
