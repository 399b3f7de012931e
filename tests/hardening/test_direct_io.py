"""Readers past the page cache: no signal reaches them, so the read timeout and `umount` must."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hardening.observing import KIB, MIB, wait_until
from tests.swarm.hostile import Payload, hostile_peer, staller
from tests.swarm.mounted import Mounted, mounted, unmount
from tests.swarm.payload import write_file
from tests.swarm.torrents import make_torrent

pytestmark = [pytest.mark.real, pytest.mark.alone]

PIECE = 64 * KIB
TIMEOUT = 3.0
MARGIN = 3.0
"""Seconds that a loaded machine may take beyond a bound."""

_READ = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 4096)
print("reading", flush=True)
os.preadv(fd, [buffer], 0)
"""


@contextmanager
def reader(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has begun a direct read of the first page."""
    process = subprocess.Popen(
        [sys.executable, "-c", _READ, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "reading\n"
            wait_until(lambda: Path(f"/proc/{process.pid}/wchan").read_text() not in ("", "0"))
            yield process
        finally:
            process.kill()


@contextmanager
def dead_mount(work: Path, *options: str) -> Iterator[Mounted]:
    film = write_file(work / "payload" / "dead.bin", 1, MIB)
    made = make_torrent(film, work / "dead.torrent", piece_length=PIECE)
    with (
        hostile_peer(Payload.of_file(film, PIECE), staller()) as peer,
        mounted(made.torrent, work, "--peer", peer.address, "-v", *options) as mount,
    ):
        mount.wait_log("connected")
        yield mount


def test_a_killed_direct_reader_ends_at_the_read_timeout(tmp_path: Path) -> None:
    """docs/semantics.md: "at the latest when the read times out"."""
    with (
        dead_mount(tmp_path, "--read-timeout", f"{TIMEOUT:g}s") as mount,
        reader(mount / "dead.bin") as process,
    ):
        process.kill()
        process.wait(TIMEOUT + MARGIN)
        os.stat(mount / "dead.bin")  # and the mount is as well as before
        assert os.listdir(mount.path) == ["dead.bin"]


def test_a_direct_read_fails_with_an_errno_at_the_timeout(tmp_path: Path) -> None:
    with dead_mount(tmp_path, "--read-timeout", f"{TIMEOUT:g}s") as mount:
        fd = os.open(mount / "dead.bin", os.O_RDONLY | os.O_DIRECT)
        began = time.monotonic()
        try:
            with mmap.mmap(-1, 4096) as buffer, pytest.raises(OSError, match="Input/output"):
                os.preadv(fd, [buffer], 0)
        finally:
            os.close(fd)
        assert TIMEOUT - 0.1 <= time.monotonic() - began <= TIMEOUT + MARGIN


@pytest.mark.parametrize("how", ["SIGTERM", "umount"])
def test_an_unmount_ends_a_killed_direct_reader(tmp_path: Path, how: str) -> None:
    with (
        dead_mount(tmp_path, "--read-timeout", "120s") as mount,
        reader(mount / "dead.bin") as process,
    ):
        process.kill()
        began = time.monotonic()
        if how == "SIGTERM":
            mount.end()
        else:
            assert unmount(mount.path, lazy=True).returncode == 0
            mount.end()
        process.wait(MARGIN)
        assert time.monotonic() - began < 2 * MARGIN
