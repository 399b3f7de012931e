"""Real mounts of fake torrents, each in a process of its own, each surely unmounted."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from torrentfs.vfs.mountpoint import detach, find_mount

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.real


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = ""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        reason = "/dev/fuse cannot be opened"
    elif os.geteuid() != 0 and shutil.which("fusermount3") is None:
        reason = "fusermount3 is missing"
    for item in items:
        if reason and "tests/fuse" in str(item.path):
            item.add_marker(pytest.mark.skip(reason=reason))


class Mounted:
    """A process that serves a mount at `path`, and a line to it."""

    def __init__(self, process: subprocess.Popen[str], path: Path, log: Path) -> None:
        self.process = process
        self.path = path
        self._log = log

    def tell(self, words: str) -> Any:
        """Tell the daemon what to do; its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return json.loads(self._line())

    def wait_blocked(self, count: int) -> None:
        """Until `count` reads wait."""
        wait_until(lambda: self.tell("blocked") >= count)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def first_line(self) -> str:
        return self._line()

    def log(self) -> str:
        return self._log.read_text()

    def end(self, timeout: float = 10.0) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def is_mounted(self) -> bool:
        return find_mount(self.path) is not None


def wait_until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Mounter:
    """Starts daemons; everything that it started is gone after `clean`."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self.started: list[Mounted] = []
        self._readers: list[subprocess.Popen[bytes]] = []

    def __call__(
        self, torrents: dict[str, Any], at: Path | None = None, *, prefix: tuple[str, ...] = (),
        **spec: Any,
    ) -> Mounted:  # fmt: skip
        mounted = self.start(torrents, at, prefix=prefix, **spec)
        line = mounted.first_line()
        assert line == "mounted", line + mounted.log()
        return mounted

    def start(
        self, torrents: dict[str, Any], at: Path | None = None, *, prefix: tuple[str, ...] = (),
        **spec: Any,
    ) -> Mounted:  # fmt: skip
        """The same, without waiting for the mount."""
        number = len(self.started)
        if at is None:
            at = self._work / f"mnt{number}"
            at.mkdir()
        log = self._work / f"log{number}"
        command = [
            *prefix, sys.executable, "-X", "dev", "-m", "tests.fuse.daemon",
            json.dumps({"torrents": torrents, **spec}), str(at),
        ]  # fmt: skip
        with log.open("w") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                text=True, cwd=ROOT,
            )  # fmt: skip
        mounted = Mounted(process, at, log)
        self.started.append(mounted)
        return mounted

    def reader(self, *command: str, stdout: int | IO[bytes] = subprocess.DEVNULL) -> Any:
        """A process that is killed at the end of the test, if it still is."""
        reader = subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL)
        self._readers.append(reader)
        return reader

    def clean(self) -> None:
        for reader in self._readers:
            reader.kill()
        for mounted in self.started:
            if mounted.process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    mounted.end(3.0)
            mounted.process.kill()
            mounted.process.wait()
            for pipe in (mounted.process.stdin, mounted.process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            for _ in range(8):
                if find_mount(mounted.path) is None:
                    break
                detach(str(mounted.path))
        for reader in self._readers:
            reader.wait(10)
            if reader.stdout is not None:
                reader.stdout.close()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mounter]:
    mounter = Mounter(tmp_path)
    try:
        yield mounter
    finally:
        mounter.clean()
