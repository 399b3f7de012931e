"""The stages of ``scripts/test``: each named, timed and bounded; then nothing may be left behind.

A failing stage does not stop the later ones: one run shows all that is wrong.  The last lines are
the closing lines of each pytest run, for people and CI alike.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
MARK = "STAGES_OF_TORRENTFS"  # in the environment of all we start, so that leftovers are known


class Stage(NamedTuple):
    """A name, a command, and the seconds after which it is ended."""

    name: str
    command: tuple[str, ...]
    limit: float


# Files of tests side by side: most of them wait. Those that share a browser stay together.
BY_FILE = ("-n", "2", "--dist", "loadfile", "--durations=20")

STAGES = (
    Stage("check", ("scripts/check",), 300),
    Stage("fast tests", (PYTHON, "-m", "pytest", "-q", "-n", "auto"), 600),
    Stage("real tests", (PYTHON, "-m", "pytest", "-q", "-m", "real and not alone", *BY_FILE), 1200),
    Stage("real, alone", (PYTHON, "-m", "pytest", "-q", "-m", "real and alone"), 480),
    Stage("fuzz", (PYTHON, "-m", "tests.fuzz", "--seconds", "6"), 300),
)


class Outcome(NamedTuple):
    """How a stage ended."""

    name: str
    ok: bool
    seconds: float
    closing: str


def run_stage(stage: Stage) -> Outcome:
    """Run a stage, showing its output as it comes."""
    print(f"\n--- {stage.name}: {' '.join(stage.command).replace(PYTHON, 'python')}", flush=True)
    started = time.monotonic()
    process = subprocess.Popen(
        stage.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    closing = ""
    try:
        for line in _lines(process, started + stage.limit):
            print(line, end="", flush=True)
            closing = line.strip() or closing
        ok = process.wait() == 0
    except TimeoutError:
        closing, ok = f"not done in {stage.limit:g} s", False
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
    return Outcome(stage.name, ok, time.monotonic() - started, closing)


def _lines(process: subprocess.Popen[str], deadline: float) -> Iterator[str]:
    """Lines of the process's output; at the deadline it is ended, which ends the output."""
    assert process.stdout is not None
    late = threading.Event()

    def end() -> None:
        late.set()
        process.terminate()

    timer = threading.Timer(max(deadline - time.monotonic(), 0), end)
    timer.start()
    try:
        yield from process.stdout
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError


def leftovers(token: str, before: set[str]) -> list[str]:
    """Processes, and those of `visible` that the stages made and did not clear away."""
    deadline = time.monotonic() + 5
    while processes := _processes(token):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    found = [f"process {pid}: {command}" for pid, command in processes]
    return found + sorted(visible() - before)


def visible() -> set[str]:
    """Mounts and temporary files that look like ours; pytest keeps those of failed tests."""
    mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    found = {f"mount {line.split()[4]}" for line in mounts if "torrentfs" in line.split(" - ")[1]}
    entries = Path(tempfile.gettempdir()).iterdir()
    found |= {f"file {entry}" for entry in entries if "torrentfs" in entry.name.lower()}
    return found


def _processes(token: str) -> list[tuple[int, str]]:
    found = []
    wanted = f"{MARK}={token}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes():
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found.append((int(entry.name), command.decode(errors="replace")[:120]))
        except OSError:
            continue  # it ended, or it is not ours to look at
    return found


def main() -> int:
    """Run all stages; 0 when every one is green and nothing is left."""
    # A shell that starts us in the background has it ignored, and so would all our children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    token = uuid.uuid4().hex
    os.environ[MARK] = token
    before = visible()
    outcomes = [run_stage(stage) for stage in STAGES]
    outcomes.append(_clean_up(lambda: leftovers(token, before)))
    print("\n--- summary")
    for outcome in outcomes:
        word = "ok    " if outcome.ok else "FAILED"
        print(f"{word} {outcome.name:<12} {outcome.seconds:7.1f} s  {outcome.closing}")
    return 0 if all(outcome.ok for outcome in outcomes) else 1


def _clean_up(look: Callable[[], list[str]]) -> Outcome:
    started = time.monotonic()
    left = look()
    closing = "left behind: " + "; ".join(left) if left else "nothing left behind"
    return Outcome("clean-up", not left, time.monotonic() - started, closing)


if __name__ == "__main__":
    sys.exit(main())
