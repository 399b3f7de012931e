"""What every piece store must do, whatever is below it: the conformance suite.

A test module subclasses `StoreSuite` and says how a store is opened.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.storage.torrents import KIB, Sample, make
from torrentfs.storage import PieceLost

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from torrentfs.storage import PieceStore

SAMPLES = {
    "v1": make(version="v1"),
    "hybrid": make(version="hybrid"),
    "v2": make(version="v2"),
    "single": make(200_003),
    "tiny pieces": make(version="v1", piece_length=16 * KIB),
    "many tiny files": make(tuple((f"d{n % 7}/{n}", n % 5) for n in range(1, 400))),
}


class StoreSuite:
    """`open_store` gives an empty store of a torrent for the time of a `with`."""

    def open_store(self, sample: Sample) -> AbstractAsyncContextManager[PieceStore]:
        raise NotImplementedError

    @pytest.fixture(params=SAMPLES)
    def sample(self, request: pytest.FixtureRequest) -> Sample:
        return SAMPLES[request.param]

    async def test_a_new_store_has_nothing(self, sample: Sample) -> None:
        async with self.open_store(sample) as store:
            assert not store.have
            assert store.have.size == len(sample.pieces)
            assert store.read_nowait(0, 0, 1) is None
            with pytest.raises(PieceLost):
                await store.read(0, 0, 1)

    async def test_a_piece_is_readable_as_soon_as_it_is_put(self, sample: Sample) -> None:
        async with self.open_store(sample) as store:
            for number, piece in enumerate(sample.pieces):
                await store.put(number, sample.piece(number))
                assert store.read_nowait(number, 0, len(piece)) == piece
                assert number in store.have
            assert store.have.complete

    async def test_any_part_of_any_piece_reads_right(self, sample: Sample) -> None:
        rng = random.Random(7)
        async with self.open_store(sample) as store:
            for number in range(len(sample.pieces)):
                await store.put(number, sample.piece(number))
            for _ in range(100):
                number = rng.randrange(len(sample.pieces))
                piece = sample.pieces[number]
                begin = rng.randrange(len(piece))
                length = rng.randint(1, len(piece) - begin)
                part = store.read_nowait(number, begin, length)
                if part is None:
                    part = await store.read(number, begin, length)
                assert part == piece[begin : begin + length]

    async def test_putting_a_piece_again_changes_nothing(self, sample: Sample) -> None:
        async with self.open_store(sample) as store:
            for _ in range(3):
                await store.put(0, sample.piece(0))
            assert len(store.have) == 1
            assert await store.read(0, 0, len(sample.pieces[0])) == sample.pieces[0]

    async def test_statistics_count_pieces(self, sample: Sample) -> None:
        async with self.open_store(sample) as store:
            await store.put(0, sample.piece(0))
            assert store.statistics().have == 1
