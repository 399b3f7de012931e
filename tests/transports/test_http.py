"""The HTTP client over httpx's own fake transport: caps, redirects, unpacking, failures."""

from __future__ import annotations

import errno
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import httpx
import pytest
import trio

from torrentfs.transports.http import (
    USER_AGENT,
    HttpClient,
    HttpError,
    is_public,
    resolve_host,
    seconds_until,
)

Handler = Callable[[httpx.Request], httpx.Response]

NAMES = {"public.example": ["93.184.216.34"], "inside.example": ["93.184.216.34", "10.1.2.3"]}


def client(handler: Handler, **options: object) -> HttpClient:
    async def resolve(host: str) -> list[str]:
        await trio.lowlevel.checkpoint()
        return NAMES.get(host) or await resolve_host(host)

    return HttpClient(transport=httpx.MockTransport(handler), resolve=resolve, **options)  # type: ignore[arg-type]


async def get(handler: Handler, url: str = "http://public.example/x", **options: object) -> object:
    async with client(handler, **options) as http:
        return await http.get(url, max_bytes=1000, timeout=10)


async def test_asks_plainly_and_gives_any_status() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(404, headers={"X-Odd": "1", "Set-Cookie": "a=b"}, content=b"gone")

    async with client(handler) as http:
        for _ in range(2):
            reply = await http.get(
                "http://me:p%40ss@public.example/a%20b?q=%ff#part",
                max_bytes=4,
                timeout=10,
                headers={"Range": "bytes=0-1"},
            )
        assert http.requests == 2
    assert (reply.status, reply.body, reply.headers["x-odd"]) == (404, b"gone", "1")
    request = seen[1]
    assert request.url.raw_path == b"/a%20b?q=%ff"
    assert request.headers["user-agent"] == USER_AGENT
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["range"] == "bytes=0-1"
    assert request.headers["authorization"] == "Basic bWU6cEBzcw=="
    assert "cookie" not in request.headers


async def test_a_larger_answer_is_an_error() -> None:
    with pytest.raises(HttpError, match="larger than 1000 bytes"):
        await get(lambda request: httpx.Response(200, content=bytes(1001)))


async def test_unpacks_what_was_packed_unasked_within_the_cap() -> None:
    def packed(data: bytes) -> Handler:
        return lambda request: httpx.Response(
            200,
            headers={"Content-Encoding": "gzip"},
            stream=httpx.ByteStream(data),
        )

    reply = await get(packed(gzip.compress(b"d8:intervali60ee")))
    assert reply.body == b"d8:intervali60ee"  # type: ignore[attr-defined]
    with pytest.raises(HttpError, match="larger than"):
        await get(packed(gzip.compress(bytes(50_000_000))))
    with pytest.raises(HttpError, match="not the gzip data"):
        await get(packed(b"no gzip"))
    with pytest.raises(HttpError, match="content encoding 'br'"):
        await get(
            lambda request: httpx.Response(
                200, headers={"Content-Encoding": "br"}, stream=httpx.ByteStream(b"x")
            )
        )


def redirecting(*places: str) -> Handler:
    """Each request but the last is redirected to the next place."""
    rest = list(places)

    def handler(request: httpx.Request) -> httpx.Response:
        if rest:
            return httpx.Response(302, headers={"Location": rest.pop(0)})
        return httpx.Response(200, text=str(request.url))

    return handler


async def test_follows_redirects() -> None:
    reply = await get(redirecting("/other", "https://public.example/third?x"))
    assert reply.url == "https://public.example/third?x"  # type: ignore[attr-defined]
    assert reply.body == b"https://public.example/third?x"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("file:///etc/passwd", "redirects to file:"),
        ("ftp://public.example/", "redirects to ftp:"),
        ("http://127.0.0.1/", "this host or its network"),
        ("http://localhost/", "this host or its network"),
        ("http://[::1]/", "this host or its network"),
        ("http://[::ffff:10.0.0.1]/", "this host or its network"),
        ("http://169.254.169.254/latest/meta-data", "this host or its network"),
        ("http://192.168.1.1/", "this host or its network"),
        ("http://0x7f000001/", "this host or its network"),
        ("http://inside.example/", "this host or its network"),
        ("http://a\x00b/", "no URL"),
    ],
)
async def test_refuses_redirects(place: str, words: str) -> None:
    with pytest.raises(HttpError, match=words):
        await get(redirecting(place))


async def test_a_private_host_may_redirect_to_a_private_one() -> None:
    await get(redirecting("http://127.0.0.1:2/"), "http://10.0.0.1:1/")
    await get(redirecting("http://127.0.0.1:2/"), allow_local=True)


async def test_a_loop_of_redirects_ends() -> None:
    with pytest.raises(HttpError, match="more than 5 redirects"):
        await get(lambda request: httpx.Response(301, headers={"Location": "/again"}))


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://x/", "http://", "", "http://a:99999/", "\0"],
)
async def test_urls_that_cannot_be_asked(url: str) -> None:
    with pytest.raises(HttpError) as caught:
        await get(lambda request: httpx.Response(200), url)
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("error", "words", "broken"),
    [
        (httpx.ConnectTimeout(""), "connecting timed out", False),
        (httpx.ReadTimeout(""), "stalled", False),
        (httpx.PoolTimeout(""), "timed out", False),
        (httpx.ConnectError("all attempts failed"), "cannot connect: all attempts failed", False),
        (httpx.RemoteProtocolError("peer closed"), "peer closed", True),
        (httpx.ReadError(""), "ReadError", True),
    ],
)
async def test_failures_in_words(error: Exception, words: str, broken: bool) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(HttpError, match=words) as caught:
        await get(handler)
    assert caught.value.broken == broken


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (
            OSError(errno.ECONNREFUSED, "error connecting to ('127.0.0.1', 1): Connection refused"),
            "cannot connect: connection refused",
        ),
        (socket.gaierror(-2, "Name or service not known"), "connect: name or service not known"),
        (
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong (_ssl.c:1)"),
            "no TLS with this server",
        ),
        (ssl.SSLCertVerificationError(1, "x"), "the certificate is not trusted"),
    ],
)
async def test_why_connecting_failed(cause: OSError, words: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(str(cause)) from cause

    with pytest.raises(HttpError, match=words) as caught:
        await get(handler)
    assert "(" not in str(caught.value) or isinstance(cause, ssl.SSLError)


async def test_get_has_a_time_limit_for_all(autojump_clock: trio.testing.MockClock) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        for _ in range(100):
            await trio.sleep(1)
            yield b"x"

    with pytest.raises(HttpError, match="no answer within 10 s"):
        await get(lambda request: httpx.Response(200, content=trickle()))
    assert trio.current_time() >= 10


async def test_stream_gives_chunks_as_they_are() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        headers = {"Content-Encoding": "gzip"}
        return httpx.Response(206, headers=headers, stream=httpx.ByteStream(b"\x00raw"))

    async with (
        client(handler) as http,
        http.stream("http://public.example/") as reply,
        aclosing(reply.chunks()) as chunks,
    ):
        assert [chunk async for chunk in chunks] == [b"\x00raw"]
        assert "206" in repr(reply)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("169.254.1.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:192.168.0.1", False),
        ("nonsense", False),
    ],
)
def test_is_public(address: str, public: bool) -> None:
    assert is_public(address) == public


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 1.0),
        ("99999999999999999999", 3600.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1.0),
        ("Wed, 21 Oct 2315 07:28:00 GMT", 3600.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_seconds_until(text: str | None, seconds: float | None) -> None:
    assert seconds_until(text, cap=3600.0) == seconds
