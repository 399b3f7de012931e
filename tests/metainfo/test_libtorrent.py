"""What we write, libtorrent reads, and the other way round; hashes and layouts agree."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import libtorrent as lt
import pytest

from tests.metainfo.torrents import PAYLOAD, PIECE_LENGTH, VERSIONS, Version, build
from torrentfs.metainfo.checking import check_piece
from torrentfs.metainfo.magnet import magnet_of, parse_magnet
from torrentfs.metainfo.torrent_file import Metainfo, parse_torrent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def piece_space(metainfo: Metainfo, payload: Mapping[tuple[str, ...], bytes]) -> bytearray:
    space = bytearray(metainfo.geometry.length)
    for file in metainfo.files:
        if not file.pad:
            space[file.start : file.start + file.length] = payload[file.path]
    return space


def check_all_pieces(metainfo: Metainfo, payload: Mapping[tuple[str, ...], bytes]) -> None:
    space = piece_space(metainfo, payload)
    for piece in range(metainfo.geometry.num_pieces):
        start = piece * metainfo.geometry.piece_length
        data = space[start : start + metainfo.geometry.piece_size(piece)]
        assert check_piece(metainfo, piece, data)
        data[len(data) // 2] ^= 1
        assert not check_piece(metainfo, piece, data)
        assert not check_piece(metainfo, piece, data[:-1])


def libtorrent_info(torrent: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return lt.torrent_info(torrent)


def assert_agrees(metainfo: Metainfo, info: Any) -> None:
    hashes = info.info_hashes()
    assert (metainfo.hashes.v1 or bytes(20)) == hashes.v1.to_bytes()
    assert (metainfo.hashes.v2 or bytes(32)) == hashes.v2.to_bytes()
    assert (metainfo.has_v1, metainfo.has_v2) == (hashes.has_v1(), hashes.has_v2())
    assert metainfo.geometry.num_pieces == info.num_pieces()
    assert metainfo.geometry.piece_length == info.piece_length()
    if metainfo.has_v1:
        for piece in range(info.num_pieces()):
            assert metainfo.piece_hash(piece) == info.hash_for_piece(piece)


def create_with_libtorrent(root: Path, flags: int) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        files = lt.list_files(str(root), flags=flags)
        maker = lt.create_torrent(files, PIECE_LENGTH, flags)
        maker.add_tracker("http://tracker.example/announce", 0)
        maker.add_tracker("udp://second.example:80", 1)
        maker.add_url_seed("http://seed.example/")
        lt.set_piece_hashes(maker, str(root.parent))
        torrent: bytes = lt.bencode(maker.generate())
    return torrent


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("piece_length", [16384, 32768, 262144])
def test_libtorrent_loads_what_we_build(version: Version, piece_length: int) -> None:
    torrent = build(version, piece_length=piece_length, trackers=[["http://t.example/announce"]])
    metainfo = parse_torrent(torrent)
    info = libtorrent_info(torrent)
    assert_agrees(metainfo, info)
    assert info.name() == "törrent"
    if version == "v2":
        return  # libtorrent shows the padding of v2 torrents as files
    storage = info.layout()
    assert [f.length for f in metainfo.files] == list(
        map(storage.file_size, range(storage.num_files()))
    )
    check_all_pieces(metainfo, PAYLOAD)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [1, 16384, 32768, 32769, 200_000])
def test_libtorrent_loads_single_files(version: Version, size: int) -> None:
    payload = {(): bytes(range(256)) * (size // 256) + bytes(size % 256)}
    torrent = build(version, payload, name="one file.bin")
    metainfo = parse_torrent(torrent)
    assert metainfo.is_single_file
    assert [file.path for file in metainfo.files] == [()]
    assert metainfo.name == "one file.bin"
    assert metainfo.files[0].raw_path == (b"one file.bin",)
    assert_agrees(metainfo, libtorrent_info(torrent))
    check_all_pieces(metainfo, payload)


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        ("v1", lt.create_torrent.v1_only),
        ("v2", lt.create_torrent.v2_only),
        ("hybrid", 0),
    ],
)
def test_we_read_what_libtorrent_creates(tmp_path: Path, version: Version, flags: int) -> None:
    root = tmp_path / "törrent"
    for path, data in PAYLOAD.items():
        file = root.joinpath(*path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    torrent = create_with_libtorrent(root, flags)
    metainfo = parse_torrent(torrent)
    assert (metainfo.has_v1, metainfo.has_v2) == (version != "v2", version != "v1")
    assert metainfo.trackers == (
        ("http://tracker.example/announce",),
        ("udp://second.example:80",),
    )
    assert metainfo.web_seeds == ("http://seed.example/",)
    assert {f.path: f.length for f in metainfo.files if not f.pad} == {
        path: len(data) for path, data in PAYLOAD.items()
    }
    assert_agrees(metainfo, libtorrent_info(torrent))
    check_all_pieces(metainfo, PAYLOAD)
    assert metainfo.missing_layers() == []


@pytest.mark.parametrize("flags", [lt.create_torrent.v1_only, lt.create_torrent.v2_only, 0])
def test_symlinks_and_attributes_of_libtorrent(tmp_path: Path, flags: int) -> None:
    root = tmp_path / "links"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "program").write_bytes(b"#!" * 20_000)
    (root / "sub" / "program").chmod(0o755)
    (root / "link").symlink_to("sub/program")
    torrent = create_with_libtorrent(root, flags | lt.create_torrent.symlinks)
    files = {file.path: file for file in parse_torrent(torrent).files if not file.pad}
    assert files["link",].symlink == ("sub", "program")
    assert files["link",].length == 0
    assert files["sub", "program"].executable
    assert not files["link",].hidden


@pytest.mark.parametrize("version", VERSIONS)
def test_magnets_agree(version: Version) -> None:
    torrent = build(version, trackers=[["http://t.example/announce?a=1&b=2"]])
    magnet = magnet_of(parse_torrent(torrent))
    params = lt.parse_magnet_uri(magnet.to_uri())
    assert params.info_hashes.v1.to_bytes() == (magnet.hashes.v1 or bytes(20))
    assert params.info_hashes.v2.to_bytes() == (magnet.hashes.v2 or bytes(32))
    assert params.trackers == ["http://t.example/announce?a=1&b=2"]
    assert params.name == "törrent"
    theirs = parse_magnet(lt.make_magnet_uri(lt.load_torrent_buffer(torrent)))
    assert theirs.hashes == magnet.hashes
    assert theirs.trackers == magnet.trackers
