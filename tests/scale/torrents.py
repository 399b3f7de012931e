"""Metainfo of torrents too large to have a payload here: right in form, with made-up hashes.

Written out byte by byte, because an encoder of 200,000 dictionaries would take longer than the
tests that use them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from torrentfs.metainfo.merkle import layer_root

GIB = 1 << 30
MIB = 1 << 20
V2_PIECE = 16384


def one_huge_file(piece_length: int, length: int = 200 * GIB) -> bytes:
    """A v1 torrent of one file."""
    info = b"d6:lengthi%de4:name4:huge12:piece lengthi%de6:pieces%se"
    hashes = _string(_hashes(-(-length // piece_length), 20))
    return _torrent(info % (length, piece_length, hashes))


def one_huge_file_v2(piece_length: int, length: int = 200 * GIB) -> bytes:
    """A v2 torrent of one file, with its piece layer."""
    layer = _hashes(-(-length // piece_length), 32)
    root = layer_root(layer, piece_length)
    leaf = b"d0:d6:lengthi%de11:pieces root%see" % (length, _string(root))
    info = b"d9:file treed4:huge%se12:meta versioni2e4:name4:huge12:piece lengthi%dee"
    return _torrent(info % (leaf, piece_length), {root: layer})


def many_files(count: int) -> bytes:
    """A v1 torrent of `count` files in nested directories."""
    files = b"".join(_entry(number) for number in range(count))
    pieces = _string(_hashes(-(-sum(map(length_of, range(count))) // MIB), 20))
    info = b"d5:filesl%se4:name4:many12:piece lengthi%de6:pieces%se"
    return _torrent(info % (files, MIB, pieces))


def many_files_v2(count: int) -> bytes:
    """A v2 torrent of `count` files, none longer than a piece."""
    info = b"d9:file tree%s12:meta versioni2e4:name4:many12:piece lengthi%dee"
    return _torrent(info % (_tree(count), V2_PIECE))


def many_files_hybrid(count: int) -> bytes:
    """A hybrid torrent of `count` files, each padded to a whole piece."""
    files = []
    total = 0
    last = max(number for number in range(count) if length_of(number))
    for number in range(count):
        files.append(_entry(number))
        pad = -length_of(number) % V2_PIECE if number < last else 0
        if pad:
            path = _string(b"%d" % pad)
            files.append(b"d4:attr1:p6:lengthi%de4:pathl4:.pad%see" % (pad, path))
        total += length_of(number) + pad
    pieces = _string(_hashes(-(-total // V2_PIECE), 20))
    info = b"d9:file tree%s5:filesl%se12:meta versioni2e4:name4:many12:piece lengthi%de6:pieces%se"
    return _torrent(info % (_tree(count), b"".join(files), V2_PIECE, pieces))


def library(torrents: int, files: int) -> Iterator[bytes]:
    """Torrents of `files` files each, a fifth of them in a directory."""
    for number in range(torrents):
        entries = []
        for file in range(files):
            name = _string(b"Show %04d - s01e%03d.mkv" % (number, file))
            parents = _string(b"Extras") if file % 5 == 4 else b""
            entries.append(b"d6:lengthi%de4:pathl%s%see" % (1000 + 37 * file, parents, name))
        total = sum(1000 + 37 * file for file in range(files))
        pieces = _string(random.Random(number).randbytes(20 * -(-total // MIB)))
        info = b"d5:filesl%se4:name%s12:piece lengthi%de6:pieces%se"
        name = _string(b"Show %04d" % number)
        yield _torrent(info % (b"".join(entries), name, MIB, pieces))


def length_of(number: int) -> int:
    """The length of file `number`: odd ones, and every tenth empty."""
    return 0 if number % 10 == 9 else 1000 + 37 * (number % 101)


def path_of(number: int) -> tuple[bytes, bytes, bytes]:
    """100 files in a directory, and 50 of these in another."""
    top, middle = number // 5000, number // 100
    return b"top%03d" % top, b"middle%04d" % middle, b"a file %06d.x" % number


def _string(data: bytes) -> bytes:
    return b"%d:%s" % (len(data), data)


def _hashes(count: int, size: int) -> bytes:
    return random.Random(count).randbytes(count * size)


def _torrent(info: bytes, layers: dict[bytes, bytes] | None = None) -> bytes:
    if not layers:
        return b"d4:info%se" % info
    items = b"".join(_string(root) + _string(layer) for root, layer in sorted(layers.items()))
    return b"d4:info%s12:piece layersd%see" % (info, items)


def _entry(number: int) -> bytes:
    path = b"".join(map(_string, path_of(number)))
    return b"d6:lengthi%de4:pathl%see" % (length_of(number), path)


def _tree(count: int) -> bytes:
    return b"d%se" % b"".join(_directories(count))


def _directories(count: int) -> Iterator[bytes]:
    """The dictionaries of `file tree`, without the outermost; they are in order as they come."""
    open_path: tuple[bytes, ...] = ()
    for number in range(count):
        *parents, name = path_of(number)
        if tuple(parents) != open_path:
            same = 1 if open_path[:1] == tuple(parents[:1]) else 0
            yield b"e" * (len(open_path) - same)
            yield b"".join(_string(parent) + b"d" for parent in parents[same:])
            open_path = tuple(parents)
        length = length_of(number)
        root = b"11:pieces root32:%032d" % (number + 1) if length else b""
        yield b"%sd0:d6:lengthi%de%see" % (_string(name), length, root)
    yield b"e" * len(open_path)
