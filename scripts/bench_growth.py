"""Section `growth`: what an idle and a reading mount cost as its torrents, pieces, peers and files
grow, and section `traces`: recorded programs, replayed with their pauses.

Of each kind there are two sizes or three; the least stands for its base, and is what the others are
compared with. *Idle* is CPU milliseconds per second while nobody reads, with every peer connected.
A torrent of many pieces or files has a payload of zeros, which takes no place on the disk; its
bytes are compared like any.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from scripts.bench_clients import CLIENTS
from scripts.bench_mount import resident
from scripts.bench_network import FILM, KIB, LOOPBACK, MountReader, Swarm, mount, swarm
from scripts.bench_rounds import MIB, Contender, Options, Part, Row, Section, read, reader
from tests.scale.torrents import many_files
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.payload import write_file
from tests.swarm.seeder import LibtorrentPeer, seed
from tests.swarm.torrents import MadeTorrent, make_torrent

IDLE = 5.0
"""Seconds for which the idle mount is watched."""

SETTLE = 1.5
"""Seconds after the mount is there before it counts as idle."""


class Case(NamedTuple):
    """A mount to be measured: what it is given, what is read of it, and who serves that."""

    sources: Sequence[Path]
    peers: Sequence[str]
    part: tuple[MadeTorrent, int] | None
    """A torrent of one file, and how many bytes of it are read; None: only looked at."""


def run_case(case: Case, idle: float, work: Path) -> Row:
    """Start, rest, read."""
    options = [word for peer in case.peers for word in ("--peer", peer)]
    options += ["--bind-interface", "lo", "--min-free-space", "0", "-vv"]
    began = time.monotonic()
    with mounted(case.sources, work, *options, timeout=120) as mount:
        row = {"start_ms": (time.monotonic() - began) * 1e3}
        wait_peers(mount, len(case.peers))
        time.sleep(SETTLE)
        before = mount.cpu_seconds()
        time.sleep(idle)
        row["idle_ms_per_s"] = (mount.cpu_seconds() - before) * 1e3 / idle
        row["rss_mb"] = resident(mount.pid)["rss_mb"]
        if case.part is not None:
            made, size = case.part
            with reader(work) as reading:
                before = mount.cpu_seconds()
                took = read(reading, Part(made.path, mount / made.path.name, 0, size)).seconds
                row["cpu_s_per_gb"] = (mount.cpu_seconds() - before) / (size / 1e9)
            row["cold_mb_s"] = size / took / 1e6
            row["peak_mb"] = resident(mount.pid)["peak_mb"]
        return row


def wait_peers(mount: Mounted, count: int) -> None:
    """Until so many peers are connected to one torrent or another, for half a minute at most."""
    deadline = time.monotonic() + 30.0
    while mount.log().count(" connected") < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {count} peers connected")
        time.sleep(0.05)


def zeros(path: Path, size: int) -> Path:
    """A file of zeros that takes no place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, size)
    return path


@contextmanager
def growth(options: Options, work: Path) -> Iterator[dict[str, Contender]]:
    """All cases; one film serves those of torrents and of peers."""
    size = options.film(64)
    idle = 0.5 if options.short else IDLE
    small, large = (8, 64) if options.short else (1000, 100_000)
    many = (1, 3) if options.short else (1, 10, 100)
    with ExitStack() as stack:
        film = write_file(work / "payload" / FILM, 1, size)
        made = make_torrent(film, work / "film.torrent", piece_length=MIB, private=True)
        cases: dict[str, Case] = {}
        peers = 2 if options.short else 50
        hosts = seeding(stack, made, work, peers)
        for count in many:
            others = [make_other(work, number) for number in range(count - 1)]
            cases[f"torrents: {count}"] = Case([made.torrent, *others], hosts[:1], (made, size))
        for count in (1, peers):
            cases[f"peers: {count}"] = Case([made.torrent], hosts[:count], (made, size))
        for count in (small, large):
            file = zeros(work / "payload" / f"{count} pieces.bin", count * 16 * KIB)
            torrent = make_torrent(
                file, work / f"p{count}.torrent", piece_length=16 * KIB, private=True
            )
            part = (torrent, min(size, count * 16 * KIB))
            cases[f"pieces: {count}"] = Case(
                [torrent.torrent], seeding(stack, torrent, work, 1), part
            )
        for count in (10, large):
            torrent_file = work / f"f{count}.torrent"
            torrent_file.write_bytes(many_files(count))
            cases[f"files: {count}"] = Case([torrent_file], [], None)
        yield {name: functools.partial(run_case, case, idle) for name, case in cases.items()}


