"""Real processes on one cache directory: the size is one for all of them."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import trio

from tests.storage.caches import MIB, opened
from tests.storage.torrents import KIB, Sample, make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 32 * MIB
BATCH = 8 * MIB
"""What one process writes before it looks again at what the others have (storage/tiered.py)."""

_CHILD = """
import sys, trio
from pathlib import Path
from tests.storage.caches import MIB, opened
from tests.storage.test_processes import SIZE, sample

async def main():
    ours = sample(sys.argv[2])
    async with opened(Path(sys.argv[1]), ours, size=SIZE, memory_limit=MIB) as (cache, store, _):
        for number in range(len(ours.pieces)):
            await store.put(number, ours.piece(number))
        await cache.flush()
        assert cache.trouble is None, cache.trouble
        print("written", cache.statistics().disk_bytes, flush=True)
        sys.stdin.readline()

trio.run(main)
"""


def sample(name: str) -> Sample:
    """Three times the size of the cache."""
    return make(3 * SIZE, piece_length=256 * KIB, name=name)


def on_disk(directory: Path) -> int:
    """Bytes of all data files, whoever is busy with them."""
    total = 0
    for path in directory.glob("cache/torrents/*/data/*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total


@contextlib.contextmanager
def child(directory: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _CHILD, str(directory), name]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.real
def test_two_processes_keep_one_size(tmp_path: Path) -> None:
    with child(tmp_path, "one") as one, child(tmp_path, "two") as two:
        assert one.stdout is not None
        assert two.stdout is not None
        waiting = [one.stdout, two.stdout]
        deadline = time.monotonic() + 60
        most = 0
        while waiting:
            assert time.monotonic() < deadline
            for ready in select.select(waiting, [], [], 0.01)[0]:
                assert ready.readline().startswith("written ")
                waiting.remove(ready)
            most = max(most, on_disk(tmp_path))
        assert most <= SIZE + 2 * BATCH
        assert on_disk(tmp_path) > SIZE // 2
        for process in (one, two):
            process.communicate("end\n", timeout=30)
            assert process.returncode == 0
    assert on_disk(tmp_path) <= SIZE + BATCH


@pytest.mark.real
async def test_the_last_one_alone_has_the_whole_size(tmp_path: Path) -> None:
    with child(tmp_path, "one") as one:
        assert one.stdout is not None
        assert await trio.to_thread.run_sync(one.stdout.readline)
        await trio.to_thread.run_sync(one.communicate, "end\n")
    ours = sample("ours")
    async with opened(tmp_path, ours, size=SIZE, memory_limit=MIB) as (cache, store, _):
        for number in range(len(ours.pieces)):
            await store.put(number, ours.piece(number))
        await cache.flush()
        assert on_disk(tmp_path) <= SIZE
        assert cache.statistics().disk_bytes > SIZE // 2
        for number in store.have:
            assert await store.read(number, 0, 99) == ours.pieces[number][:99]


@pytest.mark.real
def test_who_filled_it_alone_gives_room_back_when_it_ends(tmp_path: Path) -> None:
    with child(tmp_path, "one") as one:
        assert one.stdout is not None
        one.stdout.readline()
        assert on_disk(tmp_path) > SIZE // 2
        with child(tmp_path, "two") as two:
            assert two.stdout is not None
            two.stdout.readline()
            for process in (one, two):
                process.communicate("end\n", timeout=30)
    assert on_disk(tmp_path) <= SIZE + BATCH
