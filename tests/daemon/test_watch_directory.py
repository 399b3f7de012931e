"""Looks at real directories: what comes, what goes, and what only seems to go."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.daemon.libraries import metainfo
from torrentfs.daemon import watch_directory as module
from torrentfs.daemon.sources import PublisherSource
from torrentfs.daemon.watch_directory import MAX_MAGNET_FILE, WatchDirectory, parse_magnet_file
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo.limits import MAX_TORRENT_BYTES
from torrentfs.metainfo.magnet import Magnet, Publisher

if TYPE_CHECKING:
    from pathlib import Path

FILM, SONG = metainfo("film"), metainfo("song")
HASH = "ab" * 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "watch"
    place.mkdir()
    return place


def put(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def fill(root: Path) -> tuple[str, str, str]:
    return (
        put(root / "1.torrent", FILM.to_torrent()),
        put(root / "a" / "b" / "2.TORRENT", SONG.to_torrent()),
        put(root / "a" / "3.magnet", f"# a comment\n\n  {HASH}\n".encode()),
    )


def test_files_and_their_folders(root: Path) -> None:
    one, two, three = fill(root)
    put(root / ".hidden.torrent", FILM.to_torrent())
    put(root / ".d" / "x.torrent", FILM.to_torrent())
    put(root / "readme.txt", b"")
    watch = WatchDirectory(root)
    look = watch.look()
    found = {file.path: file for file in look.found}
    assert set(found) == {one, two, three}
    assert found[one].metainfo.hashes == FILM.hashes  # type: ignore[union-attr]
    assert [found[path].folder for path in (one, two, three)] == [(), ("a", "b"), ("a",)]
    assert found[three].magnet.hashes.key == HASH  # type: ignore[union-attr]
    assert (look.gone, look.held, look.trouble, look.unsettled) == ((), (), "", False)
    assert set(look.directories) == {str(root), f"{root}/a", f"{root}/a/b"}
    again = watch.look()
    assert not again.found


def test_what_changes_and_goes(root: Path) -> None:
    one, two, three = fill(root)
    watch = WatchDirectory(root)
    watch.look()
    put(root / "1.torrent", SONG.to_torrent())
    os.unlink(two)
    os.rename(three, root / "3.magnet")
    look = watch.look()
    assert {file.path for file in look.found} == {one, f"{root}/3.magnet"}
    assert set(look.gone) == {two, three}
    shutil.rmtree(root / "a")
    os.unlink(one)
    os.unlink(root / "3.magnet")  # the last one, in the directory that it was seen in
    look = watch.look()
    assert set(look.gone) == {one, f"{root}/3.magnet"}
    assert not look.held


def test_a_directory_that_is_gone_takes_nothing_along(root: Path) -> None:
    paths = set(fill(root))
    watch = WatchDirectory(root)
    watch.look()
    away = root.with_name("away")
    root.rename(away)
    look = watch.look()
    assert set(look.held) == paths
    assert not look.gone
    assert "cannot be read: no such file or directory; 3 torrents of it stay" in look.trouble
    root.mkdir()  # as the mount point of a disk that is not mounted
    look = watch.look()
    assert set(look.held) == paths
    assert not look.gone
    assert "has lost 3 torrents at once" in look.trouble
    put(root / "other.torrent", SONG.to_torrent())  # somebody fills the wrong disk
    look = watch.look()
    assert set(look.held) == paths
    assert [file.path for file in look.found] == [f"{root}/other.torrent"]
    shutil.rmtree(root)
    away.rename(root)  # it is back, less one
    (root / "1.torrent").unlink()
    look = watch.look()
    assert set(look.gone) == {f"{root}/1.torrent", f"{root}/other.torrent"}
    assert not look.held
    assert not look.trouble


def test_a_folder_that_is_another_disk(root: Path) -> None:
    _, two, three = fill(root)
    watch = WatchDirectory(root)
    watch.look()
    (root / "a").rename(root.with_name("away"))
    (root / "a").mkdir()
    look = watch.look()
    assert set(look.held) == {two, three}
    assert not look.gone


def test_the_same_after_a_restart(root: Path) -> None:
    one, two, three = fill(root)
    watch = WatchDirectory(root)
    watch.look()
    root.rename(root.with_name("away"))
    root.mkdir()
    later = WatchDirectory(root, held=[one, two, three], identities=watch.identities)
    assert set(later.look().held) == {one, two, three}
    shutil.rmtree(root)
    root.mkdir()
    fill(root)
    os.unlink(one)
    later = WatchDirectory(root, held=[one, two, three], identities={})
    look = later.look()
    assert look.gone == (one,)  # the others are there: it is the right directory
    later = WatchDirectory(root, held=[one, two, three], identities=later.identities)
    os.unlink(two)
    os.unlink(three)
    assert set(later.look().gone) == {one, two, three}  # as we know the directory


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read(root: Path) -> None:
    _, two, three = fill(root)
    watch = WatchDirectory(root)
    watch.look()
    (root / "a").chmod(0)
    try:
        look = watch.look()
    finally:
        (root / "a").chmod(0o755)
    assert set(look.held) == {two, three}


def test_a_link_whose_target_is_gone(root: Path, tmp_path: Path) -> None:
    disk = put(tmp_path / "disk" / "1.torrent", FILM.to_torrent())
    (root / "1.torrent").symlink_to(disk)
    watch = WatchDirectory(root)
    assert len(watch.look().found) == 1
    os.rename(tmp_path / "disk", tmp_path / "away")
    assert watch.look().held == (f"{root}/1.torrent",)
    (root / "1.torrent").unlink()
    assert watch.look().gone == (f"{root}/1.torrent",)


def test_half_a_file_is_told_only_when_it_stays_so(root: Path) -> None:
    data = FILM.to_torrent()
    path = put(root / "1.torrent", data[:50])
    watch = WatchDirectory(root)
    look = watch.look()
    assert (look.found, look.unsettled) == ((), True)
    put(root / "1.torrent", data[:80])
    look = watch.look()
    assert (look.found, look.unsettled) == ((), True)
    look = watch.look()
    assert "not all of it" in look.found[0].trouble
    assert not look.unsettled
    assert not watch.look().found
    put(root / "1.torrent", data)
    assert [file.metainfo is not None for file in watch.look().found] == [True]
    put(root / "1.torrent", data[:80])  # written anew: what it was stays
    assert watch.look().held == (path,)
    assert not watch.look().gone


def test_what_is_no_use(root: Path) -> None:
    put(root / "empty.torrent", b"")
    put(root / "empty.magnet", b"# nothing\n")
    put(root / "bad.magnet", b"\xff\xfe\x00")
    os.mkfifo(root / "pipe.torrent")
    (root / "dir.torrent").mkdir()
    for name, size in (("big.torrent", MAX_TORRENT_BYTES), ("big.magnet", MAX_MAGNET_FILE)):
        with open(root / name, "wb") as file:
            file.truncate(size + 1)
    (root / "loop.torrent").symlink_to("loop.torrent")
    watch = WatchDirectory(root)
    watch.look()
    troubles = {file.path.rpartition("/")[2]: file.trouble for file in watch.look().found}
    assert set(troubles) == {
        "empty.torrent", "empty.magnet", "bad.magnet", "pipe.torrent", "dir.torrent",
        "big.torrent", "big.magnet",
    }  # fmt: skip
    assert "too large" in troubles["big.torrent"]
    assert "too large" in troubles["big.magnet"]
    assert troubles["pipe.torrent"] == "not a regular file"
    assert troubles["empty.magnet"] == "has no magnet link"


def test_links_are_followed_once_and_loops_end(root: Path, tmp_path: Path) -> None:
    fill(root)
    (root / "a" / "up").symlink_to(root)
    (root / "z").symlink_to(root / "a")
    put(tmp_path / "elsewhere" / "4.torrent", metainfo("four").to_torrent())
    (root / "more").symlink_to(tmp_path / "elsewhere")
    found = WatchDirectory(root).look().found
    assert len(found) == 4
    assert {file.folder for file in found} == {(), ("a",), ("a", "b"), ("more",)}


def test_depth_and_number_are_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = root
    for _ in range(200):
        deep = deep / "d"
    put(deep / "1.torrent", FILM.to_torrent())
    assert not WatchDirectory(root).look().found
    shutil.rmtree(root)
    for number in range(20):
        put(root / f"{number:02}.torrent", b"d4:infodee")
    watch = WatchDirectory(root)
    watch.look()
    assert len(watch.look().found) == 20
    monkeypatch.setattr(module, "MAX_NAMES", 10)
    look = watch.look()
    assert "more than 10 files" in look.trouble
    assert not look.gone


@pytest.mark.parametrize(
    "text",
    [HASH, f"magnet:?xt=urn:btih:{HASH}&dn=x", f"\ufeff{HASH}", f"#x\r\n{HASH}\r\nrest", "a" * 32],
)
def test_magnet_files(text: str) -> None:
    found = parse_magnet_file(text.encode())
    assert isinstance(found, Magnet)
    assert found.hashes.v1


def test_a_magnet_file_of_a_publisher(tmp_path: Path) -> None:
    link = f"magnet:?xs=urn:btpk:{'a' * 64}"
    put(tmp_path / "weekly.magnet", f"# every week\n{link}\n".encode())
    [found] = WatchDirectory(tmp_path).look().found
    assert found.publisher == PublisherSource(link, Publisher(b"\xaa" * 32))
    assert (found.magnet, found.metainfo, found.trouble) == (None, None, "")


@pytest.mark.parametrize(
    "text", ["", "#", "http://x/", HASH[:-1], f"magnet:?xs=urn:btpk:{'a' * 63}"]
)
def test_bad_magnet_files(text: str) -> None:
    with pytest.raises(InvalidTorrent):
        parse_magnet_file(text.encode())
