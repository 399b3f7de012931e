"""What a user may name a torrent by."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from torrentfs.daemon.sources import (
    FileSource,
    MagnetSource,
    UrlSource,
    load,
    parse_source,
    shorten,
)
from torrentfs.errors import ConfigError, InvalidTorrent, MetadataTimeout, TransportError

if TYPE_CHECKING:
    from collections.abc import Mapping

TORRENT = b"d4:infod6:lengthi5e4:name1:x12:piece lengthi16384e6:pieces20:" + b"h" * 20 + b"ee"


def test_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.torrent").touch()
    v1 = bytes(range(20))
    assert parse_source("x.torrent") == FileSource("x.torrent", tmp_path / "x.torrent")
    url = "HTTPS://example.org/x.torrent"
    assert parse_source(url) == UrlSource(url, url)
    for text in (f"MAGNET:?xt=urn:btih:{v1.hex()}", v1.hex(), base64.b32encode(v1).decode()):
        source = parse_source(text)
        assert isinstance(source, MagnetSource)
        assert source.magnet.hashes.v1 == v1
    v2 = parse_source("AB" * 32)
    assert isinstance(v2, MagnetSource)
    assert v2.magnet.hashes.v2 == b"\xab" * 32


def test_a_file_wins_over_an_info_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ("a" * 40)).touch()
    assert isinstance(parse_source("a" * 40), FileSource)


@pytest.mark.parametrize("text", ["", "x\0y", "no such file", "http://", "udp://a/b", "a" * 39])
def test_what_names_nothing(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_source(text)


def test_errors_repeat_sources_safely() -> None:
    assert shorten("a\x1b\nb") == "a??b"
    assert len(shorten("x" * 5000)) == 100


@dataclass
class Reply:
    status: int
    body: bytes


class Web:
    """An HTTP client with one answer."""

    def __init__(self, answer: Reply | Exception | float) -> None:
        self.answer = answer

    async def get(
        self, url: str, *, max_bytes: int, timeout: float, headers: Mapping[str, str] | None = None
    ) -> Reply:
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, float):
            await trio.sleep(self.answer)
            raise AssertionError("not cancelled")
        return self.answer


SOURCE = UrlSource("http://a/x.torrent", "http://a/x.torrent")


async def test_a_url_is_fetched_and_parsed() -> None:
    metainfo = await load(SOURCE, Web(Reply(200, TORRENT)), timeout=5)
    assert metainfo.name == "x"


async def test_what_a_url_may_answer(autojump_clock: object) -> None:
    with pytest.raises(ConfigError, match=r"cannot fetch http://a/x.torrent: the server .* 404"):
        await load(SOURCE, Web(Reply(404, b"")), timeout=5)
    with pytest.raises(ConfigError, match="connection refused"):
        await load(SOURCE, Web(TransportError("connection refused")), timeout=5)
    with pytest.raises(InvalidTorrent, match=r"http://a/x.torrent: "):
        await load(SOURCE, Web(Reply(200, b"<html>")), timeout=5)
    for timeout in (5, 4.999998):  # what is left of 5
        with pytest.raises(MetadataTimeout, match="no answer in 5 s"):
            await load(SOURCE, Web(60.0), timeout=timeout)


async def test_files(tmp_path: Path) -> None:
    path = tmp_path / "x.torrent"
    source = FileSource("x.torrent", path)
    with pytest.raises(ConfigError, match=r"cannot read x.torrent: no such file"):
        await load(source, Web(0.0), timeout=5)
    path.write_bytes(TORRENT)
    assert (await load(source, Web(0.0), timeout=5)).name == "x"
    path.write_bytes(TORRENT[:-5])
    with pytest.raises(InvalidTorrent, match=r"x.torrent: damaged or cut short \("):
        await load(source, Web(0.0), timeout=5)


async def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="not a regular file"):
        await load(FileSource("pipe", pipe), Web(0.0), timeout=5)
    with pytest.raises(ConfigError, match="not a regular file"):
        await load(FileSource("zero", Path("/dev/zero")), Web(0.0), timeout=5)
    with pytest.raises(ConfigError, match="is a directory"):
        await load(FileSource("dir", tmp_path), Web(0.0), timeout=5)


async def test_a_film_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film.mkv"
    film.touch()
    os.truncate(film, 5 << 30)
    monkeypatch.setattr("builtins.open", None)
    with pytest.raises(InvalidTorrent, match=r"5 GiB is too large for a .torrent file"):
        await load(FileSource("film.mkv", film), Web(0.0), timeout=5)


@pytest.mark.parametrize("text", ["http://", "https:///x.torrent", "HTTP://?a"])
def test_a_url_without_a_host(text: str) -> None:
    with pytest.raises(ConfigError, match="the URL names no host"):
        parse_source(text)