def make_other(work: Path, number: int) -> Path:
    """A torrent that nobody has and nobody reads."""
    torrent = work / f"other-{number}.torrent"
    if not torrent.exists():
        file = zeros(work / "others" / f"other {number}.bin", (number + 2) * MIB)
        make_torrent(file, torrent, piece_length=MIB)
    return torrent


def seeding(stack: ExitStack, made: MadeTorrent, work: Path, count: int) -> list[str]:
    """One libtorrent process that listens on so many addresses of loopback, each a peer to us."""
    place = work / f"seeder-{made.torrent.stem}"
    place.mkdir()
    hosts = [f"127.0.0.{number}" for number in range(1, count + 1)]
    peer: LibtorrentPeer = stack.enter_context(seed(made.torrent, made.path, place, hosts=hosts))
    return [f"{host}:{peer.ports[host]}" for host in hosts]


# -- traces ---------------------------------------------------------------------------------------


@contextmanager
def traces(options: Options, work: Path) -> Iterator[dict[str, Contender]]:
    """Each program on a mount of its own, of a file of the recorded size."""
    clients = json.loads(CLIENTS.read_text())
    names = ["unzip-one", "jf-probe-mp4-moovend"] if options.short else list(clients)
    with ExitStack() as stack:
        nets: dict[int, Swarm] = {}
        for name in names:
            size = clients[name]["size"]
            if size not in nets:
                place = work / str(size)
                place.mkdir()
                nets[size] = stack.enter_context(swarm(place, size=size, line=LOOPBACK))
        yield {
            name: functools.partial(
                run_trace, name, nets[clients[name]["size"]], clients[name]["reads"]
            )
            for name in names
        }


def run_trace(name: str, net: Swarm, reads: Sequence[tuple[int, int, float]], work: Path) -> Row:
    """Replay; every read is compared."""
    before = net.uploaded()
    with mount(net, f"{name} {work.name} {time.monotonic_ns()}", "-vv") as mounted:
        wait_peers(mounted, 1)
        cpu = mounted.cpu_seconds()
        waits: list[float] = []
        with MountReader(net, mounted) as film:
            for offset, size, pause in reads:
                time.sleep(pause)
                waits.append(film.read(offset, size))
        cpu = mounted.cpu_seconds() - cpu
    sent = net.uploaded() - before
    pieces = {
        piece
        for offset, size, _ in reads
        for piece in range(offset // MIB, -(-(offset + size) // MIB))
    }
    return {
        "first_ms": waits[0] * 1e3,
        "waited_ms": sum(waits) * 1e3,
        "longest_ms": max(waits) * 1e3,
        "middle_ms": statistics.median(waits) * 1e3,
        "amplification": sent / (len(pieces) * MIB),
        "cpu_ms": cpu * 1e3,
    }


SECTIONS = {
    "traces": Section(
        "recorded programs, replayed with their pauses on loopback; amplification is against the"
        " pieces that they touch",
        traces,
    ),
    "growth": Section(
        "idle and reading, as torrents, pieces, peers and files grow",
        growth,
        tuple(
            (f"{kind}: {most}", f"{kind}: {least}")
            for kind, least, most in (
                ("torrents", 1, 10),
                ("torrents", 1, 100),
                ("peers", 1, 50),
                ("pieces", 1000, 100_000),
                ("files", 10, 100_000),
            )
        ),
    ),
}
