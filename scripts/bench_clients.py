"""Recorded programs replayed on the real mount over a slow line (a scenario of `bench_latency`).

Each read of a recording is done when the one before is answered, after the pause that the program
made there, on a file of the recorded size in 4 MiB pieces, each program on a mount of its own: when
its first bytes came, how long it took and how much of that it waited, what the seeder sent against
the pieces that were touched, and what came after the close.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from scripts.bench_network import (
    FILM,
    MIB,
    MountReader,
    Row,
    mount,
    swarm,
    wait_connected,
)

CLIENTS = Path(__file__).parents[1] / "tests" / "simulation" / "traces" / "clients.json"


def bench_clients(work: Path, count: int) -> dict[str, Row]:
    """Recorded programs on files of their own size, 4 MiB pieces, one mount each."""
    rows: dict[str, Row] = {}
    clients = json.loads(CLIENTS.read_text())
    by_size: dict[int, list[str]] = {}
    for name, trace in clients.items():
        by_size.setdefault(trace["size"], []).append(name)
    for number, (size, names) in enumerate(by_size.items()):
        place = work / f"clients-{number}"
        place.mkdir()
        with swarm(place, size=size, piece_length=4 * MIB) as net:
            for name in names:
                with mount(net, name, "--xattrs") as mounted:
                    wait_connected(mounted, net)
                    before = net.uploaded()
                    begun = time.monotonic()
                    first = waited = 0.0
                    covered: set[int] = set()
                    with MountReader(net, mounted) as film:
                        for offset, length, pause in clients[name]["reads"]:
                            time.sleep(pause)
                            waited += film.read(offset, length)
                            first = first or time.monotonic() - begun
                            covered.update(range(offset // 4096, -(-(offset + length) // 4096)))
                    took = time.monotonic() - begun
                    at_close = os.getxattr(mounted / FILM, "user.torrentfs.downloaded")
                    time.sleep(3.0)
                    after = os.getxattr(mounted / FILM, "user.torrentfs.downloaded")
                    sent = net.uploaded() - before
                pieces = {page * 4096 // (4 * MIB) for page in covered}
                rows[f"client {name}"] = {
                    "first_ms": first * 1e3,
                    "seconds": took,
                    "waited_s": waited,
                    "sent_MB": sent / 1e6,
                    "pieces_read": len(pieces),
                    "sent_to_pieces_x": sent / (len(pieces) * 4 * MIB),
                    "after_close_MB": (int(after) - int(at_close)) / 1e6,
                }
    return rows
