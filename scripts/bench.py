"""``scripts/bench``: torrentfs beside libtorrent and btfs, on one loopback swarm, in one run.

The swarm is one libtorrent seeder.  Each round takes the contenders in turn (rotated, so that none
is always first), each with an empty cache:

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
fetches the whole torrent, read or not, and its figure has that too.  Every byte is hashed (after
the clock stops) and compared.

``--short`` is for CI: small, one round, fails on a wrong byte (or if torrentfs gives none), never
on time, and never because btfs is absent or slow.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from scripts.bench_btfs import btfs, why_not
from tests.swarm.child import ChildFailed, JsonChild, python_child
from tests.swarm.mounted import MountFailed, mounted
from tests.swarm.payload import write_file
from tests.swarm.ports import free_port
from tests.swarm.proxy import proxy
from tests.swarm.seeder import LibtorrentPeer, download, seed
from tests.swarm.torrents import MadeTorrent, make_torrent

MIB = 1 << 20
PROBE = 64 * 1024
# Seconds that a read of btfs may take, and what it must deliver beyond that, in bytes per second:
# it has no bound of its own.
BTFS_LIMIT, BTFS_SHORT, BTFS_RATE = 30.0, 10.0, 10e6
FILM, OTHER = "film.bin", "other.bin"

Row = dict[str, float]


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
    work: Path
    limit: float
    """Seconds that one request may take."""
    patience: float
    """The same with btfs."""

    def expect(self, name: str, offset: int, size: int) -> str:
        """Hex SHA-256 of a range of a file of the payload."""
        with (self.made.path / name).open("rb") as stream:
            stream.seek(offset)
            digest = hashlib.sha256()
            while size > 0 and (chunk := stream.read(min(size, MIB))):
                digest.update(chunk)
                size -= len(chunk)
        return digest.hexdigest()


class WrongBytes(Exception):
    """A contender gave other bytes than the payload's."""

    def __str__(self) -> str:
        return f"WRONG BYTES: {super().__str__()}"


@contextmanager
def reader(work: Path) -> Iterator[JsonChild]:
    """A reading process; killed at the end, whatever it waits for."""
    child = python_child("scripts.bench_reader", stderr=work / "reader.log")
    try:
        yield child
    finally:
        child.process.kill()
        child.close()


def read(
    swarm: Swarm, reading: JsonChild, root: Path, name: str, offset: int, size: int
) -> tuple[float, float]:
    """Read and check a range; (seconds until the first 64 KiB, seconds in all)."""
    path = root / swarm.made.path.name / name
    answer = reading.ask({"path": str(path), "offset": offset, "size": size}, swarm.limit)
    if answer["sha256"] != swarm.expect(name, offset, size):
        raise WrongBytes(f"{path} at {offset}: {answer['size']} of {size} bytes, not the payload's")
    return float(answer["first"]), float(answer["seconds"])


