"""How the mount feels over a slow line: `scripts/bench latency [SCENARIO...]`.

Real libtorrent seeders, the real command, and between them a proxy that adds 50 ms of round trip
and caps each direction at 100 Mbit/s. Every byte is compared with the payload. Each scenario gives
a row; a value that ends in ``_x`` is a ratio: to the ideal (round trip + piece time), to a bare
socket that does the same in the same run (``bare``), or to the rate of the line. On a busy machine
the ratios to the bare socket are the ones to read. ``--json FILE`` writes all rows.

    seek        64 KiB at random places of an idle file, of one that is being read through
    playback    8 and 50 Mbit/s over the line: stalls from the start, and after each of 10 seeks
    first       first byte of a mount that is connected and idle, and from the start of the command
    random      what 64 KiB reads at random places make the seeder send
    eight       8 seeders capped at 4 MB/s each
    readers     4 and 16 readers of one file, against one
    sources     a web seed alone, and with a peer
    blocks      random reads and seeks of a v2 torrent, beside the same of v1
    clients     what recorded programs read, replayed: time, and bytes fetched per byte needed
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from scripts.bench_blocks import bench_blocks
from scripts.bench_clients import bench_clients
from scripts.bench_network import (
    FILM,
    HOME,
    KIB,
    LOOPBACK,
    MIB,
    BarePeer,
    Line,
    MountReader,
    Row,
    Swarm,
    WrongBytes,
    mount,
    quantile,
    swarm,
    wait_connected,
)
from tests.swarm.mounted import TORRENTFS, Mounted, is_mounted, unmount
from tests.swarm.nginx import web_seed
from tests.swarm.proxy import proxy
from tests.swarm.quiet import quiet_environment

PROBE = 64 * KIB


def places(rng: random.Random, size: int, count: int, piece_length: int) -> list[int]:
    """Random offsets, aligned to 64 KiB, each in a piece of its own, none in the first or last."""
    pieces = rng.sample(range(2, size // piece_length - 1), count)
    return [piece * piece_length + rng.randrange(0, piece_length, PROBE) for piece in pieces]


def summary(times: list[float], ideal: float, bare: float) -> Row:
    """Median and 95th percentile in ms, and as ratios to the ideal and to the bare socket."""
    p50, p95 = statistics.median(times), quantile(times, 0.95)
    return {
        "p50_ms": p50 * 1e3, "p95_ms": p95 * 1e3, "max_ms": max(times) * 1e3,
        "p50_x": p50 / ideal, "p95_x": p95 / ideal, "p50_bare_x": p50 / bare,
    }  # fmt: skip


def bench_seek(work: Path, count: int) -> dict[str, Row]:
    """Seeks of an idle file and of one read through, each with a bare fetch of another piece."""
    rows: dict[str, Row] = {}
    with swarm(work, size=512 * MIB) as net:
        ideal = HOME.piece_time(MIB)
        rng = random.Random(1)
        with BarePeer(net) as bare, mount(net, "idle") as mounted:
            wait_connected(mounted, net)
            with MountReader(net, mounted) as film:
                times: list[float] = []
                floor: list[float] = []
                for place in places(rng, net.size, count, MIB):
                    times.append(film.read(place, PROBE))
                    time.sleep(0.1)
                    floor.append(bare.fetch(rng.randrange(net.size // MIB)))
                    time.sleep(0.1)
            least = statistics.median(floor)
            rows["seek, bare socket"] = summary(floor, ideal, least)
            rows["seek, idle"] = summary(times, ideal, least)
        for name, run in (("1 MiB read between", MIB), ("8 MiB read between", 8 * MIB)):
            with mount(net, f"through-{run}") as mounted:
                wait_connected(mounted, net)
                with MountReader(net, mounted) as film:
                    times = []
                    for place in places(rng, net.size - 2 * run, count, MIB):
                        times.append(film.read(place, PROBE))
                        for offset in range(place + PROBE, place + run, PROBE):
                            film.read(offset, PROBE)
            rows[f"seek, {name}"] = summary(times[2:], ideal, least)
    return rows


def play(film: MountReader, place: int, seconds: float, rate: float, patience: float) -> Row:
    """Read at `rate` bytes/s from `place` on; when the picture stood still, and for how long.

    The picture starts when the first 128 KiB are there and `patience` seconds have passed since
    the jump; from then on each byte has its time, and a late one moves the rest. The player reads
    as fast as it can until it is two seconds ahead of the picture.
    """
    step = 128 * KIB
    begun = time.monotonic()
    started = moved = 0.0
    first = 0.0
    for offset in range(0, int(seconds * rate), step):
        if started:
            time.sleep(max(0.0, started + moved + offset / rate - 2.0 - time.monotonic()))
        film.read(place + offset, step)
        now = time.monotonic()
        first = first or now - begun
        started = started or max(now, begun + patience)
        moved += max(0.0, now - (started + moved + offset / rate))
    return {"first": first, "stalled": moved}


def bench_playback(work: Path, count: int) -> dict[str, Row]:
    """Start and 10 seeks at two bit rates, by a player that waits half a second, and by one that
    does not."""
    rows: dict[str, Row] = {}
    with swarm(work, size=1024 * MIB) as net:
        for megabits in (8, 50):
            for patience in (0.5, 0.0):
                rate = megabits * 1e6 / 8
                rng = random.Random(2)
                with mount(net, f"play-{megabits}-{patience}") as mounted:
                    wait_connected(mounted, net)
                    with MountReader(net, mounted) as film:
                        jumps = [0, *places(rng, net.size - 32 * MIB, 10, MIB)]
                        played = [play(film, jump, 4.0, rate, patience) for jump in jumps]
                rows[f"playback, {megabits} Mbit/s, patience {patience:g} s"] = {
                    "start_ms": played[0]["first"] * 1e3,
                    "seek_p50_ms": statistics.median(row["first"] for row in played[1:]) * 1e3,
                    "stalls": sum(row["stalled"] > 0.005 for row in played),
                    "stalled_ms": sum(row["stalled"] for row in played) * 1e3,
                    "longest_ms": max(row["stalled"] for row in played) * 1e3,
                }
    return rows


def bench_first(work: Path, count: int) -> dict[str, Row]:
    """First byte on loopback: connected and idle; and from the start of the process."""
    rows: dict[str, Row] = {}
    times: dict[str, list[float]] = {}
    with swarm(work, size=64 * MIB, line=LOOPBACK) as net:
        for number in range(max(5, count // 4)):
            with mount(net, f"idle-{number}") as mounted:
                wait_connected(mounted, net)
                with MountReader(net, mounted) as film:
                    times.setdefault("first byte, idle, offset 0", []).append(film.read(0, 4096))
                    time.sleep(0.2)
                    middle = film.read(net.size // 2 + 100 * KIB, 4096)
                    times.setdefault("first byte, idle, middle", []).append(middle)
            times.setdefault("first byte, from start", []).append(from_start(net, number))
        with BarePeer(net) as bare:
            floor = [bare.fetch(number) for number in range(20)]
        rows["first byte, bare socket"] = {"p50_ms": statistics.median(floor) * 1e3}
    for name, values in times.items():
        rows[name] = {"p50_ms": statistics.median(values) * 1e3, "max_ms": max(values) * 1e3}
    return rows


def from_start(net: Swarm, number: int) -> float:
    """Seconds from the start of the command to the first byte of the film."""
    point = net.work / f"start-{number}"
    point.mkdir()
    argv = [
        *(str(TORRENTFS), "mount", "-f", "--peer", f"127.0.0.1:{net.ports[0]}"),
        *("--cache-dir", str(net.work / f"start-cache-{number}"), "--bind-interface", "lo"),
        *("--min-free-space", "0", "--log-file", str(net.work / "start.log")),
        *("--state-dir", str(net.work / "start-state")),
        *(str(net.made.torrent), str(point)),
    ]
    environment = quiet_environment()
    started = time.monotonic()
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment
    )
    try:
        while time.monotonic() < started + 20:
            if is_mounted(point) and (point / FILM).exists():
                with (point / FILM).open("rb", buffering=0) as film:
                    byte = film.read(1)
                took = time.monotonic() - started
                with net.made.path.open("rb") as payload:
                    if payload.read(1) != byte:
                        raise WrongBytes("the first byte")
                return took
            time.sleep(0.002)
        raise TimeoutError("no first byte in 20 s")
    finally:
        process.terminate()
        process.wait(15)
        if is_mounted(point):
            unmount(point, lazy=True)


def bench_random(work: Path, count: int) -> dict[str, Row]:
    """Bytes sent per byte read, reads of 64 KiB, each in a piece of its own."""
    with swarm(work, size=512 * MIB, line=LOOPBACK) as net:
        rng = random.Random(4)
        with mount(net, "random") as mounted:
            wait_connected(mounted, net)
            with MountReader(net, mounted) as film:
                before = net.uploaded()
                times = [film.read(p, PROBE) for p in places(rng, net.size, 5 * count, MIB)]
            sent = net.uploaded() - before
    return {
        "random 64 KiB reads": {
            "amplification": sent / (len(times) * PROBE),
            "p50_ms": statistics.median(times) * 1e3,
            "p99_ms": quantile(times, 0.99) * 1e3,
        }
    }


def read_through(film: MountReader, start: int, size: int) -> list[tuple[float, int]]:
    """Read in order; (when, bytes so far) after each step of 128 KiB."""
    step = 128 * KIB
    seen = [(time.monotonic(), 0)]
    for offset in range(start, start + size, step):
        film.read(offset, step)
        seen.append((time.monotonic(), offset + step - start))
    return seen


def bench_eight(work: Path, count: int) -> dict[str, Row]:
    """Rate over windows of a second, once two seconds have passed, and over all."""
    rows: dict[str, Row] = {}
    for name, line in (("loopback", LOOPBACK), ("50 ms", Line(0.05, 0.0))):
        place = work / name.replace(" ", "-")
        place.mkdir()
        with swarm(place, size=256 * MIB, line=line, seeders=8, upload_limit=4_000_000) as net:
            with mount(net, "eight") as mounted:
                wait_connected(mounted, net)
                with MountReader(net, mounted) as film:
                    seen = read_through(film, 0, 192 * MIB)
            begun = seen[0][0]
            early = max(done for when, done in seen if when <= begun + 2.0)
            later = [(when, done) for when, done in seen if when > begun + 2.0]
            rate = (later[-1][1] - early) / (later[-1][0] - begun - 2.0)
            rows[f"8 seeders of 4 MB/s, {name}"] = {
                "first_2s_x": early / 2.0 / 32e6,
                "after_2s_x": rate / 32e6,
                "all_x": seen[-1][1] / (seen[-1][0] - begun) / 32e6,
            }
    return rows


def rates_of(net: Swarm, readers: int, total: int) -> tuple[float, list[float]]:
    """(bytes/s of all, bytes/s of each): a fresh mount, each reader in a part of its own."""
    each = total // readers
    stride = net.size // readers // MIB * MIB
    ends: list[float] = []
    errors: list[BaseException] = []

    def run(mounted: Mounted, start: int) -> None:
        try:
            with MountReader(net, mounted) as film:
                read_through(film, start, each)
            ends.append(time.monotonic())
        except (OSError, WrongBytes) as error:
            errors.append(error)

    with mount(net, f"readers-{readers}") as mounted:
        wait_connected(mounted, net)
        threads = [
            threading.Thread(target=run, args=(mounted, number * stride))
            for number in range(readers)
        ]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return readers * each / (max(ends) - begun), [each / (end - begun) for end in ends]


def bench_readers(work: Path, count: int) -> dict[str, Row]:
    """Several readers, each through a part of its own, against one reader of as many bytes."""
    rows: dict[str, Row] = {}
    for name, line, total in (
        ("50 ms, 100 Mbit/s", HOME, 96 * MIB),
        ("loopback", LOOPBACK, 256 * MIB),
    ):
        place = work / name.partition(",")[0].replace(" ", "-")
        place.mkdir()
        with swarm(place, size=512 * MIB, line=line) as net:
            alone = 0.0
            for readers in (1, 4, 16):
                rate, rates = rates_of(net, readers, total)
                alone = alone or rate
                rows[f"{readers} readers, {name}"] = {
                    "MB_s": rate / 1e6,
                    "sum_x": rate / alone,
                    "slowest_to_mean_x": min(rates) / statistics.mean(rates),
                }
    return rows


def bench_sources(work: Path, count: int) -> dict[str, Row]:
    """A web seed behind the line: alone, with a peer behind another; seeks of each."""
    rows: dict[str, Row] = {}
    with (
        swarm(work, size=384 * MIB) as net,
        web_seed(net.made.path.parent, work) as nginx,
        proxy(("127.0.0.1", nginx.port), work, round_trip=0.05, rate=HOME.rate) as port,
    ):
        url = f"http://127.0.0.1:{port}/{FILM}"
        for name, peers, lines in (("web seed alone", False, 1), ("web seed and peer", True, 2)):
            with mount(net, name.replace(" ", "-"), "--web-seed", url, peers=peers) as mounted:
                wait_connected(mounted, net)
                rng = random.Random(5)
                with MountReader(net, mounted) as film:
                    far = [p + 128 * MIB for p in places(rng, 256 * MIB, count, MIB)]
                    times = []
                    for place in far:
                        times.append(film.read(place, PROBE))
                        time.sleep(0.1)
                    seen = read_through(film, 0, 96 * MIB)
            took = seen[-1][0] - seen[0][0]
            row = summary(times, HOME.piece_time(MIB), HOME.piece_time(MIB))
            row["line_x"] = 96 * MIB / took / (lines * HOME.rate)
            rows[name] = row
    return rows


SCENARIOS: dict[str, Callable[[Path, int], dict[str, Row]]] = {
    "seek": bench_seek,
    "playback": bench_playback,
    "first": bench_first,
    "random": bench_random,
    "eight": bench_eight,
    "readers": bench_readers,
    "sources": bench_sources,
    "blocks": bench_blocks,
    "clients": bench_clients,
}


def main() -> int:
    """0 when every byte was right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--count", type=int, default=24, help="seeks of a row (default 24)")
    parser.add_argument(
        "--rounds", type=int, default=1, help="of all scenarios; the median of each value at last"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows there, too")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenario) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows: dict[str, list[Row]] = {}
    work = Path(tempfile.mkdtemp(prefix="torrentfs-latency-"))
    try:
        for name in list(arguments.scenario or SCENARIOS) * arguments.rounds:
            (work / name).mkdir()
            measured = SCENARIOS[name](work / name, arguments.count)
            for title, row in measured.items():
                cells = "  ".join(f"{key} {value:.2f}" for key, value in row.items())
                print(f"{title:<38} {cells}", flush=True)
                rows.setdefault(title, []).append(row)
            shutil.rmtree(work / name)
    except WrongBytes as error:
        print(f"bench_latency: WRONG BYTES: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nended; nothing is left behind")
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if arguments.rounds > 1:
        print(f"\nmedians of {arguments.rounds} rounds, the least and the most")
        for title, measured_rows in rows.items():
            print(f"{title:<38} {of_rounds(measured_rows)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def of_rounds(rows: list[Row]) -> str:
    """Each value of a row: its median, least and most."""
    cells = []
    for key in rows[0]:
        values = [row[key] for row in rows if key in row]
        cells.append(
            f"{key} {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        )
    return "  ".join(cells)


if __name__ == "__main__":
    sys.exit(main())
