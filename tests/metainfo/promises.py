"""What every parsed torrent promises, however hostile; used by property tests and the fuzzer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.metainfo import limits
from torrentfs.metainfo.magnet import magnet_of, parse_magnet
from torrentfs.metainfo.names import collision_key
from torrentfs.metainfo.torrent_file import Metainfo, parse_torrent

if TYPE_CHECKING:
    from collections.abc import Iterable


def assert_safe(name: str) -> None:
    """`name` may be an entry of a directory."""
    assert name not in ("", ".", "..")
    assert "/" not in name
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name)
    assert len(name.encode()) <= limits.MAX_NAME_BYTES


def assert_tree(paths: Iterable[tuple[str, ...]]) -> None:
    """No two files share a path, no file is a directory, even where case does not count."""
    names: dict[tuple[str, ...], tuple[str, ...]] = {}
    files = set()
    for path in paths:
        key = tuple(map(collision_key, path))
        assert key not in names, path
        for depth in range(1, len(path) + 1):
            # one folded directory is one real directory
            assert names.setdefault(key[:depth], path[:depth]) == path[:depth]
            assert key[: depth - 1] not in files
        files.add(key)
    assert all(key[:depth] not in files for key in files for depth in range(len(key)))


def check_promises(metainfo: Metainfo) -> None:
    """Raise `AssertionError` when a promise is broken."""
    assert_safe(metainfo.name)
    geometry = metainfo.geometry
    assert len(metainfo.files) == len(geometry.file_lengths) > 0
    assert metainfo.is_single_file == (metainfo.files[0].path == ())
    end = 0
    for file in metainfo.files:
        assert file.start >= end
        end = file.start + file.length
        assert file.raw_path or metainfo.is_single_file
        for name in file.path:
            assert_safe(name)
        if file.symlink is not None:
            assert file.length == 0
            assert file.symlink
            for name in file.symlink:
                assert_safe(name)
    if not metainfo.is_single_file:
        assert_tree(file.path for file in metainfo.files)
    assert geometry.num_pieces <= limits.MAX_PIECES
    assert len(metainfo.piece_hashes) == (20 * geometry.num_pieces if metainfo.has_v1 else 0)
    for piece in range(min(geometry.num_pieces, 50)):
        assert 0 < geometry.piece_size(piece) <= geometry.piece_length
        try:
            assert len(metainfo.piece_hash(piece)) == (20 if metainfo.has_v1 else 32)
        except LookupError:
            assert not metainfo.has_v1
            assert metainfo.missing_layers()
    again = parse_torrent(metainfo.to_torrent())
    assert again.info == metainfo.info
    assert again.hashes == metainfo.hashes
    assert again.advice == metainfo.advice
    assert list(again.files) == list(metainfo.files)
    assert parse_magnet(magnet_of(metainfo).to_uri()).hashes == metainfo.hashes
