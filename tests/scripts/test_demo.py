"""The demo, as at a terminal: it ends well by itself, and at a Ctrl-C whatever it is doing.

It runs in a pseudo-terminal and a session of its own, so a Ctrl-C reaches it as the terminal sends
it.  Its temporary files go below `tmp_path`: nothing may be there afterwards.  That no mount and no
process is left is checked for every test of this tier.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.swarm.child import ROOT
from tests.swarm.mounted import mounts_below, unmount

pytestmark = pytest.mark.real

LIMIT = 40.0  # seconds for anything
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Demo:
    """A running demo and its terminal."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self.text = ""
        self._terminal = terminal

    def wait_for(self, words: str) -> None:
        """Read until the terminal has shown `words`."""
        deadline = time.monotonic() + LIMIT
        while words not in self.text:
            assert time.monotonic() < deadline, f"{words!r} did not appear:\n{self.text}"
            assert self._read(), f"it ended before {words!r}:\n{self.text}"

    def press_control_c(self) -> None:
        os.write(self._terminal, b"\x03")

    def wait_end(self) -> int:
        """Read until it has ended; the exit code."""
        deadline = time.monotonic() + LIMIT
        while self._read():
            assert time.monotonic() < deadline, f"it did not end:\n{self.text}"
        return self.process.wait(LIMIT)

    def _read(self) -> bool:
        """More output, or False at its end."""
        if not select.select([self._terminal], [], [], 1)[0]:
            return True
        try:
            data = os.read(self._terminal, 1 << 16)
        except OSError:  # EIO: nobody has the other end open any more
            return False
        self.text += ESCAPES.sub("", data.decode(errors="replace"))
        return bool(data)


@contextmanager
def demo(tmp_path: Path, *arguments: str) -> Iterator[Demo]:
    """Start ``scripts/demo`` without the set-up before it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.demo", *arguments],
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TMPDIR": str(tmp_path), "TERM": "xterm", "COLUMNS": "200"},
        preexec_fn=_take_terminal,
    )
    os.close(theirs)
    try:
        yield Demo(process, ours)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(LIMIT)
        os.close(ours)


def _take_terminal() -> None:
    """A session of its own whose terminal is its stdin."""
    os.setsid()
    os.close(os.open(os.ttyname(0), os.O_RDWR))


def test_it_shows_and_verifies_everything_and_ends_by_itself(tmp_path: Path) -> None:
    with demo(tmp_path, "--once") as running:
        assert running.wait_end() == 0, running.text
    assert "payload fetched so far: 0 bytes" in running.text
    assert "every byte right" in running.text
    assert "nothing is left behind" in running.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "making sample media",
        "starting a seeder",
        "mounting by magnet",
        "mounted ",
        "reading",
        "Still mounted",
    ],
)
def test_control_c_ends_it_at_any_time(tmp_path: Path, words: str) -> None:
    with demo(tmp_path) as running:
        running.wait_for(words)
        running.press_control_c()
        assert running.wait_end() == 0, running.text
    assert "Traceback" not in running.text
    assert "nothing is left behind" in running.text
    assert list(tmp_path.iterdir()) == []


def test_an_impatient_user(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        running.wait_for("Still mounted")
        for _ in range(5):
            running.press_control_c()
        assert running.wait_end() == 0, running.text
    assert list(tmp_path.iterdir()) == []


def test_it_notices_when_the_mount_is_ended_from_outside(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        running.wait_for("Still mounted")
        (mountpoint,) = mounts_below(tmp_path)
        assert unmount(Path(mountpoint)).returncode == 0
        assert running.wait_end() == 0, running.text
    assert "ended from outside" in running.text
    assert list(tmp_path.iterdir()) == []
