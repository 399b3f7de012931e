"""Small real torrents with their payload, made by the project's own builder."""

from __future__ import annotations

import random
from dataclasses import dataclass

from torrentfs.metainfo.create import TorrentBuilder
from torrentfs.metainfo.torrent_file import Metainfo, build_torrent, parse_torrent

KIB = 1024
ODD_FILES = (("a/empty", 0), ("a/one.bin", 70_001), ("two.bin", 16_384), ("z/three.bin", 123_457))


MIB = KIB * KIB


def _filled(rng: random.Random, grain: bytes, length: int) -> bytes:
    """Random bytes; large ones are cheap: a number, then the grain, for each MiB."""
    whole, rest = divmod(length, MIB)
    parts = [rng.randbytes(32) + grain[32:] for _ in range(whole)]
    return b"".join([*parts, rng.randbytes(rest)])


@dataclass(frozen=True)
class Sample:
    """A torrent, and each of its pieces."""

    metainfo: Metainfo
    pieces: list[bytes]

    def piece(self, number: int) -> bytearray:
        return bytearray(self.pieces[number])


def make(
    files: tuple[tuple[str, int], ...] | int = ODD_FILES,
    *,
    piece_length: int = 32 * KIB,
    version: str = "v1",
    name: str = "sample",
    seed: int = 1,
) -> Sample:
    """A torrent of random files; an int makes a single-file torrent of that size."""
    rng = random.Random(f"{name} {seed}")
    listing = (
        [((), files)]
        if isinstance(files, int)
        else [(tuple(path.split("/")), length) for path, length in files]
    )
    grain = rng.randbytes(MIB)
    contents = [_filled(rng, grain, length) for _, length in listing]
    builder = TorrentBuilder(name, listing, piece_length, version=version)
    for content in contents:
        builder.update(content)
    info, layers = builder.finish()
    metainfo = parse_torrent(build_torrent(info, layers))
    geometry = metainfo.geometry
    space = bytearray(geometry.num_pieces * piece_length)
    payload = iter(contents)
    for number, file in enumerate(metainfo.files):
        if not file.pad:
            start = geometry.file_starts[number]
            content = next(payload)
            space[start : start + len(content)] = content
    pieces = [
        bytes(space[p * piece_length : p * piece_length + geometry.piece_size(p)])
        for p in range(geometry.num_pieces)
    ]
    return Sample(metainfo, pieces)
