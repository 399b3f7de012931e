"""A process that keeps pieces is killed: what it had recorded is there, and right."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from tests.storage.caches import opened
from tests.storage.torrents import KIB, make

if TYPE_CHECKING:
    from pathlib import Path

_CHILD = """
import sys, trio
from pathlib import Path
from tests.storage.test_kill import SAMPLE
from tests.storage.caches import opened, put_all

async def main():
    async with opened(Path(sys.argv[1]), SAMPLE) as (cache, store, _):
        await put_all(store, SAMPLE)
        while cache.statistics().unwritten_bytes:
            await trio.sleep(0.01)
        print("written", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""

SAMPLE = make(3_000_000, piece_length=64 * KIB)


@pytest.mark.real
async def test_kill_9_loses_nothing_that_was_written(tmp_path: Path) -> None:
    child = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", _CHILD, str(tmp_path)], stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        with trio.fail_after(30):
            assert await trio.to_thread.run_sync(child.stdout.readline) == b"written\n"
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    async with opened(tmp_path, SAMPLE) as (_, store, lost):
        assert store.have.complete
        for number, piece in enumerate(SAMPLE.pieces):
            assert await store.read(number, 0, len(piece)) == piece
        assert not lost
