"""What a library promises: claims, places, dates, and that all of it comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.daemon.libraries import Clock, FakeSession, begin, metainfo, opened
from tests.storage.torrents import make
from torrentfs.daemon.config import Beside
from torrentfs.daemon.items import MAX_CHANGES, LibraryError, NotFound, WatchedFile
from torrentfs.daemon.library import Library
from torrentfs.daemon.sources import FileSource, MagnetSource
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.magnet import Magnet, magnet_of
from torrentfs.metainfo.torrent_file import build_torrent, parse_torrent
from torrentfs.storage.records import Pin
from torrentfs.vfs.tree import TreeOptions
from torrentfs.vfs.views import View

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.daemon.libraries import FakeVolume
    from torrentfs.engine.dormant import Shelving
    from torrentfs.metainfo.torrent_file import Metainfo

FILM, SONG, BOOK = metainfo("film"), metainfo("song"), metainfo("book")


def magnet(torrent: Metainfo, **more: Any) -> MagnetSource:
    made = Magnet(torrent.hashes, name=torrent.name, **more)
    return MagnetSource(made.to_uri(), made)


def torrent_file(tmp_path: Path, torrent: Metainfo) -> FileSource:
    path = tmp_path / f"{torrent.hashes.key}.torrent"
    path.write_bytes(torrent.to_torrent())
    return FileSource(str(path), path)


def without_layers() -> Metainfo:
    """A v2 torrent of which nothing could be proved."""
    whole = make(200_000, name="v2", version="v2").metainfo
    return parse_torrent(build_torrent(whole.info, {}))


def told(torrent: Metainfo, **more: Any) -> Metainfo:
    """Another .torrent file of it."""
    layers = torrent.piece_layers.stored()
    return parse_torrent(build_torrent(torrent.info, layers, **more))


def state(library: Library) -> list[tuple[str, str, tuple[str, ...] | None]]:
    return sorted((item.name, item.state, item.path) for item in library.items.values())


async def test_a_file_is_listed_at_once_and_for_good(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    async with opened(path) as (library, _):
        mount = await begin(library)
        item = await library.add(torrent_file(tmp_path, FILM), folder=("movies",))
        assert item.path == ("movies", "film")
        assert item.origin == "added"
        await library.add_torrent(SONG.to_torrent(), folder=("music", "old"))
        before = mount.list()
    (tmp_path / f"{FILM.hashes.key}.torrent").unlink()
    async with opened(path, clock=Clock(1000.0)) as (library, session):  # and the clock is wrong
        for record in list(library.records.records.values()):
            found = await library.known(InfoHashes(v1=bytes.fromhex(record.key)))
            library.claims.enter(found, Magnet(found.hashes), "").kept = True
        await library.settle(library.items.values())
        mount = await begin(library)
        assert mount.list() == before
        assert set(session.volumes) == {FILM.hashes.key, SONG.hashes.key}
        assert not session.resolved


async def test_what_the_user_told_for_all_is_used_for_all(
    tmp_path: Path, autojump_clock: object
) -> None:
    peers = (("192.0.2.1", 1), ("192.0.2.2", 2))
    async with opened(session=FakeSession([SONG])) as (library, session):
        library.beside = Beside(("http://own/",), ("http://seed/",), peers[:1])
        await begin(library)
        await library.add(torrent_file(tmp_path, FILM))
        await library.add(magnet(SONG, trackers=("http://t/",), peers=peers[1:]))
        await trio.sleep(5)
        film, song = session.asked[FILM.hashes.key], session.asked[SONG.hashes.key]
        assert (film.trackers, film.web_seeds, film.peers) == (
            ("http://own/",),
            ("http://seed/",),
            peers[:1],
        )
        assert (song.trackers, song.peers) == (("http://t/", "http://own/"), peers)
        [resolved] = session.resolved
        assert (resolved.trackers, resolved.peers) == (song.trackers, peers)


async def test_a_magnet_is_absent_until_it_is_known(autojump_clock: object) -> None:
    async with opened(session=FakeSession([FILM], delay=30)) as (library, _):
        mount = await begin(library)
        item = await library.add(magnet(FILM, trackers=("http://t/",)))
        await trio.sleep(1)
        assert (item.state, item.path, item.trouble) == ("metadata", None, "asking 3 peers")
        assert set(mount.list()) == {()}
        await trio.sleep(60)
        assert (item.path, item.trouble) == (("film",), "")
        assert library.find(FILM.hashes.key[:8]) is item


async def test_a_magnet_that_the_cache_knows_is_listed_at_once(autojump_clock: object) -> None:
    session = FakeSession()
    session.cached[FILM.hashes.key] = FILM, 1234.5
    async with opened(session=session) as (library, _):
        mount = await begin(library)
        item = await library.add(magnet(FILM))
        assert item.path == ("film",)
        assert item.added == 1234.5
        root = mount.list()[()]
        assert root[1] > 1_800_000_000 * 10**9  # though the film is old, the entry is new
        assert not session.resolved


async def test_the_key_of_a_v2_magnet_becomes_that_of_the_torrent(autojump_clock: object) -> None:
    hybrid = make(70_000, name="both", version="hybrid").metainfo
    async with opened(session=FakeSession([hybrid], delay=5)) as (library, session):
        await begin(library)
        v2 = Magnet(InfoHashes(v2=hybrid.hashes.v2))
        item = await library.add(MagnetSource("v2", v2), folder=("f",))
        assert item.key == hybrid.hashes.v2.hex()
        await trio.sleep(10)
        assert item.key == hybrid.hashes.key
        assert state(library) == [("both", "asleep", ("f", "both"))]
        again = await library.add(MagnetSource("v2", v2))
        assert again is item
        session.swarm.clear()


async def test_two_magnets_of_one_torrent_become_one(autojump_clock: object) -> None:
    hybrid = make(70_000, name="both", version="hybrid").metainfo
    async with opened(session=FakeSession([hybrid], delay=5)) as (library, _):
        await begin(library)
        await library.add(MagnetSource("v1", Magnet(InfoHashes(v1=hybrid.hashes.v1))))
        await library.add(MagnetSource("v2", Magnet(InfoHashes(v2=hybrid.hashes.v2))))
        assert len(library.items) == 2
        await trio.sleep(10)
        assert state(library) == [("both", "asleep", ("both",))]


async def test_what_is_removed_keeps_its_date(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    async with opened(path) as (library, session):
        mount = await begin(library)
        await library.add(torrent_file(tmp_path, FILM))
        await library.add(torrent_file(tmp_path, SONG))
        before = mount.list()
        await library.remove(FILM.hashes.key)
        assert state(library) == [("song", "asleep", ("song",))]
        assert FILM.hashes.key not in session.volumes
        between = mount.list()
        assert between[()][1] > before[()][1]
        await library.add(torrent_file(tmp_path, FILM))
        after = mount.list()
        assert after[()][1] > between[()][1]
        del before[()], after[()]
        assert after == before
        with pytest.raises(NotFound):
            await library.remove("ff" * 20)


async def test_the_root_moves_although_the_clock_does_not(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(clock=clock) as (library, _):
        mount = await begin(library)
        times = []
        for torrent in (FILM, SONG, BOOK):
            await library.add(torrent_file(tmp_path, torrent))
            times.append(mount.list()[()][1] // 10**9)
            clock.now -= 86400
        assert times == sorted(set(times))  # in whole seconds, as media servers look


async def test_folders(tmp_path: Path) -> None:
    async with opened() as (library, _):
        mount = await begin(library)
        item = await library.add(torrent_file(tmp_path, FILM))
        await library.add(torrent_file(tmp_path, FILM))
        assert item.path == ("film",)
        inode = mount.list()[("film",)]
        await library.add(torrent_file(tmp_path, FILM), folder=("movies",))
        assert item.path == ("movies", "film")
        assert mount.list()[("movies", "film")] == inode
        assert ("film",) not in mount.list()
        await library.add(torrent_file(tmp_path, FILM))
        assert item.path == ("movies", "film")  # named without a folder it stays where it is
        await library.add(torrent_file(tmp_path, SONG), folder=tuple("x" * 500))
        assert "deep" in library.find(SONG.hashes.key).trouble


async def test_a_torrent_that_cannot_be_used(tmp_path: Path) -> None:
    async with opened() as (library, _):
        mount = await begin(library)
        with pytest.raises(InvalidTorrent, match="lacks its piece layers"):
            await library.add(torrent_file(tmp_path, without_layers()))
        assert not library.items
        assert set(mount.list()) == {()}
        with pytest.raises(InvalidTorrent, match="an uploaded file"):
            await library.add_torrent(b"no")


OLD = FILM.renewed(told(FILM, trackers=[["http://t/old/announce"]], web_seeds=["http://w/"]))
NEW = FILM.renewed(told(FILM, trackers=[["http://t/new/announce"]], nodes=[("10.0.0.1", 1)]))


async def test_a_torrent_that_is_added_again_asks_whom_it_names_now(tmp_path: Path) -> None:
    """Private trackers give new keys: the old URL is of no use for ever."""
    path = tmp_path / "l.sqlite"
    async with opened(path) as (library, session):
        mount = await begin(library)
        await library.add(torrent_file(tmp_path, OLD))
        before, changes = mount.list(), library.changes()
        item = await library.add(torrent_file(tmp_path, NEW))
        assert item.metainfo.advice == NEW.advice
        volume = session.volumes[item.key]
        assert item.volume is volume
        assert [each.metainfo.advice for each in volume.renewed] == [NEW.advice]
        assert changes.receive_nowait().kind == "changed"
        assert mount.list() == before
        for same in (torrent_file(tmp_path, NEW), magnet(NEW), torrent_file(tmp_path, FILM)):
            await library.add(same)  # says nothing new
        await library.add_torrent(NEW.to_torrent())
        assert len(volume.renewed) == 1
        await library.add(magnet(FILM, trackers=("http://more/",)))
        assert [each.trackers for each in volume.renewed] == [(), ("http://more/",)]
        assert volume.metainfo.advice == NEW.advice
    async with opened(path) as (library, _):
        found = await library.known(FILM.hashes)
        assert found is not None
        assert found.advice == NEW.advice


@pytest.mark.parametrize("way", ["removed", "uploaded", "without layers"])
async def test_what_it_names_lasts(tmp_path: Path, way: str) -> None:
    path = tmp_path / "l.sqlite"
    old, new = OLD, NEW
    if way == "without layers":
        whole = make(200_000, name="v2", version="v2").metainfo
        old, new = told(without_layers(), trackers=[["http://t/old"]]), whole
    async with opened(path) as (library, session):
        await begin(library)
        if way == "without layers":
            with pytest.raises(InvalidTorrent, match="lacks its piece layers"):
                await library.add(torrent_file(tmp_path, old))
        else:
            await library.add(torrent_file(tmp_path, old))
        if way == "removed":
            await library.remove(old.hashes.key)
        if way == "uploaded":
            item = await library.add_torrent(new.to_torrent())
        else:
            item = await library.add(torrent_file(tmp_path, new))
        assert item.volume is session.volumes[new.hashes.key]
    async with opened(path) as (library, _):
        found = await library.known(new.hashes)
        assert found is not None
        assert found.to_torrent() == new.to_torrent()


async def test_pauses_and_pins_are_written_down(tmp_path: Path, autojump_clock: object) -> None:
    async with opened(session=FakeSession([SONG])) as (library, _):
        await begin(library)
        item = await library.add(torrent_file(tmp_path, FILM))
        await library.pause(item.key)
        assert item.state == "paused"
        await library.pin(item.key, [Pin(1)])
        await library.pin(item.key, [Pin(0, 5, 6)])
        await library.unpin(item.key, [Pin(0, 5, 6)])
        record = library.records.records[item.key]
        assert (record.paused, record.pins, item.pins) == (True, (Pin(1),), (Pin(1),))
        assert await library.evict(item.key, 1, pinned=True) == 1000
        assert library.records.records[item.key].pins == ()
        await library.resume(item.key)
        assert item.state == "asleep"
        assert not library.records.records[item.key].paused
        other = await library.add(magnet(SONG), paused=True)
        await trio.sleep(100)
        assert (other.state, other.path) == ("paused", None)
        await library.resume(other.key)
        await trio.sleep(100)
        assert other.path == ("song",)


async def test_who_asks_again_is_looked_for_at_once(autojump_clock: object) -> None:
    async with opened(session=FakeSession()) as (library, session):
        await begin(library)
        item = await library.add(magnet(FILM))
        await trio.sleep(65)
        assert "looked for again in 1 min" in item.trouble
        session.swarm[FILM.hashes.key] = FILM
        await library.add(magnet(FILM, trackers=("http://t/",)))
        await trio.sleep(5)
        assert item.path == ("film",)
        assert session.resolved[-1].trackers == ("http://t/",)
        song = await library.add(magnet(SONG))
        await trio.sleep(65)
        session.swarm[SONG.hashes.key] = SONG
        await library.search_now(song.key)
        await trio.sleep(5)
        assert song.path == ("song",)


async def test_changes_are_told(tmp_path: Path, autojump_clock: object) -> None:
    async with opened(session=FakeSession([SONG])) as (library, _):
        await begin(library)
        changes = library.changes()
        await library.add(torrent_file(tmp_path, FILM))
        await library.pause(FILM.hashes.key)
        await library.remove(FILM.hashes.key)
        await library.add(magnet(SONG))
        await trio.sleep(10)
        told = [changes.receive_nowait() for _ in range(4)]
        assert [(c.kind, c.name, c.path) for c in told] == [
            ("added", "film", ("film",)),
            ("changed", "film", ("film",)),
            ("removed", "film", ("film",)),
            ("added", "song", ("song",)),
        ]
        for _ in range(MAX_CHANGES):
            library.listeners.tell_of("changed", library.find("song"))
        library.listeners.tell_of("changed", library.find("song"))
        for _ in range(MAX_CHANGES):
            await changes.receive()
        with pytest.raises(trio.EndOfChannel):
            await changes.receive()


async def test_a_cancelled_command_is_not_left_half_done(tmp_path: Path) -> None:
    async with opened(tmp_path / "l") as (library, _):
        mount = await begin(library)
        with trio.CancelScope() as scope:
            item = library.claims.enter(FILM, magnet_of(FILM), "film")
            item.kept = True
            scope.cancel()
            await library.settle([item])
        assert item.path == ("film",)
        assert ("film",) in mount.list()
        assert library.records.records[item.key].kept


async def test_what_the_view_hides_is_nobodys_sibling() -> None:
    async with opened() as (library, session):
        library.view = View(exclude=("c",))
        await begin(library)
        await library.add_torrent(FILM.to_torrent())
        assert session.asked[FILM.hashes.key].select == (range(1),)
        library.view = View(select=("nothing",))
        await library.add_torrent(SONG.to_torrent())
        assert session.asked[SONG.hashes.key].select == ()


async def test_a_torrent_of_which_nothing_is_shown_is_not_told_of(tmp_path: Path) -> None:
    view = View(select=("nothing",))
    path = tmp_path / "l.sqlite"
    for run in range(2):
        async with opened(path) as (library, _):
            if run:
                library.claims.enter(SONG, Magnet(SONG.hashes), "").kept = True
                await library.settle(library.items.values())
            changes = library.changes()
            await begin(library, TreeOptions(view=view))
            if not run:
                song = await library.add_torrent(SONG.to_torrent(), folder=("music",))
                film = await library.add_torrent(FILM.to_torrent())
                await library.remove(film.key)
            song = library.find("song")
            assert (song.path, song.state) == (None, "asleep")
            for _ in range(2):  # also when its file in a watch directory is written anew
                assert "--select" in song.trouble
                await library.on_files([file("song.torrent", SONG)], [])
            while changes.statistics().current_buffer_used:
                assert changes.receive_nowait().path is None


async def test_dead_magnets_of_the_last_run_do_not_hold_up_a_new_one(
    autojump_clock: object,
) -> None:
    dead = [magnet(metainfo("dead", seed)) for seed in range(30)]
    async with opened(session=FakeSession([FILM, SONG])) as (library, session):
        await begin(library)
        for source in dead:
            item = library.claims.enter(None, source.magnet, "")
            item.kept = item.recalled = True
        await library.settle(library.items.values())
        await trio.sleep(5)
        film = await library.add(magnet(FILM))
        await trio.sleep(2)
        assert film.path == ("film",)
        session.swarm[dead[-1].magnet.hashes.key] = metainfo("dead", 29)
        again = await library.add(dead[-1])  # it is one of these, but is asked for now
        await trio.sleep(2)
        assert again.path is not None


async def test_a_magnet_of_an_earlier_run_is_one_until_it_is_asked_for(tmp_path: Path) -> None:
    for run in range(2):
        async with opened(tmp_path / "l") as (library, _):
            item = library.claims.enter(None, magnet(FILM).magnet, "")
            assert item.recalled == bool(run)
            await library.add(magnet(FILM))
            assert not item.recalled


class SlowSession(FakeSession):
    """Shelves when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asks, self.goes_on = trio.Event(), trio.Event()
        self.goes_on.set()

    def hold(self) -> None:
        self.asks, self.goes_on = trio.Event(), trio.Event()

    async def shelve_many(self, shelvings: Iterable[Shelving]) -> list[FakeVolume]:
        self.asks.set()
        await self.goes_on.wait()
        return await super().shelve_many(shelvings)


