"""Web seeds against real servers: nginx with odd names, and one that does everything wrong."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.swarm.nginx import web_seed
from tests.transports.torrents import Sample, sample
from torrentfs.transports.http import HttpClient
from torrentfs.transports.webseed import WebSeed, WebSeedError

pytestmark = pytest.mark.real

ODD = sample(
    [
        (("plain.bin",), 100_000),
        ((".pad", "31072"), 31_072),
        (("a dir", "with space.bin"), 50_001),
        (("50% off#1?.bin",), 3),
        (("a+b&c=d;e.bin",), 70_000),
        (("ünï", "文件 🎬.mkv"), 200_000),
        (("empty",), 0),
        (("q'uo\"te", "back\\slash"), 33_333),
        (("%41lready.bin",), 12_345),
    ],
    name="odd name #1",
)
BIG = sample(6 << 20, name="big file.bin", piece_length=1 << 18)


def write_files(torrent: Sample, root: Path) -> None:
    for path, data in torrent.files.items():
        target = root.joinpath(torrent.metainfo.name, *path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


async def read(seed: WebSeed, start: int, length: int, into: bytearray | None = None) -> bytearray:
    got = bytearray() if into is None else into
    async with aclosing(seed.fetch(start, length)) as chunks:
        async for chunk in chunks:
            assert len(chunk) <= 1 << 20
            got += chunk
    return got


async def test_multi_file_on_nginx(tmp_path: Path) -> None:
    write_files(ODD, tmp_path / "root")
    with web_seed(tmp_path / "root", tmp_path) as server:
        async with HttpClient() as client:
            for url in (server.url(), server.url().rstrip("/")):
                seed = WebSeed(url, ODD.metainfo, client)
                assert await read(seed, 0, len(ODD.space)) == ODD.space
            choose = random.Random(5)
            for _ in range(50):
                start = choose.randrange(len(ODD.space))
                length = choose.randint(1, len(ODD.space) - start)
                assert await read(seed, start, length) == ODD.space[start : start + length]
            (tmp_path / "root" / ODD.metainfo.name / "plain.bin").unlink()
            with pytest.raises(WebSeedError, match=r"plain.bin: HTTP 404 not found") as caught:
                await read(seed, 0, 10)
            assert not caught.value.permanent
            assert await read(seed, 131_072, 50_001) == ODD.space[131_072:181_073]


async def test_single_file_on_nginx_with_and_without_ranges(tmp_path: Path) -> None:
    write_files(BIG, tmp_path / "root")
    for ranges in (True, False):
        work = tmp_path / str(ranges)
        with web_seed(tmp_path / "root", work, ranges=ranges) as server:
            async with HttpClient() as client:
                for url in (server.url(), server.url("big file.bin")):
                    seed = WebSeed(url, BIG.metainfo, client)
                    assert await read(seed, 0, 6 << 20) == BIG.space
                    assert await read(seed, 3_000_000, 99) == BIG.space[3_000_000:3_000_099]
                    if not ranges:
                        with pytest.raises(WebSeedError, match="ignores Range"):
                            await read(seed, 5 << 20, 10)


async def test_several_at_once_and_left_early(tmp_path: Path) -> None:
    write_files(BIG, tmp_path / "root")
    with web_seed(tmp_path / "root", tmp_path) as server:
        async with HttpClient() as client, trio.open_nursery() as nursery:
            seed = WebSeed(server.url(), BIG.metainfo, client)

            async def check(start: int) -> None:
                assert await read(seed, start, 1 << 20) == BIG.space[start : start + (1 << 20)]

            for start in range(0, 5 << 20, 1 << 19):
                nursery.start_soon(check, start)
            async with aclosing(seed.fetch(0, 6 << 20)) as chunks:
                async for _ in chunks:
                    break
            with trio.CancelScope() as scope:
                async with aclosing(seed.fetch(0, 6 << 20)) as chunks:
                    async for _ in chunks:
                        scope.cancel()
                        await trio.lowlevel.checkpoint()


# -- a server that does everything wrong --------------------------------------------------------

Misdeed = Callable[[trio.SocketStream, str, tuple[int, int]], Awaitable[bool]]


@asynccontextmanager
async def hostile(misdeed: Misdeed, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve with `misdeed(stream, path, range)`, which tells whether the connection goes on."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            buffered = b""
            while True:
                while b"\r\n\r\n" not in buffered:
                    data = await stream.receive_some(4096)
                    if not data:
                        return
                    buffered += data
                head, _, buffered = buffered.partition(b"\r\n\r\n")
                lines = head.decode().split("\r\n")
                wanted = (0, 0)
                for line in lines:
                    if line.lower().startswith("range: bytes="):
                        first, last = line.partition("=")[2].split("-")
                        wanted = int(first), int(last)
                try:
                    if not await misdeed(stream, lines[0].split()[1], wanted):
                        return
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host=host))
        port = listeners[0].socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{port}/"
        nursery.cancel_scope.cancel()


def answer(status: int, body: bytes = b"", **headers: object) -> bytes:
    headers.setdefault("Content_Length", len(body))
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status} X", *lines, "", ""]).encode() + body


def right(wanted: tuple[int, int]) -> bytes:
    first, last = wanted
    place = f"bytes {first}-{last}/{len(BIG.space)}"
    return answer(206, BIG.space[first : last + 1], Content_Range=place)


async def fails(misdeed: Misdeed, words: str, start: int = 1000) -> WebSeedError:
    async with hostile(misdeed) as url, HttpClient() as client:
        seed = WebSeed(url, BIG.metainfo, client)
        with pytest.raises(WebSeedError, match=words) as caught:
            await read(seed, start, 100_000)
        return caught.value


async def test_over_ipv6_and_early_ends_of_each_kind() -> None:
    kinds = itertools.count()

    async def misdeed(stream: trio.SocketStream, path: str, wanted: tuple[int, int]) -> bool:
        whole = right(wanted)
        kind = next(kinds)
        if kind == 0:  # closes in the middle of the body
            await stream.send_all(whole[:30_000])
            return False
        if kind == 1:  # closes without a word
            return False
        await stream.send_all(whole)
        return True

    async with hostile(misdeed, "::1") as url, HttpClient() as client:
        seed = WebSeed(url, BIG.metainfo, client)
        assert await read(seed, 1000, 100_000) == BIG.space[1000:101_000]
        assert await read(seed, 0, 10) == BIG.space[:10]
        assert seed.statistics().requests == 4


async def test_garbage() -> None:
    async def misdeed(stream: trio.SocketStream, path: str, wanted: tuple[int, int]) -> bool:
        await stream.send_all(random.Random(1).randbytes(1000) + b"\r\n\r\n")
        return False

    assert not (await fails(misdeed, "after 0 of")).permanent


async def test_endless_headers() -> None:
    async def misdeed(stream: trio.SocketStream, path: str, wanted: tuple[int, int]) -> bool:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n")
        while True:
            await stream.send_all(b"X-Long: " + b"x" * 8000 + b"\r\n")

    await fails(misdeed, "after 0 of")


async def test_loop_of_redirects() -> None:
    async def misdeed(stream: trio.SocketStream, path: str, wanted: tuple[int, int]) -> bool:
        await stream.send_all(answer(302, Location=path + "x"))
        return True

    await fails(misdeed, "more than 5 redirects")


async def test_stall() -> None:
    async def misdeed(stream: trio.SocketStream, path: str, wanted: tuple[int, int]) -> bool:
        await stream.send_all(right(wanted)[:5000])
        await trio.sleep(30)
        return False

    async with hostile(misdeed) as url, HttpClient(read_timeout=0.2) as client:
        seed = WebSeed(url, BIG.metainfo, client)
        got = bytearray()
        with pytest.raises(WebSeedError, match="stalled"):
            await read(seed, 0, 100_000, got)
        assert got == BIG.space[: len(got)]
        assert len(got) > 4000


async def test_retry_after_and_then_right() -> None:
    answers = itertools.count()

    async def misdeed(stream: trio.SocketStream, path: str, wanted: tuple[int, int]) -> bool:
        busy = answer(503, b"busy", Retry_After="1")
        await stream.send_all(right(wanted) if next(answers) else busy)
        return True

    async with hostile(misdeed) as url, HttpClient() as client:
        seed = WebSeed(url, BIG.metainfo, client)
        with pytest.raises(WebSeedError, match="HTTP 503") as caught:
            await read(seed, 0, 10)
        assert caught.value.retry_after == 1.0
        await trio.sleep(1.0)
        assert await read(seed, 0, 10) == BIG.space[:10]


async def test_chunked_and_unsized_bodies() -> None:
    async def chunked(stream: trio.SocketStream, path: str, wanted: tuple[int, int]) -> bool:
        body = BIG.space[wanted[0] : wanted[1] + 1]
        await stream.send_all(b"HTTP/1.1 206 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(body), 7000):
            part = body[at : at + 7000]
            await stream.send_all(b"%x\r\n%b\r\n" % (len(part), part))
        await stream.send_all(b"0\r\n\r\n")
        return True

    async def unsized(stream: trio.SocketStream, path: str, wanted: tuple[int, int]) -> bool:
        await stream.send_all(b"HTTP/1.0 200 X\r\n\r\n" + BIG.space)
        return False

    for misdeed in (chunked, unsized):
        async with hostile(misdeed) as url, HttpClient() as client:
            seed = WebSeed(url, BIG.metainfo, client)
            assert await read(seed, 1000, 100_000) == BIG.space[1000:101_000]
