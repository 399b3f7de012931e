"""Media servers are told, each in its own way, over real HTTP."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import h11
import pytest
import trio

from torrentfs.daemon.announcing import Batch, Batches
from torrentfs.daemon.items import Change
from torrentfs.daemon.refreshing import (
    MediaServer,
    RefreshError,
    keep_fresh,
    media_servers,
    parse_refresh,
    parse_token_file,
    places,
    tell,
)
from torrentfs.errors import ConfigError, TransportError
from torrentfs.transports.http import HttpClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

FILM = Change("added", "f1", "film", ("movies", "film"))
SONG = Change("added", "s1", "song.mp3", ("song.mp3",))
GONE = Change("removed", "g1", "gone", ("movies", "gone"))
BATCH = Batch((FILM, SONG, GONE))
EVERYTHING = Batch(is_everything=True)

LIBRARY: Any = SimpleNamespace(
    items={
        "f1": SimpleNamespace(key="f1", metainfo=SimpleNamespace(is_single_file=False)),
        "s1": SimpleNamespace(key="s1", metainfo=SimpleNamespace(is_single_file=True)),
        "m1": SimpleNamespace(key="m1", metainfo=None),
    }
)
SECTIONS = {
    "MediaContainer": {
        "Directory": [
            {"key": "1", "Location": [{"path": "/media/movies"}, {"path": "/other"}]},
            {"key": "2", "Location": [{"path": "/media"}]},
            {"key": "3", "Location": [{"path": "/media/moviesque"}]},
        ]
    }
}


class Request:
    def __init__(self, head: h11.Request, body: bytes) -> None:
        self.method = head.method.decode()
        self.target = head.target.decode()
        self.headers = {name.decode(): value.decode() for name, value in head.headers}
        self.body = body


Answer = tuple[int, bytes]


@asynccontextmanager
async def server(
    answer: Callable[[Request], Answer],
) -> AsyncIterator[tuple[str, list[Request]]]:
    """A small HTTP server on loopback: its URL, and what it was asked."""
    asked: list[Request] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            connection = h11.Connection(h11.SERVER)
            head, body = None, b""
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(65536))
                elif isinstance(event, h11.Request):
                    head, body = event, b""
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    assert head is not None
                    asked.append(Request(head, body))
                    status, content = answer(asked[-1])
                    headers = [("content-length", str(len(content))), ("connection", "close")]
                    if 300 <= status < 400:
                        headers.append(("location", "http://127.0.0.1:1/elsewhere"))
                    data = connection.send(h11.Response(status_code=status, headers=headers))
                    data += connection.send(h11.Data(content)) or b""
                    data += connection.send(h11.EndOfMessage()) or b""
                    await stream.send_all(data)
                    return
                else:
                    return

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        yield f"http://127.0.0.1:{port}", asked
        nursery.cancel_scope.cancel()


async def told(
    kind: Any, batch: Batch, answer: Callable[[Request], Answer], token: str = "secret"
) -> list[Request]:
    async with server(answer) as (url, asked), HttpClient() as client:
        await tell(MediaServer(kind, url, "/media", token), client, batch, LIBRARY)
        return asked


@pytest.mark.real
async def test_jellyfin() -> None:
    (request,) = await told("jellyfin", BATCH, lambda _: (204, b""))
    assert (request.method, request.target) == ("POST", "/Library/Media/Updated")
    assert request.headers["authorization"] == 'MediaBrowser Token="secret"'
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == {
        "Updates": [
            {"Path": "/media/movies/film", "UpdateType": "Created"},
            {"Path": "/media/song.mp3", "UpdateType": "Created"},
            {"Path": "/media/movies/gone", "UpdateType": "Deleted"},
        ]
    }
    (request,) = await told("jellyfin", EVERYTHING, lambda _: (204, b""))
    assert json.loads(request.body)["Updates"] == [{"Path": "/media", "UpdateType": "Modified"}]


@pytest.mark.real
async def test_plex() -> None:
    requests = await told("plex", BATCH, lambda _: (200, json.dumps(SECTIONS).encode()))
    assert requests[0].target == "/library/sections"
    assert {request.headers["x-plex-token"] for request in requests} == {"secret"}
    asked = [
        (urlsplit(request.target).path, parse_qs(urlsplit(request.target).query)["path"][0])
        for request in requests[1:]
    ]
    assert asked == [
        ("/library/sections/1/refresh", "/media/movies/film"),
        ("/library/sections/2/refresh", "/media/movies/film"),
        ("/library/sections/2/refresh", "/media"),
        ("/library/sections/1/refresh", "/media/movies"),
        ("/library/sections/2/refresh", "/media/movies"),
    ]


@pytest.mark.real
async def test_plex_whose_library_is_a_folder_of_the_mount() -> None:
    section = {"key": "7", "Location": [{"path": "/media/movies"}]}
    listed = json.dumps({"MediaContainer": {"Directory": [section]}}).encode()
    requests = await told("plex", EVERYTHING, lambda _: (200, listed))
    assert [request.target for request in requests[1:]] == [
        "/library/sections/7/refresh?path=/media"
    ]
    requests = await told("plex", EVERYTHING, lambda _: (200, b'{"MediaContainer": {}}'))
    assert len(requests) == 1


@pytest.mark.real
async def test_kodi() -> None:
    good = json.dumps({"jsonrpc": "2.0", "id": 1, "result": "OK"}).encode()
    requests = await told("kodi", BATCH, lambda _: (200, good), token="me:pw")
    assert {request.target for request in requests} == {"/jsonrpc"}
    assert requests[0].headers["authorization"] == "Basic bWU6cHc="
    asked = [json.loads(request.body) for request in requests]
    assert {one["method"] for one in asked} == {"VideoLibrary.Scan"}
    assert [one["params"]["directory"] for one in asked] == [
        "/media/movies/film/",
        "/media/",
        "/media/movies/",
    ]
    (request,) = await told("kodi", EVERYTHING, lambda _: (200, good), token="")
    assert "authorization" not in request.headers


@pytest.mark.real
@pytest.mark.parametrize(
    ("kind", "status", "content", "words"),
    [
        ("jellyfin", 401, b"", "refuses the token"),
        ("jellyfin", 500, b"", "it answered 500"),
        ("jellyfin", 302, b"", "it answered 302"),  # and the token went nowhere else
        ("plex", 200, b"<xml/>", "cannot be read"),
        ("plex", 200, b'{"MediaContainer": {"Directory": [1]}}', "cannot be read"),
        ("kodi", 200, b"[]", "no JSON-RPC"),
        ("kodi", 200, b'{"error": {"code": -1, "message": "busy"}}', "it says: busy"),
    ],
)
async def test_what_goes_wrong_is_said(kind: Any, status: int, content: bytes, words: str) -> None:
    async with server(lambda _: (status, content)) as (url, asked), HttpClient() as client:
        with pytest.raises(RefreshError, match=words):
            await tell(MediaServer(kind, url, "/media", "t"), client, BATCH, LIBRARY)
        assert asked


class Down:
    """A client of servers that are down until the test says otherwise."""

    def __init__(self) -> None:
        self.is_up = False
        self.loses_answers = False
        self.tries: list[float] = []
        self.told: list[list[str]] = []

    async def request(self, method: str, url: str, **more: Any) -> Any:
        self.tries.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if not self.is_up and not self.loses_answers:
            raise TransportError("connection refused")
        updates = json.loads(more["body"])["Updates"]
        self.told.append([f"{each['UpdateType']} {each['Path']}" for each in updates])
        if not self.is_up:
            raise TransportError("no answer in 20 s")
        return SimpleNamespace(status=204, body=b"")


@asynccontextmanager
async def refreshed() -> AsyncIterator[tuple[Down, Callable[[Change], None]]]:
    """A Jellyfin server that is kept fresh, and what tells of a change."""
    down = Down()
    client: Any = down
    send, receive = trio.open_memory_channel[Change](1000)
    library: Any = SimpleNamespace(items={}, changes=lambda: receive)
    jellyfin = MediaServer("jellyfin", "http://jellyfin:8096", "/media", "secret")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_fresh, jellyfin, client, library, Batches(library))
        yield down, send.send_nowait
        nursery.cancel_scope.cancel()


@pytest.mark.expect_log("jellyfin at jellyfin:8096")
async def test_a_server_that_is_down_for_a_day_is_told_all_the_same(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with refreshed() as (server, tell_of):
        tell_of(FILM)
        await trio.sleep(24 * 3600)
        gaps = [b - a for a, b in pairwise(server.tries)]
        assert gaps[:6] == [30, 120, 600, 1800, 3600, 3600]
        assert len(server.tries) < 30
        server.is_up = True
        await trio.sleep(3601)
        assert server.told == [["Created /media/movies/film"]]
        tell_of(SONG)
        await trio.sleep(10)
        assert server.told[1:] == [["Created /media/song.mp3"]]
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "secret" not in caplog.text


@pytest.mark.expect_log("jellyfin at jellyfin:8096")
async def test_what_comes_meanwhile_is_told_with_it_and_sooner(autojump_clock: object) -> None:
    async with refreshed() as (server, tell_of):
        tell_of(FILM)
        await trio.sleep(3 * 3600)
        server.is_up = True
        tell_of(GONE)
        tell_of(Change("added", "x", "x", ("x",)))
        await trio.sleep(1)
        tell_of(Change("removed", "x", "x", ("x",)))
        await trio.sleep(60)
        assert server.told == [["Created /media/movies/film", "Deleted /media/movies/gone"]]


@pytest.mark.expect_log("jellyfin at jellyfin:8096")
async def test_what_it_may_have_heard_of_is_told_to_be_gone(autojump_clock: object) -> None:
    """It did what it was told, and its answer was lost."""
    async with refreshed() as (server, tell_of):
        server.loses_answers = True
        tell_of(SONG)
        await trio.sleep(10)
        assert server.told == [["Created /media/song.mp3"]]
        tell_of(Change("removed", "s1", "song.mp3", SONG.path))
        server.is_up = True
        await trio.sleep(60)
        assert server.told[1:] == [["Deleted /media/song.mp3"]]


def test_many_places_are_one() -> None:
    changes = tuple(Change("added", str(n), str(n), ("m", str(n))) for n in range(200))
    assert places(Batch(changes), set()) == [("m",)]
    assert places(Batch(changes[:2]), {"0"}) == [("m",), ("m", "1")]


def test_where_servers_are() -> None:
    assert parse_refresh("jellyfin=http://h:8096") == ("jellyfin", "http://h:8096", "")
    assert parse_refresh("Plex=https://h/base/?x#/data/t/") == ("plex", "https://h/base", "/data/t")
    for wrong in (
        "jellyfin",
        "emby=http://h",
        "kodi=ftp://h",
        "kodi=http://",
        "plex=http://h#data",
    ):
        with pytest.raises(ConfigError):
            parse_refresh(wrong)
    assert parse_token_file("plex=/run/t") == ("plex", "/run/t")
    for wrong in ("plex", "plex=", "x=/t"):
        with pytest.raises(ConfigError):
            parse_token_file(wrong)


def test_tokens(tmp_path: Path) -> None:
    def servers(kind: Any, **environment: str) -> tuple[MediaServer, ...]:
        return media_servers([(kind, "http://h", "")], files, environment, Path("/m"))

    files: dict[Any, Path] = {}
    with pytest.raises(ConfigError, match="--refresh-token plex=FILE"):
        servers("plex")
    (kodi,) = servers("kodi")
    assert (kodi.token, kodi.path) == ("", "/m")
    (plex,) = servers("plex", TORRENTFS_PLEX_TOKEN=" t \n")
    assert plex.token == "t"
    files["plex"] = tmp_path / "token"
    with pytest.raises(ConfigError, match="no such file"):
        servers("plex")
    for wrong in (b"", b"\xff", b"x" * 5000, b"two\nlines"):
        files["plex"].write_bytes(wrong)
        with pytest.raises(ConfigError):
            servers("plex")
    files["plex"].write_text("from a file\n")
    assert servers("plex", TORRENTFS_PLEX_TOKEN="t")[0].token == "from a file"
