"""What a user means, and what he might."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.daemon.libraries import begin, metainfo, opened
from tests.daemon.test_library import FILM, torrent_file
from tests.storage.torrents import make
from torrentfs.daemon.items import LibraryError, NotFound


async def test_find_and_locate(tmp_path: Path) -> None:
    async with opened() as (library, _):
        with pytest.raises(NotFound, match="nothing is mounted"):
            library.locate(())
        await begin(library)
        one = await library.add(torrent_file(tmp_path, FILM), folder=("movies",))
        two = await library.add(torrent_file(tmp_path, metainfo("film", 2)))
        assert library.find(one.key) is library.find(one.key[:6]) is one
        assert library.find("movies/film") is one
        assert library.find("film") is two  # the path of one, and a name of both
        assert library.locate(("movies", "film", "a")) == (one, None)
        assert library.locate(("movies", "film", "a", "b")) == (one, 0)
        assert library.find("movies/film/c") is one
        with pytest.raises(LibraryError, match="a folder of torrents"):
            library.locate(("movies",))
        for text in ("nothing", one.key[:5], "movies/no", ""):
            with pytest.raises(NotFound):
                library.find(text)
        await library.remove(two.key)
        await library.add(torrent_file(tmp_path, metainfo("film", 2)), folder=("other",))
        with pytest.raises(LibraryError, match="is 2 torrents"):
            library.find("film")


async def test_a_hybrid_torrent_is_known_by_both_of_its_hashes(tmp_path: Path) -> None:
    hybrid = make((("a", 5), ("b", 5)), name="both", version="hybrid").metainfo
    hashes = hybrid.hashes
    assert hashes.v1 is not None
    assert hashes.v2 is not None
    async with opened() as (library, _):
        await begin(library)
        await library.add(torrent_file(tmp_path, FILM))
        item = await library.add(torrent_file(tmp_path, hybrid))
        for text in (hashes.v1.hex(), hashes.v2.hex(), hashes.v2.hex().upper()):
            assert library.find(text) is item
            assert library.by_hash(text) is item
            assert library.find(text[:8]) is item
            assert library.by_hash(text[:8]) is None
        assert library.by_hash("0" * 64) is None
