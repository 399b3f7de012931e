"""Interleaved rounds: what a benchmark needs whatever it measures.

A section has contenders. Each round takes all of them in turn, rotated so that none is always
first; what a contender gives is a row. Medians are over rounds, and so are ratios: of each round's
own two values, because the load of a shared machine changes between rounds more than within one.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.swarm.child import ChildFailed, JsonChild, python_child
from tests.swarm.mounted import MountFailed

MIB = 1 << 20
PROBE = 64 * 1024
PRIMED = 3 << 30
"""Bytes that `prime` touches: what a contender and the kernel's pages for it take."""
LIMIT = 300.0
"""Seconds that one reading may take."""

Row = dict[str, float]
Contender = Callable[[Path], Row]
"""Measures once, in an empty directory of its own."""

COLUMNS = {
    "cold_mb_s": "cold MB/s",
    "warm_mb_s": "warm MB/s",
    "restart_mb_s": "again MB/s",
    "page_mb_s": "cached MB/s",
    "first_ms": "first ms",
    "middle_ms": "middle ms",
    "slowest_x": "slowest/mean",
    "amplification": "amplification",
    "start_ms": "start ms",
    "rss_mb": "resident MB",
    "anon_mb": "anonymous MB",
    "peak_mb": "peak MB",
    "open_ms": "open ms",
    "mb_s": "MB/s",
    "cpu_s_per_gb": "CPU s/GB",
    "bridge_cpu": "bridge's",
    "browser_cpu": "Chromium's",
    "cpu_ms": "CPU ms",
    "idle_ms_per_s": "idle CPU ms/s",
    "waited_ms": "waited ms",
    "longest_ms": "longest ms",
}


class Options(NamedTuple):
    """What the command line says to every section; 0: the section's own choice."""

    short: bool = False
    size: int = 0
    """MiB of the film."""
    piece: int = 1024
    """KiB."""
    round_trip: float = 0.0
    """ms, simulated."""
    rate: float = 0.0
    """MB/s, simulated."""
    only: Sequence[str] = ()

    def film(self, usual: int) -> int:
        """Bytes of the film, `usual` MiB unless said otherwise."""
        return (self.size or (32 if self.short else usual)) * MIB


class Section(NamedTuple):
    """Contenders that are compared, and of whom to whom the ratio is shown."""

    about: str
    contenders: Callable[[Options, Path], AbstractContextManager[dict[str, Contender]]]
    ratios: tuple[tuple[str, str], ...] = ()


class WrongBytes(Exception):
    """A contender gave other bytes than the payload's."""

    def __str__(self) -> str:
        return f"WRONG BYTES: {super().__str__()}"


# -- readings -------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A range of a file of the payload, and that file in a mount."""

    payload: Path
    path: Path
    offset: int
    size: int

    def check(self, digest: str, size: int) -> None:
        """Raise unless these are the payload's bytes."""
        if digest != sha256_range(self.payload, self.offset, self.size):
            words = f"{size} of {self.size} bytes, not the payload's"
            raise WrongBytes(f"{self.path} at {self.offset}: {words}")


class Times(NamedTuple):
    """Of one reading, in seconds of the machine's clock; `first` is the time it took."""

    began: float
    first: float
    ended: float

    @property
    def seconds(self) -> float:
        """From before the `open` to the last byte."""
        return self.ended - self.began


@contextmanager
def reader(work: Path) -> Iterator[JsonChild]:
    """A reading process; killed at the end, whatever it waits for."""
    child = python_child("scripts.bench_reader", stderr=work / "reader.log")
    try:
        yield child
    finally:
        child.process.kill()
        child.close()


def read(reading: JsonChild, part: Part, *, drop: bool = True, limit: float = LIMIT) -> Times:
    """Read and check one range."""
    return read_together([reading], [part], drop=drop, limit=limit)[0]


def read_together(
    readings: Sequence[JsonChild],
    parts: Sequence[Part],
    *,
    drop: bool = True,
    limit: float = LIMIT,
) -> list[Times]:
    """Each reader a range, all at once; checked when the last one is done."""
    for reading, part in zip(readings, parts, strict=True):
        what = {"path": str(part.path), "offset": part.offset, "size": part.size, "drop": drop}
        reading.ask({"do": "prepare", **what}, limit)
    for reading in readings:
        assert reading.process.stdin is not None
        reading.process.stdin.write(json.dumps({"do": "read"}).encode() + b"\n")
        reading.process.stdin.flush()
    answers = [reading.wait_line(limit) for reading in readings]
    for reading, part, answer in zip(readings, parts, answers, strict=True):
        part.check(reading.ask({"do": "digest"}, limit)["sha256"], answer["size"])
    return [Times(answer["began"], answer["first"], answer["ended"]) for answer in answers]


