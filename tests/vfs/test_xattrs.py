"""`user.torrentfs.*`."""

from __future__ import annotations

import dataclasses

import pytest

from tests.vfs.fakes import volume
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.vfs.tree import ROOT, Tree
from torrentfs.vfs.xattrs import xattrs_of

KEY = "ab" * 20


def test_a_files_attributes() -> None:
    tree = Tree(volumes=[volume("t", [("a", 1), ("b", 1)], key=KEY)])
    assert xattrs_of(tree, tree.resolve(["t", "b"])) == {
        b"user.torrentfs.torrent": b"t",
        b"user.torrentfs.infohash": KEY.encode(),
        b"user.torrentfs.file": b"1",
        b"user.torrentfs.state": b"idle",
        b"user.torrentfs.progress": b"0.25",
    }


def test_a_directorys_attributes_name_no_file() -> None:
    tree = Tree(volumes=[volume("t", [("a/b", 1)], key=KEY)])
    for path in (["t"], ["t", "a"]):
        found = xattrs_of(tree, tree.resolve(path))
        assert b"user.torrentfs.file" not in found
        assert found[b"user.torrentfs.infohash"] == KEY.encode()


def test_a_v2_torrent_has_its_v2_hash() -> None:
    one = volume("t")
    hashes = InfoHashes(v2=bytes(32))
    one.metainfo = dataclasses.replace(one.metainfo, hashes=hashes)
    tree = Tree(volumes=[one])
    found = xattrs_of(tree, tree.resolve(["t"]))
    assert found[b"user.torrentfs.infohash_v2"] == b"00" * 32
    assert found[b"user.torrentfs.infohash"] == b"00" * 32


def test_the_root_has_totals() -> None:
    tree = Tree(volumes=[volume("t", [("a", 3), ("b", 4)]), volume("s", 5)])
    assert xattrs_of(tree, ROOT) == {
        b"user.torrentfs.torrents": b"2",
        b"user.torrentfs.files": b"3",
        b"user.torrentfs.size": b"12",
    }


def test_what_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        xattrs_of(Tree(), 12345)
