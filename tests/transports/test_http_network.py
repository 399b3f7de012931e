"""What the HTTP client stands on: bound, through a proxy, and not where it must not lead."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.swarm.certificates import make_certificate
from tests.swarm.ports import free_port
from tests.swarm.socks import SocksProxy
from torrentfs.transports import http
from torrentfs.transports.http import HttpClient, HttpError
from torrentfs.transports.proxy import parse_proxy
from torrentfs.transports.reach import Rule, anywhere, of_tracker, of_web_seed

pytestmark = pytest.mark.real


class Server:
    """Answers each request with its target, or as `answers` has it for the target."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.asked: list[str] = []
        self.clients: list[str] = []
        self.port = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        base = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self.clients.append(base.socket.getpeername()[0])
        data = b""
        try:
            while data or (data := await stream.receive_some(65536)):
                head, found, data = data.partition(b"\r\n\r\n")
                if not found:  # no HTTP
                    return
                target = head.split()[1].decode()
                self.asked.append(target)
                await stream.send_all(self.answers.get(target, answer(target)).encode())
        except trio.BrokenResourceError:
            pass


def answer(body: str) -> str:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}"


def redirect(place: str) -> str:
    return f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def serving(
    host: str = "127.0.0.1", proxy: SocksProxy | None = None
) -> AsyncIterator[Server]:
    server = Server()
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host=host))
        server.port = listener.socket.getsockname()[1]
        if proxy is not None:
            await nursery.start(proxy.serve)
        yield server
        nursery.cancel_scope.cancel()


async def ask(client: HttpClient, url: str, rule: Rule = anywhere) -> str:
    reply = await client.get(url, max_bytes=100_000, timeout=10, rule=rule)
    return reply.body.decode()


async def test_requests_leave_from_the_bound_address() -> None:
    for bind in ("127.0.0.7", "127.0.0.7%lo"):
        async with serving() as server, HttpClient(bind=bind) as client:
            url = f"http://127.0.0.1:{server.port}"
            assert [await ask(client, f"{url}/{n}") for n in (1, 2)] == ["/1", "/2"]
            assert server.clients == ["127.0.0.7"]  # once: the connection is kept


async def test_one_family_only() -> None:
    async with serving() as server, HttpClient() as client:
        url = f"http://127.0.0.1:{server.port}/"
        assert (await client.get(url, max_bytes=9, timeout=9, family="ipv4")).status == 200
        with pytest.raises(HttpError):
            await client.get(url, max_bytes=9, timeout=9, family="ipv6")


async def test_a_large_answer_and_a_server_that_stalls() -> None:
    async with serving() as server, HttpClient() as client:
        url = f"http://127.0.0.1:{server.port}"
        server.answers["/large"] = answer("x" * 90_000)
        assert await ask(client, f"{url}/large") == "x" * 90_000
        server.answers["/stalls"] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"
        with pytest.raises(HttpError, match="stalled"):
            async with client.stream(f"{url}/stalls", read_timeout=0.1) as reply:
                assert [chunk async for chunk in reply.chunks()]


async def test_a_kept_connection_that_the_server_closed_is_not_used_again() -> None:
    async with trio.open_nursery() as nursery:

        async def once(stream: trio.SocketStream) -> None:
            await stream.receive_some(65536)
            await stream.send_all(answer("bye").encode())
            await stream.aclose()

        (listener,) = await nursery.start(partial(trio.serve_tcp, once, 0, host="127.0.0.1"))
        async with HttpClient() as client:
            url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
            for _ in range(3):
                assert await ask(client, url) == "bye"
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


