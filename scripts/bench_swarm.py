"""Section `swarm` of the benchmark: torrentfs beside libtorrent and btfs, on one loopback swarm.

The swarm is one libtorrent seeder.  Each contender starts with an empty cache:

- *torrentfs* and *btfs* (the Debian package): mount the .torrent; the first 64 KiB of the film, the
  first 64 KiB from the middle of another file (nothing near it was read before), then the film
  from its beginning to its end.  *Cold* is the film over the time of all three: btfs fetches on
  between reads.  *Warm* is the film once more, after the kernel was told to drop
  its pages of it; *again* is the same after a restart, with no peer in sight (torrentfs only: btfs
  2.24 takes a new directory for each mount).  Their own files may be in the page cache, for both.
  The clock of the first byte starts when the torrent is listed: it has the connecting in it.
- *libtorrent*: its plain download of the same torrent, no mount: the ceiling.

CPU seconds are those of the mounting (or downloading) process, user and system, per GB (1e9) of
film (libtorrent: of payload) in the cold phase; the seeder's and the reader's are not in it.  btfs
fetches the whole torrent, read or not, and its figure has that too.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from scripts.bench_btfs import btfs
from scripts.bench_rounds import (
    PROBE,
    Contender,
    Options,
    Part,
    Row,
    Section,
    WrongBytes,
    process_cpu,
    read,
    reader,
    sha256_range,
)
from tests.swarm.mounted import mounted
from tests.swarm.payload import write_file
from tests.swarm.ports import free_port
from tests.swarm.proxy import proxy
from tests.swarm.seeder import LibtorrentPeer, download, seed
from tests.swarm.torrents import MadeTorrent, make_torrent

# Seconds that a read of btfs may take, and what it must deliver beyond that, in bytes per second:
# it has no bound of its own.
BTFS_LIMIT, BTFS_SHORT, BTFS_RATE = 30.0, 10.0, 10e6
FILM, OTHER = "film.bin", "other.bin"


class Swarm(NamedTuple):
    """What the contenders meet."""

    made: MadeTorrent
    seeder: LibtorrentPeer
    peer: tuple[str, int]
    """Where to reach the seeder: itself, or the proxy in front of it."""
    shape: dict[str, float]
    """The `proxy` that simulates a network; empty for plain loopback."""
    film: int
    other: int
    limit: float
    """Seconds that one request may take."""
    patience: float
    """The same with btfs."""

    def part(self, root: Path, name: str, offset: int, size: int) -> Part:
        """A range of a file that is mounted below `root`."""
        return Part(self.made.path / name, root / self.made.path.name / name, offset, size)


def cold_phase(swarm: Swarm, root: Path, work: Path, cpu_seconds: Callable[[], float]) -> Row:
    """First bytes, then the whole film, of a fresh mount."""
    before = cpu_seconds()
    with reader(work) as reading:
        first = read(reading, swarm.part(root, FILM, 0, PROBE), limit=swarm.limit).first
        place = swarm.part(root, OTHER, swarm.other // 2, PROBE)
        middle = read(reading, place, limit=swarm.limit).first
        whole = read(reading, swarm.part(root, FILM, 0, swarm.film), limit=swarm.limit)
    return {
        "first_ms": first * 1e3,
        "middle_ms": middle * 1e3,
        "cold_mb_s": swarm.film / (whole.seconds + first + middle) / 1e6,
        "cpu_s_per_gb": (cpu_seconds() - before) / (swarm.film / 1e9),
    }


def read_again(swarm: Swarm, root: Path, work: Path) -> float:
    """The whole film again, no page of it in the kernel; MB/s."""
    with reader(work) as reading:
        times = read(reading, swarm.part(root, FILM, 0, swarm.film), limit=swarm.limit)
    return swarm.film / times.seconds / 1e6


def run_torrentfs(swarm: Swarm, work: Path) -> Row:
    """Ours, as the user runs it; the cache is large enough for all."""
    host, port = swarm.peer
    options = ("--peer", f"{host}:{port}", "--bind-interface", "lo", "--min-free-space", "0")
    with mounted(swarm.made.torrent, work, *options) as mount:
        row = cold_phase(swarm, mount.path, work, mount.cpu_seconds)
        row["warm_mb_s"] = read_again(swarm, mount.path, work)
    with mounted(swarm.made.torrent, work, "--bind-interface", "lo") as mount:
        row["restart_mb_s"] = read_again(swarm, mount.path, work)
    return row


def run_libtorrent(swarm: Swarm, work: Path) -> Row:
    """A plain download; its own clock, from adding the torrent to the last verified piece."""
    with download(swarm.made.torrent, work / "out", work, peers=[swarm.peer]) as peer:
        seconds = peer.wait_done(swarm.limit)
        cpu = process_cpu(peer.pid)
    size = swarm.film + swarm.other
    for name in (FILM, OTHER):
        got = sha256_range(work / "out" / swarm.made.path.name / name)
        if got != sha256_range(swarm.made.path / name):
            raise WrongBytes(f"libtorrent's {name}")
    return {"cold_mb_s": size / seconds / 1e6, "cpu_s_per_gb": cpu / (size / 1e9)}


def run_btfs(swarm: Swarm, work: Path) -> Row:
    """btfs takes no address of a peer, so the seeder calls."""
    swarm = swarm._replace(limit=min(swarm.limit, swarm.patience))
    with contextlib.ExitStack() as stack:
        port = shown = free_port()
        if swarm.shape:
            shown = stack.enter_context(proxy(("127.0.0.1", port), work, **swarm.shape))
        with btfs(swarm.made.torrent, work, port) as (root, process):
            swarm.seeder.connect("127.0.0.1", shown)
            row = cold_phase(swarm, root, work, lambda: process_cpu(process.pid))
            return row | {"warm_mb_s": read_again(swarm, root, work)}


CONTENDERS: dict[str, Callable[[Swarm, Path], Row]] = {
    "torrentfs": run_torrentfs,
    "libtorrent": run_libtorrent,
    "btfs": run_btfs,
}


@contextmanager
def contenders(options: Options, work: Path) -> Iterator[dict[str, Contender]]:
    """Payload, seeder, and the proxy in front of it where a network is simulated."""
    payload = work / "payload" / "bench"
    film = options.film(512)
    other = max(film // 8, 4 << 20)
    write_file(payload / FILM, 1, film)
    write_file(payload / OTHER, 2, other)
    limit = 60 + film / 1e6 / min(options.rate or 2, 2)  # seconds, at 2 MB/s
    # Private, so that nobody looks for other peers.
    made = make_torrent(
        payload, work / "bench.torrent", piece_length=options.piece * 1024, private=True
    )
    shape = {"round_trip": options.round_trip / 1e3, "rate": options.rate * 1e6}
    if not any(shape.values()):
        shape = {}
    with seed(made.torrent, payload, work) as seeder, contextlib.ExitStack() as stack:
        port = seeder.port
        if shape:
            port = stack.enter_context(proxy(("127.0.0.1", port), work, **shape))
        patience = (BTFS_SHORT if options.short else BTFS_LIMIT) + film / BTFS_RATE
        met = Swarm(made, seeder, ("127.0.0.1", port), shape, film, other, limit, patience)
        yield {name: functools.partial(CONTENDERS[name], met) for name in options.only}


SWARM = Section(
    "torrentfs, libtorrent's plain download and btfs on one loopback swarm",
    contenders,
    (("torrentfs", "libtorrent"), ("torrentfs", "btfs")),
)
