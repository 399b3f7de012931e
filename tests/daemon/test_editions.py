"""Publications: what a publisher names is shown, and changes when he names another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.daemon.libraries import FakeSession, begin, metainfo, opened
from tests.daemon.test_gathering import gathered
from tests.daemon.test_library import torrent_file, without_layers
from tests.discovery.dht.test_items import PUBLIC, signed
from tests.storage.torrents import make
from torrentfs.daemon import claims, editions
from torrentfs.daemon.config import Beside
from torrentfs.daemon.editions import ASK_SECONDS, INTERVAL, moved_pins
from torrentfs.daemon.items import Item, LibraryError, WatchedFile
from torrentfs.daemon.sources import PublisherSource, parse_source
from torrentfs.engine.errands import RUN, Errands
from torrentfs.errors import ConfigError, InvalidTorrent, MetadataTimeout
from torrentfs.storage.records import Pin

if TYPE_CHECKING:
    from pathlib import Path

    from torrentfs.daemon.library import Library
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.wire.krpc import Item as Said

ONE, TWO, THREE = (metainfo("weekly", seed) for seed in (1, 2, 3))
LINK = f"magnet:?xs=urn:btpk:{PUBLIC.hex()}&dn=journal&tr=http%3A%2F%2Ft%2F"


pytestmark = pytest.mark.usefixtures("no_threads")


def source(link: str = LINK) -> PublisherSource:
    found = parse_source(link)
    assert isinstance(found, PublisherSource)
    return found


def names(torrent: Metainfo, sequence: int) -> Said:
    """What the publisher says."""
    return signed({"ih": torrent.hashes.v1}, sequence)


class FakeDht:
    """Has one item, or none; a lookup takes a second, and `times` says when they began."""

    def __init__(self, said: Said | None = None) -> None:
        self.said = said
        self.is_silent = False
        self.times: list[float] = []
        self.put: list[Said | None] = []

    async def newest_item(self, key: bytes, salt: bytes, known: Said | None = None) -> Said:
        assert (key, salt) == (PUBLIC, b"")
        self.times.append(trio.current_time())
        await trio.sleep(1)
        while self.is_silent or (self.said is None and known is None):
            await trio.sleep_forever()
        found = max((one for one in (self.said, known) if one), key=lambda one: one.sequence or 0)
        self.put.append(found if known is not None else None)
        return found

    @property
    def pauses(self) -> list[float]:
        return [b - a for a, b in zip(self.times, self.times[1:], strict=False)]


def session_of(*swarm: Metainfo, said: Said | None = None) -> FakeSession:
    session = FakeSession(swarm, delay=2.0)
    session.dht = FakeDht(said)
    return session


def shown(library: Library) -> Item:
    [publication] = library.editions.all.values()
    assert publication.item is not None
    return publication.item


async def test_a_newer_edition_takes_the_place_of_the_old_one(autojump_clock: object) -> None:
    session = session_of(ONE, TWO, said=names(ONE, 1))
    async with opened(session=session) as (library, _):
        library.editions._chance = lambda: 0.5
        mount = await begin(library)
        first = await library.add(source(), folder=("news",))
        assert (first.state, first.name, first.origin) == ("metadata", "journal", "added")
        assert library.find(first.key) is first
        await trio.sleep(10)
        assert library.find(first.key) is shown(library)  # called the same whatever it shows
        assert shown(library).path == ("news", "weekly")
        assert shown(library).key == ONE.hashes.key
        assert session.resolved[0].trackers == ("http://t/",)
        assert set(library.items) == {ONE.hashes.key}
        before = mount.list()
        changes = library.changes()
        session.dht.said = names(TWO, 2)
        session.delay = 30.0
        await trio.sleep(INTERVAL - 50)
        assert shown(library).key == ONE.hashes.key
        await trio.sleep(50)
        old, new = library.items[ONE.hashes.key], library.items[TWO.hashes.key]
        assert (old.path, new.path, new.state) == (("news", "weekly"), None, "metadata")
        assert set(mount.list()) == set(before)
        await trio.sleep(40)
        assert shown(library) is new
        assert set(library.items) == set(session.volumes) == {TWO.hashes.key}
        assert set(library.records.records) == {TWO.hashes.key}  # or they would be ever more
        assert not library.records.has_torrent(ONE.hashes.key)
        assert new.path == ("news", "weekly")
        assert mount.list().keys() == before.keys()
        assert mount.list()[("news",)][0] == before[("news",)][0]
        assert mount.list()[("news",)][1] > before[("news",)][1]
        told = [changes.receive_nowait() for _ in range(changes.statistics().current_buffer_used)]
        assert [(c.kind, c.path) for c in told if c.kind != "changed"] == [
            ("removed", ("news", "weekly")),
            ("added", ("news", "weekly")),
        ]


async def test_an_edition_that_comes_back_while_it_is_read_gets_its_pins_whatever_room_there_is(
    autojump_clock: object,
) -> None:
    session = session_of(ONE, TWO, said=names(ONE, 1))
    async with opened(session=session) as (library, _):
        mount = await begin(library)
        await library.add(source())
        await trio.sleep(10)
        volume: Any = shown(library).volume
        await library.pin(ONE.hashes.key, [Pin(0)])
        mount.closed = trio.Event()
        session.dht.said = names(TWO, 2)
        await trio.sleep(INTERVAL * 2)
        assert shown(library).key == TWO.hashes.key
        assert volume.pins == ()
        volume.is_full = True  # the pins of the other one are still there
        session.dht.said = names(ONE, 3)
        await trio.sleep(INTERVAL * 2)
        assert (shown(library).key, shown(library).path) == (ONE.hashes.key, ("weekly",))
        assert shown(library).volume is volume
        assert volume.pins == shown(library).pins == (Pin(0),)


async def test_who_reads_the_old_edition_reads_on(autojump_clock: object) -> None:
    session = session_of(ONE, TWO, said=names(ONE, 1))
    async with opened(session=session) as (library, _):
        mount = await begin(library)
        await library.add(source())
        await trio.sleep(10)
        volume: Any = shown(library).volume
        await library.pin(ONE.hashes.key, [Pin(0)])
        mount.closed = trio.Event()
        session.dht.said = names(TWO, 2)
        await trio.sleep(INTERVAL * 2)
        assert set(session.volumes) == {ONE.hashes.key, TWO.hashes.key}
        assert volume in library.volumes  # so that it is failed when the mount ends
        assert volume.pins == ()
        assert not mount.expelled
        assert set(library.items) == {TWO.hashes.key}
        session.dht.said = names(ONE, 3)  # back again: it is the same torrent
        await trio.sleep(INTERVAL * 2)
        assert shown(library).volume is volume
        mount.closed.set()
        await trio.sleep(1)
        assert set(session.volumes) == {ONE.hashes.key}
        assert len(mount.expelled) == 1


async def test_nobody_plays_back_what_was(tmp_path: Path, autojump_clock: object) -> None:
    session = session_of(ONE, TWO, said=names(TWO, 7))
    async with opened(tmp_path / "l", session) as (library, _):
        await begin(library)
        await library.add(source())
        await trio.sleep(10)
        session.dht.newest_item = _always(names(ONE, 6))
        await trio.sleep(3 * INTERVAL)
        assert shown(library).key == TWO.hashes.key
    session = session_of(ONE, said=names(ONE, 7))  # the same number counts for nothing either
    session.dht.newest_item = _always(names(ONE, 7))
    async with opened(tmp_path / "l", session) as (library, _):
        await gathered(library, session)
        await trio.sleep(3 * INTERVAL)
        assert shown(library).key == TWO.hashes.key


def _always(said: Said) -> Any:
    async def newest_item(key: bytes, salt: bytes, known: Said | None = None) -> Said:
        await trio.sleep(1)
        return said

    return newest_item


async def test_it_is_there_at_once_after_a_restart(tmp_path: Path, autojump_clock: object) -> None:
    session = session_of(ONE, said=names(ONE, 4))
    async with opened(tmp_path / "l", session) as (library, _):
        await begin(library)
        await library.add(source(), folder=("news",), paused=False)
        await trio.sleep(10)
        await library.pin(ONE.hashes.key, [Pin(1)])
    session = session_of(TWO)
    session.dht.is_silent = True
    async with opened(tmp_path / "l", session) as (library, _):
        started = trio.current_time()
        mount = await gathered(library, session)
        assert trio.current_time() == started
        assert ("news", "weekly") in mount.list()
        assert shown(library).pins == (Pin(1),)
        [publication] = library.editions.all.values()
        assert (publication.sequence, publication.kept) == (4, True)
        await trio.sleep(ASK_SECONDS + 1)
        assert "cannot be asked for" in publication.trouble
        session.dht.is_silent, session.dht.said = False, names(TWO, 5)
        await trio.sleep(100)
        assert shown(library).key == TWO.hashes.key
        assert shown(library).pins == (Pin(1),)
        assert publication.trouble == ""
        await library.remove(TWO.hashes.key)
    async with opened(tmp_path / "l", session) as (library, _):
        with pytest.raises(ConfigError, match="nothing to mount"):
            await gathered(library, session)


async def test_an_edition_on_its_way_is_looked_for_after_a_restart(
    tmp_path: Path, autojump_clock: object
) -> None:
    session = session_of(ONE, said=names(ONE, 1))
    async with opened(tmp_path / "l", session) as (library, _):
        await begin(library)
        await library.add(source())
        await trio.sleep(10)
        session.dht.said = names(TWO, 2)  # nobody has its metadata
        await trio.sleep(2 * INTERVAL)
        assert set(library.items) == {ONE.hashes.key, TWO.hashes.key}
    session = session_of(TWO)
    session.dht.is_silent = True
    async with opened(tmp_path / "l", session) as (library, _):
        mount = await gathered(library, session)
        assert ("weekly",) in mount.list()
        assert shown(library).key == ONE.hashes.key
        await trio.sleep(10)
        assert shown(library).key == TWO.hashes.key
        assert ("weekly",) in mount.list()


async def test_an_edition_that_nobody_has_gives_way_to_the_next(autojump_clock: object) -> None:
    session = session_of(ONE, THREE, said=names(ONE, 1))
    async with opened(session=session) as (library, _):
        await begin(library)
        await library.add(source())
        await trio.sleep(10)
        session.dht.said = names(TWO, 2)
        await trio.sleep(2 * INTERVAL)
        assert library.items[TWO.hashes.key].state == "metadata"
        session.dht.said = names(THREE, 3)
        await trio.sleep(2 * INTERVAL)
        assert set(library.items) == {THREE.hashes.key}
        session.dht.said = names(TWO, 4)
        await trio.sleep(2 * INTERVAL)
        session.dht.said = names(THREE, 5)  # back to what is shown
        await trio.sleep(2 * INTERVAL)
        assert set(library.items) == {THREE.hashes.key}


async def test_it_asks_each_hour_and_less_often_when_it_fails(autojump_clock: object) -> None:
    session = session_of(ONE, said=names(ONE, 1))
    async with opened(session=session) as (library, _):
        library.editions._chance = lambda: 0.5
        await begin(library)
        await library.add(source())
        await trio.sleep(3 * INTERVAL)
        dht = session.dht
        assert dht.pauses == [INTERVAL + 1] * (len(dht.times) - 1)
        assert dht.put == [None, names(ONE, 1), names(ONE, 1)]  # from the second look on
        dht.times.clear()
        dht.is_silent = True
        await trio.sleep(6 * INTERVAL)
        asked = ASK_SECONDS
        assert dht.pauses[:6] == [60 + asked, 300 + asked, 900 + asked, *[3600 + asked] * 3]
        assert shown(library).volume is not None
        dht.is_silent = False
        dht.times.clear()
        await trio.sleep(3 * INTERVAL)
        assert dht.pauses[0] == INTERVAL + 1
        dht.times.clear()
        await library.add(source())  # who names it again wants it looked for now
        await trio.sleep(1)
        assert len(dht.times) == 1


async def test_a_pause_is_for_questions_too(autojump_clock: object) -> None:
    session = session_of(ONE, TWO, said=names(ONE, 1))
    async with opened(session=session) as (library, _):
        await begin(library)
        await library.add(source())
        await trio.sleep(10)
        await library.pause(ONE.hashes.key)
        session.dht.times.clear()
        session.dht.said = names(TWO, 2)
        await trio.sleep(3 * INTERVAL)
        assert not session.dht.times
        await library.resume(ONE.hashes.key)
        await trio.sleep(10)
        assert shown(library).key == TWO.hashes.key


async def test_a_pause_stops_an_edition_on_its_way(autojump_clock: object) -> None:
    session = session_of(ONE, said=names(ONE, 1))
    async with opened(session=session) as (library, _):
        await begin(library)
        await library.add(source())
        await trio.sleep(10)
        session.dht.said = names(TWO, 2)
        await trio.sleep(2 * INTERVAL)
        await library.pause(ONE.hashes.key)
        assert library.items[TWO.hashes.key].state == "paused"
        await library.resume(TWO.hashes.key)
        assert not library.items[ONE.hashes.key].paused


async def test_what_names_no_torrent_changes_nothing(
    tmp_path: Path, autojump_clock: object
) -> None:
    session = session_of(ONE, TWO, said=names(ONE, 1))
    async with opened(tmp_path / "l", session) as (library, _):
        await begin(library)
        await library.add(source())
        await trio.sleep(10)
        session.dht.said = signed({"ih": b"short"}, 2)
        await trio.sleep(2 * INTERVAL)
        [publication] = library.editions.all.values()
        assert "names no torrent" in publication.trouble
        assert (shown(library).key, publication.sequence) == (ONE.hashes.key, 2)
    async with opened(tmp_path / "l", session) as (library, _):
        mount = await gathered(library, session, source())  # on the command line too
        assert ("weekly",) in mount.list()
        session.dht.said = names(TWO, 3)
        await trio.sleep(10)
        assert shown(library).key == TWO.hashes.key


async def test_an_edition_that_cannot_be_read_is_not_shown(autojump_clock: object) -> None:
    broken = without_layers()
    session = session_of(ONE, said=names(ONE, 1))
    session.swarm[broken.hashes.key] = broken
    assert broken.hashes.v2 is not None
    async with opened(session=session) as (library, _):
        mount = await begin(library)
        await library.add(source())
        await trio.sleep(10)
        session.dht.said = signed({"ih": broken.hashes.v2[:20]}, 2)
        await trio.sleep(2 * INTERVAL)
        assert set(mount.list()) >= {("weekly",)}
        assert shown(library).key == ONE.hashes.key
        assert "lacks its piece layers" in library.items[broken.hashes.key].trouble


async def test_without_the_dht(tmp_path: Path, autojump_clock: object) -> None:
    async with opened() as (library, session):
        await begin(library)
        with pytest.raises(ConfigError, match="leave out --no-dht"):
            await library.add(source())
        library.dht_off = "--proxy"
        session.dht = FakeDht(names(ONE, 1))
        with pytest.raises(ConfigError, match="leave out --proxy"):
            await library.add(source())
        assert not library.items
        assert not library.editions.all
        one = WatchedFile("/w/1.magnet", (), publisher=source())
        await library.on_files([one], [])
        [publication] = library.editions.all.values()
        assert publication.trouble == "a publisher is found in the DHT only: leave out --proxy"
        assert shown(library).state == "metadata"
    session = session_of(ONE, said=names(ONE, 1))
    async with opened(tmp_path / "l", session) as (library, _):
        await begin(library)
        await library.add(source())
        await trio.sleep(10)
    async with opened(tmp_path / "l") as (library, without):
        mount = await gathered(library, without, source())
        assert ("weekly",) in mount.list()
        [publication] = library.editions.all.values()
        assert publication.trouble == "nothing newer is found: leave out --no-dht"
        assert await library.add(source()) is shown(library)  # it is known: no error


async def test_the_command_line_waits_for_what_it_has_never_seen(
    tmp_path: Path, autojump_clock: object
) -> None:
    session = session_of(ONE, said=names(ONE, 1))
    async with opened(tmp_path / "l", session) as (library, _):
        started = trio.current_time()
        mount = await gathered(library, session, source(), source())
        assert trio.current_time() - started == 3
        assert ("weekly",) in mount.list()
        assert shown(library).origin == "command line"
        await trio.sleep(10)
        assert set(library.items) == {ONE.hashes.key}
        session.swarm[TWO.hashes.key] = TWO
        session.dht.said = names(TWO, 2)
        await trio.sleep(2 * INTERVAL)
        assert set(library.items) == {TWO.hashes.key}
    async with opened(tmp_path / "l", session_of()) as (library, silent):
        mount = await gathered(library, silent, source())
        assert shown(library).key == TWO.hashes.key  # not the first that this link was
        assert ("weekly",) in mount.list()
    async with opened(tmp_path / "l", session_of()) as (library, silent):
        with pytest.raises(ConfigError, match="nothing to mount"):
            await gathered(library, silent)  # it was given, not added
    for said, error in ((None, MetadataTimeout), (signed("x"), InvalidTorrent)):
        async with opened(session=session_of(said=said)) as (library, other):
            started = trio.current_time()
            with pytest.RaisesGroup(error):
                await gathered(library, other, source(), metadata_timeout=20.0)
            assert trio.current_time() - started <= 20
    async with opened(session=session_of(said=names(ONE, 1))) as (library, other):
        started = trio.current_time()
        with pytest.RaisesGroup(MetadataTimeout):
            await gathered(library, other, source(), metadata_timeout=20.0)
        assert trio.current_time() - started == 20


async def test_files_of_watch_directories(tmp_path: Path, autojump_clock: object) -> None:
    def file(path: str, *folder: str, **more: Any) -> WatchedFile:
        return WatchedFile(path, folder, **{"publisher": source(), **more})

    session = session_of(ONE, said=names(ONE, 1))
    async with opened(tmp_path / "l", session) as (library, _):
        mount = await begin(library)
        await library.on_files([file("/w/a/1.magnet", "a")], [])
        await trio.sleep(10)
        assert shown(library).path == ("a", "weekly")
        assert shown(library).origin == "watch"
        await library.on_files([file("/w/b/1.magnet", "b")], ["/w/a/1.magnet"])  # moved
        assert shown(library).path == ("b", "weekly")
        await library.on_files([WatchedFile("/w/b/1.magnet", ("b",), trouble="no magnet link")], [])
        assert "what it was before is kept" in next(iter(library.editions.all.values())).trouble
        here = str(tmp_path / "2.magnet")
        (tmp_path / "2.magnet").touch()
        await library.on_files([file(here, "b")], [])
        with pytest.raises(LibraryError, match="remove that file instead"):
            await library.remove(ONE.hashes.key)
        await library.on_files([], [here])
        assert ("b", "weekly") in mount.list()
    async with opened(tmp_path / "l", session_of()) as (library, silent):
        mount = await gathered(library, silent, held=["/w/b/1.magnet"])
        assert ("b", "weekly") in mount.list()
        await library.on_files([WatchedFile("/w/b/1.magnet", ("b",), metainfo=TWO)], [])
        assert set(library.items) == {TWO.hashes.key}  # the file names a torrent now
        assert not library.editions.all
        await library.on_files([file("/w/b/1.magnet", "b")], [])
        assert set(library.items) == {next(iter(library.editions.all))}
        await library.on_files([], ["/w/b/1.magnet"])
        assert not library.items
        assert not [name for name in library.records.facts if name.startswith("publication")]


async def test_a_torrent_that_others_claim_too_stays(
    tmp_path: Path, autojump_clock: object
) -> None:
    session = session_of(ONE, TWO, said=names(ONE, 1))
    async with opened(session=session) as (library, _):
        mount = await begin(library)
        await library.add(torrent_file(tmp_path, ONE))
        await library.add(source())
        await trio.sleep(10)
        assert set(library.items) == {ONE.hashes.key}
        session.dht.said = names(TWO, 2)
        await trio.sleep(2 * INTERVAL)
        assert set(library.items) == {ONE.hashes.key, TWO.hashes.key}
        assert library.items[ONE.hashes.key].path == ("weekly",)
        assert shown(library).path == ("weekly [" + TWO.hashes.key[:8] + "]",)
        await library.remove(TWO.hashes.key)
        assert {path[0] for path in mount.list() if path} == {"weekly"}


async def test_a_publication_that_is_removed_is_forgotten(autojump_clock: object) -> None:
    session = session_of(said=names(ONE, 1))
    async with opened(session=session) as (library, _):
        await begin(library)
        item = await library.add(source())
        await library.remove(item.key)
        assert not library.items
        await library.add(source())
        await trio.sleep(10)
        await library.remove(ONE.hashes.key)
        assert not library.items
        assert not [name for name in library.records.facts if name.startswith("publication")]
        session.dht.times.clear()
        await trio.sleep(3 * INTERVAL)
        assert not session.dht.times


async def test_a_full_library(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "MAX_ITEMS", 1)
    monkeypatch.setattr(editions, "MAX_ITEMS", 1)
    session = session_of(ONE, TWO, said=names(ONE, 1))
    async with opened(session=session) as (library, _):
        await begin(library)
        await library.add(torrent_file(tmp_path, THREE))
        with pytest.raises(LibraryError, match="is full"):
            await library.add(source())
        assert not library.editions.all
        await library.remove(THREE.hashes.key)
        await library.add(source())
        await trio.sleep(10)
        [publication] = library.editions.all.values()
        assert "is full" in publication.trouble  # the placeholder is in the way


@pytest.mark.expect_log("asking for the publisher")
async def test_a_bug_costs_a_question(autojump_clock: object) -> None:
    session = session_of(ONE)

    async def broken(*args: object) -> None:
        raise ZeroDivisionError

    session.dht.newest_item = broken
    async with opened(session=session) as (library, _):
        await begin(library)
        await library.add(source())
        await trio.sleep(10)
        [publication] = library.editions.all.values()
        assert "see the log" in publication.trouble


async def test_what_the_user_told_for_all_holds_for_each_edition(autojump_clock: object) -> None:
    session = session_of(ONE, said=names(ONE, 1))
    async with opened(session=session) as (library, _):
        library.beside = Beside(("http://own/",), (), ())
        await begin(library)
        await library.add(source())
        await trio.sleep(10)
        assert session.asked[ONE.hashes.key].trackers == ("http://t/", "http://own/")


def test_pins_move_with_their_paths() -> None:
    old = make((("a/b", 100), ("c", 50), ("d", 9)), name="t").metainfo
    new = make((("c", 30), ("e", 1), ("a/b", 100)), name="t", seed=2).metainfo
    pins = (Pin(), Pin(0, 10, 20), Pin(1, 20, 25), Pin(1, 40, 5), Pin(2))

    def item(torrent: Metainfo | None) -> Item:
        return Item("k", "t", "", 0.0, metainfo=torrent, pins=pins)

    assert moved_pins(item(old), item(new)) == [Pin(), Pin(2, 10, 20), Pin(0, 20, 10)]
    assert moved_pins(item(None), item(new)) == []
    assert moved_pins(replace(item(old), pins=()), item(new)) == []


def test_pins_of_many_files_move_with_their_paths_too() -> None:
    """They are kept as bytes of the whole torrent, and another one has these elsewhere."""
    names = [f"a/{number:03}" for number in range(RUN + 50)]
    old = make([(name, 100) for name in names], name="t").metainfo
    new = make([("Z", 5000), *((name, 100) for name in names[1:])], name="t", seed=2).metainfo
    pins = Errands(old.geometry, [Pin(number) for number in range(RUN + 20)]).pins
    assert pins == (Pin(None, 0, (RUN + 20) * 100),)
    moved = moved_pins(
        Item("k", "t", "", 0.0, metainfo=old, pins=pins), Item("n", "t", "", 0.0, metainfo=new)
    )
    assert moved == [Pin(None, 5000, (RUN + 19) * 100)]  # not the first bytes, which are of Z
