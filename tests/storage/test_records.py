"""What a library remembers, through everything that a disk does to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

from torrentfs.storage import records as records_module
from torrentfs.storage.catalog import Unusable
from torrentfs.storage.locks import FileLock
from torrentfs.storage.records import Pin, Record, open_records

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ab" * 20
OTHER = "cd" * 20
FILM = Record(
    KEY,
    1234.5,
    kept=True,
    source="/w/fílm\udcff.torrent",
    hints=f"magnet:?xt=urn:btih:{KEY}",
    name="film",
    folder=("movies", "old"),
    entry="film [abababab]",
    paused=True,
    pins=(Pin(), Pin(3, 100, 200)),
    watched=(("/w/fílm.torrent", ("movies",)),),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "library" / "m.sqlite"


async def fill(path: Path) -> None:
    async with open_records(path) as records:
        records.put(FILM, lambda: b"torrent")
        records.put(Record(OTHER, 2.0), lambda: b"another")
        records.set_fact("folder times", [[["movies"], 5.0]])
        records.set_fact("gone", 1)
        records.set_fact("gone", None)


async def test_everything_comes_back(path: Path) -> None:
    await fill(path)
    async with open_records(path) as records:
        assert records.records == {KEY: FILM, OTHER: Record(OTHER, 2.0)}
        assert records.facts == {"folder times": [[["movies"], 5.0]]}
        assert await records.torrents([KEY, OTHER, "no"]) == {KEY: b"torrent", OTHER: b"another"}
        assert not records.damage
        assert not records.trouble
        assert records.has_torrent(KEY)
        records.drop_torrent(KEY)
        assert not records.has_torrent(KEY)
        records.drop(OTHER)
        assert await records.torrents([KEY, OTHER]) == {}
    async with open_records(path) as records:
        assert records.records == {KEY: FILM}
        assert await records.torrents([KEY, OTHER]) == {}
        assert not records.has_torrent(KEY)


async def test_saved_is_saved_although_the_process_dies(path: Path, tmp_path: Path) -> None:
    async with open_records(path) as records:
        records.put(FILM, lambda: b"torrent")
        await records.save()
        copy = tmp_path / "copy"  # what a kill leaves: the file and its journal as they are now
        shutil.copytree(path.parent, copy)
    async with open_records(copy / path.name) as records:
        assert records.records == {KEY: FILM}
        assert await records.torrents([KEY]) == {KEY: b"torrent"}


async def test_two_processes_never_have_it_at_once(path: Path, autojump_clock: object) -> None:
    await fill(path)
    lock = FileLock.take(path.with_name(f"{path.name}.lock"))
    assert lock is not None
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def let_go() -> None:
            await trio.sleep(2)
            lock.close()

        async with open_records(path) as records:  # the other one was just ending
            assert set(records.records) == {KEY, OTHER}
            with pytest.raises(Unusable, match="another torrentfs has the library"):
                async with open_records(path):
                    pass


def spoil(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def spoil_the_middle(path: Path) -> None:
    spoil(path, path.stat().st_size // 2 & ~4095, os.urandom(8192))


async def test_a_file_that_is_no_database(path: Path) -> None:
    await fill(path)
    spoil(path, 0, b"#" * 200)
    async with open_records(path) as records:
        assert "was damaged" in records.damage
        assert "0 torrents could be read" in records.damage
        assert records.records == {}
        records.put(FILM, lambda: b"torrent")
    (aside,) = path.parent.glob("*.damaged-*")
    assert aside.read_bytes().startswith(b"#####")
    async with open_records(path) as records:
        assert records.records == {KEY: FILM}
        assert not records.damage


async def test_an_emptied_file_is_damage(path: Path) -> None:
    await fill(path)
    os.truncate(path, 0)
    async with open_records(path) as records:
        assert "was damaged (it is empty)" in records.damage


async def test_what_can_be_read_of_a_damaged_file_is_kept(path: Path) -> None:
    async with open_records(path) as records:
        for number in range(2000):
            records.put(
                Record(f"{number:040x}", float(number), name="x" * 200), lambda: bytes(3000)
            )
    spoil_the_middle(path)
    async with open_records(path) as records:
        assert "was damaged" in records.damage
        assert 100 < len(records.records) <= 2000
        assert all(record.added == int(key, 16) for key, record in records.records.items())
    async with open_records(path) as records:
        assert not records.damage
        assert len(records.records) > 100


async def test_a_flipped_bit_is_noticed(path: Path) -> None:
    await fill(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE records SET about=replace(about, 'film', 'filn') WHERE key=?", (KEY,))
        db.execute("UPDATE torrents SET torrent=x'00' WHERE key=?", (KEY,))
        db.execute("UPDATE records SET about='{' WHERE key=?", (OTHER,))
        db.commit()
    async with open_records(path) as records:
        assert "2 entries of" in records.damage
        assert records.records[KEY].added == FILM.added  # better a wrong letter than no film
        assert OTHER not in records.records


@pytest.mark.expect_log("is damaged")
async def test_a_torrent_with_a_flipped_bit_is_not_given_out(path: Path) -> None:
    await fill(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE torrents SET torrent=x'00' WHERE key=?", (KEY,))
        db.commit()
    async with open_records(path) as records:
        assert await records.torrents([KEY, OTHER]) == {OTHER: b"another"}


async def test_the_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    await fill(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(Unusable, match="version 99"):
        async with open_records(path):
            pass
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM records").fetchone() == (2,)


@pytest.mark.expect_log("cannot be written down")
async def test_what_cannot_be_written_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    full = True

    def put(*arguments: object) -> None:
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        real(*arguments)

    real = records_module.put
    async with open_records(path) as records, trio.open_nursery() as nursery:
        nursery.start_soon(records.run)
        monkeypatch.setattr(records_module, "put", put)
        records.put(FILM, lambda: b"torrent")
        await records.save()
        assert records.trouble == "database or disk is full"
        assert records.records == {KEY: FILM}
        assert await records.torrents([KEY]) == {KEY: b"torrent"}
        full = False
        await trio.sleep(records_module.RETRY_SECONDS + 1)
        await records.save()
        assert not records.trouble
        nursery.cancel_scope.cancel()
    async with open_records(path) as records:
        assert records.records == {KEY: FILM}
        assert await records.torrents([KEY]) == {KEY: b"torrent"}


@pytest.mark.expect_log("cannot be written down")
async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    path = tmp_path / "state" / "library" / "m.sqlite"
    async with open_records(path) as records:
        records.put(FILM, lambda: b"torrent")
        await records.save()
        assert records.trouble
        assert await records.torrents([KEY]) == {KEY: b"torrent"}
        (tmp_path / "state").unlink()
        await records.save()
        assert not records.trouble
    async with open_records(path) as records:
        assert records.records == {KEY: FILM}


async def test_deleted_below_us(path: Path) -> None:
    async with open_records(path) as records:
        records.put(FILM, lambda: b"torrent")
        await records.save()
        shutil.rmtree(path.parent)
        records.put(Record(OTHER, 2.0))
        await records.save()
        assert not records.trouble
    async with open_records(path) as records:
        assert set(records.records) == {KEY, OTHER}
        assert await records.torrents([KEY]) == {KEY: b"torrent"}
