"""A cache against its model: whatever happens, a read gives the right bytes or `PieceLost`.

The machine puts, reads, evicts (the size is small), restarts, crashes (a copy of the directory
with torn writes), and lets somebody scribble over files.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.storage.caches import config, disk_bytes, tree_of
from tests.storage.torrents import KIB, Sample, make
from torrentfs.storage import PieceLost, open_cache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from torrentfs.storage import Cache, TorrentStore

FILES = (("a", 50_001), ("b/c", 3), ("b/d", 90_000), ("e", 16_384), ("f", 130_000))
SAMPLES = [
    make(FILES, piece_length=16 * KIB, name="one"),
    make(FILES, piece_length=32 * KIB, name="two", version="v2"),
]
SIZE = 320 * KIB
PIECE = st.integers(0, 17)
TORRENT = st.integers(0, 1)


class CacheMachine(RuleBasedStateMachine):
    """Rules collect steps, which run together in one life of the cache."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="torrentfs-machine-"))
        self.generation = 0
        self.steps: list[Callable[[Cache, list[TorrentStore]], Awaitable[None]]] = []
        self.lost: list[set[int]] = [set(), set()]
        self.scribbled = False  # what others write is not counted before it is noticed

    @property
    def place(self) -> Path:
        return self.directory / str(self.generation)

    def run_steps(self, *, clean: bool = True) -> None:
        """Run the collected steps in one life of the cache; `clean=False` ends it by a crash."""
        steps, self.steps = self.steps, []
        after = self.directory / str(self.generation + 1)

        async def life() -> None:
            async with open_cache(config(self.place, size=SIZE, memory_limit=64 * KIB)) as cache:
                stores = [
                    await cache.open_torrent(sample.metainfo, lost.update)
                    for sample, lost in zip(SAMPLES, self.lost, strict=True)
                ]
                for step in steps:
                    await step(cache, stores)
                    await self.check(stores)
                if not clean:
                    # copytree would fill the holes
                    copy = ["cp", "-r", "--sparse=always", str(self.place), str(after)]
                    await trio.to_thread.run_sync(lambda: subprocess.run(copy, check=True))

        for lost in self.lost:
            lost.clear()
        trio.run(life)
        if not clean:
            self.generation += 1

    async def check(self, stores: list[TorrentStore]) -> None:
        for store, lost in zip(stores, self.lost, strict=True):
            assert store.have.count == len(list(store.have))
            assert all(0 <= piece < store.have.size for piece in lost)

    @rule(torrent=TORRENT, piece=PIECE, flush=st.booleans())
    def put(self, torrent: int, piece: int, flush: bool) -> None:
        sample = SAMPLES[torrent]
        number = piece % len(sample.pieces)

        async def step(cache: Cache, stores: list[TorrentStore]) -> None:
            await stores[torrent].put(number, sample.piece(number))
            assert number in stores[torrent].have
            if flush:
                await cache.flush()
                used = sum(disk_bytes(tree_of(self.place, sample)) for sample in SAMPLES)
                assert used <= SIZE + 32 * KIB or self.scribbled
                assert used == cache.vault.used or self.scribbled

        self.steps.append(step)

    @rule(torrent=TORRENT, piece=PIECE, begin=st.integers(0, 16_000), length=st.integers(1, 384))
    def read(self, torrent: int, piece: int, begin: int, length: int) -> None:
        sample = SAMPLES[torrent]
        number = piece % len(sample.pieces)
        wanted = sample.pieces[number][begin : begin + length]
        if not wanted:
            return

        async def step(_: Cache, stores: list[TorrentStore]) -> None:
            store = stores[torrent]
            data = store.read_nowait(number, begin, len(wanted))
            assert data is None or data == wanted
            held = number in store.have
            try:
                assert await store.read(number, begin, len(wanted)) == wanted
                assert held
            except PieceLost:
                assert number not in store.have
                assert not held or number in self.lost[torrent]

        self.steps.append(step)

    @rule(torrent=TORRENT, file=st.integers(0, 4), at=st.integers(0, 130_000), now=st.booleans())
    def scribble(self, torrent: int, file: int, at: int, now: bool) -> None:
        sample = SAMPLES[torrent]

        def harm() -> None:
            real = sample.metainfo.files[file]
            path = tree_of(self.place, sample) / sample.metainfo.name / Path(*real.path)
            if path.exists():
                self.scribbled = True
                with path.open("r+b") as handle:
                    handle.seek(at)
                    handle.write(b"scribble" * 40)

        if not now:
            self.run_steps()
            harm()
            return

        async def step(cache: Cache, _: list[TorrentStore]) -> None:
            await cache.flush()
            await trio.sleep(0.01)  # file times tick in milliseconds
            harm()

        self.steps.append(step)

    @rule()
    def restart(self) -> None:
        self.run_steps()

    @rule(torn=st.integers(0, 5), at=st.integers(0, 50_000))
    def crash(self, torn: int, at: int) -> None:
        self.run_steps(clean=False)
        sample = SAMPLES[torn % 2]
        path = tree_of(self.place, sample) / sample.metainfo.name / "f"
        if torn < 4 and path.exists():
            self.scribbled = True
            with path.open("r+b") as handle:
                handle.seek(at)
                handle.write(bytes(4096))

    @invariant()
    def bounded(self) -> None:
        if len(self.steps) > 20:
            self.run_steps()

    def teardown(self) -> None:
        try:
            self.run_steps()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)


def whole(sample: Sample) -> int:
    return sum(map(len, sample.pieces))


assert whole(SAMPLES[0]) + whole(SAMPLES[1]) > SIZE

CacheMachine.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestCacheMachine = CacheMachine.TestCase
