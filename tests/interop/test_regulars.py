"""Peers of last time are dialled at once: a torrent whose tracker died is still read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.hardening.observing import attribute
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.payload import write_file
from tests.swarm.seeder import seed
from tests.swarm.torrents import make_torrent
from tests.swarm.tracker import tracker

pytestmark = pytest.mark.real

MIB = 1024 * 1024
SIZE = 24 * MIB


def assert_reads(mount: Mounted, file: Path, place: int) -> None:
    """64 KiB are there and right, and come from a peer."""
    with (mount / file.name).open("rb", buffering=0) as film, file.open("rb") as original:
        os.posix_fadvise(film.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        original.seek(place)
        assert os.pread(film.fileno(), 65536, place) == original.read(65536)
    assert int(attribute(mount / file.name, "downloaded")) > 0


@pytest.mark.parametrize("private", [False, True])
def test_the_seeder_of_last_time_is_enough(tmp_path: Path, private: bool) -> None:
    file = write_file(tmp_path / "payload" / "film.mkv", 9, SIZE)
    with tracker(tmp_path) as server:
        made = make_torrent(file, tmp_path / "t.torrent", trackers=[[server.http]], private=private)
        with seed(made.torrent, made.path, tmp_path):
            server.wait_announce("start")
            with mounted(made.torrent, tmp_path, "--xattrs") as mount:
                assert_reads(mount, file, 0)
            server.kill()
            # the metadata is in the cache too: the hash alone is enough
            for number, source in enumerate([made.torrent, made.magnet()], 1):
                with mounted(source, tmp_path, "--xattrs", "-vv") as mount:
                    assert_reads(mount, file, number * 8 * MIB)


def test_nobody_is_remembered_elsewhere(tmp_path: Path) -> None:
    """What was learnt is in the cache directory, and of one torrent."""
    file = write_file(tmp_path / "payload" / "film.mkv", 9, SIZE)
    made = make_torrent(file, tmp_path / "t.torrent")
    other = make_torrent(file, tmp_path / "u.torrent", comment="x", piece_length=128 * 1024)
    with seed(made.torrent, made.path, tmp_path) as peer:
        with mounted(made.torrent, tmp_path, "--peer", peer.address, "--xattrs") as mount:
            assert_reads(mount, file, 0)
        for source, cache in ((made, tmp_path / "cache 2"), (other, tmp_path / "cache")):
            with (
                mounted(source.torrent, tmp_path, "--xattrs", cache=cache) as mount,
                pytest.raises(OSError, match="Input/output"),
            ):
                assert_reads(mount, file, 8 * MIB)