def cold_phase(swarm: Swarm, root: Path, cpu_seconds: Callable[[], float]) -> Row:
    """First bytes, then the whole film, of a fresh mount."""
    before = cpu_seconds()
    with reader(swarm.work) as reading:
        first, _ = read(swarm, reading, root, FILM, 0, PROBE)
        middle, _ = read(swarm, reading, root, OTHER, swarm.other // 2, PROBE)
        _, seconds = read(swarm, reading, root, FILM, 0, swarm.film)
    seconds += first + middle
    return {
        "first_ms": first * 1e3,
        "middle_ms": middle * 1e3,
        "cold_mb_s": swarm.film / seconds / 1e6,
        "cpu_s_per_gb": (cpu_seconds() - before) / (swarm.film / 1e9),
    }


def read_again(swarm: Swarm, root: Path) -> float:
    """The whole film again, no page of it in the kernel; MB/s."""
    with reader(swarm.work) as reading:
        _, seconds = read(swarm, reading, root, FILM, 0, swarm.film)
    return swarm.film / seconds / 1e6


def run_torrentfs(swarm: Swarm, work: Path) -> Row:
    """Ours, as the user runs it; the cache is large enough for all."""
    host, port = swarm.peer
    options = ("--peer", f"{host}:{port}", "--bind-interface", "lo", "--min-free-space", "0")
    with mounted(swarm.made.torrent, work, *options) as mount:
        row = cold_phase(swarm, mount.path, mount.cpu_seconds)
        row["warm_mb_s"] = read_again(swarm, mount.path)
    with mounted(swarm.made.torrent, work, "--bind-interface", "lo") as mount:
        row["restart_mb_s"] = read_again(swarm, mount.path)
    return row


def run_libtorrent(swarm: Swarm, work: Path) -> Row:
    """A plain download; its own clock, from adding the torrent to the last verified piece."""
    with download(swarm.made.torrent, work / "out", work, peers=[swarm.peer]) as peer:
        seconds = peer.wait_done(swarm.limit)
        cpu = process_cpu(peer.pid)
    size = swarm.film + swarm.other
    for name, length in ((FILM, swarm.film), (OTHER, swarm.other)):
        with (work / "out" / swarm.made.path.name / name).open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != swarm.expect(name, 0, length):
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
            row = cold_phase(swarm, root, lambda: process_cpu(process.pid))
            return row | {"warm_mb_s": read_again(swarm, root)}


def process_cpu(pid: int) -> float:
    """User and system seconds of a process and the children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


CONTENDERS: dict[str, Callable[[Swarm, Path], Row]] = {
    "torrentfs": run_torrentfs,
    "libtorrent": run_libtorrent,
    "btfs": run_btfs,
}

COLUMNS = {
    "cold_mb_s": "cold MB/s",
    "warm_mb_s": "warm MB/s",
    "restart_mb_s": "again MB/s",
    "first_ms": "first ms",
    "middle_ms": "middle ms",
    "cpu_s_per_gb": "CPU s/GB",
}


def run_rounds(
    swarm: Swarm, names: list[str], rounds: int
) -> tuple[dict[str, list[Row]], list[str]]:
    """All rounds; what each contender measured, and what failed, in words."""
    rows: dict[str, list[Row]] = {name: [] for name in names}
    failures: list[str] = []
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            work = swarm.work / f"{name}-{number}"
            work.mkdir()
            try:
                row = CONTENDERS[name](swarm, work)
            except (WrongBytes, ChildFailed, MountFailed, TimeoutError, OSError) as error:
                failures.append(f"{name}, round {number + 1}: {str(error).splitlines()[0]}")
                print(f"  {failures[-1]}", flush=True)
            else:
                rows[name].append(row)
                words = ", ".join(f"{COLUMNS[key]} {value:.1f}" for key, value in row.items())
                print(f"  round {number + 1} {name:<10} {words}", flush=True)
            shutil.rmtree(work, ignore_errors=True)
    return rows, failures


def medians(rows: dict[str, list[Row]]) -> dict[str, Row]:
    """Of each contender and column, over the rounds."""
    return {
        name: {
            key: statistics.median(row[key] for row in measured)
            for key in COLUMNS
            if measured and key in measured[0]
        }
        for name, measured in rows.items()
    }


def print_table(table: dict[str, Row]) -> None:
    """Medians, and torrentfs's ratio to each other contender."""
    print(f"\n{'median':<24}" + "".join(f"{title:>12}" for title in COLUMNS.values()))
    for name, row in table.items():
        cells = (f"{row[key]:12.1f}" if key in row else f"{'-':>12}" for key in COLUMNS)
        print(f"{name:<24}" + "".join(cells))
    ours = table.get("torrentfs", {})
    for name, row in table.items():
        if name == "torrentfs" or not row or not ours:
            continue
        cells = (
            f"{ours[key] / row[key]:11.2f}x" if row.get(key) and key in ours else f"{'-':>12}"
            for key in COLUMNS
        )
        print(f"{'torrentfs / ' + name:<24}" + "".join(cells))


def machine() -> dict[str, Any]:
    """Where it was measured."""
    import libtorrent

    return {
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "libtorrent": libtorrent.__version__,
    }


@contextmanager
def swarm_of(arguments: argparse.Namespace, work: Path) -> Iterator[Swarm]:
    """Payload, seeder, and the proxy in front of it where a network is simulated."""
    payload = work / "payload" / "bench"
    film, other = arguments.size * MIB, max(arguments.size // 8, 4) * MIB
    write_file(payload / FILM, 1, film)
    write_file(payload / OTHER, 2, other)
    limit = 60 + film / 1e6 / min(arguments.rate or 2, 2)  # seconds, at 2 MB/s
    # Private, so that nobody looks for other peers.
    made = make_torrent(
        payload, work / "bench.torrent", piece_length=arguments.piece * 1024, private=True
    )
    shape = {"round_trip": arguments.round_trip / 1e3, "rate": arguments.rate * 1e6}
    if not any(shape.values()):
        shape = {}
    with seed(made.torrent, payload, work) as seeder, contextlib.ExitStack() as stack:
        port = seeder.port
        if shape:
            port = stack.enter_context(proxy(("127.0.0.1", port), work, **shape))
        patience = (BTFS_SHORT if arguments.short else BTFS_LIMIT) + film / BTFS_RATE
        yield Swarm(made, seeder, ("127.0.0.1", port), shape, film, other, work, limit, patience)


def main() -> int:
    """0 when torrentfs finished every round and every byte of it was right."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="small and quick, for CI")
    parser.add_argument("--size", type=int, metavar="MIB", help="of the film (default 512)")
    parser.add_argument("--piece", type=int, metavar="KIB", default=1024, help="piece length")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--round-trip", type=float, default=0, metavar="MS", help="simulated")
    parser.add_argument("--rate", type=float, default=0, metavar="MB/S", help="simulated")
    parser.add_argument("--only", action="append", choices=list(CONTENDERS), help="repeatable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows there, too")
    arguments = parser.parse_args()
    arguments.size = arguments.size or (32 if arguments.short else 512)
    arguments.rounds = arguments.rounds or (1 if arguments.short else 3)
    names = arguments.only or list(CONTENDERS)
    if "btfs" in names and (reason := why_not()):
        print(f"btfs is left out: {reason}")
        names.remove("btfs")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    work = Path(tempfile.mkdtemp(prefix="torrentfs-bench-"))
    try:
        with swarm_of(arguments, work) as swarm:
            print(f"{arguments.size} MiB, {arguments.piece} KiB pieces, {machine()}", flush=True)
            rows, failures = run_rounds(swarm, names, arguments.rounds)
    except KeyboardInterrupt:
        print("\nended; nothing is left behind")
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    table = medians(rows)
    print_table(table)
    if arguments.json:
        result = {"machine": machine(), "size_mib": arguments.size, "rows": rows, "medians": table}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    # Others may fail on their own account; ours may not.
    return 1 if any(failure.startswith("torrentfs") for failure in failures) else 0


if __name__ == "__main__":
    sys.exit(main())