async def test_what_is_claimed_anew_while_it_leaves_stays() -> None:
    """A .torrent moved from one watch directory to another, which two tasks follow."""
    async with opened(session=SlowSession()) as (library, session):
        assert isinstance(session, SlowSession)
        mount = await begin(library)
        await library.on_files([file("film.torrent", FILM, "a")], [])
        inode = mount.list()[("a", "film")]
        session.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(library.on_files, [], ["/w/a/film.torrent"])
            await session.asks.wait()
            nursery.start_soon(library.on_files, [file("film.torrent", FILM, "b")], [])
            await trio.testing.wait_all_tasks_blocked()
            session.goes_on.set()
        assert state(library) == [("film", "asleep", ("b", "film"))]
        assert mount.list()[("b", "film")] == inode
        assert set(session.volumes) == {FILM.hashes.key}


async def test_add_while_the_same_torrent_is_removed() -> None:
    async with opened(session=SlowSession()) as (library, session):
        assert isinstance(session, SlowSession)
        mount = await begin(library)
        key = (await library.add_torrent(FILM.to_torrent())).key
        session.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(library.remove, key)
            await session.asks.wait()
            nursery.start_soon(library.add_torrent, FILM.to_torrent())
            while not library.items[key].kept:  # noqa: ASYNC110 - a claim has no event
                await trio.sleep(0.001)
            session.goes_on.set()
        assert state(library) == [("film", "asleep", ("film",))]
        assert ("film",) in mount.list()


