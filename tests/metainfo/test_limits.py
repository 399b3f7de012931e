"""The limits leave room for what exists, and fit each other."""

from __future__ import annotations

import sys

from torrentfs.metainfo import limits


def test_real_torrents_fit() -> None:
    assert limits.MAX_METADATA_BYTES > 14_000_000
    assert limits.MAX_PIECES >= (200 << 30) // (16 << 10)
    assert 20 * limits.MAX_PIECES < limits.MAX_TORRENT_BYTES
    assert limits.MAX_FILES > 400_000


def test_nesting_fits_paths_and_the_interpreter() -> None:
    assert limits.MAX_PATH_DEPTH + 10 < limits.MAX_NESTING
    assert sys.getrecursionlimit() > 3 * limits.MAX_NESTING
