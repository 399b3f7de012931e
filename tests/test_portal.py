"""The thread that runs the engine for others: answers, interrupts, sharing, exit, fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.door import Cached, cached
from torrentfs.cli.settings import parse_settings
from torrentfs.daemon.sources import parse_source
from torrentfs.errors import ConfigError
from torrentfs.portal import Lease, Portal

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Cached:
    return cached(tmp_path_factory.mktemp("cached"))


def lease(made: Cached, **settings: Any) -> Lease:
    config = parse_settings({**made.settings, **settings})
    return Portal.of_process().open(parse_source(str(made.torrent)), config)


def run(script: str, *args: object, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT
    )


def wait_until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def add(a: int, b: int) -> int:
    await trio.lowlevel.checkpoint()
    return a + b


async def fail() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise ConfigError("wrong")


def test_answers_and_errors_are_the_functions_own() -> None:
    portal = Portal.of_process()
    assert portal is Portal.of_process()
    assert portal.call(add, 1, 2) == 3
    with pytest.raises(ConfigError, match=r"^wrong$"):  # and no group of one
        portal.call(fail)


def test_it_is_asked_from_many_threads() -> None:
    portal = Portal.of_process()
    sums: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: sums.append(portal.call(add, n, n))) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(sums) == [2 * n for n in range(20)]


def test_ctrl_c_takes_the_wish_back() -> None:
    portal = Portal.of_process()
    began, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    def interrupt() -> None:
        began.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        portal.call(wait)
    assert ended.wait(10)
    assert portal.call(add, 1, 1) == 2  # and the thread goes on


def test_a_cancelled_future_cancels() -> None:
    portal = Portal.of_process()
    ended = threading.Event()

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    future = portal.submit(wait)
    portal.call(add, 1, 1)
    future.cancel()
    with pytest.raises(CancelledError):
        future.result(10)
    assert ended.wait(10)


def test_its_own_thread_does_not_wait_for_itself() -> None:
    portal = Portal.of_process()

    async def ask() -> None:
        portal.call(add, 1, 1)

    with pytest.raises(RuntimeError, match="must not wait for itself"):
        portal.call(ask)


def test_a_session_is_shared_and_goes_with_its_last_torrent(made: Cached) -> None:
    portal = Portal.of_process()
    one, two, other = lease(made), lease(made), lease(made, readahead="1M")
    assert one.check().torrent is two.check().torrent
    assert other.check().torrent is not one.check().torrent
    assert other._host is not one._host
    other.close()
    one.close()
    one.close()
    assert not one._host.gone.is_set()
    with pytest.raises(ValueError, match="closed"):
        one.check()
    assert two.call(two.check().ranges.read, 1, 0, 9) == made.files["b/c"][:9]
    two.close()
    assert two._host.gone.is_set()
    again = lease(made)  # at once, and the cache is free for it
    assert again.call(again.check().ranges.read, 1, 0, 9) == made.files["b/c"][:9]
    again.give_back()
    again.give_back()
    wait_until(again._host.gone.is_set)
    assert again._host.config not in portal._hosts


def test_a_session_that_cannot_be_opened(made: Cached) -> None:
    with socket_in_use() as port, pytest.raises(ConfigError, match=str(port)):
        lease(made, tcp=True, port=port)
    with pytest.raises(ConfigError, match="no such file"):
        Portal.of_process().open(parse_source("/nowhere.torrent"), parse_settings(made.settings))
    wait_until(lambda: parse_settings(made.settings).session not in Portal.of_process()._hosts)


EXIT = """
import sys, threading, torrentfs
settings = eval(sys.argv[2], {"PosixPath": str})
torrent = torrentfs.sync.open(sys.argv[1], **settings)
other = torrentfs.sync.open(sys.argv[1], **settings)
print(torrent["b/c"].read_at(0, 3))
lease, began = torrent._lease, threading.Event()
async def forever():
    import trio
    began.set()
    await trio.sleep_forever()
def stuck():
    try:
        lease.call(forever)
    except RuntimeError as error:
        print(error)
threading.Thread(target=stuck, daemon=True).start()
began.wait(10)
"""


def test_a_program_ends_although_torrents_are_open_and_reads_wait(made: Cached) -> None:
    done = run(EXIT, made.torrent, {**made.settings, "cache_dir": str(made.settings["cache_dir"])})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == repr(made.files["b/c"][:3])


FORK = """
import os, sys, torrentfs
def say(what):
    os.write(1, f"{what}\\n".encode())  # in one piece: two processes write there
settings = eval(sys.argv[2])
torrent = torrentfs.sync.open(sys.argv[1], **settings)
child = os.fork()
if child == 0:
    try:
        torrent["b/c"].read_at(0, 3)
    except RuntimeError as error:
        say(error)
    torrent.close()     # its parent's: nothing happens
    mine = torrentfs.sync.open(sys.argv[1], **{**settings, "cache_dir": sys.argv[3]})
    say(mine["b/c"].read_at(0, 3))
    input()             # lives on while the parent goes on
    sys.exit(0)         # and its end is an ordinary one
say(torrent["b/c"].read_at(3, 3))
torrent.close()
torrent = torrentfs.sync.open(sys.argv[1], **settings)  # the child does not hold the cache
say(torrent["b/c"].read_at(6, 3))
os.close(0)
os.write(int(sys.argv[4]), b"go\\n")
say(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_of_a_fork_has_its_own(made: Cached, tmp_path: Path) -> None:
    other = cached(tmp_path)
    settings = {**made.settings, "cache_dir": str(made.settings["cache_dir"])}
    reading, writing = os.pipe()
    try:
        command = [sys.executable, "-W", "ignore", "-c", FORK]
        done = subprocess.run(
            [*command, str(made.torrent), repr(settings), str(tmp_path / "cache"), str(writing)],
            stdin=reading,
            pass_fds=[writing],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=ROOT,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    content = made.files["b/c"]
    assert other.files["b/c"] == content
    assert sorted(done.stdout.splitlines()) == sorted(
        [
            "this torrent was opened before a fork: open it again here",
            *(repr(content[place : place + 3]) for place in (0, 3, 6)),
            "0",
        ]
    )


class socket_in_use:
    """A port on which somebody else listens."""

    def __enter__(self) -> int:
        import socket

        self._socket = socket.create_server(("", 0))
        return int(self._socket.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._socket.close()