async def test_remove_while_the_same_torrent_is_added() -> None:
    async with opened(session=SlowSession()) as (library, session):
        assert isinstance(session, SlowSession)
        await begin(library)
        session.hold()

        async def remove() -> None:
            await session.asks.wait()
            [key] = library.items
            async with trio.open_nursery() as nursery:
                nursery.start_soon(library.remove, key)
                while library.items[key].kept:  # noqa: ASYNC110 - a claim has no event
                    await trio.sleep(0.001)
                session.goes_on.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(remove)
            with pytest.raises(InvalidTorrent, match="film was removed at the same time"):
                await library.add_torrent(FILM.to_torrent())
        assert not library.items
        assert not session.volumes


# --- files of watch directories ---


def file(name: str, torrent: Metainfo | None, *folder: str, trouble: str = "") -> WatchedFile:
    return WatchedFile(f"/w/{'/'.join((*folder, name))}", folder, torrent, trouble=trouble)


async def test_files_come_change_and_go() -> None:
    async with opened() as (library, session):
        mount = await begin(library)
        await library.on_files([file("1.torrent", FILM, "a"), file("2.torrent", SONG)], [])
        assert state(library) == [
            ("film", "asleep", ("a", "film")),
            ("song", "asleep", ("song",)),
        ]
        assert library.find("film").origin == "watch"
        inode = mount.list()[("a", "film")]
        await library.on_files([file("1.torrent", FILM, "b")], ["/w/a/1.torrent"])  # renamed
        assert mount.list()[("b", "film")] == inode
        await library.on_files([file("2.torrent", BOOK)], [])
        assert {name for name, _, _ in state(library)} == {"film", "book"}
        await library.on_files([], ["/w/b/1.torrent", "/w/2.torrent", "/w/never"])
        assert not library.items
        assert not session.volumes
        assert set(mount.list()) == {()}


