"""Sections of the benchmark about one thing each, of torrentfs beside its natural base.

Every section makes its own payload and, where it needs one, its own seeder or nginx. A film is one
file in pieces of 1 MiB unless said otherwise; CPU seconds are the mounting process's.
"""

from __future__ import annotations

import functools
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from scripts.bench_latency import from_start
from scripts.bench_network import FILM, LOOPBACK, Swarm, mount, swarm, wait_connected
from scripts.bench_rounds import (
    MIB,
    PROBE,
    Contender,
    Options,
    Part,
    Row,
    Section,
    Times,
    WrongBytes,
    process_cpu,
    read,
    read_together,
    reader,
    sha256_range,
)
from tests.scale.torrents import GIB, one_huge_file, one_huge_file_v2
from tests.swarm.child import python_child
from tests.swarm.mounted import TORRENTFS, Mounted, is_mounted, mounted, unmount
from tests.swarm.nginx import WebSeed, web_seed
from tests.swarm.payload import write_file
from tests.swarm.seeder import seed
from tests.swarm.torrents import make_torrent

READ_AHEAD = (128, 1024)
"""KiB; 128 is the kernel's own. Only root may change it, where sysfs may be written."""
HUGE_PIECE = 16 * MIB


def whole(net: Swarm, root: Path) -> Part:
    """All of the film."""
    return Part(net.made.path, root / FILM, 0, net.size)


def set_read_ahead(root: Path, kib: int) -> None:
    """How far the kernel reads ahead on the file system mounted at `root`."""
    device = os.stat(root).st_dev
    place = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    if int(place.read_text()) != kib:
        place.write_text(str(kib))


def resident(pid: int) -> Row:
    """Memory of a process now, in MB (1e6): all, what is no file's, and the most there ever was."""
    status = Path(f"/proc/{pid}/status").read_text()

    def megabytes(field: str) -> float:
        found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024 / 1e6

    return {
        "rss_mb": megabytes("VmRSS"),
        "anon_mb": megabytes("RssAnon"),
        "peak_mb": megabytes("VmHWM"),
    }


# -- warm -----------------------------------------------------------------------------------------


@contextmanager
def warm(options: Options, work: Path) -> Iterator[dict[str, Contender]]:
    """Each contender at each read-ahead; the cache is filled once."""
    amounts = READ_AHEAD if os.access("/sys/class/bdi", os.W_OK) else READ_AHEAD[:1]
    with swarm(work, size=options.film(512), line=LOOPBACK) as net:
        with mount(net, "fill") as filling, reader(work) as reading:
            read(reading, whole(net, filling.path))
        contenders: dict[str, Contender] = {}
        for kib in amounts:
            contenders[f"raw pyfuse3, {kib} KiB"] = functools.partial(run_raw, net, kib)
            contenders[f"torrentfs, {kib} KiB"] = functools.partial(run_warm, net, kib)
        yield contenders


def run_warm(net: Swarm, kib: int, work: Path) -> Row:
    """A mount that has everything in its disk cache, and no peer."""
    cache = net.work / "fill-cache"
    with mounted(net.made.torrent, work, "--bind-interface", "lo", cache=cache) as mount:
        return warm_reads(net, kib, mount.path, mount.pid, work)


def run_raw(net: Swarm, kib: int, work: Path) -> Row:
    """The file out of the memory of the least FUSE file system."""
    root = work / "raw"
    root.mkdir()
    arguments = (str(net.made.path), str(root))
    child = python_child("scripts.bench_raw", *arguments, stderr=work / "raw.log")
    try:
        child.wait_line(60)
        return warm_reads(net, kib, root, child.pid, work)
    finally:
        child.close()
        if is_mounted(root):
            unmount(root, lazy=True)


def warm_reads(net: Swarm, kib: int, root: Path, pid: int, work: Path) -> Row:
    """The film with no page of it in the kernel, then with all.

    A first, untimed read has the kernel take its pages from the host: on a virtual machine that
    costs more than all else, and whoever gets used pages by chance would win.
    """
    set_read_ahead(root, kib)
    part = whole(net, root)
    with reader(work) as reading:
        read(reading, part)
        before = process_cpu(pid)
        dropped = read(reading, part).seconds
        cpu = process_cpu(pid) - before
        cached = read(reading, part, drop=False).seconds
    return {
        "warm_mb_s": part.size / dropped / 1e6,
        "page_mb_s": part.size / cached / 1e6,
        "cpu_s_per_gb": cpu / (part.size / 1e9),
    }


