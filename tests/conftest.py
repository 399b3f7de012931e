"""House rules that every test keeps: no unexpected warning in a log, nothing left behind.

A record of WARNING or above from a ``torrentfs`` logger fails the test unless it said so with
``@pytest.mark.expect_log("part of the message")`` (repeatable; no argument allows any).  In the
real tier a test must also leave no FUSE mount, no process and no open socket; processes are known
by a variable in their environment, so a daemon that left its parent is found too.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
from hypothesis import HealthCheck, settings

from tests.swarm.mounted import mounts_below, unmount
from tests.swarm.quiet import QUIET, UNCOMPILED

MARK = "TEST_OF_TORRENTFS"
SETTLE = 5.0  # seconds that a process may take to be gone after its end was asked for

# Property tests are about answers, not times: a busy machine must not fail them.  In CI they are
# the same at every run; elsewhere they look at something new each time.
settings.register_profile(
    "torrentfs",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("torrentfs")


def pytest_configure(config: pytest.Config) -> None:
    """Dump the stacks of all threads on SIGSEGV and the like, and on SIGUSR1 where there is one."""
    faulthandler.enable()
    os.environ.update(QUIET)  # for every process that a test starts, by whatever kit
    os.environ.pop(UNCOMPILED, None)


class _Records(logging.Handler):
    """Keeps WARNING and above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(autouse=True)
def check_logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail on a warning that the test did not expect."""
    handler = _Records()
    logger = logging.getLogger("torrentfs")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    expected = [
        str(part)
        for mark in request.node.iter_markers("expect_log")
        for part in (mark.args or ("",))
    ]
    unexpected = [
        f"{record.levelname} {record.name}: {record.getMessage()}"
        for record in handler.records
        if not any(part in record.getMessage() for part in expected)
    ]
    if unexpected:
        pytest.fail("unexpected log records:\n" + "\n".join(unexpected[:20]), pytrace=False)


@pytest.fixture(autouse=True)
def leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """In the real tier: fail when a mount, a process or a socket outlives the test."""
    if request.node.get_closest_marker("real") is None:
        yield
        return
    token = uuid.uuid4().hex
    # Mounts elsewhere may be those of tests that run beside this one: never touch them.
    place = ""
    if "tmp_path" in request.fixturenames:
        place = os.path.realpath(request.getfixturevalue("tmp_path"))
    mounts = set(mounts_below())
    sockets = len(_sockets())
    os.environ[MARK] = token
    try:
        yield
    finally:
        del os.environ[MARK]
    left = []
    processes = _settled(lambda: _processes(token))
    left += [f"process {process.pid}: {_command(process)}" for process in processes]
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    ours = set(mounts_below(place)) - mounts if place else set()
    left += [f"mount {point}" for point in ours]
    for point in ours:
        unmount(Path(point), lazy=True)
    gc.collect()
    if len(_sockets()) > sockets:
        left.append(f"{len(_sockets()) - sockets} sockets")
    if left:
        pytest.fail("left behind: " + "; ".join(left), pytrace=False)


def _settled(look: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
    deadline = time.monotonic() + SETTLE
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _processes(token: str) -> list[psutil.Process]:
    """Processes that were started during the test, zombies of ours excepted."""
    wanted = f"{MARK}={token}".encode()
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            if wanted in environment and process.pid != os.getpid():
                found.append(process)
    return found


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())[:200]
    return "?"


def _sockets() -> list[str]:
    links = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [link for link in links if link.startswith("socket:")]


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do at once what is for threads: virtual time would go on while one works."""

    async def run_sync(work: Any, *args: object, **options: object) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
