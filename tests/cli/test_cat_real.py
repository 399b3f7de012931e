"""`torrentfs cat` in a pipe: bytes, back-pressure, signals, and readers that go away."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import torrentfs
from tests.door import Cached, cached
from tests.swarm.hostile import Payload, hostile_peer, staller
from tests.swarm.mounted import TORRENTFS
from tests.swarm.payload import payload, write_file
from tests.swarm.seeder import seed
from tests.swarm.torrents import make_torrent
from torrentfs.portal import Portal

pytestmark = pytest.mark.real

QUIET = ("--no-tcp", "--no-utp", "--no-webrtc", "--no-web-seeds")
MIB = 1024 * 1024


def arguments(made: Cached, *args: str) -> list[str]:
    where = ("--cache-dir", str(made.settings["cache_dir"]), "--min-free-space", "0")
    return [str(TORRENTFS), "cat", str(made.torrent), *args, *QUIET, *where]


def cat(made: Cached, *args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(arguments(made, *args), capture_output=True, timeout=30, check=False)


def test_bytes(tmp_path: Path) -> None:
    made = cached(tmp_path)
    content = made.files["d/ä/deep"]
    for options, expected in (
        ((), content),
        (("--offset", "9"), content[9:]),
        (("--offset", "32K", "--length", "40000"), content[32768:72768]),
        (("--length", "0"), b""),
        (("--length", "1G"), content),
        (("--offset", "1G"), b""),
    ):
        done = cat(made, "d/ä/deep", *options)
        assert (done.returncode, done.stderr, done.stdout) == (0, b"", expected)


def test_a_single_file_needs_no_path(tmp_path: Path) -> None:
    film = write_file(tmp_path / "payload" / "film.bin", 1, 3 * MIB)
    made = make_torrent(film, tmp_path / "t.torrent")
    with seed(made.torrent, film, tmp_path) as peer:
        for path in ((), ("film.bin",)):
            command = [TORRENTFS, "cat", made.torrent, *path, "--peer", peer.address]
            done = subprocess.run(
                [*command, "--cache-dir", tmp_path / "cache", "-v"],
                capture_output=True,
                timeout=30,
                check=True,
            )
            assert done.stdout == payload(1, 3 * MIB)


@pytest.fixture(scope="module")
def portal() -> Portal:
    """Started before the sockets of a test are counted: it stays, and has some of its own."""
    return Portal.of_process()


def test_a_read_for_which_nothing_comes_ends(tmp_path: Path, portal: Portal) -> None:
    """In time, and so it is with `torrentfs.open`."""
    film = write_file(tmp_path / "payload" / "film.bin", 1, 3 * MIB)
    made = make_torrent(film, tmp_path / "t.torrent", piece_length=64 * 1024)
    with hostile_peer(Payload.of_file(film, 64 * 1024), staller(after=6)) as peer:
        command = [TORRENTFS, "cat", made.torrent, "--peer", peer.address]
        limits = ["--read-timeout", "500ms", "--cache-dir", tmp_path / "cache"]
        done = subprocess.run([*command, *limits], capture_output=True, timeout=30, check=False)
        assert done.returncode == 1
        assert done.stdout == payload(1, 3 * MIB)[: len(done.stdout)]
        words = f"torrentfs: cannot read film.bin at {len(done.stdout)}: no byte of it came in "
        assert done.stderr.decode().startswith(words)
        settings = {"peer": peer.address, "read_timeout": 0.5, "cache_dir": tmp_path / "other"}
        with torrentfs.open(made.torrent, **settings) as torrent:
            with pytest.raises(OSError, match="no byte of it came in") as caught:
                torrent["film.bin"].read()
            assert caught.value.errno == errno.EIO
            file = torrent.open_file("film.bin")
            with pytest.raises(OSError, match="came"):
                file.read(MIB)


@contextmanager
def stuck(made: Cached) -> Iterator[subprocess.Popen[bytes]]:
    """A `cat` whose reader has taken one byte and takes no more."""
    process = subprocess.Popen(
        arguments(made, "film"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert os.read(process.stdout.fileno(), 1)
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_asleep(pid: int) -> None:
    """Until a thread of the process waits for room in the pipe."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for task in Path(f"/proc/{pid}/task").iterdir():
            if "pipe" in (task / "wchan").read_text() or "pipe_w" in _syscall(task):
                return
        time.sleep(0.02)
    raise AssertionError("it does not wait for its reader")


def _syscall(task: Path) -> str:
    words = (task / "syscall").read_text().split()
    return "pipe_w" if words[:2] == ["1", "0x1"] else ""  # write to descriptor 1


@pytest.fixture
def film(tmp_path: Path) -> Cached:
    return cached(tmp_path, {("film",): payload(1, 2 * MIB), ("x",): b"x"})


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_although_nobody_reads(film: Cached, signum: signal.Signals) -> None:
    with stuck(film) as process:
        wait_asleep(process.pid)
        began = time.monotonic()
        process.send_signal(signum)
        assert process.wait(10) == 128 + signum
        assert time.monotonic() - began < 5
        _, stderr = process.communicate()
        assert stderr.decode() == (
            f"torrentfs: interrupted by {signum.name}; what came is in the cache\n"
        )


def test_a_reader_that_goes_away_ends_it_quietly(film: Cached) -> None:
    with stuck(film) as process:
        wait_asleep(process.pid)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        assert process.wait(10) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b""