async def test_two_files_of_one_torrent() -> None:
    async with opened() as (library, _):
        await begin(library)
        await library.on_files([file("1.torrent", FILM, "a"), file("2.torrent", FILM, "b")], [])
        item = library.find("film")
        assert item.path == ("a", "film")
        await library.on_files([], ["/w/a/1.torrent"])
        assert item.path == ("b", "film")


async def test_a_file_that_names_others_to_ask_is_followed() -> None:
    async with opened() as (library, session):
        await begin(library)
        await library.on_files([WatchedFile("/w/1", (), OLD)], [])
        item = library.find(FILM.hashes.key)
        await library.on_files([WatchedFile("/w/1", (), OLD)], [])
        volume = session.volumes[item.key]
        assert volume.renewed == []
        await library.on_files([WatchedFile("/w/1", (), NEW)], [])
        assert volume.metainfo.advice == NEW.advice
        assert library.records.records[item.key].told == NEW.advice.fingerprint
        assert library.records.records[item.key].said == (("/w/1", NEW.advice.fingerprint),)
        await library.on_files([WatchedFile("/w/1", (), magnet=Magnet(FILM.hashes))], [])
        assert volume.metainfo.advice == NEW.advice
        assert len(volume.renewed) == 1


async def test_a_file_that_is_no_torrent_is_told_about() -> None:
    async with opened() as (library, _):
        mount = await begin(library)
        await library.on_files([file("1.torrent", None, trouble="cut short")], [])
        [item] = library.items.values()
        assert (item.name, item.state, item.trouble) == ("1.torrent", "failed", "cut short")
        await library.on_files([file("1.torrent", FILM)], [])  # now it is whole
        assert state(library) == [("film", "asleep", ("film",))]
        await library.on_files([file("1.torrent", None, trouble="cut short")], [])
        item = library.find("film")  # written anew: until that is whole, the old one stays
        assert item.path == ("film",)
        assert "cut short; what it was before is kept" in item.trouble
        await library.on_files([file("1.torrent", FILM)], [])
        assert not item.trouble
        await library.on_files([file("2.torrent", None, trouble="bad")], [])
        await library.on_files([], ["/w/1.torrent", "/w/2.torrent"])
        assert not library.items
        assert set(mount.list()) == {()}


