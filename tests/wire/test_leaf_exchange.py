"""Block hashes over the wire (BEP 52): what is given is proved, and no lie is believed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metainfo.torrents import Version, build
from torrentfs.errors import RemoteProtocolError
from torrentfs.metainfo import merkle
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.metainfo.torrent_file import Metainfo, parse_info, parse_torrent
from torrentfs.wire.leaf_exchange import LeafRuns
from torrentfs.wire.messages import Hashes, HashRequest

KIB = 1024
PIECE = 128 * KIB
FILES = {
    ("a",): 5 * PIECE + 3 * BLOCK_LENGTH + 77,
    ("b",): 1,
    ("c",): 3 * BLOCK_LENGTH,
    ("d",): PIECE,
    ("e",): PIECE + BLOCK_LENGTH + 1,
    ("f",): 5 * BLOCK_LENGTH + 9,
}
DATA = {path: Random(size).randbytes(size) for path, size in FILES.items()}


@cache
def torrent(version: Version = "v2", piece_length: int = PIECE) -> Metainfo:
    return parse_torrent(build(version, DATA, piece_length=piece_length))


def leaves_of(metainfo: Metainfo, piece: int) -> bytes:
    """The hashes of the blocks of a piece, made from the payload."""
    geometry = metainfo.geometry
    file = metainfo.file_of_piece(piece)
    start = piece * geometry.piece_length - geometry.file_starts[file]
    data = DATA[metainfo.files[file].path]
    return merkle.leaf_hashes(data[start : start + geometry.piece_length])


def real_pieces(metainfo: Metainfo, runs: LeafRuns) -> list[int]:
    trees = {piece: runs.tree(piece) for piece in range(metainfo.geometry.num_pieces)}
    return [piece for piece, tree in trees.items() if tree is not None and tree.levels]


@pytest.mark.parametrize("version", ["v2", "hybrid"])
@pytest.mark.parametrize("run_length", [2, 4, 64])
def test_every_run_of_every_piece_is_given_and_proved(
    version: Version, run_length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torrentfs.wire.leaf_exchange.RUN", run_length)
    metainfo = torrent(version)
    ours, theirs = LeafRuns(metainfo), LeafRuns(metainfo)
    pieces = real_pieces(metainfo, ours)
    assert len(pieces) == metainfo.geometry.num_pieces - 1  # one file is one byte
    for piece in pieces:
        tree = ours.tree(piece)
        assert tree is not None
        given_by_them = b""
        for run in range((1 << tree.levels) // tree.run):
            request = ours.request(piece, run)
            assert theirs.piece_of(request) == piece
            answer = theirs.give(piece, request, leaves_of(metainfo, piece))
            given_by_them += ours.accept(piece, run, answer)
        right = leaves_of(metainfo, piece)
        assert given_by_them[: len(right)] == right
        assert not any(given_by_them[len(right) :])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_wrong_bit_is_found(data: st.DataObject) -> None:
    metainfo = torrent()
    runs = LeafRuns(metainfo)
    piece = data.draw(st.sampled_from(real_pieces(metainfo, runs)))
    request = runs.request(piece, 0)
    answer = runs.give(piece, request, leaves_of(metainfo, piece))
    hashes = bytearray(answer.hashes)
    hashes[data.draw(st.integers(0, len(hashes) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(RemoteProtocolError, match="do not match"):
        runs.accept(piece, 0, replace(answer, hashes=bytes(hashes)))


@pytest.mark.parametrize(
    "change",
    [{"index": 8}, {"length": 4}, {"base_layer": 1}, {"proof_layers": 1}, {"hashes": b""},
     {"pieces_root": bytes(32)}],
)  # fmt: skip
def test_answers_to_something_else_are_refused(change: dict) -> None:
    metainfo = torrent()
    runs = LeafRuns(metainfo)
    answer = runs.give(0, runs.request(0, 0), leaves_of(metainfo, 0))
    with pytest.raises(RemoteProtocolError, match="not asked for"):
        runs.accept(0, 0, replace(answer, **change))


def test_what_a_run_looks_like_on_the_wire() -> None:
    metainfo = parse_torrent(build("v2", {("x",): bytes(5 << 20)}, piece_length=4 << 20))
    runs = LeafRuns(metainfo)
    root = metainfo.files[0].pieces_root
    assert runs.request(0, 0) == HashRequest(root or b"", 0, 0, 64, 7)
    assert runs.request(0, 3) == HashRequest(root or b"", 0, 192, 64, 7)
    assert runs.request(1, 0) == HashRequest(root or b"", 0, 256, 64, 7)
    answer = runs.give(0, runs.request(0, 1), merkle.leaf_hashes(bytes(4 << 20)))
    assert len(answer.hashes) == (64 + 2) * 32
    assert isinstance(answer, Hashes)
    # what libtorrent asks when a piece has failed: all leaves of a piece, no proof
    assert runs.piece_of(HashRequest(root or b"", 0, 256, 256, 0)) == 1


@pytest.mark.parametrize(
    ("index", "length", "proof", "base"),
    [(0, 8, 0, 1), (0, 1, 0, 0), (0, 3, 0, 0), (4, 8, 0, 0), (0, 16, 0, 0), (0, 1024, 0, 0),
     (0, 2, 3, 0), (48, 8, 0, 0), (1 << 31, 8, 0, 0)],
)  # fmt: skip
def test_what_is_not_given(index: int, length: int, proof: int, base: int) -> None:
    metainfo = torrent()
    root = metainfo.files[0].pieces_root
    assert root is not None
    runs = LeafRuns(metainfo)
    assert runs.piece_of(HashRequest(root, base, index, length, proof)) is None
    assert runs.piece_of(HashRequest(bytes(32), 0, 0, 8, 0)) is None


def test_pieces_whose_blocks_cannot_be_proved() -> None:
    v1 = LeafRuns(parse_torrent(build("v1", DATA, piece_length=PIECE)))
    assert v1.tree(0) is None
    without_layers = LeafRuns(parse_info(torrent().info))
    assert without_layers.tree(0) is None
    with pytest.raises(LookupError):
        without_layers.request(0, 0)
    one_block = LeafRuns(torrent())
    with pytest.raises(LookupError):
        one_block.request(6, 0)
    assert "pieces looked at" in repr(v1)


def test_padding_has_no_leaves() -> None:
    runs = LeafRuns(torrent("hybrid"))
    tree = runs.tree(5)
    assert tree is not None
    assert tree.size == 3 * BLOCK_LENGTH + 77
    assert tree.leaf_bytes(3 * BLOCK_LENGTH, BLOCK_LENGTH) == 77
    assert tree.leaf_bytes(4 * BLOCK_LENGTH, BLOCK_LENGTH) == 0


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torrentfs.wire.leaf_exchange._KEPT_TREES", 3)
    runs = LeafRuns(torrent())
    for piece in range(torrent().geometry.num_pieces):
        runs.tree(piece)
    assert len(runs._trees) <= 3