def sha256_range(path: Path, offset: int = 0, size: int = -1) -> str:
    """Hex SHA-256 of a range of a file; without a size, up to its end."""
    digest = hashlib.sha256()
    left = path.stat().st_size - offset if size < 0 else size
    with path.open("rb") as stream:
        stream.seek(offset)
        while left > 0 and (chunk := stream.read(min(left, MIB))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def process_cpu(pid: int) -> float:
    """User and system seconds of a process and the children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


# -- rounds ---------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """Of one section: a row per contender and round (None where it failed), and what failed."""

    rows: dict[str, list[Row | None]]
    failures: list[str]
    load: tuple[float, float]
    """The machine's load when it began and when it ended."""


def prime(size: int) -> None:
    """Take memory from the machine and give it back, so that what comes next need not wait for it.

    A virtual machine's free memory may be lent back to its host. The first touch of such a page
    costs up to 3 CPU seconds per GB, more than all of a download; by then somebody else's.
    """
    if size * 2 < os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        _ = b"\1" * size


def run_rounds(
    contenders: Mapping[str, Contender], rounds: int, work: Path, primed: int = PRIMED
) -> Measured:
    """All rounds of a section."""
    names = list(contenders)
    rows: dict[str, list[Row | None]] = {name: [None] * rounds for name in names}
    failures: list[str] = []
    began = os.getloadavg()[0]
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            place = work / "round"
            place.mkdir()
            prime(primed)
            try:
                row = contenders[name](place)
            except (WrongBytes, ChildFailed, MountFailed, TimeoutError, OSError) as error:
                failures.append(f"{name}, round {number + 1}: {str(error).splitlines()[0]}")
                print(f"  {failures[-1]}", flush=True)
            else:
                rows[name][number] = row
                words = ", ".join(f"{COLUMNS[key]} {value:.2f}" for key, value in row.items())
                print(f"  round {number + 1} {name:<22} {words}", flush=True)
            shutil.rmtree(place, ignore_errors=True)
    return Measured(rows, failures, (began, os.getloadavg()[0]))


def medians(measured: Measured) -> dict[str, Row]:
    """Of each contender and column, over the rounds."""
    return {
        name: {key: statistics.median(values) for key, values in _columns(rows).items()}
        for name, rows in measured.rows.items()
    }


def ratios(measured: Measured, pairs: Sequence[tuple[str, str]]) -> dict[str, Row]:
    """Of each pair and column, the median of the rounds' own ratios."""
    found: dict[str, Row] = {}
    for ours, base in pairs:
        if not {ours, base} <= measured.rows.keys():
            continue
        rounds = [
            {key: mine[key] / theirs[key] for key in mine if theirs.get(key)}
            for mine, theirs in zip(measured.rows[ours], measured.rows[base], strict=True)
            if mine and theirs
        ]
        columns = _columns(rounds)
        found[f"{ours} / {base}"] = {key: statistics.median(columns[key]) for key in columns}
    return found


def _columns(rows: Sequence[Row | None]) -> dict[str, list[float]]:
    done = [row for row in rows if row]
    shown = [key for key in COLUMNS if done and all(key in row for row in done)]
    return {key: [row[key] for row in done] for key in shown}


def print_table(measured: Measured, compared: Mapping[str, Row]) -> None:
    """Medians with the least and the most, and ratios."""
    keys = [key for key in COLUMNS if any(key in _columns(rows) for rows in measured.rows.values())]
    print(f"\n{'median (least-most)':<40}" + "".join(f"{COLUMNS[key]:>21}" for key in keys))
    for name, rows in measured.rows.items():
        cells = []
        for key in keys:
            values = _columns(rows).get(key)
            if values:
                words = f"{_short(statistics.median(values))} "
                words += f"({_short(min(values))}-{_short(max(values))})"
            cells.append(f"{words if values else '-':>21}")
        print(f"{name:<40}" + "".join(cells))
    for name, row in compared.items():
        cells = [f"{row[key]:.2f}x" if key in row else "-" for key in keys]
        print(f"{name:<40}" + "".join(f"{cell:>21}" for cell in cells))
    print(f"load {measured.load[0]:.1f} to {measured.load[1]:.1f}\n", flush=True)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


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
