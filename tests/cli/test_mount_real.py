"""`torrentfs mount` and `umount` as a shell runs them, with a real mount and no peers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

NOBODY = "magnet:?xt=urn:btih:" + "a" * 40


def torrentfs(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torrentfs", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    path = tmp_path / "mnt"
    path.mkdir()
    return path


def wait_until_gone(mountpoint: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while os.path.ismount(mountpoint):
        assert time.monotonic() < deadline, "still mounted"
        time.sleep(0.01)


def processes_of(mountpoint: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(mountpoint) in words:
            found.append(int(entry.name))
    return found


def wait_for_processes(mountpoint: Path) -> None:
    deadline = time.monotonic() + 10
    while processes_of(mountpoint):
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.02)


def test_mount_list_and_umount(torrent: Path, mountpoint: Path, home: Path) -> None:
    done = torrentfs("mount", str(torrent), str(mountpoint))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(mountpoint) == ["sample"]  # it is there when the command returns
    assert sorted(os.listdir(mountpoint / "sample")) == ["run", "sub"]
    done = torrentfs("umount", str(mountpoint))
    assert (done.returncode, done.stderr) == (0, "")
    assert not os.path.ismount(mountpoint)
    wait_for_processes(mountpoint)
    (log,) = (home / ".local/state/torrentfs/log").iterdir()
    assert "mounted sample on" in log.read_text()
    done = torrentfs("umount", str(mountpoint))
    assert done.returncode == 2
    assert "nothing is mounted" in done.stderr


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_unmounts_within_a_second(
    torrent: Path, mountpoint: Path, signum: signal.Signals
) -> None:
    assert torrentfs("mount", str(torrent), str(mountpoint)).returncode == 0
    (pid,) = processes_of(mountpoint)
    os.kill(pid, signum)
    wait_until_gone(mountpoint, 1.0)
    wait_for_processes(mountpoint)


def test_nobody_has_the_metadata(mountpoint: Path) -> None:
    done = torrentfs("mount", NOBODY, str(mountpoint), "--metadata-timeout", "500ms")
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert not os.path.ismount(mountpoint)
    assert not processes_of(mountpoint)


def test_a_mount_point_that_is_not_empty(torrent: Path, tmp_path: Path) -> None:
    done = torrentfs("mount", NOBODY, str(tmp_path))
    assert done.returncode == 2
    assert "not empty" in done.stderr


def test_a_log_file_that_cannot_be_written(mountpoint: Path, torrent: Path) -> None:
    done = torrentfs("mount", str(torrent), str(mountpoint), "--log-file", str(torrent.parent))
    assert done.returncode == 1
    said = f"torrentfs: cannot write the log file {torrent.parent}: is a directory\n"
    assert done.stderr == said  # once
    assert not os.path.ismount(mountpoint)


def test_interrupting_the_wait_leaves_nothing(mountpoint: Path) -> None:
    command = [sys.executable, "-m", "torrentfs", "mount", NOBODY, str(mountpoint)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
        deadline = time.monotonic() + 10
        while len(processes_of(mountpoint)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.5)  # into the wait itself; the stages before it are in tests/hardening_cli
        waiting.send_signal(signal.SIGINT)
        _, stderr = waiting.communicate(timeout=10)
    assert waiting.returncode == 130
    assert "nothing is mounted" in stderr
    assert not os.path.ismount(mountpoint)
    assert not processes_of(mountpoint)
