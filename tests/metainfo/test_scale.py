"""Large torrents stay fast and lean. Bounds are loose (shared machines); measured values beside."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import pytest

from torrentfs.metainfo import bencoding
from torrentfs.metainfo.torrent_file import Metainfo, parse_torrent


def many_files_v1(count: int) -> bytes:
    files = b"".join(
        b"d6:lengthi50e4:pathl9:dir%06d15:a file %06d.xee" % (number // 100, number)
        for number in range(count)
    )
    pieces = bytes(20 * -(-count * 50 // (1 << 20)))
    tail = b"e4:name1:n12:piece lengthi1048576e6:pieces%d:" % len(pieces)
    return b"d4:infod5:filesl" + files + tail + pieces + b"ee"


def many_files_v2(count: int) -> bytes:
    directories = []
    for start in range(0, count, 100):
        leaves = b"".join(
            b"15:a file %06d.xd0:d6:lengthi50e11:pieces root32:%032dee" % (number, number + 1)
            for number in range(start, start + 100)
        )
        directories.append(b"9:dir%06dd" % (start // 100) + leaves + b"e")
    tail = b"e12:meta versioni2e4:name1:n12:piece lengthi1048576eee"
    return b"d4:infod9:file treed" + b"".join(directories) + tail


def huge_file() -> bytes:
    length, piece_length = 200 << 30, 64 << 10
    pieces = bytes(20 * (length // piece_length))
    outer = {b"length": length, b"name": b"n", b"piece length": piece_length, b"pieces": pieces}
    return bencoding.encode({b"info": outer})


def seconds_to_parse(data: bytes) -> float:
    start = time.process_time()
    parse_torrent(data)
    return time.process_time() - start


def held(data: bytes) -> tuple[Metainfo, int]:
    tracemalloc.start()
    metainfo = parse_torrent(data)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return metainfo, size


@pytest.mark.parametrize("make", [many_files_v1, many_files_v2])
def test_200_000_files(make: Callable[[int], bytes]) -> None:
    data = make(200_000)
    assert min(seconds_to_parse(data) for _ in range(2)) < 1.5  # 0.5 s
    files = parse_torrent(data).files
    assert len(files) == 200_000
    assert files[123_456].path == ("dir001234", "a file 123456.x")


@pytest.mark.parametrize("make", [many_files_v1, many_files_v2])
def test_memory_of_files(make: Callable[[int], bytes]) -> None:
    metainfo, size = held(make(20_000))
    # the info bytes, and for each file a path of two names, its last name and 17 bytes of columns
    assert size - len(metainfo.info) < 20_000 * 220


def test_200_gib() -> None:
    data = huge_file()
    assert min(seconds_to_parse(data) for _ in range(2)) < 0.5  # 0.06 s
    metainfo, size = held(data)
    assert metainfo.geometry.num_pieces == 3_276_800
    assert size < len(metainfo.info) + 100_000
