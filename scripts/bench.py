"""``scripts/bench``: how fast torrentfs is, beside what there is to compare it with.

    scripts/bench                                  section swarm (with --short: all)
    scripts/bench [SECTION...] [--rounds N]        the sections named, or `all`
    scripts/bench latency [SCENARIO...]            how it feels over a slow line (bench_latency)

Each section runs its contenders in interleaved rounds (see `bench_rounds`) and prints medians, the
least and the most, and the median of the rounds' ratios.  Every byte is hashed (after the clock
stops) and compared.  ``--short`` is for CI: small, one round, fails on a wrong byte (or if
torrentfs gives none), never on time, and never because btfs is absent or slow.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from scripts import bench_latency
from scripts.bench_btfs import why_not
from scripts.bench_growth import SECTIONS as GROWTH_SECTIONS
from scripts.bench_mount import SECTIONS as MOUNT_SECTIONS
from scripts.bench_rounds import (
    PRIMED,
    Options,
    Section,
    machine,
    medians,
    print_table,
    ratios,
    run_rounds,
)
from scripts.bench_swarm import CONTENDERS, SWARM
from scripts.bench_utp import UTP
from scripts.bench_webrtc import WEBRTC

SECTIONS: dict[str, Section] = {
    "swarm": SWARM,
    **MOUNT_SECTIONS,
    **GROWTH_SECTIONS,
    "webrtc": WEBRTC,
    "utp": UTP,
}


def parse() -> argparse.Namespace:
    """The command line, checked."""
    listed = "; ".join(f"{name}: {section.about}" for name, section in SECTIONS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__.splitlines()[0],
        epilog=f"{listed}; all: all of these; latency: see `scripts/bench latency --help`",
    )
    parser.add_argument(
        "section", nargs="*", metavar="SECTION", help="default: swarm; with --short: all"
    )
    parser.add_argument("--short", action="store_true", help="small and quick, for CI")
    parser.add_argument("--size", type=int, default=0, metavar="MIB", help="of the film")
    parser.add_argument("--rounds", type=int, default=0, help="default 3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows there, too")
    swarm = parser.add_argument_group("section swarm only")
    swarm.add_argument("--piece", type=int, metavar="KIB", default=1024, help="piece length")
    swarm.add_argument("--round-trip", type=float, default=0, metavar="MS", help="simulated")
    swarm.add_argument("--rate", type=float, default=0, metavar="MB/S", help="simulated")
    swarm.add_argument("--only", action="append", choices=list(CONTENDERS), help="repeatable")
    arguments = parser.parse_args()
    if "all" in arguments.section:
        arguments.section = list(SECTIONS)
    if unknown := set(arguments.section) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    arguments.section = arguments.section or (list(SECTIONS) if arguments.short else ["swarm"])
    arguments.rounds = arguments.rounds or (1 if arguments.short else 3)
    return arguments


def run_section(
    name: str, options: Options, rounds: int, work: Path
) -> tuple[dict[str, Any], list[str]]:
    """Everything that it measured, and what failed."""
    section = SECTIONS[name]
    print(f"{name}: {section.about}", flush=True)
    work.mkdir()
    with section.contenders(options, work) as contenders:
        measured = run_rounds(contenders, rounds, work, 0 if options.short else PRIMED)
    shutil.rmtree(work, ignore_errors=True)
    compared = ratios(measured, section.ratios)
    print_table(measured, compared)
    result = {"rows": measured.rows, "medians": medians(measured), "ratios": compared}
    return {**result, "load": measured.load, "failures": measured.failures}, measured.failures


def main() -> int:
    """0 when torrentfs finished every round and every byte of it was right."""
    if sys.argv[1:2] == ["latency"]:
        sys.argv[:2] = ["scripts/bench latency"]
        return bench_latency.main()
    arguments = parse()
    only = arguments.only or list(CONTENDERS)
    # Looked at first: it may start this program again.
    if "swarm" in arguments.section and "btfs" in only and (reason := why_not()):
        print(f"btfs is left out: {reason}")
        only.remove("btfs")
    options = Options(
        short=arguments.short,
        size=arguments.size,
        piece=arguments.piece,
        round_trip=arguments.round_trip,
        rate=arguments.rate,
        only=only,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    work = Path(tempfile.mkdtemp(prefix="torrentfs-bench-"))
    result: dict[str, Any] = {"machine": machine()}
    failures: list[str] = []
    print(result["machine"], flush=True)
    try:
        for name in arguments.section:
            result[name], failed = run_section(name, options, arguments.rounds, work / name)
            failures += failed
    except KeyboardInterrupt:
        print("\nended; nothing is left behind")
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    # Others may fail on their own account; ours may not.
    return 1 if any(failure.startswith("torrentfs") for failure in failures) else 0


if __name__ == "__main__":
    sys.exit(main())
