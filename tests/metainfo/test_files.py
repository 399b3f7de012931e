"""Reading file lists and trees into columns. (Whole torrents: test_torrent_file.)"""

from __future__ import annotations

import pytest

from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import bencoding
from torrentfs.metainfo.bencoding import Cursor
from torrentfs.metainfo.files import File, FileColumns, FileTable
from torrentfs.metainfo.geometry import Geometry


def table_of(columns: FileColumns, *, aligned: bool = False) -> FileTable:
    geometry = Geometry(16384, columns.lengths, aligned=aligned)
    return FileTable(columns, geometry, single=False, roots=columns.roots)


def test_list() -> None:
    columns = FileColumns()
    entries = [
        {b"length": 3, b"path": [b"d", b"a"]},
        {b"length": 4, b"path": [b"d", b"b"], b"attr": b"x", b"sha1": bytes(20)},
        {b"length": 5, b"path": [b"pad"], b"attr": b"p"},
        {b"length": 6, b"path": [b"d", b"c"]},
    ]
    columns.read_list(Cursor(bencoding.encode(entries)))
    files = table_of(columns)
    assert list(files) == [
        File(("d", "a"), 3, 0),
        File(("d", "b"), 4, 3, executable=True),
        File((".pad", "2"), 5, 7, pad=True),
        File(("d", "c"), 6, 12),
    ]
    assert (columns.total, files.num_pads) == (18, 1)
    assert repr(files) == "<FileTable of 4 files>"


def test_tree() -> None:
    columns = FileColumns()
    root = bytes(range(32))
    tree = {
        b"a": {b"": {b"length": 3, b"pieces root": root}},
        b"d": {
            b"empty": {b"": {b"length": 0}},
            b"link": {b"": {b"length": 0, b"attr": b"l", b"symlink path": [b"a"]}},
            b"x": {b"": {b"attr": b"x", b"length": 9, b"pieces root": root}},
        },
        b"nothing": {},
    }
    columns.read_tree(Cursor(bencoding.encode(tree)))
    assert list(table_of(columns, aligned=True)) == [
        File(("a",), 3, 0, pieces_root=root),
        File(("d", "empty"), 0, 3),
        File(("d", "link"), 0, 3, symlink=("a",)),
        File(("d", "x"), 9, 16384, executable=True, pieces_root=root),
    ]


def test_a_deep_tree_ends() -> None:
    for depth, fits in ((100, True), (101, False), (5000, False)):
        data = b"d1:x" * depth + b"d0:d6:lengthi0eee" + b"e" * depth
        columns = FileColumns()
        if fits:
            columns.read_tree(Cursor(data))
            assert len(columns.names.raw_path(0)) == depth
        else:
            with pytest.raises(InvalidTorrent, match=r"over 100 parts|depth"):
                columns.read_tree(Cursor(data))
