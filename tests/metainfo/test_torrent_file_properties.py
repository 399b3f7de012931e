"""Changed torrents give `InvalidTorrent` or keep every promise; so do torrents of any paths."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import fuzz_torrent
from tests.fuzz.run import mutate
from tests.metainfo.promises import check_promises
from tests.metainfo.test_names_properties import Paths, paths
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import bencoding
from torrentfs.metainfo.torrent_file import parse_info

SEEDS = list(fuzz_torrent.seeds())


@settings(max_examples=100)
@given(st.sampled_from(SEEDS), st.integers(0, 2**32))
def test_random_mutations(data: bytes, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(10):
        fuzz_torrent.one_input(mutate(data, rng, SEEDS))


def test_every_prefix() -> None:
    for data in SEEDS:
        for end in range(0, len(data), 3):
            fuzz_torrent.one_input(data[:end])


def list_info(files: Paths) -> bytes:
    entries = [{b"length": 1, b"path": list(path)} for path in files]
    pieces = bytes(20 * -(-len(files) // 4))
    return bencoding.encode(
        {b"files": entries, b"name": b"n", b"piece length": 4, b"pieces": pieces}
    )


@given(paths.filter(bool))
def test_any_paths_of_v1(files: Paths) -> None:
    metainfo = parse_info(list_info(files))
    check_promises(metainfo)
    assert [file.raw_path for file in metainfo.files] == files


@given(paths.filter(bool), st.randoms(use_true_random=False))
def test_names_do_not_depend_on_the_order_of_files(files: Paths, rng: random.Random) -> None:
    files = list(dict.fromkeys(files))
    names = {file.raw_path: file.path for file in parse_info(list_info(files)).files}
    rng.shuffle(files)
    assert names == {file.raw_path: file.path for file in parse_info(list_info(files)).files}


@given(paths.filter(bool))
def test_any_paths_of_v2(files: Paths) -> None:
    tree: dict[bytes, object] = {}
    for path in files:
        node = tree
        for name in path:
            node = node.setdefault(name, {})  # type: ignore[assignment]
        node[b""] = {b"length": 1, b"pieces root": b"r" * 32}
    info = {b"file tree": tree, b"meta version": 2, b"name": b"n", b"piece length": 16384}
    try:
        metainfo = parse_info(bencoding.encode(info))
    except InvalidTorrent:  # a name without bytes, or one that is both file and directory
        assert any(b"" in path[1:] for path in files) or any(
            a != b and b[: len(a)] == a for a in files for b in files
        )
        return
    check_promises(metainfo)
