"""`--on-change CMD`: a command of the user's for each entry that came or went.

One runs at a time, for a minute at most, and nothing waits for it. Many changes at once are one
run: a folder of a hundred torrents that was copied in is told as "something changed in there".
What the command prints goes to the log, its end first cut off.

    TORRENTFS_EVENT       added, removed, or changed (many at once)
    TORRENTFS_PATH        the entry, or for many the folder that all of them are in
    TORRENTFS_NAME        the name of the torrent; empty for many
    TORRENTFS_KEY         its info-hash; empty for many
    TORRENTFS_COUNT       how many entries came or went; 0 for more than were counted
    TORRENTFS_MOUNTPOINT  the mount point
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torrentfs.daemon.announcing import Batch, Batches

log = logging.getLogger(__name__)

MOST_SINGLE = 10
"""Changes of a batch for each of which the command runs; more are one run."""
RUN_SECONDS = 60.0
"""Longest run of the command."""
TERM_SECONDS = 3.0
"""From the request to end until it is ended."""
_KEPT_OUTPUT = 1000
_CHUNK = 4096
_LINGER_SECONDS = 0.5


def settings(batch: Batch, mountpoint: Path) -> Iterator[dict[str, str]]:
    """The variables of each run for `batch`."""
    if batch.is_everything or len(batch.changes) > MOST_SINGLE:
        count = 0 if batch.is_everything else len(batch.changes)
        yield _variables("changed", batch.place(), "", "", count, mountpoint)
        return
    for change in batch.changes:
        yield _variables(change.kind, change.path or (), change.name, change.key, 1, mountpoint)


def _variables(
    event: str, path: tuple[str, ...], name: str, key: str, count: int, mountpoint: Path
) -> dict[str, str]:
    return {
        "TORRENTFS_EVENT": event,
        "TORRENTFS_PATH": os.path.join(mountpoint, *path),
        "TORRENTFS_NAME": name,
        "TORRENTFS_KEY": key,
        "TORRENTFS_COUNT": str(count),
        "TORRENTFS_MOUNTPOINT": str(mountpoint),
    }


async def run_on_changes(command: str, mountpoint: Path, batches: Batches) -> None:
    """Run `command` whenever entries of the mount came or went, until cancelled."""
    while True:
        batch = await batches.next()
        for variables in settings(batch, mountpoint):
            await run_command(command, variables)


async def run_command(command: str, variables: dict[str, str]) -> None:
    """Run it to its end, or end it; a failure is a line of log. Cancelling ends it, too."""
    what = f"--on-change ({variables['TORRENTFS_EVENT']})"
    try:
        process = await trio.lowlevel.open_process(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
            start_new_session=True,  # so that all that it starts can be ended with it
        )
    except (OSError, ValueError) as error:
        log.warning("%s cannot be run: %s", what, error)
        return
    output = bytearray()
    try:
        with trio.move_on_after(RUN_SECONDS) as patience:
            await _watch(process, output)
        if patience.cancelled_caught:
            log.warning("%s was ended: it ran for longer than %g s", what, RUN_SECONDS)
    finally:
        await _end(process)
    said = " ".join(output.decode(errors="replace").split())
    if process.returncode and not patience.cancelled_caught:
        log.warning("%s failed with %d: %s", what, process.returncode, said or "it said nothing")
    elif said:
        log.info("%s: %s", what, said)


async def _watch(process: trio.Process, output: bytearray) -> None:
    """Until the command ends; its last words are in `output`."""
    async with trio.open_nursery() as nursery:
        said_all = trio.Event()
        nursery.start_soon(_listen, process, output, said_all)
        await process.wait()
        with trio.move_on_after(_LINGER_SECONDS):  # what it left behind may keep the pipe open
            await said_all.wait()
        nursery.cancel_scope.cancel()


async def _listen(process: trio.Process, output: bytearray, said_all: trio.Event) -> None:
    assert process.stdout is not None
    while data := await process.stdout.receive_some(_CHUNK):
        output += data
        del output[:-_KEPT_OUTPUT]
    said_all.set()


async def _end(process: trio.Process) -> None:
    """End what still runs of the command, kindly at first."""
    with trio.CancelScope(shield=True):
        if process.returncode is None:
            _signal(process, signal.SIGTERM)
            with trio.move_on_after(TERM_SECONDS):
                await process.wait()
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
            await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()


def _signal(process: trio.Process, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signum)
