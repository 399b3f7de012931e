"""Reads of a v2 torrent, which proves single blocks, beside the same reads of a v1 torrent.

One film as v1 and as v2, in pieces of 1 and of 16 MiB, from a libtorrent seeder that has hashed it
(else it gives no block hashes). *Random*: 64 KiB over loopback, with `POSIX_FADV_RANDOM`. *Seek*:
128 KiB over the line, after a rest of 0.3 s. The two versions take turns.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Literal

from scripts.bench_network import (
    HOME,
    KIB,
    LOOPBACK,
    MIB,
    MountReader,
    Row,
    Swarm,
    mount,
    quantile,
    swarm,
    wait_connected,
)

PROBE = 64 * KIB
SEEK = 128 * KIB
REST = 0.3
VERSIONS: tuple[Literal["v1", "v2"], ...] = ("v1", "v2")


def bench_blocks(work: Path, count: int) -> dict[str, Row]:
    """`count` seeks and four times as many random reads of each version and length of pieces."""
    rows: dict[str, Row] = {}
    for piece in (MIB, 16 * MIB):
        for kind, line, run in (("random", LOOPBACK, run_random), ("seek", HOME, run_seek)):
            for version in VERSIONS:
                place = work / f"{kind}-{version}-{piece}"
                film_of = partial(swarm, place, size=512 * MIB, version=version, check=True)
                with film_of(piece_length=piece, line=line) as net, mount(net, kind) as mounted:
                    wait_connected(mounted, net)
                    with MountReader(net, mounted) as film:
                        row = run(net, film, count)
                rows[f"{kind}, {piece // MIB} MiB pieces, {version}"] = row
    return rows


def run_random(net: Swarm, film: MountReader, count: int) -> Row:
    """Bytes fetched per byte read, and how long a read takes."""
    os.posix_fadvise(film.descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    rng = random.Random(7)
    before = net.uploaded()
    places = rng.sample(range(net.size // PROBE), 4 * count)
    times = [film.read(place * PROBE, PROBE) for place in places]
    sent = net.uploaded() - before
    return {"amplification": sent / (len(times) * PROBE), **summary(times)}


def run_seek(net: Swarm, film: MountReader, count: int) -> Row:
    """How long it takes until a read at another place is answered."""
    rng = random.Random(8)
    times = []
    for place in rng.sample(range(net.size // SEEK), count):
        time.sleep(REST)
        times.append(film.read(place * SEEK, SEEK))
    return summary(times)


def summary(times: list[float]) -> Row:
    """Median and 95th percentile in milliseconds."""
    return {"p50_ms": statistics.median(times) * 1e3, "p95_ms": quantile(times, 0.95) * 1e3}
