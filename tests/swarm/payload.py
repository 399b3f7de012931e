"""Deterministic payloads: the same seed and size give the same bytes on every machine.

Bytes come from SHAKE-128 of ``seed``, so any slice can be compared against an oracle without
keeping the payload, and no two pieces are alike (a block put at a wrong offset is seen).
Large files repeat one random unit with each copy XOR-ed with its number: as good as random to
a hash, and written at disk speed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

UNIT = 1 << 20

# Odd sizes, empty files, nested and Unicode names: every border case of one tree.
ODD_TREE: Mapping[str, int] = {
    "a/first.bin": 1,
    "a/empty": 0,
    "a/just-a-block.bin": 16 * 1024,
    "b/one-less.bin": 65_535,
    "b/deep/er/three-pieces-and-a-bit.bin": 3 * 65_536 + 17,
    "b/deep/empty too.txt": 0,
    "Ünïcødé/музыка/曲 №1 🎵.flac": 123_457,
    "z/large.bin": 2_345_678,
    "z/last": 7,
}


def chunks(seed: int, size: int) -> Iterator[bytes]:
    """Yield `size` bytes of payload `seed`, in order, in chunks of at most 1 MiB."""
    unit = int.from_bytes(hashlib.shake_128(b"payload %d" % seed).digest(min(UNIT, max(size, 1))))
    width = min(UNIT, max(size, 1))
    for number, start in enumerate(range(0, size, UNIT)):
        mask = hashlib.shake_128(b"unit %d" % number).digest(64) * (UNIT // 64)
        chunk = (unit ^ int.from_bytes(mask[:width])).to_bytes(width)
        yield chunk[: min(UNIT, size - start)]


def payload(seed: int, size: int) -> bytes:
    """All `size` bytes of payload `seed`."""
    return b"".join(chunks(seed, size))


def write_file(path: Path, seed: int, size: int) -> Path:
    """Write payload `seed` of `size` bytes to `path`; parents are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for chunk in chunks(seed, size):
            stream.write(chunk)
    return path


def write_tree(root: Path, tree: Mapping[str, int] = ODD_TREE, seed: int = 1) -> Path:
    """Write a tree of payload files (relative path -> size) below `root`; seeds count up."""
    root.mkdir(parents=True, exist_ok=True)
    for number, (name, size) in enumerate(tree.items()):
        write_file(root / name, seed + number, size)
    return root


def files_below(path: Path) -> dict[str, Path]:
    """Relative POSIX name -> path of each regular file; a file itself has the name ''."""
    if path.is_file():
        return {"": path}
    found = {}
    for directory, _, names in os.walk(path):
        for name in names:
            file = Path(directory) / name
            found[file.relative_to(path).as_posix()] = file
    return dict(sorted(found.items()))


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in order in 1 MiB reads."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(UNIT):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_tree(path: Path) -> dict[str, str]:
    """Relative name -> hex SHA-256 of every file below `path` (one of name '' for a file)."""
    return {name: sha256_file(file) for name, file in files_below(path).items()}
