"""Torrents for code that does not await: ordinary files, from any thread."""

from __future__ import annotations

import gc
import io
import os
import pickle
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

import torrentfs
from tests.door import Cached, cached
from torrentfs import sync
from torrentfs.portal import Portal
from torrentfs.sync import Following, Torrent

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEP = "d/ä/deep"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Cached:
    return cached(tmp_path_factory.mktemp("cached"))


@pytest.fixture
def torrent(made: Cached) -> Iterator[Torrent]:
    with torrentfs.open(made.torrent, **made.settings) as torrent:
        yield torrent


def test_ranges(made: Cached, torrent: Torrent) -> None:
    content, file = made.files[DEEP], torrent[DEEP]
    assert file.read() == content
    assert file.read_at(40_000, 30_000) == content[40_000:70_000]
    assert file.read_many([(5, 6), (99_999, 7)]) == [content[5:11], content[99_999:]]
    assert torrent.read_ranges([("a", 0, 1), (DEEP, 1, 2)]) == [made.files["a"], content[1:3]]
    assert b"".join(file.stream()) == content
    assert b"".join(file.stream(70_000, 20_000)) == content[70_000:90_000]
    assert torrent.statistics().pieces_have == torrent.statistics().pieces_total
    with pytest.raises(ValueError, match="size -1"):
        file.read_at(0, -1)


def test_a_file_is_an_ordinary_file(made: Cached, torrent: Torrent) -> None:
    content = made.files[DEEP]
    with torrent.open_file(DEEP) as file:
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        assert (file.name, file.raw.name, file.raw.mode) == (DEEP, DEEP, "rb")
        assert file.read(10) == content[:10]
        assert file.seek(-9, os.SEEK_END) == len(content) - 9
        assert file.read() == content[-9:]
        assert file.read(1) == b""
        assert file.seek(1_000_000) == 1_000_000
        assert file.read() == b""
        assert file.seek(20) == 20
        assert file.seek(5, os.SEEK_CUR) == 25
        assert file.peek(4)[:4] == content[25:29]
        into = bytearray(70_000)
        assert file.readinto(into) == 70_000
        assert into == content[25:70_025]
    with pytest.raises(ValueError, match="closed"):
        file.read()
    with torrent[DEEP].open(buffering=0) as raw:
        assert raw.readall() == content
        assert raw.readall() == b""
        with pytest.raises(OSError, match="Invalid argument"):
            raw.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            raw.seek(0, 7)
    with pytest.raises(ValueError, match="closed file"):
        raw.seek(0)
    with io.TextIOWrapper(torrent[DEEP].open(), encoding="latin-1", newline="") as text:
        assert text.read().encode("latin-1") == content


def test_what_takes_files_takes_these(tmp_path: Any) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("in/side.txt", "hello " * 20_000)
    made = cached(tmp_path, {("x.zip",): archive.getvalue(), ("y",): b"y"})
    with (
        torrentfs.open(made.torrent, **made.settings) as torrent,
        zipfile.ZipFile(torrent.open_file("x.zip")) as packed,
    ):
        assert packed.read("in/side.txt") == b"hello " * 20_000


def test_from_many_threads_at_once(made: Cached, torrent: Torrent) -> None:
    wrong: list[str] = []

    def read(path: str) -> None:
        for _ in range(5):
            if torrent[path].read() != made.files[path]:
                wrong.append(path)
            with torrent.open_file(path) as file:
                if b"".join(iter(lambda: file.read(777), b"")) != made.files[path]:
                    wrong.append(path)

    threads = [threading.Thread(target=read, args=[path]) for path in made.files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []


def test_read_ahead_is_for_who_reads_on(made: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "STREAK", 30_000)
    with torrentfs.open(made.torrent, **made.settings) as torrent:
        opened = torrent._lease.check()
        ahead: list[bool] = []
        read = opened.torrent.read

        async def note(*args: int, **settings: bool) -> Any:
            ahead.append(settings.get("ahead", True))
            return await read(*args, **settings)

        monkeypatch.setattr(opened.torrent, "read", note)

        def steps(places: list[int], size: int) -> list[bool]:
            reader = Following(torrent[DEEP])
            ahead.clear()
            for place in places:
                assert reader.read(place, size) == made.files[DEEP][place : place + size]
            reader.close()
            return list(ahead)

        assert steps([90_000, 50_000, 59_000, 10_000], 9_000) == [False] * 4  # as of a table
        assert steps([0, 40_000], 40_000) == [False] * 2
        assert (
            opened.torrent.torrent.heads.statistics().files == 0
        )  # none of these moved a read head
        assert steps([0, 9_000, 18_000, 27_000], 9_000) == [False] * 3 + [True]  # as of a text
        assert opened.torrent.torrent.heads.statistics().files == 1
        assert steps([27_000, 36_000], 9_000) == [False] * 2  # another reader is another


def test_closed_is_closed_and_says_so(made: Cached) -> None:
    torrent = torrentfs.sync.open(made.torrent, **made.settings)
    file = torrent.open_file(DEEP)
    torrent.close()
    torrent.close()
    for read in (torrent[DEEP].read, file.read, torrent.statistics, torrent[DEEP].open):
        with pytest.raises(ValueError, match="the torrent is closed"):
            read()
    file.close()
    assert torrent[DEEP].size == 100_001  # what is known without reading stays


def test_who_forgets_to_close_leaves_nothing_open(made: Cached) -> None:
    torrent = torrentfs.sync.open(made.torrent, **made.settings, readahead="3M")
    host = torrent._lease._host
    del torrent
    gc.collect()
    Portal.of_process().submit(host.gone.wait).result(10)


def test_it_travels_as_what_it_was_opened_from(made: Cached, torrent: Torrent) -> None:
    other = pickle.loads(pickle.dumps(torrent))
    assert other is not torrent
    assert other[DEEP].read_at(1, 5) == made.files[DEEP][1:6]
    file = pickle.loads(pickle.dumps(torrent[DEEP]))
    assert file.read_at(1, 5) == made.files[DEEP][1:6]


def test_no_such_file(torrent: Torrent) -> None:
    with pytest.raises(FileNotFoundError, match=r"no 'x' in törrent"):
        torrent.open_file("x")
