"""What an HTTP server may send: a web seed's range, a .torrent's body, or the declared error.

The input is the byte stream of the server, the same on each connection; its first byte chooses
who asks, the second how the stream is cut. The real client reads it, over a network in memory.
"""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import httpcore
import httpx
import trio
import trio.testing

from tests.transports.torrents import sample
from torrentfs.daemon.sources import UrlSource, load
from torrentfs.errors import ConfigError, InvalidTorrent, MetadataTimeout
from torrentfs.transports.http import HttpClient
from torrentfs.transports.webseed import Flavour, WebSeed, WebSeedError

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULES = ["torrentfs.transports.http", "torrentfs.transports.webseed", "torrentfs.daemon.sources"]

_TORRENT = sample([(("a",), 100), ((".pad", "16284"), 16_284), (("b",), 20_000)], name="odd")
_TINY = b"d4:infod6:lengthi5e4:name1:x12:piece lengthi16384e6:pieces20:" + b"h" * 20 + b"ee"
_START, _LENGTH = 20, 16_500


def seeds() -> Iterable[bytes]:
    """Right and wrong answers of each status, to each kind of question."""
    body = bytes(range(80)) * 2
    heads = [
        b"200 OK\r\nContent-Length: 100",
        b"206 Partial\r\nContent-Range: bytes 20-99/100\r\nContent-Length: 80",
        b"206 Partial\r\nContent-Range: bytes 0-99/*",
        b"206 Partial\r\nTransfer-Encoding: chunked",
        b"302 Found\r\nLocation: http://other/x\r\nContent-Length: 0",
        b"301 Moved\r\nLocation: ../%zz//?a#b\r\nContent-Length: 0",
        b"404 Not Found\r\nContent-Length: 0",
        b"416 Range\r\nContent-Range: bytes */17\r\nContent-Length: 0",
        b"429 Slow\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\nContent-Length: 0",
        b"503 Busy\r\nRetry-After: 120\r\nContent-Length: 2",
        b"200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9",
        b"100 Continue\r\n\r\nHTTP/1.1 200 OK",
    ]
    for kind in range(3):
        for head in heads:
            chunked = b"5\r\nabcde\r\n50;x=y\r\n" + body[:80] + b"\r\n0\r\n\r\n"
            rest = chunked if b"chunked" in head else body
            yield bytes([kind, 0]) + b"HTTP/1.1 " + head + b"\r\n\r\n" + rest
    yield b"\2\7HTTP/1.0 200 OK\r\n\r\n" + _TINY


class _Network(httpcore.AsyncNetworkBackend):
    """Every connection gives the same bytes, then ends."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def connect_tcp(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        await trio.lowlevel.checkpoint()
        return httpcore.AsyncMockStream(list(self._pieces))

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


def one_input(data: bytes) -> None:
    """Ask, with a clock of its own."""
    kind, cut, stream = (data[:1] or b"\0")[0] % 3, (data[1:2] or b"\0")[0], data[2:]
    step = max(cut, len(stream) // 50) or len(stream) or 1
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    trio.run(_ask, kind, pieces, clock=trio.testing.MockClock(autojump_threshold=0))


async def _ask(kind: int, pieces: list[bytes]) -> None:
    transport = httpx.AsyncHTTPTransport(verify=False, trust_env=False)
    await transport._pool.aclose()
    transport._pool = httpcore.AsyncConnectionPool(network_backend=_Network(pieces))

    async def resolve(host: str) -> list[str]:
        await trio.lowlevel.checkpoint()
        return ["198.51.100.1"]

    async with HttpClient(transport=transport, resolve=resolve) as client:
        if kind == 2:
            await _load(client)
        else:
            await _fetch(WebSeed("http://seed/", _TORRENT.metainfo, client, _FLAVOURS[kind]))


_FLAVOURS: tuple[Flavour, ...] = ("getright", "hoffman")


async def _fetch(seed: WebSeed) -> None:
    got = 0
    failed: WebSeedError | None = None
    try:
        async with aclosing(seed.fetch(_START, _LENGTH)) as chunks:
            async for chunk in chunks:
                got += len(chunk)
    except WebSeedError as error:
        failed = error
    assert got <= _LENGTH
    if failed is None:
        assert got == _LENGTH
    else:
        assert failed.retry_after is None or 0 <= failed.retry_after <= 86400
    for piece in range(_TORRENT.metainfo.geometry.num_pieces):
        seed.has(piece)
    assert seed.statistics().received == got


async def _load(client: HttpClient) -> None:
    source = UrlSource("http://seed/x.torrent", "http://seed/x.torrent")
    with suppress(ConfigError, InvalidTorrent, MetadataTimeout):
        await load(source, client, timeout=60)
