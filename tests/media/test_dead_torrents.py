"""A library of 100 torrents of which 30 are dead: who goes through it all comes to an end.

The dead are of the kinds that occur: a tracker that is gone, a web server that accepts and says
nothing, and nobody at all. The living have a seeder that is 50 ms away.
"""

from __future__ import annotations

import os
import random
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.media.line import RATE, ROUND_TRIP
from tests.swarm.mounted import mounted
from tests.swarm.payload import write_file
from tests.swarm.ports import free_port
from tests.swarm.proxy import proxy
from tests.swarm.seeder import seed
from tests.swarm.torrents import MadeTorrent, make_torrent

pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.timeout(240)]

TORRENTS, DEAD = 100, 30
KIB = 1 << 10
PIECE = 128 * KIB
PIECES = 64
PLACES = range(12, 52, 4)
"""Pieces that are read for their latency: apart from each other, and from head and tail, which
are fetched together."""
READ_TIMEOUT = 3.0
PARKED = 100
THROUGH = 60.0
"""Seconds in which a prober is through, after the first time-out of each dead torrent."""
SLOWER = 1.5
"""How many times longer the 99th percentile of the living may take beside the dead."""


@contextmanager
def mute_server() -> Iterator[str]:
    """The URL of a web server whose connections are never answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def make(work: Path, mute: str) -> tuple[list[MadeTorrent], list[MadeTorrent]]:
    """(the living, the dead)."""
    gone = f"http://127.0.0.1:{free_port()}/announce"
    living, dead = [], []
    for number in range(TORRENTS):
        alive = number % 10 >= DEAD * 10 // TORRENTS
        path = write_file(work / "payload" / f"title {number:02}.bin", number, PIECES * PIECE)
        made = make_torrent(
            path,
            work / f"{number:02}.torrent",
            piece_length=PIECE,
            trackers=[[gone]] if number % 10 == 0 else (),
            web_seeds=[mute] if number % 10 == 1 else (),
        )
        (living if alive else dead).append(made)
    assert (len(living), len(dead)) == (TORRENTS - DEAD, DEAD)
    return living, dead


def probe(path: Path) -> bytes | OSError:
    """What a scanner reads of a file: its head and its tail; or how that failed."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(4 * KIB)
            file.seek(-4 * KIB, os.SEEK_END)
            return head + file.read(4 * KIB)
    except OSError as error:
        return error


def latencies(mount: Path, living: Sequence[MadeTorrent], places: Sequence[int]) -> list[float]:
    """Seconds of cold reads, four at a time: of each torrent the pieces `places`."""
    reads = [(made, place) for place in places for made in living]
    random.Random(places[0]).shuffle(reads)  # each torrent at all times

    def read(made: MadeTorrent, place: int) -> float:
        begun = time.monotonic()
        fd = os.open(mount / made.path.name, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            data = os.pread(fd, 4 * KIB, place * PIECE)
        finally:
            os.close(fd)
        took = time.monotonic() - begun
        with open(made.path, "rb") as right:
            right.seek(place * PIECE)
            assert data == right.read(4 * KIB)
        return took

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda pair: read(*pair), reads))


class Parked:
    """Readers that want the middle of dead files, again as soon as they failed."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._over = threading.Event()
        self.failures = 0
        self._threads = [
            threading.Thread(target=self._read, args=(files[n % len(files)], n))
            for n in range(PARKED)
        ]

    def _read(self, path: Path, number: int) -> None:
        while not self._over.is_set():
            try:
                fd = os.open(path, os.O_RDONLY)
                try:
                    os.pread(fd, 4 * KIB, (number % PIECES) * PIECE)
                finally:
                    os.close(fd)
            except OSError:
                self.failures += 1
                self._over.wait(0.2)

    def __enter__(self) -> Parked:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(READ_TIMEOUT + 10)
            assert not thread.is_alive()


def test_the_dead_end_and_hold_nobody_up(tmp_path: Path) -> None:
    """docs/semantics.md: "further reads of what is not in the cache fail after a second"."""
    with ExitStack() as stack:
        living, dead = make(tmp_path, stack.enter_context(mute_server()))
        first, *others = living
        seeder = stack.enter_context(
            seed(first.torrent, first.path, tmp_path, beside=[made.torrent for made in others])
        )
        target = ("127.0.0.1", seeder.port)
        port = stack.enter_context(proxy(target, tmp_path, round_trip=ROUND_TRIP, rate=RATE))
        sources = sorted(made.torrent for made in [*living, *dead])
        options = ("--peer", f"127.0.0.1:{port}", "--read-timeout", f"{READ_TIMEOUT:g}s")
        mount = stack.enter_context(mounted(sources, tmp_path, *options)).path
        dead_files = [mount / made.path.name for made in dead]

        with ThreadPoolExecutor(4) as pool:  # connected, as they are after a while
            for data in pool.map(probe, [mount / made.path.name for made in living]):
                assert isinstance(data, bytes)
        alone = latencies(mount, living, PLACES[::2])
        with ThreadPoolExecutor(DEAD) as pool:  # the first time-out of each
            assert all(isinstance(told, OSError) for told in pool.map(probe, dead_files))
        with Parked(dead_files) as parked:
            beside = latencies(mount, living, PLACES[1::2])
            begun = time.monotonic()
            told = {path.name: probe(path) for path in sorted(mount.iterdir())}
            took = time.monotonic() - begun
            failures = parked.failures
        assert len(told) == TORRENTS
        for made in dead:
            assert isinstance(told[made.path.name], OSError)
        for made in living:
            data = made.path.read_bytes()
            assert told[made.path.name] == data[: 4 * KIB] + data[-4 * KIB :]
        p99 = [statistics.quantiles(times, n=100)[-1] for times in (alone, beside)]
        medians = [statistics.median(times) for times in (alone, beside)]
        print(f"p99 {p99}, medians {medians}, through in {took:.1f} s, {failures} failed beside")
        assert failures > 0
        assert took < THROUGH
        assert p99[1] <= SLOWER * p99[0]