# -- web ------------------------------------------------------------------------------------------


@contextmanager
def web(options: Options, work: Path) -> Iterator[dict[str, Contender]]:
    """nginx, and no peer."""
    with (
        swarm(work, size=options.film(512), line=LOOPBACK) as net,
        web_seed(net.made.path.parent, work) as nginx,
    ):
        contenders: dict[str, Contender] = {"torrentfs": functools.partial(run_web, net, nginx)}
        if shutil.which("curl"):
            contenders["curl"] = functools.partial(run_curl, net, nginx)
        else:
            print("curl is left out: it is not installed")
        yield contenders


def run_web(net: Swarm, nginx: WebSeed, work: Path) -> Row:
    """The film from the web seed alone."""
    options = ("--web-seed", nginx.url(FILM), "--bind-interface", "lo", "--min-free-space", "0")
    with mounted(net.made.torrent, work, *options) as mount:
        return sequential(whole(net, mount.path), mount, work)


def run_curl(net: Swarm, nginx: WebSeed, work: Path) -> Row:
    """curl of the same file into a file."""
    out = work / "out"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["curl", "-s", "-o", str(out), "-w", "%{time_total}", nginx.url(FILM)]
    seconds = float(subprocess.run(words, capture_output=True, check=True, timeout=300).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if sha256_range(out) != sha256_range(net.made.path):
        raise WrongBytes("curl's file")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cold_mb_s": net.size / seconds / 1e6, "cpu_s_per_gb": cpu / (net.size / 1e9)}


def sequential(part: Part, mount: Mounted, work: Path) -> Row:
    """Read it once, cold."""
    with reader(work) as reading:
        before = mount.cpu_seconds()
        seconds = read(reading, part).seconds
        cpu = mount.cpu_seconds() - before
    return {"cold_mb_s": part.size / seconds / 1e6, "cpu_s_per_gb": cpu / (part.size / 1e9)}


# -- readers --------------------------------------------------------------------------------------


@contextmanager
def readers(options: Options, work: Path) -> Iterator[dict[str, Contender]]:
    """1, 4 and 16 readers of one film, each through a part of its own, all parts together it."""
    with swarm(work, size=options.film(512), line=LOOPBACK) as net:
        yield {
            f"torrentfs, {count} reader{'s' * (count > 1)}": functools.partial(
                run_readers, net, count
            )
            for count in (1, 4, 16)
        }


def run_readers(net: Swarm, count: int, work: Path) -> Row:
    """The rate of all, and the slowest reader's rate against the mean."""
    size = net.size // count
    with cold_mount(net, work) as mount, ExitStack() as stack:
        wait_connected(mount, net)
        readings = [stack.enter_context(reader(work)) for _ in range(count)]
        parts = [Part(net.made.path, mount / FILM, size * n, size) for n in range(count)]
        before = mount.cpu_seconds()
        times: list[Times] = read_together(readings, parts)
        cpu = mount.cpu_seconds() - before
    began = min(time.began for time in times)
    rates = [size / (time.ended - began) for time in times]
    return {
        "cold_mb_s": count * size / (max(time.ended for time in times) - began) / 1e6,
        "slowest_x": min(rates) / statistics.mean(rates),
        "cpu_s_per_gb": cpu / (count * size / 1e9),
    }


@contextmanager
def cold_mount(net: Swarm, work: Path) -> Iterator[Mounted]:
    """A mount with nothing in its cache, and the seeder for a peer."""
    options = ("--peer", f"127.0.0.1:{net.ports[0]}", "--bind-interface", "lo")
    with mounted(net.made.torrent, work, *options, "--min-free-space", "0") as mount:
        yield mount


# -- pieces ---------------------------------------------------------------------------------------


@contextmanager
def pieces(options: Options, work: Path) -> Iterator[dict[str, Contender]]:
    """The same film as v1 and as v2, in pieces of 16 MiB."""
    film = write_file(work / "payload" / FILM, 1, max(options.film(256), 8 * HUGE_PIECE))
    versions: tuple[Literal["v1", "v2"], ...] = ("v1", "v2")
    with ExitStack() as stack:
        contenders: dict[str, Contender] = {}
        for version in versions:
            place = work / version
            made = make_torrent(
                film, place / "t.torrent", version=version, piece_length=HUGE_PIECE, private=True
            )
            peer = stack.enter_context(seed(made.torrent, film, place))
            net = Swarm(made, [peer], [peer.port], LOOPBACK, place)
            contenders[f"torrentfs, {version}"] = functools.partial(run_pieces, net)
        yield contenders


def run_pieces(net: Swarm, work: Path) -> Row:
    """First bytes and random reads of one mount, everything in order of another."""
    rng = random.Random(6)
    far = rng.sample(range(3, net.size // HUGE_PIECE - 1), 3)
    places = [piece * HUGE_PIECE + rng.randrange(0, HUGE_PIECE, PROBE) for piece in far]
    (work / "probed").mkdir()
    with cold_mount(net, work / "probed") as mount, reader(work) as reading:
        wait_connected(mount, net)
        before = net.uploaded()
        probes = [0, *places]
        times = [
            read(reading, Part(net.made.path, mount / FILM, place, PROBE)).first for place in probes
        ]
        sent = net.uploaded() - before
    with cold_mount(net, work) as mount:
        row = sequential(whole(net, mount.path), mount, work)
    return row | {
        "first_ms": times[0] * 1e3,
        "middle_ms": statistics.median(times[1:]) * 1e3,
        "amplification": sent / (len(probes) * PROBE),
    }


# -- memory ---------------------------------------------------------------------------------------


@contextmanager
def memory(options: Options, work: Path) -> Iterator[dict[str, Contender]]:
    """After a film was read cold with the default limits, and with 200 GiB torrents mounted."""
    huge = {"v1": one_huge_file(MIB, 200 * GIB), "v2": one_huge_file_v2(MIB, 200 * GIB)}
    with swarm(work, size=options.film(1024), line=LOOPBACK) as net:
        contenders: dict[str, Contender] = {
            f"torrentfs, {net.size // MIB} MiB read": functools.partial(run_memory, net)
        }
        for version, data in huge.items():
            torrent = work / f"huge-{version}.torrent"
            torrent.write_bytes(data)
            contenders[f"torrentfs, 200 GiB {version}"] = functools.partial(run_huge, torrent)
        yield contenders


def run_memory(net: Swarm, work: Path) -> Row:
    """Resident memory when the last byte has come."""
    with cold_mount(net, work) as mount:
        row = sequential(whole(net, mount.path), mount, work)
        return row | resident(mount.pid)


def run_huge(torrent: Path, work: Path) -> Row:
    """A torrent that nobody has: mounted, listed and looked at."""
    with mounted(torrent, work, "--bind-interface", "lo") as mount:
        if (mount / "huge").stat().st_size != 200 * GIB:
            raise WrongBytes("the size of the huge file")
        return resident(mount.pid)


# -- start ----------------------------------------------------------------------------------------


@contextmanager
def start(options: Options, work: Path) -> Iterator[dict[str, Contender]]:
    """Process start to first byte, beside what the interpreter and the command alone need."""
    with swarm(work, size=64 * MIB, line=LOOPBACK) as net:
        numbers = iter(range(1_000_000))

        def first_byte(work: Path) -> Row:
            return {"start_ms": from_start(net, next(numbers)) * 1e3}

        yield {
            "torrentfs mount, first byte": first_byte,
            "torrentfs --version": functools.partial(run_command, [str(TORRENTFS), "--version"]),
            "python -c pass": functools.partial(run_command, [sys.executable, "-c", "pass"]),
        }


def run_command(words: list[str], work: Path) -> Row:
    """Seconds until a command ends."""
    began = time.monotonic()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True, timeout=30)
    return {"start_ms": (time.monotonic() - began) * 1e3}


SECTIONS = {
    "warm": Section(
        "the film from the disk cache (kernel's pages dropped), then from the page cache, against"
        " raw pyfuse3 out of memory at the same read-ahead",
        warm,
        tuple((f"torrentfs, {kib} KiB", f"raw pyfuse3, {kib} KiB") for kib in READ_AHEAD),
    ),
    "web": Section("an nginx web seed alone, against curl", web, (("torrentfs", "curl"),)),
    "readers": Section(
        "1, 4 and 16 readers, each through a part of its own",
        readers,
        tuple((f"torrentfs, {count} readers", "torrentfs, 1 reader") for count in (4, 16)),
    ),
    "pieces": Section(
        "pieces of 16 MiB, v1 against v2", pieces, (("torrentfs, v2", "torrentfs, v1"),)
    ),
    "memory": Section("resident memory", memory),
    "start": Section("from the start of the process to the first byte", start),
}
