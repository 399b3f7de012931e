"""Payload and torrents for the tests of metainfo: small, seeded, with odd borders."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

from torrentfs.metainfo.create import TorrentBuilder, build_torrent

if TYPE_CHECKING:
    from collections.abc import Mapping

Version = Literal["v1", "v2", "hybrid"]
VERSIONS: tuple[Version, ...] = ("v1", "v2", "hybrid")
PIECE_LENGTH = 32768

PAYLOAD: dict[tuple[str, ...], bytes] = {
    path: random.Random(len(path) + length).randbytes(length)
    for path, length in [
        (("a",), 1),
        (("b", "c"), 32768),
        (("b", "empty"), 0),
        (("d", "ä", "deep"), 100_001),
        (("e",), 16384),
        (("f",), 65536),
        (("g", "日本語.mkv"), 40_000),
        (("z",), 0),
    ]
}


def build(
    version: Version,
    payload: Mapping[tuple[str, ...], bytes] = PAYLOAD,
    *,
    name: str = "törrent",
    piece_length: int = PIECE_LENGTH,
    **outer: object,
) -> bytes:
    """A .torrent file over `payload` (in tree order)."""
    builder = TorrentBuilder(
        name, [(path, len(data)) for path, data in payload.items()], piece_length, version
    )
    for data in payload.values():
        builder.update(data)
    info, layers = builder.finish()
    return build_torrent(info, layers, **outer)  # type: ignore[arg-type]
