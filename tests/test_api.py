"""The Python door: names, ranges and errors, from trio, from asyncio, and without awaiting."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import torrentfs
from tests.door import Cached, cached
from torrentfs.errors import ConfigError, InvalidTorrent, MetadataTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    Main = Callable[[], Awaitable[Any]]

ROOT = Path(__file__).resolve().parents[1]
LOOPS: dict[str, Callable[[Main], Any]] = {
    "trio": trio.run,
    "asyncio": lambda main: asyncio.run(main()),  # type: ignore[arg-type]
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Cached:
    return cached(tmp_path_factory.mktemp("cached"))


@pytest.fixture(scope="module")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Cached:
    """Without its fourth piece, which nobody has."""
    return cached(tmp_path_factory.mktemp("holed"), without={3})


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_names_sizes_and_bytes(made: Cached, run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with torrentfs.open(made.torrent, **made.settings) as torrent:
            assert (torrent.name, len(torrent)) == ("törrent", len(made.files))
            assert torrent.size == sum(map(len, made.files.values()))
            assert [file.path for file in torrent] == list(made.files)
            assert torrent.files[1].size == 32768
            assert "b/c" in torrent
            assert torrent.list_directory("b") == ["b/c", "b/empty"]
            for file in torrent:
                assert await file.read() == made.files[file.path]
            file, content = torrent["d/ä/deep"], made.files["d/ä/deep"]
            assert await file.read_at(7, 50_000) == content[7:50_007]
            assert await file.read_at(100_000, 50) == content[-1:]
            assert await file.read_at(200_000, 50) == b""
            ranges = [(0, 3), (99_000, 9999), (50_000, 0)]
            expected = [content[offset : offset + size] for offset, size in ranges]
            assert await file.read_many(ranges) == expected
            assert b"".join([part async for part in file.stream()]) == content
            assert b"".join([part async for part in file.stream(9, 40_000)]) == content[9:40_009]
            assert (await torrent.statistics()).key == torrent.info_hash
            with pytest.raises(ValueError, match="offset -1"):
                await file.read_at(-1, 5)

    run(main)


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_what_cannot_be_read_is_an_oserror(holed: Cached, run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with torrentfs.open(holed.torrent, **holed.settings) as torrent:
            file = torrent["d/ä/deep"]
            with pytest.raises(OSError, match="no peer, tracker or web seed is left") as caught:
                await file.read()
            assert (caught.value.errno, caught.value.filename) == (5, "d/ä/deep")
            assert await file.read_at(0, 9) == holed.files["d/ä/deep"][:9]
            with pytest.raises(OSError, match="is left"):
                await file.read_many([(0, 9), (70_000, 9)])
            with pytest.raises(FileNotFoundError, match=r"did you mean 'd/ä/deep'"):
                torrent["d/a/deep"]
            with pytest.raises(IsADirectoryError):
                torrent["d"]

    run(main)


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_errors_reach_the_user_as_they_were_raised(
    made: Cached, run: Callable[[Main], Any]
) -> None:
    async def mine() -> None:
        async with torrentfs.open(made.torrent, **made.settings):
            raise KeyError("mine")

    async def nobody() -> None:
        settings = {**made.settings, "metadata_timeout": 0.05}
        async with torrentfs.open("magnet:?xt=urn:btih:" + "a" * 40, **settings):
            raise AssertionError

    with pytest.raises(KeyError, match="mine"):
        run(mine)
    with pytest.raises(MetadataTimeout, match="no tracker and no peer is known"):
        run(nobody)


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_giving_up_is_that_of_the_loop(made: Cached, run: Callable[[Main], Any]) -> None:
    async def main() -> str:
        magnet = "magnet:?xt=urn:btih:" + "b" * 40 + "&tr=http://127.0.0.1:1/announce"
        opening = torrentfs.open(magnet, **{**made.settings, "tcp": True, "port": 0})
        if trio.lowlevel.in_trio_task():
            with trio.move_on_after(0.2):
                async with opening:
                    raise AssertionError
            return "given up"
        try:
            await asyncio.wait_for(opening.__aenter__(), 0.2)
        except TimeoutError:
            return "given up"
        raise AssertionError

    assert run(main) == "given up"


def test_a_mistake_is_told_before_anything_is_opened(made: Cached) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        torrentfs.open("/nowhere/x.torrent")
    with pytest.raises(ConfigError, match="no setting 'cache_sise'"):
        torrentfs.open(made.torrent, cache_sise=1)
    with pytest.raises(InvalidTorrent):
        torrentfs.open("magnet:?xt=urn:btih:nothing")


def test_the_bytes_of_a_torrent_are_a_source(made: Cached) -> None:
    with torrentfs.open(made.torrent.read_bytes(), **made.settings) as torrent:
        assert torrent["a"].read() == made.files["a"]
    with (
        pytest.raises(InvalidTorrent, match=r"^the .torrent given: "),
        torrentfs.open(b"de", **made.settings),
    ):
        raise AssertionError


def test_dates_are_what_the_torrent_says(made: Cached, tmp_path: Path) -> None:
    with torrentfs.open(made.torrent, **made.settings) as torrent:
        assert torrent.created is None
    dated = made.torrent.read_bytes()[:-1]
    for text, date in (
        (b"i1700000000e", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (b"i99999999999999999e", None),
    ):
        data = b"d13:creation date" + text + dated[1:] + b"e"
        with torrentfs.open(data, **made.settings) as torrent:
            assert torrent.created == date


def test_importing_it_costs_nothing() -> None:
    heavy = {"trio", "click", "asyncio", "socket", "torrentfs.api", "torrentfs.errors"}
    script = f"import torrentfs, sys; print({heavy} & set(sys.modules), dir(torrentfs))"
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said.startswith("set() ")
    assert "'open', 'sync'" in said
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = torrentfs.nothing


def test_a_mount_needs_nothing_of_it() -> None:
    script = "import torrentfs.cli.mount, torrentfs.daemon.parts, sys; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    loaded = set(said.split())
    assert "pyfuse3" in loaded
    assert not loaded & {"fsspec", "torrentfs.fsspec", "torrentfs.api", "torrentfs.portal"}
