"""``scripts/demo``: a swarm on loopback, mounted by magnet, listed, read and verified.

``scripts/demo`` leaves it mounted until Ctrl-C, ``--once`` ends by itself, and with a SOURCE and a
MOUNTPOINT it mounts your own torrent instead.  Swarm and mount are processes of their own, shielded
from the terminal's Ctrl-C; whatever happens, they are ended here in the right order, and the
temporary directory goes last.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.tree import Tree

from scripts.demo_media import write_media
from tests.swarm.child import ChildFailed, JsonChild, python_child
from tests.swarm.mounted import TORRENTFS, Mounted, MountFailed, mounted, mounts_below
from torrentfs.daemon.unmissed import wait_readable

CHUNK = 256 * 1024


class DemoFailed(Exception):
    """The demo cannot go on; the text is one line for the user."""


FAILURES = (DemoFailed, ChildFailed, MountFailed, OSError)


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """A directory that is gone afterwards; DemoFailed if something is still mounted in it."""
    path = Path(tempfile.mkdtemp(prefix="torrentfs-demo-"))
    try:
        yield path
    finally:
        if left := mounts_below(path):
            raise DemoFailed(f"still mounted: fusermount3 -u -z {left[0]}; rm -r {path}")
        shutil.rmtree(path)


@contextmanager
def swarm(payload: Path, work: Path) -> Iterator[tuple[JsonChild, dict[str, str]]]:
    """The seeder, tracker and web seed; gives the process and what it says of itself."""
    child = python_child("scripts.demo_swarm", stderr=work / "swarm.log")
    try:
        yield child, child.ask({"payload": str(payload), "work": str(work)}, 60)
    finally:
        child.close()


def shared_files(payload: Path) -> set[Path]:
    """The files below `payload`, named as the mount should name them."""
    return {file.relative_to(payload.parent) for file in payload.rglob("*") if file.is_file()}


def show_tree(console: Console, mount: Mounted) -> tuple[list[Path], float]:
    """Print what is in the mount, as `ls -R` sees it; its files, and the seconds it took."""
    started = time.monotonic()
    files: list[Path] = []
    shown = Tree(f"[bold]{mount.path}")
    branches = {mount.path: shown}
    for directory, names, leaves in os.walk(mount.path):
        here = Path(directory)
        for name in sorted(names):
            branches[here / name] = branches[here].add(f"[bold blue]{name}/")
        for name in sorted(leaves):
            size = (here / name).stat().st_size
            branches[here].add(f"{name}  [dim]{decimal(size)}")
            files.append(here / name)
    took = time.monotonic() - started
    console.print(shown)
    return sorted(files), took


def read_and_verify(console: Console, files: list[Path], mount: Path, originals: Path) -> float:
    """Read every file of the mount and compare it with what was shared; seconds of reading."""
    total = sum(file.stat().st_size for file in files)
    columns = (
        TextColumn("{task.description:<28.28}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=total)
        for file in files:
            progress.update(task, description=file.name)
            digest = hashlib.sha256()
            with file.open("rb", buffering=0) as stream:
                while chunk := stream.read(CHUNK):
                    digest.update(chunk)
                    progress.advance(task, len(chunk))
            original = originals / file.relative_to(mount)
            with original.open("rb") as stream:
                if digest.digest() != hashlib.file_digest(stream, "sha256").digest():
                    raise DemoFailed(f"{file} is not what was shared")
    return time.monotonic() - started


def first_bytes(files: list[Path]) -> tuple[Path, float]:
    """Seconds until 64 KiB from the middle of the largest file are there, nothing else read."""
    largest = max(files, key=lambda file: file.stat().st_size)
    started = time.monotonic()
    with largest.open("rb", buffering=0) as stream:
        stream.seek(largest.stat().st_size // 2)
        stream.read(64 * 1024)
    return largest, time.monotonic() - started


def run_demo(console: Console, once: bool, stack: ExitStack) -> None:
    """All steps; `stack` ends what they started."""
    work = stack.enter_context(temporary_directory())
    with console.status("making sample media"):
        payload = write_media(work / "shared" / "Sample Media")
    with console.status("starting a seeder, a tracker and a web seed"):
        child, facts = stack.enter_context(swarm(payload, work))
    console.print(
        f"[bold]swarm[/]     seeder {facts['seeder']}, tracker {facts['tracker']}, "
        f"web seed {facts['web_seed']}"
    )
    console.print(f"[bold]magnet[/]    {facts['magnet']}", soft_wrap=True, highlight=False)
    started = time.monotonic()
    with console.status("mounting by magnet"):
        mount = stack.enter_context(
            mounted(facts["magnet"], work, "--bind-interface", "lo", name="mnt")
        )
    console.print(
        f"[bold]mounted[/]   in {time.monotonic() - started:.2f} s: metadata from the peer"
    )
    files, took = show_tree(console, mount)
    if {file.relative_to(mount.path) for file in files} != shared_files(payload):
        raise DemoFailed("the mount does not have the files that were shared")
    sent = child.ask({"do": "status"})
    console.print(
        f"[bold]listed[/]    {len(files)} files in {took * 1000:.0f} ms; "
        f"payload fetched so far: {decimal(sent['peer'] + sent['web'])}"
    )
    largest, took = first_bytes(files)
    console.print(f"[bold]seek[/]      the middle of {largest.name} came in {took * 1000:.0f} ms")
    seconds = read_and_verify(console, files, mount.path, payload.parent)
    size = sum(file.stat().st_size for file in files)
    sent = child.ask({"do": "status"})
    console.print(
        f"[bold]verified[/]  {decimal(size)} at {decimal(int(size / seconds))}/s, "
        f"every byte right; {decimal(sent['peer'])} from the peer, "
        f"{decimal(sent['web'])} from the web seed"
    )
    if once:
        return
    console.print(f"\nStill mounted at [bold]{mount.path}[/] (try a player on it). Ctrl-C ends it.")
    wait_end(mount.pid)
    console.print(f"The mount was ended from outside (exit code {mount.process.wait()}).")


def wait_end(pid: int) -> None:
    """Wait until a child has ended; KeyboardInterrupt at a Ctrl-C."""
    descriptor = os.pidfd_open(pid)
    try:
        wait_readable(descriptor)
    finally:
        os.close(descriptor)


def mount_own(source: str, mountpoint: Path, options: list[str]) -> None:
    """Become ``torrentfs mount -f SOURCE MOUNTPOINT``."""
    mountpoint.mkdir(parents=True, exist_ok=True)
    print(f"mounting on {mountpoint}; Ctrl-C, or fusermount3 -u {mountpoint}, ends it", flush=True)
    os.execv(TORRENTFS, ["torrentfs", "mount", "-f", *options, source, str(mountpoint)])


def complain(error: Exception) -> None:
    """What failed, and the last thing that the process which failed had to say, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    print(f"scripts/demo: {' ... '.join(dict.fromkeys((lines[0], lines[-1])))}", file=sys.stderr)


def main() -> int:
    """0 when every byte was right (or Ctrl-C ended it), 1 otherwise with one clear line."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="end when all is verified")
    parser.add_argument("source", nargs="?", help="your own magnet, .torrent or URL")
    parser.add_argument("mountpoint", nargs="?", type=Path, help="where to mount it")
    arguments, options = parser.parse_known_args()
    if arguments.source is not None:
        if arguments.mountpoint is None:
            parser.error("SOURCE needs a MOUNTPOINT")
        mount_own(arguments.source, arguments.mountpoint, options)
    if options:
        parser.error(f"unknown: {' '.join(options)}")

    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    stack = ExitStack()
    code = 0
    try:
        run_demo(console, arguments.once, stack)
    except KeyboardInterrupt:
        console.print("\nending")
    except FAILURES as error:
        complain(error)
        code = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the clean-up is bounded; let it finish
        try:
            stack.close()
        except FAILURES as error:
            complain(error)
            code = 1
    if code == 0:
        console.print("unmounted; nothing is left behind")
    return code


if __name__ == "__main__":
    sys.exit(main())
