"""Leaving the terminal, with real processes: what the waiting parent hears and does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from torrentfs.daemon.background import run_in_background
from torrentfs.daemon.report import Mounted
from torrentfs.errors import MetadataTimeout

state = Path(sys.argv[1])

def open_log():
    return open(state / "log", "a", buffering=1)

def serve(report):
    (state / "child").write_text(str(os.getpid()))
    {body}

def show(text):
    print(text, flush=True)

ended = run_in_background(serve, open_log=open_log, on_progress=show)
print(ended.text)
if ended.warning:
    print("!", ended.warning)
sys.exit(ended.code)
"""


class Runs:
    """Runs `PROGRAM` with a `serve` of the test's own; ends what is left of it."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def start(self, body: str) -> subprocess.Popen[str]:
        program = PROGRAM.format(body="\n    ".join(body.strip().splitlines()))
        return subprocess.Popen(
            [sys.executable, "-c", program, str(self.state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def child(self) -> int:
        """The process in the background, once it runs."""
        wait_for(lambda: (self.state / "child").exists() and (self.state / "child").stat().st_size)
        return int((self.state / "child").read_text())


def wait_for(condition: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    made = Runs(tmp_path)
    yield made
    if (tmp_path / "child").exists():
        pid = int((tmp_path / "child").read_text())
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_the_parent_returns_when_it_is_ready(runs: Runs) -> None:
    body = """
report.on_progress("asking 3 peers")
report.on_ready(Mounted(Path("/m"), ("film",), 0))
print("nobody reads this")
print("a word to the log", file=sys.stderr, flush=True)
time.sleep(30)
"""
    parent = runs.start(body)
    stdout, stderr = parent.communicate(timeout=10)  # the pipes are closed: nobody holds them
    assert stdout == "asking 3 peers\nmounted film on /m\n"
    assert stderr == ""
    assert parent.returncode == 0
    child = runs.child()
    assert is_alive(child)
    assert os.getsid(child) == child
    assert os.readlink(f"/proc/{child}/cwd") == "/"
    assert os.readlink(f"/proc/{child}/fd/0") == os.devnull
    wait_for(lambda: (runs.state / "log").stat().st_size)
    assert (runs.state / "log").read_text() == "a word to the log\n"
    os.kill(child, signal.SIGHUP)  # the terminal is closed
    time.sleep(0.1)
    assert is_alive(child)
    os.kill(child, signal.SIGTERM)
    wait_for(lambda: not is_alive(child))


def test_a_warning_comes_with_readiness(runs: Runs) -> None:
    body = """
report.on_ready(Mounted(Path("/m"), ("film",), 0, "nothing is kept"))
"""
    program = runs.start(body + "os._exit(0)")
    assert program.communicate(timeout=10) == ("mounted film on /m\n! nothing is kept\n", "")
    wait_for(lambda: not is_alive(runs.child()))


def test_an_error_is_one_line_and_a_code(runs: Runs) -> None:
    parent = runs.start('raise MetadataTimeout("nobody\\nanswered")')
    stdout, stderr = parent.communicate(timeout=10)
    assert (stdout, stderr, parent.returncode) == ("nobody answered\n", "", 3)
    assert not is_alive(runs.child())


def test_a_crash_is_noticed(runs: Runs) -> None:
    parent = runs.start("os.kill(os.getpid(), signal.SIGSEGV)")
    stdout, _ = parent.communicate(timeout=10)
    assert "died (signal 11)" in stdout
    assert parent.returncode == 2


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupting_the_parent_ends_the_child_cleanly(runs: Runs, signum: signal.Signals) -> None:
    body = """
def clean_up(signum, frame):
    time.sleep(0.2)
    (state / "clean").touch()
    os._exit(0)
signal.signal(signal.SIGTERM, clean_up)
report.on_progress("waiting")
time.sleep(30)
"""
    parent = runs.start(body)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "waiting\n"
    parent.send_signal(signum)
    stdout, stderr = parent.communicate(timeout=10)
    assert parent.returncode == 128 + signum
    assert "nothing is mounted" in stdout
    assert stderr == ""
    assert (runs.state / "clean").exists()
    assert not is_alive(runs.child())


def test_the_child_goes_on_when_the_parent_is_killed(runs: Runs) -> None:
    body = """
report.on_progress("waiting")
time.sleep(0.3)
report.on_progress("still there")
report.on_ready(Mounted(Path("/m"), ("film",), 0))
(state / "ready").touch()
"""
    parent = runs.start(body)
    assert parent.stdout is not None
    parent.stdout.readline()
    parent.kill()
    parent.communicate(timeout=10)
    wait_for((runs.state / "ready").exists)


def test_a_stopped_parent_does_not_block_the_child(runs: Runs) -> None:
    body = """
report.on_progress("waiting")
while not (state / "go").exists():
    time.sleep(0.01)
for _ in range(10000):
    report.on_progress("x" * 100)
(state / "done").touch()
report.on_ready(Mounted(Path("/m"), ("film",), 0))
"""
    parent = runs.start(body)
    assert parent.stdout is not None
    parent.stdout.readline()
    parent.send_signal(signal.SIGSTOP)
    (runs.state / "go").touch()
    wait_for((runs.state / "done").exists)
    parent.send_signal(signal.SIGCONT)
    stdout, _ = parent.communicate(timeout=10)
    assert stdout.endswith("mounted film on /m\n")
    assert parent.returncode == 0


def test_nothing_else_is_inherited(runs: Runs) -> None:
    body = """
import stat
pipes = 0
for fd in range(3, 100):
    try:
        pipes += stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        pass
report.on_progress(str(pipes))
report.on_ready(Mounted(Path("/m"), ("film",), 0))
"""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    program = PROGRAM.format(body="\n    ".join(body.strip().splitlines()))
    done = subprocess.run(
        [sys.executable, "-c", program, str(runs.state)],
        capture_output=True,
        text=True,
        pass_fds=[writer],
        timeout=10,
        check=False,
    )
    os.close(reader)
    os.close(writer)
    assert done.stdout.splitlines()[0] == "1", done.stderr  # the pipe to the parent alone


def test_a_signal_that_comes_with_the_fork_leaves_no_child_behind(runs: Runs) -> None:
    fork = """
import os, signal
fork = os.fork
def forked():
    child = fork()
    if child:
        os.kill(os.getpid(), signal.SIGINT)
    return child
os.fork = forked
"""
    program = fork + PROGRAM.format(body="time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(runs.state)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (130, "")
    assert stdout == "interrupted by SIGINT; nothing is mounted\n"
    if (runs.state / "child").exists():  # it got as far as that
        assert not is_alive(runs.child())


def test_a_signal_after_the_end_is_too_late(runs: Runs) -> None:
    ready = 'report.on_ready(Mounted(Path("/m"), ("x",), 0)); time.sleep(60)'
    late = "\nos.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGTERM)\n"
    program = PROGRAM.format(body=ready).replace("\nprint(ended.text)", late + "print(ended.text)")
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(runs.state)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout, stderr) == (0, "mounted x on /m\n", "")
    assert is_alive(runs.child())
