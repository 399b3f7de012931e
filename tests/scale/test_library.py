"""A thousand torrents of a hundred files each: what a mount of them costs to start, list, idle."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.library.looking import find, until
from tests.swarm.mounted import Mounted, mounted
from torrentfs.metainfo import bencoding
from torrentfs.metainfo.torrent_file import build_torrent

pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.timeout(300)]

TORRENTS = 1000
FILES = 100
START = 5.0
"""Seconds until the mount of all that is there, the promise."""
LISTING = 10.0
MEMORY_MIB = 300
NOISE = 2
"""Times are promises, but this machine may have other things to do."""


def write(folder: Path, number: int, rng: random.Random) -> None:
    """A .torrent of a hundred files in ten directories, 3 GB in pieces of 1 MiB."""
    size = 30_000_000
    files = [
        {b"length": size, b"path": [b"dir%d" % (n % 10), b"file %03d.mkv" % n]}
        for n in range(FILES)
    ]
    pieces = rng.randbytes(20 * -(-size * FILES // (1 << 20)))
    info = {
        b"files": files,
        b"name": b"torrent %04d" % number,
        b"piece length": 1 << 20,
        b"pieces": pieces,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number}.torrent").write_bytes(build_torrent(bencoding.encode(info)))


def memory_mib(mount: Mounted) -> int:
    status = Path(f"/proc/{mount.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def inet_sockets(mount: Mounted) -> int:
    return len(psutil.Process(mount.pid).net_connections("inet"))


def test_a_thousand_torrents(tmp_path: Path) -> None:
    rng = random.Random(1)
    watch = tmp_path / "watch"
    for number in range(TORRENTS):
        write(watch / f"folder {number % 20:02}", number, rng)
    for number in range(TORRENTS, TORRENTS + 100):
        write(tmp_path / "more", number, rng)
    options = ("--watch", str(watch))
    before = None
    for label in ("for the first time", "again"):
        started = time.monotonic()
        with mounted([], tmp_path, *options) as mount:
            seconds = time.monotonic() - started
            assert len(os.listdir(mount.path)) == 20
            asked = time.monotonic()
            listed = subprocess.run(
                ["ls", "-lR", mount.path], capture_output=True, timeout=120, check=True
            )
            listing = time.monotonic() - asked
            assert listed.stdout.count(b".mkv") == TORRENTS * FILES
            there = find(mount.path)
            del there[""]  # whose date moves when others come and go, below
            assert before in (None, there)
            before = there
            sockets, cpu = inet_sockets(mount), mount.cpu_seconds()
            time.sleep(3)
            idle = (mount.cpu_seconds() - cpu) / 3
            print(
                f"{label}: start {seconds:.1f} s, ls -lR {listing:.1f} s, {memory_mib(mount)} MiB, "
                f"{sockets} sockets, {idle:.1%} CPU"
            )
            assert seconds < START * NOISE
            assert listing < LISTING * NOISE
            assert memory_mib(mount) < MEMORY_MIB
            assert sockets <= 4  # its own ports, and none for any torrent
            assert idle < 0.01 * NOISE
            come_and_go(mount, tmp_path / "more", watch)


def come_and_go(mount: Mounted, more: Path, watch: Path) -> None:
    """A hundred more come while the others are there, and go again."""
    listed = len(os.listdir(mount / "folder 07"))
    started = time.monotonic()
    more.rename(watch / "more")
    until(lambda: (mount / "more").exists() and len(os.listdir(mount / "more")) == 100)
    came = time.monotonic() - started
    assert len(os.listdir(mount / "folder 07")) == listed
    started = time.monotonic()
    (watch / "more").rename(more)
    until(lambda: not (mount / "more").exists())
    print(f"a hundred came in {came:.1f} s and went in {time.monotonic() - started:.1f} s")
