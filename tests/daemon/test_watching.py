"""Watch directories followed live, into a library and the tree of a mount."""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.daemon.libraries import FakeSession, begin, metainfo, opened
from torrentfs.daemon import watching as module
from torrentfs.daemon.config import MountConfig
from torrentfs.daemon.gathering import gather
from torrentfs.daemon.watch_directory import WatchDirectory
from torrentfs.daemon.watch_events import Events
from torrentfs.daemon.watching import Watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.daemon.libraries import FakeMount
    from torrentfs.daemon.library import Library

FILM, SONG, BOOK = metainfo("film"), metainfo("song"), metainfo("book")


class Deaf(Events):
    """As on a network file system."""

    def open(self, root: str) -> None:
        self.reason = "nothing is told"


@asynccontextmanager
async def followed(
    root: Path,
    state: Path | None = None,
    events: Callable[[], Events] = Events,
    session: FakeSession | None = None,
) -> AsyncIterator[tuple[Library, FakeMount]]:
    """As the service does it."""
    async with opened(state, session) as (library, fake):
        watching = Watching([root], library.records, events)
        found, held = await watching.first_look()
        config = MountConfig((), root / "mnt", watch=(root,))
        ask: Any = fake
        await gather(library, ask, config, lambda text: None, found, held)
        mount = await begin(library)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watching.run, library)
            yield library, mount
            nursery.cancel_scope.cancel()


async def until(check: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not check():  # noqa: ASYNC110 - the file system has no event for a test
            await trio.sleep(0.02)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def names(mount: FakeMount) -> set[str]:
    return {"/".join(path) for path in mount.list() if path and path[-1] not in ("a", "b", "c")}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.02)


@pytest.fixture(params=[Events, Deaf], ids=["inotify", "polled"])
def events(request: pytest.FixtureRequest) -> Callable[[], Events]:
    made: Callable[[], Events] = request.param
    return made


@pytest.mark.real
async def test_everything_that_happens_in_it(tmp_path: Path, events: Callable[[], Events]) -> None:
    root = tmp_path / "w"
    root.mkdir()
    data = FILM.to_torrent()
    (root / "1.torrent").write_bytes(data)
    async with followed(root, events=events, session=FakeSession([BOOK])) as (library, mount):
        assert names(mount) == {"film"}  # before there is a mount
        inode = mount.list()[("film",)]
        (root / "movies" / "old").mkdir(parents=True)
        (root / "movies" / "old" / "2.torrent").write_bytes(SONG.to_torrent())
        await until(lambda: names(mount) == {"film", "movies", "movies/old", "movies/old/song"})
        os.rename(root / "1.torrent", root / "movies" / "1.torrent")
        await until(lambda: ("movies", "film") in mount.list())
        assert mount.list()[("movies", "film")] == inode
        assert ("film",) not in mount.list()
        os.rename(root / "movies", root / "films")
        await until(lambda: ("films", "old", "song") in mount.list())
        await until(lambda: ("movies",) not in mount.list())
        (root / "b.magnet").write_text(f"# later\n{BOOK.hashes.key}\n")
        await until(lambda: ("book",) in mount.list())
        (root / "b.magnet").unlink()
        (root / "films" / "old" / "2.torrent").unlink()
        await until(lambda: names(mount) == {"films", "films/film"})
        (root / "films" / "1.torrent").unlink()
        await until(lambda: not library.items)
        assert names(mount) == set()


@pytest.mark.real
async def test_a_file_that_is_written_slowly(tmp_path: Path, events: Callable[[], Events]) -> None:
    data = FILM.to_torrent()
    async with followed(tmp_path, events=events) as (library, mount):
        for place in range(0, len(data), 40):
            append(tmp_path / "1.torrent", data[place : place + 40])
            await trio.sleep(0.01)
        await until(lambda: names(mount) == {"film"})
        assert not library.find("film").trouble
        (tmp_path / "2.torrent").write_bytes(SONG.to_torrent()[:60])
        await until(lambda: any(item.state == "failed" for item in library.items.values()))
        assert names(mount) == {"film"}
        (tmp_path / "2.torrent").write_bytes(SONG.to_torrent())
        await until(lambda: names(mount) == {"film", "song"})
        assert all(item.state != "failed" for item in library.items.values())


@pytest.mark.real
@pytest.mark.expect_log("cannot be read")
@pytest.mark.expect_log("has lost 2 torrents at once")
async def test_a_disk_that_goes_and_comes(tmp_path: Path) -> None:
    root = tmp_path / "w"
    (root / "a").mkdir(parents=True)
    (root / "1.torrent").write_bytes(FILM.to_torrent())
    (root / "a" / "2.torrent").write_bytes(SONG.to_torrent())
    state = tmp_path / "state"
    async with followed(root, state) as (library, mount):
        before = mount.list()
        root.rename(tmp_path / "away")
        await trio.sleep(0.5)
        assert mount.list() == before
    async with followed(root, state) as (library, mount):  # and after a restart without it
        assert mount.list() == before
        root.mkdir()
        await trio.sleep(0.5)
        assert mount.list() == before
    async with followed(root, state) as (library, mount):
        assert mount.list() == before
        root.rmdir()
        (tmp_path / "away").rename(root)
        (root / "1.torrent").unlink()
        await until(lambda: names(mount) == {"a", "a/song"} or ("film",) not in mount.list())
        assert library.find("song").path == ("a", "song")


@pytest.mark.real
async def test_removed_while_we_were_away(tmp_path: Path) -> None:
    root = tmp_path / "w"
    root.mkdir()
    (root / "1.torrent").write_bytes(FILM.to_torrent())
    (root / "2.torrent").write_bytes(SONG.to_torrent())
    async with followed(root, tmp_path / "state") as (_, mount):
        before = mount.list()
    (root / "1.torrent").unlink()
    async with followed(root, tmp_path / "state") as (_, mount):
        after = mount.list()
        assert names(mount) == {"song"}
        assert after[("song",)] == before[("song",)]
        assert after[()][1] > before[()][1]  # an entry went: who looks at dates must see it
    async with followed(root, tmp_path / "state") as (_, mount):
        assert mount.list() == after


@pytest.mark.expect_log("does not answer; 1 torrents of it stay")
async def test_a_file_system_that_hangs_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "w"
    root.mkdir()
    (root / "1.torrent").write_bytes(FILM.to_torrent())
    async with followed(root, tmp_path / "state") as (_, mount):
        before = mount.list()
    monkeypatch.setattr(module, "FIRST_LOOK_SECONDS", 0.05)
    real = WatchDirectory.look
    monkeypatch.setattr(WatchDirectory, "look", lambda self: (time.sleep(0.3), real(self))[1])
    async with followed(root, tmp_path / "state") as (_, mount):
        assert mount.list() == before
