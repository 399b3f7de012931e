"""Torrent files: `InvalidTorrent` or a `Metainfo` that keeps its promises."""

from __future__ import annotations

from collections.abc import Iterable

from tests.metainfo.promises import check_promises
from tests.metainfo.torrents import VERSIONS, build
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import bencoding
from torrentfs.metainfo.torrent_file import parse_torrent

MODULES = ["torrentfs.metainfo.torrent_file"]

_SMALL = {("a",): b"1", ("b", "c"): bytes(40_000), ("d",): bytes(70_000)}


def seeds() -> Iterable[bytes]:
    """All kinds, single and multi-file, with all that may stand around `info`."""
    for version in VERSIONS:
        yield build(version, _SMALL)
        yield build(version, {(): bytes(40_000)}, web_seeds=["http://w/"], comment="hello")
    yield build(
        "v1",
        {("A",): b"1", ("a",): b"2", ("x", "y"): b"3"},
        trackers=[["http://a/x", "udp://b:80"], ["http://c/"]],
        http_seeds=["http://h/"],
        nodes=[("127.0.0.1", 6881)],
        creation_date=1,
        created_by="me",
    )
    entries = [
        {b"length": 1, b"path": [b"..", b"a"], b"attr": b"xh"},
        {b"length": 0, b"path": [b"l"], b"attr": b"l", b"symlink path": [b"a", b"..", b"b"]},
        {b"length": 2, b"path": [b"\xff"], b"path.utf-8": ["ä"]},
        {b"length": 16381, b"path": [b".pad", b"16381"], b"attr": b"p"},
    ]
    info = {b"files": entries, b"name": b"n", b"piece length": 16384, b"pieces": bytes(20)}
    yield bencoding.encode({b"info": info, b"url-list": b"http://w/"})


def one_input(data: bytes) -> None:
    """Parse; whatever comes out must be safe to mount."""
    try:
        metainfo = parse_torrent(data)
    except InvalidTorrent:
        return
    check_promises(metainfo)
