"""Sessions of torrents that sleep: shelved by the thousand, woken, put to sleep and forgotten."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
import trio

from tests.engine.test_session import LARGE, config, seeded, space_of
from tests.metainfo.torrents import PAYLOAD, build
from torrentfs.engine.dormant import Dormant, Shelving
from torrentfs.engine.session import Session, open_session
from torrentfs.errors import DataUnavailable, InvalidTorrent, TransportError
from torrentfs.metainfo.magnet import magnet_of
from torrentfs.metainfo.torrent_file import Metainfo, parse_info, parse_torrent
from torrentfs.transports.tcp import open_tcp
from torrentfs.wire.connection import Connection
from torrentfs.wire.handshake import Handshake


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def many(count: int) -> list[Metainfo]:
    return [parse_torrent(build("v1", {("a",): b"%d" % n, ("b",): b"x"})) for n in range(count)]


async def test_many_are_shelved_without_opening_a_file(tmp_path: Path) -> None:
    async with open_session(config(tmp_path, tcp=False)) as session:
        await trio.sleep(0.01)  # the cache's own tasks have begun
        before, tasks = descriptors(), trio.lowlevel.current_statistics().tasks_living
        shelved = await session.shelve_many([Shelving(metainfo=each) for each in many(100)])
        assert descriptors() == before
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert os.listdir(tmp_path / "torrents") == []
        assert [dormant.state for dormant in shelved] == ["asleep"] * 100
        assert len(session.statistics().torrents) == len(session.volumes) == 100
        assert "100 torrents" in repr(session)


async def test_shelved_twice_it_is_one(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("hybrid"))
    async with open_session(config(tmp_path, tcp=False)) as session:
        one, other = await session.shelve_many(
            [Shelving(metainfo=metainfo), Shelving(metainfo=metainfo, peers=[("10.0.0.1", 1)])]
        )
        assert one is other is await session.shelve(metainfo)
        assert (await one.wake()).swarm.book.knows(("10.0.0.1", 1))
        assert await session.resolve(magnet_of(metainfo), timeout=0.01) is metainfo
        with pytest.raises(ValueError, match="is shelved"):
            await session.add(metainfo)


async def test_what_was_added_is_not_shelved(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1"))
    async with open_session(config(tmp_path, tcp=False)) as session:
        await session.add(metainfo)
        with pytest.raises(ValueError, match="was added"):
            await session.shelve(metainfo)


async def test_one_that_cannot_be_read_stops_all_before_anything_is_done(tmp_path: Path) -> None:
    bare = parse_info(parse_torrent(build("v2")).info)
    async with open_session(config(tmp_path, tcp=False)) as session:
        with pytest.raises(InvalidTorrent, match="lacks its piece layers"):
            await session.shelve_many([Shelving(metainfo=m) for m in (*many(1), bare)])
        assert not session.volumes


async def test_when_it_came_is_kept(tmp_path: Path) -> None:
    metainfo, other = parse_torrent(build("v1")), many(1)[0]
    async with open_session(config(tmp_path, tcp=False)) as session:
        first = (await session.shelve(metainfo)).added
        assert (await session.shelve(other, added=77.5)).added == 77.5
    async with open_session(config(tmp_path, tcp=False)) as session:
        assert (await session.shelve(metainfo)).added == first
        assert (await session.shelve(other)).added == 77.5


@pytest.mark.parametrize("places", [1, 2])
async def test_who_is_named_first_has_the_first_places(tmp_path: Path, places: int) -> None:
    shelvings = [Shelving(metainfo=metainfo, eager=True) for metainfo in many(12)]
    async with open_session(config(tmp_path, tcp=False, max_active=places)) as session:
        shelved = await session.shelve_many(shelvings)
        awake = [dormant.torrent is not None for dormant in shelved]
        assert awake == [True] * places + [False] * (12 - places)


async def test_what_is_here_is_known_asleep(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1"))
    async with open_session(config(tmp_path, tcp=False)) as session:
        await seeded(session, metainfo, space_of(metainfo, dict(PAYLOAD)))
    async with open_session(config(tmp_path, tcp=False)) as session:
        dormant = await session.shelve(metainfo)
        now = dormant.statistics()
        assert (now.state, now.progress) == ("asleep", 1.0)
        for number, file in enumerate(metainfo.files):
            assert len(await dormant.read(number, 0, 10**6)) == file.length
        assert dormant.state == "complete"
        assert not session._swarms  # nobody was called for that


async def test_opened_and_closed_many_times_nothing_is_left(tmp_path: Path) -> None:
    torrents = many(5)
    async with open_session(config(tmp_path, tcp=False, idle_timeout=0)) as session:
        trackers = ["http://127.0.0.1:1/announce"]
        shelvings = [Shelving(metainfo=m, trackers=trackers) for m in torrents]
        before: tuple[int, int] | None = None
        for _ in range(10):
            shelved = await session.shelve_many(shelvings)
            for dormant in shelved:
                session._heard[dormant.key] = [("10.0.0.1", 1)]
                await session.dormitory.start_eagerly(dormant)
            assert len(session._swarms) == len(shelved)
            for dormant in shelved:
                await dormant.sleep()
            assert not session._swarms
            for dormant in shelved:
                await dormant.wake()
                await session.forget(dormant.key)
            await session.forget("unknown")
            assert not session.volumes
            assert not session._heard
            assert not session.cache._stores
            assert not session.cache.vault.shelves
            left = descriptors(), trio.lowlevel.current_statistics().tasks_living
            before = before or left
            assert left == before


async def test_forgotten_its_reads_fail_and_its_pieces_stay(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1"))
    async with open_session(config(tmp_path, tcp=False)) as session:
        await seeded(session, metainfo, space_of(metainfo, dict(PAYLOAD)))
    async with open_session(config(tmp_path, tcp=False)) as session:
        dormant = await session.shelve(metainfo)
        await dormant.wake()
        await session.forget(dormant.key)
        with pytest.raises(DataUnavailable, match="was removed"):
            await dormant.read(1, 0, 1)
        again = await session.shelve(metainfo)
        assert again is not dormant
        assert again.statistics().progress == 1.0
        await again.read(1, 0, 1)


async def test_leaving_fails_reads_that_wait_for_a_place(tmp_path: Path) -> None:
    errors: list[str] = []

    async def read(torrent: Metainfo) -> None:
        try:
            await session.volumes[torrent.hashes.key].read(0, 0, 1)
        except DataUnavailable as error:
            errors.append(str(error))

    torrents = many(3)
    async with trio.open_nursery() as nursery:  # noqa: SIM117 (the reads outlive the session)
        async with open_session(config(tmp_path, tcp=False, max_active=1)) as session:
            for torrent in torrents:
                await session.shelve(torrent, trackers=["http://127.0.0.1:1/a"])
                nursery.start_soon(read, torrent)
            while len(waiting(session)) < 3:  # noqa: ASYNC110
                await trio.sleep(0.01)
            assert sorted(v.state for v in session.volumes.values()) == [
                "fetching",
                "queued",
                "queued",
            ]
    assert len(errors) == 3
    assert set(errors) <= {"torrentfs is shutting down", "no peer, tracker or web seed is left"}


def waiting(session: Session) -> list[Dormant]:
    opened = [each for each in session.volumes.values() if each.torrent is not None]
    return [each for each in opened if each.torrent and each.torrent.reader.waiting]


async def test_limits_change_while_it_runs(tmp_path: Path) -> None:
    async with open_session(config(tmp_path, tcp=False, upload_limit=5)) as session:
        session.set_limits(download=1000)
        assert (session.limits.download.rate, session.limits.upload.rate) == (1000, 5)
        session.set_limits(upload=None, max_active=3)
        assert (session.limits.download.rate, session.limits.upload.rate) == (1000, None)
        assert session.dormitory.turns.places == 3


@pytest.mark.real
async def test_it_wakes_reads_and_sleeps_over_real_sockets(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1", LARGE))
    async with (
        open_session(config(tmp_path / "one")) as one,
        open_session(config(tmp_path / "two", readahead=0)) as two,
    ):
        await seeded(one, metainfo, space_of(metainfo, LARGE))
        dormant = await two.shelve(metainfo, peers=[("127.0.0.1", one.port)])
        left = []  # descriptors, those of the other session among them
        size = metainfo.geometry.piece_length
        for number in range(6):
            with trio.fail_after(10):
                got = await dormant.read(0, number * size, 100)
                assert bytes(got) == LARGE["big",][number * size :][:100]
                await dormant.sleep()
                while one.torrents[dormant.key].peers():  # noqa: ASYNC110
                    await trio.sleep(0.01)
                await trio.sleep(0.05)
            left.append(descriptors())
        assert left[1:] == left[:-1]
        assert dormant.statistics().pieces_have == 6


@pytest.mark.real
async def test_who_calls_a_torrent_that_sleeps_is_hung_up_on(tmp_path: Path) -> None:
    metainfo = parse_torrent(build("v1"))
    async with open_session(config(tmp_path)) as session:
        dormant = await session.shelve(metainfo)
        stream = await open_tcp("127.0.0.1", session.port)
        connection = Connection()
        hello = Handshake(info_hash=metainfo.hashes.wire[0], peer_id=b"-XX0000-abcdefghijkl")
        await stream.send_all(connection.send(hello))
        with trio.fail_after(5):
            with contextlib.suppress(TransportError):
                assert not await stream.receive_into(connection.get_buffer())
        assert dormant.torrent is None
        stream.abort()
