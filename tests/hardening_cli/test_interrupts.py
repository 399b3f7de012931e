"""Ctrl-C, SIGTERM and kill -9 at each stage, in the foreground and in the background."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hardening_cli.command import TORRENT, environment, torrentfs
from tests.swarm.mounted import TORRENTFS, is_mounted

pytestmark = pytest.mark.real

NOBODY_HAS_IT = "a" * 40


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    path = tmp_path / "mnt"
    path.mkdir()
    (tmp_path / "good.torrent").write_bytes(TORRENT)
    return path


@pytest.fixture
def silent_peer() -> Iterator[str]:
    """Takes connections and says nothing, so that reads wait."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


@contextmanager
def started(tmp_path: Path, *args: str | Path) -> Iterator[subprocess.Popen[str]]:
    """`torrentfs mount ARGS`, killed if the test fails."""
    process = subprocess.Popen(
        [str(TORRENTFS), "mount", *map(str, args)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def said(mountpoint: Path, process: subprocess.Popen[str], code: int) -> str:
    """What it said on stderr when it ended with `code`; nothing may be mounted then."""
    stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stdout) == (code, ""), stderr
    assert not is_mounted(mountpoint)
    return stderr


def daemon_of(mountpoint: Path) -> int:
    """The process that serves `mountpoint`."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(mountpoint) in words and b"mount" in words:
            return int(entry.name)
    raise AssertionError("no process serves it")


def is_stale(mountpoint: Path) -> bool:
    """Whether the mount is there and nobody answers for it."""
    try:
        os.listdir(mountpoint)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


@pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "background"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_while_a_magnet_is_looked_for(
    tmp_path: Path, mountpoint: Path, foreground: bool, signum: signal.Signals
) -> None:
    log = tmp_path / "log"
    flags = ["-f"] if foreground else []
    with started(tmp_path, *flags, "-v", "--log-file", log, NOBODY_HAS_IT, mountpoint) as process:
        catalog = tmp_path / ".cache/torrentfs/catalog.sqlite"
        wait_until(catalog.exists)  # the service listens to signals by now
        process.send_signal(signum)
        stderr = said(mountpoint, process, 128 + signum)
    assert stderr == f"torrentfs: interrupted by {signum.name}; nothing is mounted\n"


@pytest.mark.parametrize("after", [0.06, 0.12, 0.18, 0.24, 0.3, 0.33, 0.36])
def test_while_mounting(tmp_path: Path, mountpoint: Path, after: float) -> None:
    """Wherever the signal meets it: never a mount behind the user's back, never a traceback."""
    with started(tmp_path, tmp_path / "good.torrent", mountpoint) as process:
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10)
    if process.returncode == 0:  # it was quicker
        assert torrentfs("umount", mountpoint, home=tmp_path).returncode == 0
    elif "Traceback" not in stderr:  # only the interpreter's own start has one
        assert process.returncode == 130
        assert "interrupted" in stderr
    else:
        assert "torrentfs/cli/main.py" not in stderr or "import" in stderr
    assert not is_mounted(mountpoint)


@pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "background"])
def test_with_blocked_reads(
    tmp_path: Path, mountpoint: Path, silent_peer: str, foreground: bool
) -> None:
    flags = ["-f"] if foreground else []
    source = tmp_path / "good.torrent"
    with started(tmp_path, *flags, "--peer", silent_peer, source, mountpoint) as process:
        wait_until(lambda: is_mounted(mountpoint) and os.listdir(mountpoint))
        readers = [
            subprocess.Popen(["cat", mountpoint / "x"], stderr=subprocess.PIPE, text=True)
            for _ in range(5)
        ]
        time.sleep(0.3)  # they have asked by now
        assert [reader.poll() for reader in readers] == [None] * 5
        begun = time.monotonic()
        os.kill(daemon_of(mountpoint), signal.SIGINT)
        errors = [reader.communicate(timeout=10)[1] for reader in readers]
        wait_until(lambda: not is_mounted(mountpoint), 5)
        seconds = time.monotonic() - begun
        process.communicate(timeout=10)
    print(f"unmounted in {seconds:.2f} s")
    assert seconds < 2  # the promise is 1
    assert ["Input/output error" in error for error in errors] == [True] * 5, errors
    assert process.returncode == 0


def test_after_kill_9(tmp_path: Path, mountpoint: Path) -> None:
    source = tmp_path / "good.torrent"
    for mend in ("mount", "umount"):
        assert torrentfs("mount", source, mountpoint, home=tmp_path).returncode == 0
        os.kill(daemon_of(mountpoint), signal.SIGKILL)
        wait_until(lambda: is_stale(mountpoint))
        if mend == "mount":
            done = torrentfs("mount", source, mountpoint, home=tmp_path)
            assert (done.returncode, done.stderr) == (0, "")
            assert os.listdir(mountpoint) == ["x"]
        done = torrentfs("umount", mountpoint, home=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert not is_mounted(mountpoint)
        assert os.listdir(mountpoint) == []
