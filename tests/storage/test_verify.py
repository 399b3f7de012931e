"""The check of a piece, in a thread."""

from __future__ import annotations

import pytest

from tests.storage.torrents import make
from torrentfs.storage.verify import Verifier


@pytest.mark.parametrize("version", ["v1", "v2", "hybrid"])
async def test_only_the_very_piece_is_right(version: str) -> None:
    sample = make(version=version)
    verifier = Verifier()
    for number, piece in enumerate(sample.pieces):
        assert await verifier.is_right(sample.metainfo, number, piece)
        flipped = sample.piece(number)
        flipped[-1] ^= 1
        assert not await verifier.is_right(sample.metainfo, number, flipped)
        assert not await verifier.is_right(sample.metainfo, number, piece[:-1])
        assert not await verifier.is_right(sample.metainfo, number, piece + b"\0")
        assert not await verifier.is_right(sample.metainfo, number, b"")


async def test_a_piece_of_unknown_hash_is_not_trusted() -> None:
    from torrentfs.metainfo.torrent_file import parse_info

    sample = make(200_003, version="v2")
    bare = parse_info(sample.metainfo.info)
    assert bare.missing_layers()
    assert not await Verifier().is_right(bare, 0, sample.pieces[0])
