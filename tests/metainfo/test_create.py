"""Building torrents: chunks do not matter, mistakes are told. (See also test_libtorrent.)"""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metainfo.promises import check_promises
from tests.metainfo.test_libtorrent import check_all_pieces
from tests.metainfo.torrents import VERSIONS, Version
from torrentfs.metainfo import limits
from torrentfs.metainfo.create import (
    TorrentBuilder,
    build_torrent,
    choose_piece_length,
    tree_order,
)
from torrentfs.metainfo.torrent_file import parse_torrent

sizes = st.lists(
    st.sampled_from([0, 1, 16383, 16384, 16385, 49152, 50_000]), min_size=1, max_size=5
)


steps = st.lists(st.sampled_from([997, 16383, 16384, 16385, 60_000]), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from(VERSIONS), st.sampled_from([16384, 32768]), steps)
def test_any_chunks(
    lengths: list[int], version: Version, piece_length: int, steps: list[int]
) -> None:
    payload = {("d", f"{n}"): bytes([n + 1]) * size for n, size in enumerate(lengths)}
    files = [(path, len(content)) for path, content in payload.items()]
    builder = TorrentBuilder("n", files, piece_length, version)
    stream = memoryview(b"".join(payload.values()))
    for step in cycle(steps):
        builder.update(stream[:step])
        stream = stream[step:]
        if not len(stream):
            break
    info, layers = builder.finish()
    metainfo = parse_torrent(build_torrent(info, layers))
    check_promises(metainfo)
    assert {f.path: f.length for f in metainfo.files if not f.pad} == dict(files)
    check_all_pieces(metainfo, payload)


def test_fields() -> None:
    builder = TorrentBuilder("n", [((), 1)], 16384, private=True, comment="c", source="s")
    builder.update(b"x")
    info, layers = builder.finish()
    assert info == (
        b"d7:comment1:c6:lengthi1e4:name1:n12:piece lengthi16384e6:pieces20:"
        + parse_torrent(build_torrent(info)).piece_hash(0)
        + b"7:privatei1e6:source1:se"
    )
    assert layers == {}
    assert parse_torrent(build_torrent(info)).private


def test_names_that_are_no_text_keep_their_bytes() -> None:
    builder = TorrentBuilder("\udcff", [(("a\udce4",), 0), (("b",), 0)], 16384)
    metainfo = parse_torrent(build_torrent(builder.finish()[0]))
    assert metainfo.raw_name == b"\xff"
    assert metainfo.files[0].raw_path == (b"a\xe4",)


def test_tree_order() -> None:
    files = [(("b",), 1), (("a", "z"), 2), (("a!",), 3), (("a", "b"), 4)]
    assert [path for path, _ in tree_order(files)] == [("a", "b"), ("a", "z"), ("a!",), ("b",)]


@pytest.mark.parametrize(
    ("files", "piece_length", "version", "words"),
    [
        ([], 16384, "v1", "at least one"),
        ([((), 1), (("a",), 1)], 16384, "v1", "has a path"),
        ([((), -1)], 16384, "v1", "negative"),
        ([((), 1)], 0, "v1", "a piece has"),
        ([((), 1)], 10_000, "v2", "power of two"),
        ([((), 1)], 8192, "hybrid", "power of two"),
        ([(("b",), 1), (("a",), 1)], 16384, "v2", "tree_order"),
        ([(("a",), 1), (("a",), 1)], 16384, "hybrid", "each once"),
        ([(("a",), 1), (("a", "b"), 1)], 16384, "v2", "both a file and a directory"),
    ],
)
def test_refusals(files: Any, piece_length: int, version: Version, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TorrentBuilder("n", files, piece_length, version)


def test_too_little_and_too_much() -> None:
    builder = TorrentBuilder("n", [(("a",), 1), (("b",), 2)], 16384)
    builder.update(b"12")
    with pytest.raises(ValueError, match="payload of 1 pieces is missing"):
        builder.finish()
    with pytest.raises(ValueError, match="more payload"):
        builder.update(b"34")


def test_choose_piece_length() -> None:
    assert choose_piece_length(0) == 16384
    assert choose_piece_length(1 << 30) == 512 * limits.KIB
    assert choose_piece_length(1 << 50) == 16 * limits.MIB


def test_padding_adds_a_tenth_at_most_where_that_can_be() -> None:
    mib = limits.MIB
    for sizes in ([mib + 1] * 5000, [200_000] * 20_000, [1 << 34, *[70_000] * 1000]):
        length = choose_piece_length(sum(sizes), sizes)
        padding = sum(-size % length for size in sizes)
        assert padding <= sum(sizes) / 10
        assert sum(sizes) / length <= 1 << 18
    assert choose_piece_length(1 << 34, [1 << 34]) == choose_piece_length(1 << 34)
    assert choose_piece_length(1000 * 10_000, [1000] * 10_000) == 16384  # cannot be
    huge = [mib] * 1_000_000
    assert choose_piece_length(sum(huge), [size + 1 for size in huge]) == 4 * mib
