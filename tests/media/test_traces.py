"""Recorded programs, replayed four at a time on a mount whose peers are 50 ms away.

Each read of a recording (what the kernel asked for) is done when the one before is answered, after
the pause that the program made there, on a torrent of its own, so that none has its bytes from
another.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.media.line import PIECE, behind_a_line
from tests.media.viewer import Viewer
from tests.swarm.mounted import mounted
from tests.swarm.payload import write_file

pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.timeout(180)]

CLIENTS = json.loads(
    (Path(__file__).parents[1] / "simulation" / "traces" / "clients.json").read_text()
)
FETCHED_TO_TOUCHED = 2.5
GRAB_SECONDS = 10.0


def replay(trace: dict[str, Any], mounted_file: Path, original: Path) -> float:
    """Do what the program did, and compare each byte; the seconds that it took."""
    begun = time.monotonic()
    given, right = os.open(mounted_file, os.O_RDONLY), os.open(original, os.O_RDONLY)
    try:
        for offset, length, pause in trace["reads"]:
            time.sleep(pause)
            assert os.pread(given, length, offset) == os.pread(right, length, offset)
    finally:
        os.close(given)
        os.close(right)
    return time.monotonic() - begun


def test_recorded_programs_fetch_little_and_disturb_nobody(tmp_path: Path) -> None:
    by_size: dict[int, Path] = {}
    files: dict[str, Path] = {}
    for number, (name, trace) in enumerate(CLIENTS.items()):
        path = tmp_path / "payload" / f"{name}.bin"
        if trace["size"] in by_size:  # the same bytes under another name are another torrent
            os.link(by_size[trace["size"]], path)
        else:
            by_size[trace["size"]] = write_file(path, number, trace["size"])
        files[name] = path
    film = write_file(tmp_path / "payload" / "film.bin", 99, 160 << 20)
    touched = {
        (name, piece)
        for name, trace in CLIENTS.items()
        for offset, length, _ in trace["reads"]
        for piece in range(offset // PIECE, -(-(offset + length) // PIECE))
    }
    wanted = sum(min(PIECE, CLIENTS[name]["size"] - piece * PIECE) for name, piece in touched)
    with (
        behind_a_line([*files.values(), film], tmp_path) as (sources, peers),
        mounted(sources, tmp_path, "--xattrs", *peers) as mount,
    ):

        def run(name: str) -> float:
            return replay(CLIENTS[name], mount / files[name].name, files[name])

        # those that pause for long begin first
        names = sorted(CLIENTS, key=lambda name: -sum(r[2] for r in CLIENTS[name]["reads"]))
        with Viewer(mount / film.name) as viewer, ThreadPoolExecutor(4) as pool:
            took = dict(zip(names, pool.map(run, names), strict=True))
        fetched = sum(
            int(os.getxattr(mount / file.name, f"user.torrentfs.{name}"))
            for file in files.values()
            for name in ("downloaded", "wasted")
        )
    print(f"fetched {fetched:,} touched {wanted:,} = {fetched / wanted:.2f}, {took}")
    assert viewer.stalls == []
    assert all(took[name] < GRAB_SECONDS for name in took if name.startswith("jf-image")), took
    assert fetched <= FETCHED_TO_TOUCHED * wanted
