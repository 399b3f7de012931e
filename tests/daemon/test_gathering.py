"""What a mount begins with, and when it does not begin at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.daemon.libraries import Clock, FakeSession, begin, metainfo, opened
from tests.daemon.test_library import NEW, OLD, magnet, torrent_file, without_layers
from torrentfs.daemon.config import MountConfig
from torrentfs.daemon.gathering import gather
from torrentfs.daemon.items import WatchedFile
from torrentfs.daemon.sources import UrlSource
from torrentfs.engine.config import SessionConfig
from torrentfs.errors import ConfigError, InvalidTorrent, MetadataTimeout
from torrentfs.metainfo.magnet import Magnet

if TYPE_CHECKING:
    from tests.daemon.libraries import FakeMount
    from torrentfs.daemon.library import Library
    from torrentfs.daemon.sources import Source
    from torrentfs.metainfo.torrent_file import Metainfo

FILM, SONG, BOOK = metainfo("film"), metainfo("song"), metainfo("book")


async def gathered(
    library: Library, session: FakeSession, *sources: Source, **more: Any
) -> FakeMount:
    found, held = more.pop("watched", ()), more.pop("held", ())
    place = library.records._path
    if "settings" in more:
        more["session"] = more.pop("settings")
    base = MountConfig(sources, place.parent / "mnt" if place else Path("/m"), **more)
    ask: Any = session
    await gather(library, ask, base, lambda text: None, found, held)
    return await begin(library)


async def test_what_was_added_comes_back_where_it_was(tmp_path: Path) -> None:
    state = tmp_path / "l"
    async with opened(state) as (library, session):
        mount = await gathered(library, session, torrent_file(tmp_path, BOOK))
        await library.add(torrent_file(tmp_path, FILM), folder=("movies",))
        await library.add(torrent_file(tmp_path, metainfo("film", 2)), folder=("movies",))
        await library.add(torrent_file(tmp_path, SONG), paused=True)
        first, second = sorted(
            (path for path in mount.list() if len(path) == 2 and path[0] == "movies"),
            key=lambda path: len(path[1]),
        )
        assert first == ("movies", "film")
        assert second[1].startswith("film [")
        key = library.find("movies/film").key
        await library.remove(key)  # the name is free, and nobody may take it
        before = mount.list()
    for clock in (Clock(5.0), Clock(2e9)):  # set back, and far ahead
        async with opened(state, clock=clock) as (library, session):
            mount = await gathered(library, session, torrent_file(tmp_path, BOOK))
            assert mount.list() == before
            assert not session.resolved
            assert library.find("song").state == "paused"
            assert library.find("book").origin == "command line"


async def test_the_command_line_says_what_it_said_before(tmp_path: Path) -> None:
    state = tmp_path / "l"
    async with opened(state) as (library, session):
        mount = await gathered(
            library, session, torrent_file(tmp_path, BOOK), torrent_file(tmp_path, FILM)
        )
        before = mount.list()
    async with opened(state) as (library, session):
        mount = await gathered(library, session, torrent_file(tmp_path, BOOK))
        between = mount.list()
        assert set(between) == {path for path in before if path[:1] != ("film",)}
        assert between[()][1] > before[()][1]
    async with opened(state) as (library, session):
        mount = await gathered(
            library, session, torrent_file(tmp_path, BOOK), torrent_file(tmp_path, FILM)
        )
        after = mount.list()
        assert after[()][1] > between[()][1]
        del before[()], after[()]
        assert after == before


async def test_a_pause_of_the_command_line_lasts_until_it_is_not_named(tmp_path: Path) -> None:
    state, film = tmp_path / "l", torrent_file(tmp_path, FILM)
    song = torrent_file(tmp_path, SONG)
    for named, expected in (
        ([film], "asleep"),
        ([film], "paused"),
        ([song], ""),
        ([film, song], "asleep"),  # it was gone in between
    ):
        async with opened(state) as (library, session):
            await gathered(library, session, *named)
            if film in named:
                assert library.find("film").state == expected
                await library.pause(library.find("film").key)


async def test_changes_between_two_mounts_are_told(tmp_path: Path) -> None:
    state = tmp_path / "l"
    async with opened(state) as (library, session):
        await gathered(library, session, torrent_file(tmp_path, BOOK), torrent_file(tmp_path, FILM))
    async with opened(state) as (library, session):
        changes = library.changes()
        await gathered(library, session, torrent_file(tmp_path, BOOK), torrent_file(tmp_path, SONG))
        told = {changes.receive_nowait() for _ in range(2)}
        assert {(c.kind, c.path) for c in told} == {("added", ("song",)), ("removed", ("film",))}
        with pytest.raises(trio.WouldBlock):
            changes.receive_nowait()


async def test_magnets_of_the_command_line_are_waited_for(autojump_clock: object) -> None:
    async with opened(session=FakeSession([FILM, SONG], delay=40)) as (library, session):
        started = trio.current_time()
        mount = await gathered(library, session, magnet(FILM), magnet(SONG), magnet(FILM))
        assert trio.current_time() - started == 40
        assert {path[0] for path in mount.list() if path} == {"film", "song"}
    async with opened(session=FakeSession(delay=40)) as (library, session):
        with pytest.RaisesGroup(MetadataTimeout):
            await gathered(library, session, magnet(FILM), metadata_timeout=10.0)


async def test_what_holds_for_the_mount_is_not_kept_of_a_torrent(tmp_path: Path) -> None:
    """Else the tracker of one run would be a torrent's own one in the next."""
    state = tmp_path / "l"
    more = {"trackers": ("http://all/",), "web_seeds": ("http://w/",), "peers": (("10.0.0.1", 1),)}
    told = magnet(SONG, trackers=("http://t/",))
    async with opened(state, session=FakeSession([SONG])) as (library, session):
        await gathered(library, session, torrent_file(tmp_path, FILM), told, **more)
        asked = session.asked[FILM.hashes.key]
        assert (asked.trackers, asked.web_seeds, asked.peers) == tuple(more.values())
        assert session.asked[SONG.hashes.key].trackers == ("http://t/", "http://all/")
        assert session.resolved[0].trackers == ("http://t/", "http://all/")
    async with opened(state) as (library, session):
        await gathered(library, session, torrent_file(tmp_path, FILM), told)
        assert session.asked[FILM.hashes.key].trackers == ()
        assert session.asked[SONG.hashes.key].trackers == ("http://t/",)