async def test_refused_and_gone() -> None:
    async with HttpClient() as client:
        with pytest.raises(HttpError, match="cannot connect: connection refused"):
            await ask(client, f"http://127.0.0.1:{free_port()}/")
        with closing(socket.create_server(("127.0.0.1", 0), backlog=1)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            with pytest.raises(HttpError, match="stalled"):
                async with client.stream(url, read_timeout=0.1):
                    pass


async def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_certificate(tmp_path)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(made.chain, made.key)
    proxy, server = SocksProxy(), Server()
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        (listener,) = await nursery.start(
            partial(trio.serve_ssl_over_tcp, server.serve, 0, ours, host="127.0.0.1")
        )
        url = f"https://127.0.0.1:{listener.transport_listener.socket.getsockname()[1]}"
        async with HttpClient() as client:
            with pytest.raises(HttpError, match="certificate is not trusted"):
                await ask(client, f"{url}/x")
        monkeypatch.setattr(
            http, "tls_context", lambda: ssl.create_default_context(cafile=made.authority)
        )
        for client in (HttpClient(), HttpClient(proxy=parse_proxy(proxy.url()))):
            async with client:
                assert [await ask(client, f"{url}/{n}") for n in "ab"] == ["/a", "/b"]
        nursery.cancel_scope.cancel()
    assert len(proxy.asked) == 1


async def test_no_tls_there() -> None:
    async with serving() as server, HttpClient() as client:
        with pytest.raises(HttpError, match="no TLS with this server"):
            await ask(client, f"https://127.0.0.1:{server.port}/")


@pytest.mark.parametrize("kind", ["socks5", "http"])
async def test_through_a_proxy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(*args: object, **more: object) -> None:
        raise AssertionError("a name was resolved")

    proxy = SocksProxy(kind, "me", "secret", names={"seed.example": "127.0.0.1"})
    async with serving(proxy=proxy) as server:
        monkeypatch.setattr(trio.socket, "getaddrinfo", nobody)
        async with HttpClient(proxy=parse_proxy(proxy.url())) as client:
            url = f"http://seed.example:{server.port}"
            server.answers["/moved"] = redirect(f"http://other.example:{server.port}/there")
            proxy.names["other.example"] = "127.0.0.1"
            assert await ask(client, f"{url}/moved") == "/there"
            assert proxy.asked == [("seed.example", server.port), ("other.example", server.port)]
            server.answers["/inside"] = redirect(f"http://127.1:{server.port}/")
            with pytest.raises(HttpError, match="this host or its network"):
                await ask(client, f"{url}/inside")
            with pytest.raises(HttpError, match=r"proxy .* refused|proxy .* 502"):
                await ask(client, f"http://unknown.example:{server.port}/")
        async with HttpClient(proxy=parse_proxy(proxy.url(credentials="me:hush@"))) as client:
            with pytest.raises(HttpError, match="the proxy") as caught:
                await ask(client, f"{url}/")
    assert "hush" not in str(caught.value)


SPELLINGS = (
    "127.0.0.1",
    "127.1",
    "0x7f.0.0.1",
    "2130706433",
    "user:word@127.0.0.1",
    "seed.example@127.0.0.1",
    "[::ffff:127.0.0.1]",
    "localhost",
)


@pytest.mark.parametrize("host", SPELLINGS)
async def test_requests_of_strangers_to_this_host(host: str) -> None:
    async with serving() as server, HttpClient() as client:
        url = f"http://{host}:{server.port}"
        for target, rule in (
            ("/admin?do=reset", of_tracker),
            ("/announce/../admin", of_tracker),
            ("/cgi?do=reset", of_web_seed),
            ("/cgi?do=reset&info_hash=a&piece=0&ranges=0-1", of_web_seed),
        ):
            with pytest.raises(HttpError, match="refused") as caught:
                await ask(client, url + target, rule)
            assert caught.value.permanent
        assert not server.asked
        for target, rule in (
            ("/announce?info_hash=a", of_tracker),
            ("/film.mkv", of_web_seed),
            ("/seed?info_hash=a&piece=0&ranges=0-1", of_web_seed),
        ):
            assert await ask(client, url + target, rule) == target
        with pytest.raises(HttpError):  # the connection is there already, and makes no difference
            await ask(client, f"{url}/admin", of_tracker)
        assert "/admin" not in server.asked
    async with serving() as server, HttpClient(allow_local=True) as client:
        url = f"http://{host}:{server.port}"
        assert await ask(client, f"{url}/admin?x", of_tracker) == "/admin?x"
        assert await ask(client, f"{url}/cgi?x", of_web_seed) == "/cgi?x"


async def test_a_tracker_may_not_redirect_to_another_path_here() -> None:
    async with serving() as server, HttpClient() as client:
        server.answers["/announce"] = redirect("/admin")
        with pytest.raises(HttpError, match="another path than /announce"):
            await ask(client, f"http://127.0.0.1:{server.port}/announce", of_tracker)
        server.answers["/film"] = redirect("/cgi?do=reset")
        with pytest.raises(HttpError, match="refused"):
            await ask(client, f"http://127.0.0.1:{server.port}/film", of_web_seed)
        assert server.asked == ["/announce", "/film"]


async def test_a_name_that_changes_its_address_gains_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first answer is from a public address; by then its own name means this host."""
    monkeypatch.setattr(http, "is_public", lambda address: address == "127.0.0.1")
    async with serving() as server, HttpClient(resolve=always("93.184.216.34")) as client:
        server.answers["/"] = redirect("http://rebound.localhost/")
        with pytest.raises(HttpError, match="refused"):
            await ask(client, f"http://127.0.0.1:{server.port}/")
        assert server.asked == ["/"]


def always(address: str) -> Callable[[str], object]:
    async def resolve(host: str) -> list[str]:
        await trio.lowlevel.checkpoint()
        return [address]

    return resolve
