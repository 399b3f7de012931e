"""A command of the user's: told what happened, one at a time, and never in the way."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import pytest
import trio

from torrentfs.daemon import on_change as module
from torrentfs.daemon.announcing import Batch
from torrentfs.daemon.items import Change
from torrentfs.daemon.on_change import MOST_SINGLE, run_command, run_on_changes, settings

MOUNT = Path("/m")
FILM = Change("added", "ab", "film", ("movies", "film"))


def names(count: int) -> tuple[Change, ...]:
    return tuple(Change("added", str(n), str(n), ("movies", str(n))) for n in range(count))


def test_a_run_for_each_of_a_few() -> None:
    batch = Batch((FILM, Change("removed", "cd", "so ng", ("so ng",))))
    assert list(settings(batch, MOUNT)) == [
        {
            "TORRENTFS_EVENT": "added",
            "TORRENTFS_PATH": "/m/movies/film",
            "TORRENTFS_NAME": "film",
            "TORRENTFS_KEY": "ab",
            "TORRENTFS_COUNT": "1",
            "TORRENTFS_MOUNTPOINT": "/m",
        },
        {
            "TORRENTFS_EVENT": "removed",
            "TORRENTFS_PATH": "/m/so ng",
            "TORRENTFS_NAME": "so ng",
            "TORRENTFS_KEY": "cd",
            "TORRENTFS_COUNT": "1",
            "TORRENTFS_MOUNTPOINT": "/m",
        },
    ]


def test_one_run_for_many() -> None:
    (many,) = settings(Batch(names(MOST_SINGLE + 1)), MOUNT)
    assert many["TORRENTFS_EVENT"] == "changed"
    assert many["TORRENTFS_PATH"] == "/m/movies"
    assert (many["TORRENTFS_NAME"], many["TORRENTFS_COUNT"]) == ("", str(MOST_SINGLE + 1))
    (more,) = settings(Batch((FILM,), is_everything=True), MOUNT)
    assert (more["TORRENTFS_PATH"], more["TORRENTFS_COUNT"]) == ("/m", "0")


class Given:
    """These batches, then none for ever."""

    def __init__(self, *batches: Batch) -> None:
        self._batches = list(batches)
        self.done = trio.Event()

    async def next(self) -> Batch:
        if not self._batches:
            self.done.set()
            await trio.sleep_forever()
        return self._batches.pop(0)


@pytest.mark.real
async def test_the_command_is_run(tmp_path: Path) -> None:
    place = shlex.quote(str(tmp_path / "told"))
    command = f'echo "$TORRENTFS_EVENT $TORRENTFS_PATH" >> {place}; echo said'
    batches = Given(Batch((FILM,)), Batch(names(3)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_on_changes, command, MOUNT, batches)
        with trio.fail_after(20):
            await batches.done.wait()
        nursery.cancel_scope.cancel()
    assert (tmp_path / "told").read_text().splitlines() == [
        "added /m/movies/film",
        *(f"added /m/movies/{number}" for number in range(3)),
    ]


@pytest.mark.real
@pytest.mark.expect_log("failed with 3: it went wrong")
@pytest.mark.expect_log("failed with 127")
async def test_a_command_that_fails_is_a_line_of_log() -> None:
    variables = next(settings(Batch((FILM,)), MOUNT))
    await run_command("echo it went; echo wrong >&2; exit 3", variables)
    await run_command("/no/such/command", variables)


@pytest.mark.real
@pytest.mark.expect_log("ran for longer than 0.2 s")
async def test_a_command_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUN_SECONDS", 0.2)
    monkeypatch.setattr(module, "TERM_SECONDS", 0.2)
    place = shlex.quote(str(tmp_path / "pid"))
    command = f"trap '' TERM; sleep 600 & echo $! > {place}; yes"
    await run_command(command, next(settings(Batch((FILM,)), MOUNT)))
    pid = int((tmp_path / "pid").read_text())
    for _ in range(200):
        if not runs(pid):
            break
        await trio.sleep(0.02)
    else:
        pytest.fail("what the command started still runs")


def runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.real
async def test_what_it_leaves_behind_holds_up_nobody() -> None:
    started = time.monotonic()
    await run_command("sleep 3 &", next(settings(Batch((FILM,)), MOUNT)))
    assert time.monotonic() - started < 2.5


@pytest.mark.real
async def test_it_ends_with_the_mount() -> None:
    with trio.move_on_after(0.2):
        await run_command("sleep 600", next(settings(Batch((FILM,)), MOUNT)))