async def test_a_magnet_that_counts_as_private_asks_its_own_trackers(tmp_path: Path) -> None:
    told = magnet(SONG, trackers=("http://t/",))
    settings = SessionConfig(cache_dir=tmp_path, private=True)
    async with opened(session=FakeSession([SONG, FILM])) as (library, session):
        await gathered(library, session, told, trackers=("http://all/",), settings=settings)
        assert session.resolved[0].trackers == ("http://t/",)
        await library.add(magnet(FILM, trackers=("http://f/",)))
        await trio.testing.wait_all_tasks_blocked()
        assert session.resolved[1].trackers == ("http://f/",)


async def test_but_not_those_of_the_library_and_of_watch_directories(tmp_path: Path) -> None:
    state = tmp_path / "l"
    watched = [WatchedFile("/w/1.magnet", ("w",), magnet=Magnet(SONG.hashes))]
    async with opened(state) as (library, session):
        await gathered(library, session, torrent_file(tmp_path, BOOK))
        await library.add(magnet(FILM, trackers=("http://t/",)))
    async with opened(state) as (library, session):
        mount = await gathered(library, session, watched=watched)
        assert set(mount.list()) == {()}
        assert {item.state for item in library.items.values()} == {"metadata"}
        await trio.testing.wait_all_tasks_blocked()
        assert {m.trackers for m in session.resolved} == {("http://t/",), ()}
    session = FakeSession()
    session.cached[SONG.hashes.key] = SONG, 1234.0
    async with opened(state, session=session) as (library, _):
        mount = await gathered(library, session, watched=watched)
        assert ("w", "song") in mount.list()
    async with opened(state) as (library, session):  # and what was known once is known
        mount = await gathered(library, session, magnet(BOOK), watched=watched)
        assert ("w", "song") in mount.list()
        assert ("book",) in mount.list()


async def test_what_a_url_gave_is_not_fetched_again(tmp_path: Path) -> None:
    state = tmp_path / "l"
    source = UrlSource("http://h/film.torrent", "http://h/film.torrent")
    async with opened(state) as (library, session):
        await gathered(library, session, torrent_file(tmp_path, BOOK))
        record = library.records.records[BOOK.hashes.key]
        library.records.put(replace(record, source=source.text))
    async with opened(state) as (library, session):
        mount = await gathered(library, session, source)  # there is no client to ask
        assert ("book",) in mount.list()
        await library.remove(BOOK.hashes.key)
    async with opened(state) as (library, session):
        with pytest.RaisesGroup(AttributeError):
            await gathered(library, session, source)


