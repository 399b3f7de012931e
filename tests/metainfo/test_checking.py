"""Only the right bytes of the right piece pass."""

from __future__ import annotations

import pytest

from tests.metainfo.torrents import PAYLOAD, VERSIONS, Version, build
from torrentfs.metainfo.checking import check_piece
from torrentfs.metainfo.torrent_file import parse_info, parse_torrent


@pytest.mark.parametrize("version", VERSIONS)
def test_buffers_of_every_kind(version: Version) -> None:
    metainfo = parse_torrent(build(version, {(): PAYLOAD["f",] + b"tail"}))
    data = PAYLOAD["f",][:32768]
    for buffer in (data, bytearray(data), memoryview(data)):
        assert check_piece(metainfo, 0, buffer)
        assert not check_piece(metainfo, 1, buffer)
    assert check_piece(metainfo, 2, b"tail")
    assert not check_piece(metainfo, 2, b"liat")
    assert not check_piece(metainfo, 2, b"")
    for outside in (-1, 3):
        with pytest.raises(IndexError):
            check_piece(metainfo, outside, b"tail")


def test_an_unknown_layer_is_no_verdict() -> None:
    info = parse_torrent(build("v2")).info
    metainfo = parse_info(info)
    data = PAYLOAD["f",][:32768]
    file = next(n for n, f in enumerate(metainfo.files) if f.path == ("f",))
    with pytest.raises(LookupError):
        check_piece(metainfo, metainfo.geometry.pieces_of_file(file)[0], data)
    assert check_piece(metainfo, 0, PAYLOAD["a",])  # no larger than a piece: needs no layer