async def test_the_magnet_of_a_torrent_without_layers_is_looked_for_as_told(
    tmp_path: Path,
) -> None:
    whole, lacking = make(200_000, name="v2", version="v2").metainfo, without_layers()
    path, session = tmp_path / "l", FakeSession()
    async with opened(path, session=session) as (library, _):
        await begin(library)
        await library.on_files([file("v2.torrent", lacking)], [])
        [item] = library.items.values()
        assert (item.state, item.path) == ("failed", None)
        assert "use its magnet link" in item.trouble
        await library.on_files([file("v2.torrent", lacking)], [])  # written anew
        assert item.state == "failed"
        assert not session.resolved
        assert await library.add(magnet(lacking)) is item
        assert item.state == "metadata"
        await library.on_files([file("v2.torrent", lacking)], [])
        assert item.state == "metadata"
    session = FakeSession([whole], delay=0)
    async with opened(path, session=session) as (library, _):
        library.claims.enter(None, magnet(lacking).magnet, "").kept = True
        await library.on_files([file("v2.torrent", lacking)], [])
        await begin(library)
        [item] = library.items.values()
        with trio.fail_after(10):
            while item.path is None:  # noqa: ASYNC110 - a place has no event
                await trio.sleep(0.001)
        assert state(library) == [("v2", "asleep", ("v2",))]
        await library.on_files([file("v2.torrent", lacking)], [])
        assert state(library) == [("v2", "asleep", ("v2",))]
    async with opened(path) as (library, session):
        found = await library.known(whole.hashes)
        assert found is not None
        assert not found.missing_layers()
        assert not session.resolved


async def test_what_a_file_names_is_removed_with_it(tmp_path: Path) -> None:
    async with opened() as (library, _):
        await begin(library)
        place = tmp_path / "1.torrent"
        place.touch()
        await library.on_files([WatchedFile(str(place), (), FILM)], [])
        with pytest.raises(LibraryError, match=r"because of .*1\.torrent: remove that file"):
            await library.remove(FILM.hashes.key)
        await library.add(torrent_file(tmp_path, FILM), folder=("movies",))
        await library.on_files([], [str(place)])
        assert state(library) == [("film", "asleep", ("movies", "film"))]  # it was added as well
        await library.on_files([WatchedFile(str(place), (), SONG)], [])
        place.unlink()  # as with a disk that is gone: the library has not heard of it
        await library.remove(SONG.hashes.key)
        assert {item.name for item in library.items.values()} == {"film"}