async def test_a_held_file_stands_for_what_it_was(tmp_path: Path) -> None:
    state = tmp_path / "l"
    one = WatchedFile("/w/a/1.torrent", ("a",), metainfo=FILM)
    async with opened(state) as (library, session):
        before = (await gathered(library, session, watched=[one])).list()
    async with opened(state) as (library, session):
        mount = await gathered(library, session, held=["/w/a/1.torrent"])
        assert mount.list() == before
        assert library.find("film").origin == "watch"
        await library.on_files([], ["/w/a/1.torrent"])
        assert not library.items
    async with opened(state) as (library, session):
        with pytest.raises(ConfigError, match="nothing to mount"):
            await gathered(library, session)


@pytest.mark.parametrize("way", ["command line", "watch"])
async def test_the_torrent_file_of_today_says_whom_to_ask(tmp_path: Path, way: str) -> None:
    state = tmp_path / "l"

    def named(torrent: Metainfo) -> dict[str, Any]:
        return {"watched": [WatchedFile("/w/1.torrent", (), torrent)]}

    for torrent in (OLD, NEW):
        async with opened(state) as (library, session):
            if way == "watch":
                await gathered(library, session, **named(torrent))
            else:
                await gathered(library, session, torrent_file(tmp_path, torrent))
            assert library.find("film").metainfo.advice == torrent.advice
            assert session.volumes[FILM.hashes.key].metainfo.advice == torrent.advice
    async with opened(state) as (library, session):  # by its hash, and from the records
        await gathered(library, session, magnet(FILM))
        assert session.volumes[FILM.hashes.key].metainfo.advice == NEW.advice


async def test_a_file_that_says_what_it_said_before_undoes_nothing(tmp_path: Path) -> None:
    state = tmp_path / "l"
    before = WatchedFile("/w/1.torrent", (), metainfo=OLD)
    async with opened(state) as (library, session):
        await gathered(library, session, watched=[before])
        await library.add(torrent_file(tmp_path, NEW))
    async with opened(state) as (library, session):
        await gathered(library, session, watched=[before])
        assert session.volumes[FILM.hashes.key].metainfo.advice == NEW.advice
    async with opened(state) as (library, session):
        await gathered(library, session, watched=[WatchedFile("/w/2.torrent", (), OLD)])
        assert session.volumes[FILM.hashes.key].metainfo.advice == OLD.advice


@pytest.mark.expect_log("was damaged")
async def test_nothing_is_mounted_over_a_damaged_library(tmp_path: Path) -> None:
    state = tmp_path / "l"
    async with opened(state) as (library, session):
        await gathered(library, session, torrent_file(tmp_path, BOOK))
        await library.add(torrent_file(tmp_path, FILM))
    state.write_bytes(b"#" * 5000)
    async with opened(state) as (library, session):
        with pytest.raises(ConfigError, match=r"was damaged.*nothing is mounted: name what"):
            await gathered(library, session)
    state.write_bytes(b"#" * 5000)
    async with opened(state) as (library, session):
        with pytest.raises(ConfigError, match="was damaged"):
            await gathered(library, session, watch=(tmp_path / "empty",))
    state.write_bytes(b"#" * 5000)
    async with opened(state) as (library, session):
        assert ("book",) in (await gathered(library, session, torrent_file(tmp_path, BOOK))).list()


@pytest.mark.expect_log("names no torrent: left out")
@pytest.mark.expect_log("is damaged")
async def test_damage_in_one_record_is_the_loss_of_one(tmp_path: Path) -> None:
    state = tmp_path / "l"
    async with opened(state) as (library, session):
        await gathered(library, session, torrent_file(tmp_path, BOOK))
        await library.add(torrent_file(tmp_path, FILM))
        await library.add(torrent_file(tmp_path, SONG))
        records = library.records
        records.put(records.records[FILM.hashes.key], lambda: b"no torrent")
        gone = replace(records.records[SONG.hashes.key], hints="what")
        records.put(gone, FILM.to_torrent)
    async with opened(state, session=FakeSession([FILM])) as (library, session):
        await gathered(library, session)
        assert [item.name for item in library.items.values()] == ["film"]
        assert library.find("film").state == "metadata"  # looked for again


async def test_a_source_that_is_no_torrent_ends_it(tmp_path: Path) -> None:
    async with opened() as (library, session):
        with pytest.raises(InvalidTorrent, match="lacks its piece layers"):
            await gathered(library, session, torrent_file(tmp_path, without_layers()))


async def test_few_sources_are_eager_and_many_are_not(tmp_path: Path) -> None:
    for count in (2, 17):
        async with opened() as (library, session):
            files = [torrent_file(tmp_path, metainfo(str(number))) for number in range(count)]
            await gathered(library, session, *files)
            assert {asked.eager for asked in session.asked.values()} == {count == 2}
