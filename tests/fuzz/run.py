"""Coverage-guided fuzzing of everything that reads bytes of strangers.

    python -m tests.fuzz.run [--seconds N] [--corpus DIR] [--list] [TARGET ...]

A target is a file `fuzz_<name>.py` beside this one. It has `one_input(data: bytes) -> None`, which
may raise nothing (it catches the errors that its code declares, and checks what it promises),
`seeds() -> Iterable[bytes]` of valid inputs, and `MODULES`, the modules whose branches guide the
search. `--seconds` is the time for each target. Each runs in a process of its own; with atheris it
is guided by coverage, without it seeds are mutated at random. An input that breaks a target is
written to `crash-*` in the corpus directory and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import random
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

HERE = Path(__file__).parent
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))
_MAX_LENGTH = 65536


def load(target: str) -> ModuleType:
    """The module of a target."""
    return importlib.import_module(f"tests.fuzz.fuzz_{target}")


def write_seeds(module: ModuleType, corpus: Path) -> None:
    """Put the valid inputs of a target into its corpus directory."""
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in module.seeds():
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """A few random changes: bytes, runs dropped or doubled, digits, parts of another input."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        place = rng.randrange(len(out) + 1)
        end = min(len(out), place + rng.choice([1, 1, 2, 4, 16, 64]))
        match rng.randrange(6):
            case 0 if out:
                out[min(place, len(out) - 1)] = rng.randrange(256)
            case 1:
                del out[place:end]
            case 2:
                out[place:place] = out[place:end]
            case 3:
                out[place:place] = rng.randbytes(rng.randrange(1, 5))
            case 4:
                out[place:end] = str(rng.choice([0, 1, 9, 255, 65536, 2**31, 2**63])).encode()
            case _:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                out[place:end] = other[start : start + rng.randrange(1, 100)]
    return bytes(out[:_MAX_LENGTH])


def run_blind(target: str, seconds: float, corpus: Path, seed: int = 0) -> int:
    """Mutate seeds at random for `seconds`; the number of inputs tried."""
    module = load(target)
    pool = [bytes(data) for data in module.seeds()]
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    tried = 0
    while time.monotonic() < end:
        data = mutate(rng.choice(pool), rng, pool)
        tried += 1
        try:
            module.one_input(data)
        except BaseException:
            corpus.mkdir(parents=True, exist_ok=True)
            crash = corpus / f"crash-{hashlib.sha1(data).hexdigest()}"
            crash.write_bytes(data)
            print(f"{target}: {crash}", file=sys.stderr)
            raise
    return tried


def run_guided(target: str, seconds: float, corpus: Path) -> None:
    """Let atheris search; it ends the process."""
    import atheris  # type: ignore[import-not-found,unused-ignore]

    with atheris.instrument_imports(
        include=["torrentfs", "bencodepy"], enable_loader_override=False
    ):
        module = load(target)
        for name in module.MODULES:
            importlib.import_module(name)
    write_seeds(module, corpus)
    arguments = [
        sys.argv[0],
        str(corpus),
        f"-max_total_time={int(seconds)}",
        f"-max_len={_MAX_LENGTH}",
        f"-artifact_prefix={corpus}/",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, module.one_input)
    atheris.Fuzz()


def run_in_child(target: str, seconds: float, corpus: Path) -> int:
    """Fuzz one target in a process of its own; its exit status."""
    command = [sys.executable, "-m", "tests.fuzz.run", "--child", "--seconds", str(seconds)]
    environment = dict(os.environ, PYTHONPATH=str(HERE.parent.parent))
    return subprocess.run(
        [*command, "--corpus", str(corpus), target], check=False, env=environment
    ).returncode


def main() -> int:
    """Run the targets named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--corpus", type=Path, help="kept between runs (default: a temporary one)")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    options = parser.parse_args()
    if options.list:
        print("\n".join(TARGETS))
        return 0
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))} (--list names them)")
    if options.child:
        target = options.targets[0]
        if find_spec("atheris") is not None:
            run_guided(target, options.seconds, options.corpus)
        else:
            tried = run_blind(target, options.seconds, options.corpus)
            print(f"{target}: {tried} inputs, not guided (atheris is not installed)")
        return 0
    with tempfile.TemporaryDirectory(prefix="torrentfs-fuzz-") as temporary:
        base = options.corpus or Path(temporary)
        failed = [
            target
            for target in options.targets or TARGETS
            if run_in_child(target, options.seconds, base / target)
        ]
        for target in failed:
            for crash in sorted((base / target).glob("crash-*")):
                print(f"{target}: {crash.read_bytes()!r}", file=sys.stderr)
    print(f"failed: {', '.join(failed)}" if failed else "no target failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
