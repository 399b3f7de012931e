"""Piece layers are believed only when they are proved."""

from __future__ import annotations

import dataclasses

import pytest

from tests.metainfo.torrents import PAYLOAD, build
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import bencoding
from torrentfs.metainfo.checking import check_piece
from torrentfs.metainfo.torrent_file import parse_info, parse_torrent


def test_layers_from_peers() -> None:
    whole = parse_torrent(build("v2"))
    layers = dict(whole.piece_layers)
    bare = parse_info(whole.info, whole.hashes)
    assert len(bare.piece_layers) == 0
    missing = bare.missing_layers()
    assert [bare.files[n].path for n in missing] == [
        ("d", "ä", "deep"),
        ("f",),
        ("g", "日本語.mkv"),
    ]
    with pytest.raises(LookupError):
        bare.piece_hash(bare.geometry.pieces_of_file(missing[0])[0])
    full = bare.with_piece_layers(layers)
    assert full.missing_layers() == []
    assert dict(full.piece_layers) == layers
    assert len(bare.piece_layers) == 0
    one = bare.with_piece_layers(dict([next(iter(layers.items()))]))
    assert len(one.missing_layers()) == len(layers) - 1
    assert repr(one.piece_layers) == f"<PieceLayers 1/{len(layers)}>"


def test_false_layers_are_refused() -> None:
    whole = parse_torrent(build("v2"))
    bare = parse_info(whole.info)
    for root, layer in whole.piece_layers.items():
        for wrong in (layer[:-1] + b"x", layer[:-32], layer + bytes(32), b""):
            with pytest.raises(InvalidTorrent):
                bare.with_piece_layers({root: wrong})
    with pytest.raises(InvalidTorrent):
        bare.with_piece_layers({bytes(32): bytes(64)})


def test_a_false_layer_of_a_file_is_forgotten() -> None:
    outer = bencoding.decode(build("v2"))
    layers = outer[b"piece layers"]
    false_root = next(iter(layers))
    layers[false_root] = bytes(len(layers[false_root]))
    metainfo = parse_torrent(bencoding.encode(outer))
    assert metainfo.missing_layers() == []
    file = next(n for n, f in enumerate(metainfo.files) if f.pieces_root == false_root)
    piece = metainfo.geometry.pieces_of_file(file)[0]
    data = PAYLOAD[metainfo.files[file].path][: metainfo.geometry.piece_length]
    with pytest.raises(LookupError):
        check_piece(metainfo, piece, data)
    assert metainfo.missing_layers() == [file]
    mended = metainfo.with_piece_layers(dict(parse_torrent(build("v2")).piece_layers))
    assert check_piece(mended, piece, data)


def test_odd_layers_of_a_file() -> None:
    outer = bencoding.decode(build("v2"))
    layers = outer[b"piece layers"]
    layers[bytes(32)] = b"of no file"
    assert bytes(32) not in parse_torrent(bencoding.encode(outer)).piece_layers
    layers[next(iter(layers))] += bytes(32)
    with pytest.raises(InvalidTorrent, match="wrong length"):
        parse_torrent(bencoding.encode(outer))
    outer[b"piece layers"] = 3
    assert len(parse_torrent(bencoding.encode(outer)).missing_layers()) == 3


def test_one_root_has_one_size() -> None:
    tree = {
        name: {b"": {b"length": size, b"pieces root": b"r" * 32}}
        for name, size in ((b"a", 40_000), (b"b", 80_000))
    }
    info = {b"file tree": tree, b"meta version": 2, b"name": b"n", b"piece length": 16384}
    with pytest.raises(InvalidTorrent, match="different sizes"):
        parse_info(bencoding.encode(info))


def test_metainfo_is_frozen() -> None:
    metainfo = parse_torrent(build("v2"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        metainfo.name = "x"  # type: ignore[misc]


def test_two_torrent_files_have_the_layers_of_both() -> None:
    whole = parse_torrent(build("v2"))
    layers = dict(whole.piece_layers)
    first, *rest = layers
    bare = parse_info(whole.info)
    one = bare.with_piece_layers({first: layers[first]})
    other = parse_info(whole.info, piece_layers={root: layers[root] for root in rest})
    assert one.renewed(other).missing_layers() == []
    assert dict(one.renewed(other).piece_layers) == layers
    assert whole.renewed(bare) is whole
    # one that was not proved yet never takes the place of one that was
    liar = parse_info(whole.info, piece_layers={r: bytes(len(layers[r])) for r in layers})
    mixed = one.renewed(liar).piece_layers
    assert mixed[first] == layers[first]
    with pytest.raises(KeyError):
        mixed[rest[0]]
