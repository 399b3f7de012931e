"""What a mount says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from torrentfs.daemon.report import Mounted


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("film.mkv",), "mounted film.mkv on /m"),
        (("a", "b", "c"), "mounted 3 torrents on /m"),
    ],
)
def test_one_torrent_is_named_and_several_are_counted(names: tuple[str, ...], words: str) -> None:
    assert str(Mounted(Path("/m"), names, 6881)) == words
