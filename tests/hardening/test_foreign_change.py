"""Somebody changes a data file of the cache under a running mount: no reader ever sees it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hardening.observing import KIB, MIB, wait_until
from tests.swarm.mounted import mounted
from tests.swarm.payload import write_file
from tests.swarm.seeder import seed
from tests.swarm.torrents import make_torrent

pytestmark = pytest.mark.real

SIZE = 4 * MIB


def flip_bits(path: Path) -> None:
    """Change a byte in every 100 KiB, and put the dates back."""
    before = path.stat()
    with path.open("r+b") as file:
        for place in range(0, SIZE, 100 * KIB):
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    """Half of it is gone."""
    os.truncate(path, SIZE // 2)


def replace(path: Path) -> None:
    """Another file of that name and size."""
    other = path.with_name("other")
    other.write_bytes(bytes(SIZE))
    other.rename(path)


@pytest.mark.parametrize(
    ("harm", "in_place"), [(flip_bits, True), (cut, True), (replace, False), (Path.unlink, False)]
)
def test_a_change_under_the_mount_is_never_read(
    tmp_path: Path, harm: Callable[[Path], None], in_place: bool
) -> None:
    film = write_file(tmp_path / "payload" / "film.bin", 1, SIZE)
    made = make_torrent(film, tmp_path / "film.torrent", piece_length=64 * KIB)
    whole = film.read_bytes()
    kept = tmp_path / "cache" / "torrents" / str(made.v1) / "data" / "film.bin"
    with seed(made.torrent, film, tmp_path) as seeder:
        with mounted(made.torrent, tmp_path, "--peer", seeder.address) as mount:
            assert (mount / "film.bin").read_bytes() == whole
        # a new mount: the kernel and the memory of the first have every byte
        with (
            mounted(made.torrent, tmp_path, "--peer", seeder.address) as mount,
            (mount / "film.bin").open("rb") as file,
        ):
            assert file.read(MIB) == whole[:MIB]  # the data file is open and trusted now
            time.sleep(0.02)  # longer than a tick of the kernel's clock of file times
            harm(kept)
            places = list(range(MIB, SIZE, 16 * KIB))
            random.Random(1).shuffle(places)
            for place in places:
                data = os.pread(file.fileno(), 16 * KIB, place)
                assert data == whole[place : place + 16 * KIB]
            if in_place:  # else the open file is still the old one, and right
                wait_until(lambda: seeder.status()["uploaded"] > SIZE)
        with mounted(made.torrent, tmp_path, "--peer", seeder.address) as mount:
            assert (mount / "film.bin").read_bytes() == whole
