"""Any tree of files: the torrents made of it are those that libtorrent makes, and hold it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metainfo.test_libtorrent import libtorrent_info
from tests.swarm.torrents import Version, make_torrent
from torrentfs.metainfo.checking import check_piece
from torrentfs.metainfo.torrent_file import build_torrent, parse_torrent
from torrentfs.storage.hashing import Recipe, builder_for, check_payload, hash_payload
from torrentfs.storage.payload import list_payload, payload_of

NAMES = st.sampled_from(["a", "a!", "a.", "aa", "B", "é", "日", "z z", "0", "-"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
SIZES = st.sampled_from([0, 1, 16383, 16384, 16385, 32768, 65537, 100_000])
TREES = st.dictionaries(PATHS, SIZES, min_size=1, max_size=8).filter(
    lambda tree: (
        sum(tree.values())
        and not any(one != other and other[: len(one)] == one for one in tree for other in tree)
    )
)


@settings(max_examples=40)
@given(TREES, st.sampled_from(["hybrid", "v2"]), st.sampled_from([16384, 32768, 131072]))
def test_the_info_hash_of_any_tree(
    tree: dict[tuple[str, ...], int], version: Version, piece_length: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "t"
        for number, (path, size) in enumerate(tree.items()):
            file = root.joinpath(*path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes([number + 1]) * size)
        payload = list_payload(root)
        assert {file.path: file.length for file in payload.files} == tree
        builder = builder_for(payload, Recipe(version, piece_length))
        info, layers = hash_payload(payload, builder, threads=2)
        ours = parse_torrent(build_torrent(info, layers))
        loaded = libtorrent_info(build_torrent(info, layers))  # refuses halves that do not agree
        assert loaded.info_hashes().v2.to_bytes() == ours.hashes.v2
        paths = [b"/".join(file.raw_path) for file in ours.files if not file.pad]
        if paths == sorted(paths):  # else libtorrent makes a hybrid that it does not load itself
            theirs = make_torrent(
                root, Path(name) / "t.torrent", version=version, piece_length=piece_length
            )
            assert ours.info == parse_torrent(theirs.data).info
        check_payload(payload_of(ours, root), ours)


@settings(max_examples=30)
@given(TREES, st.sampled_from([16384, 20_000, 131072]))
def test_every_piece_of_any_v1_torrent(tree: dict[tuple[str, ...], int], length: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        for number, (path, size) in enumerate(tree.items()):
            file = Path(name).joinpath(*path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes([number + 1]) * size)
        payload = list_payload(name)
        info, _ = hash_payload(payload, builder_for(payload, Recipe("v1", length)), threads=2)
        made = parse_torrent(build_torrent(info))
        space = b"".join(Path(payload.place(n)).read_bytes() for n in range(len(payload.files)))
        for piece in range(made.geometry.num_pieces):
            assert check_piece(made, piece, space[piece * length : (piece + 1) * length])
