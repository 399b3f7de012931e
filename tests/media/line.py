"""Seeders that are far away: each payload's torrent has one, behind a line of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.swarm.proxy import proxy
from tests.swarm.seeder import seed
from tests.swarm.torrents import make_torrent

PIECE = 4 << 20
ROUND_TRIP = 0.050
RATE = 12.5e6
"""Bytes a second of each line: 100 Mbit/s."""


@contextmanager
def behind_a_line(payloads: Sequence[Path], work: Path) -> Iterator[tuple[list[Path], list[str]]]:
    """Seed files or directories; gives their torrents, and the options that name the peers."""
    sources: list[Path] = []
    peers: list[str] = []
    with ExitStack() as stack:
        for number, path in enumerate(payloads):
            made = make_torrent(path, work / f"{number}.torrent", piece_length=PIECE)
            seeder = stack.enter_context(seed(made.torrent, path, work))
            place = work / f"line-{number}"
            place.mkdir()
            target = ("127.0.0.1", seeder.port)
            line = proxy(target, place, round_trip=ROUND_TRIP, rate=RATE)
            sources.append(made.torrent)
            peers += ["--peer", f"127.0.0.1:{stack.enter_context(line)}"]
        yield sources, peers
