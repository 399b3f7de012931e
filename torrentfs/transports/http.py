"""HTTP(S) for trackers, web seeds and .torrent URLs: the only importer of httpx.

httpx is imported at the first request, in a thread: it costs more start-up time than all of
torrentfs, and a mount of cached torrents never needs it. Requests go through httpx's *transport*
(connection pool, TLS, HTTP/1.1) and not through its `AsyncClient`, whose cookies, environment
proxies, decoding and redirects are what a client of untrusted URLs has to do without:

* No state but connections: no cookies, no `.netrc`, no proxy from the environment.
* What comes is what the server has: `Accept-Encoding: identity`. Some trackers compress all the
  same; `get` then unpacks, within `max_bytes`. `stream` never does: ranges would lose their sense.
* Redirects are followed here, at most `MAX_REDIRECTS`, only to http and https, and never from a
  public address to one of this machine or its network. That, and where a request may lead at
  all, is said by `reach`, unless `allow_local`; it is held where connections are made
  (`http_network`), by a pool for each reach. What is checked here before is for better words.
* Connections leave as `outgoing` has it: from an interface, through a proxy. With a proxy no name
  is resolved here.
* All that arrives is capped: headers by h11 (100 KiB), bodies of `get` by `max_bytes`, waiting by
  timeouts. Failures are `HttpError`, a `TransportError` with the reason in words.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import time
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import trio

from torrentfs import __version__
from torrentfs.errors import TransportError
from torrentfs.transports.names import look_up
from torrentfs.transports.outgoing import Outgoing
from torrentfs.transports.reach import Reach, anywhere, is_own_name, is_public
from torrentfs.transports.tcp import numeric_addresses, root_cause

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    import httpx

    from torrentfs.transports.proxy import Proxy
    from torrentfs.transports.reach import Rule

log = logging.getLogger(__name__)

USER_AGENT = f"torrentfs/{__version__}"

MAX_REDIRECTS = 5
CONNECT_TIMEOUT = 10.0
"""Seconds to connect, TLS included."""
READ_TIMEOUT = 20.0
"""Seconds without a byte after which a server counts as stalled."""
KEEP_ALIVE = 60.0
"""Seconds that an idle connection is kept: nginx closes after 75 by default."""
MAX_CONNECTIONS = 100
RECEIVE_SIZE = 256 * 1024
"""Bytes asked of a socket at once. httpcore's own 64 KiB make 4 times as many Python calls."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class HttpError(TransportError):
    """A request failed without an answer that can be used.

    `broken` tells that an established connection broke: a keep-alive connection that the server
    closed at the wrong moment looks like this, so asking once more is worth it. `permanent`
    tells that the URL itself can never be asked.
    """

    def __init__(self, reason: str, *, broken: bool = False, permanent: bool = False) -> None:
        super().__init__(reason)
        self.broken = broken
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole answer, of any status. `headers` have lower-case names; `url` is the final one."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class HttpStream:
    """An answer whose body is still coming; valid inside `HttpClient.stream`."""

    __slots__ = ("_parts", "_response", "headers", "status", "url")

    def __init__(self, response: httpx.Response, url: str) -> None:
        self.status: int = response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        self.url = url
        self._response = response
        self._parts: AsyncIterator[bytes] | None = None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, undecoded, once, no empty chunks. `HttpError` if it breaks."""
        import httpx

        assert isinstance(self._response.stream, httpx.AsyncByteStream)
        self._parts = aiter(self._response.stream)
        try:
            async for chunk in self._parts:
                if chunk:
                    yield chunk
        except (httpx.HTTPError, OSError) as error:
            raise _failure(error) from error

    async def aclose(self) -> None:
        """Close the connection unless the body was read to its end."""
        with trio.CancelScope(shield=True):
            await self._response.aclose()
            if self._parts is not None:
                # The library's nested generators are not closed with the response, and trio
                # warns of each that is left over; on a closed connection they end by error.
                with contextlib.suppress(Exception):
                    async for _ in self._parts:
                        pass

    def __repr__(self) -> str:
        return f"<HttpStream {self.status} {self.url}>"


class HttpClient:
    """HTTP requests over kept connections, for the whole session.

    `bind` is what to connect from (see `binding`), `proxy` through what; a server that gives no
    byte for `read_timeout` seconds has stalled. With `allow_local` all URLs may lead anywhere.
    `resolve` gives the IP addresses of a host name (tests replace it), and `transport` an httpx
    transport instead of the network (tests). Close with `aclose`, or use as an async context
    manager.
    """

    def __init__(
        self,
        *,
        bind: str | None = None,
        proxy: Proxy | None = None,
        allow_local: bool = False,
        read_timeout: float = READ_TIMEOUT,
        resolve: Callable[[str], Awaitable[list[str]]] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.requests = 0
        self.outgoing = Outgoing(bind, proxy)
        self.allow_local = allow_local
        self._read_timeout = read_timeout
        names = partial(resolve_host, bind=bind) if proxy is None else resolve_literal
        self.resolve: Callable[[str], Awaitable[list[str]]] = resolve or names
        self._given = transport
        self._transports: dict[tuple[str | None, Reach], httpx.AsyncBaseTransport] = {}
        self._opening = trio.Lock()
        self._tls: ssl.SSLContext | None = None
        self._loaded = False

    async def get(
        self,
        url: str,
        *,
        max_bytes: int,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        family: str | None = None,
        rule: Rule = anywhere,
    ) -> HttpReply:
        """Fetch `url` whole, within `timeout` seconds and `max_bytes` (unpacked).

        Gives an answer of any status; `HttpError` when there is none. `family` is "ipv4" or
        "ipv6" to use that one only; `rule` says where the URL may be asked (see `reach`).
        """
        try:
            with trio.fail_after(timeout):
                async with self.stream(
                    url, headers=headers, read_timeout=timeout, family=family, rule=rule
                ) as reply:
                    body = await _read_whole(reply, max_bytes)
                    return HttpReply(reply.status, reply.headers, body, reply.url)
        except trio.TooSlowError:
            raise HttpError(f"no answer within {timeout:g} s") from None

    async def request(
        self,
        method: str,
        url: str,
        *,
        max_bytes: int,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> HttpReply:
        """Send one request to a server that the user named, and follow no redirect.

        So that what is in `headers` (a token) and `body` goes to that server alone. As `get`
        otherwise.
        """
        await self._load()
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), timeout)
        try:
            with trio.fail_after(timeout):
                response = await self._send(
                    url, headers or {}, timeouts, None, anywhere, Reach.ANYWHERE, method, body
                )
                reply = HttpStream(response, url)
                try:
                    content = await _read_whole(reply, max_bytes)
                finally:
                    await reply.aclose()
                return HttpReply(reply.status, reply.headers, content, url)
        except trio.TooSlowError:
            raise HttpError(f"no answer within {timeout:g} s") from None

    async def _load(self) -> None:
        if not self._loaded:
            await trio.to_thread.run_sync(_load)
            self._loaded = True

    @asynccontextmanager
    async def stream(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float | None = None,
        family: str | None = None,
        rule: Rule = anywhere,
    ) -> AsyncIterator[HttpStream]:
        """Ask for `url`, following redirects, and give the answer once its headers are there.

        Leaving the context with a part of the body unread closes the connection; after the
        whole body it is kept for the next request.
        """
        await self._load()
        patience = self._read_timeout if read_timeout is None else read_timeout
        timeouts = {
            "connect": connect_timeout,
            "read": patience,
            "write": patience,
            "pool": connect_timeout + patience,
        }
        response, final = await self._follow(url, headers or {}, timeouts, family, rule)
        reply = HttpStream(response, final)
        try:
            yield reply
        finally:
            await reply.aclose()

    async def _follow(
        self,
        url: str,
        headers: Mapping[str, str],
        timeouts: dict[str, float],
        family: str | None,
        rule: Rule,
    ) -> tuple[httpx.Response, str]:
        """Send the request along its redirects; the response to read and its URL."""
        least = Reach.ANYWHERE
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._send(url, headers, timeouts, family, rule, least)
            place = response.headers.get("location")
            if response.status_code not in _REDIRECTS or not place:
                return response, url
            await response.aclose()
            target = _join(url, place)
            least = max(least, await self._check_redirect(url, target, _address_of(response)))
            log.debug("%s redirects to %s", url, target)
            url = target
        raise HttpError(f"more than {MAX_REDIRECTS} redirects")

    async def _send(
        self,
        url: str,
        headers: Mapping[str, str],
        timeouts: dict[str, float],
        family: str | None,
        rule: Rule,
        least: Reach,
        method: str = "GET",
        body: bytes = b"",
    ) -> httpx.Response:
        import httpx

        self.requests += 1
        try:
            parsed = httpx.URL(url)
            if parsed.scheme not in ("http", "https") or not parsed.host:
                raise HttpError("only http and https URLs can be fetched", permanent=True)
            if parsed.port is not None and not 0 < parsed.port < 65536:
                raise HttpError(f"there is no port {parsed.port}", permanent=True)
            request = httpx.Request(
                method,
                parsed.copy_with(userinfo=b"", fragment=None),
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept": "*/*",
                    "Accept-Encoding": "identity",
                    **_authorization(parsed.userinfo),
                    **headers,
                },
                content=body or None,
                extensions={"timeout": timeouts},
            )
            reach = max(least, rule(request.url.raw_path.decode("ascii")))
            if self.allow_local:
                reach = Reach.ANYWHERE
            transport = await self._transport(family, reach)
            return await transport.handle_async_request(request)
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise HttpError(f"not a URL that can be asked: {error}", permanent=True) from error
        except HttpError:
            raise
        except (httpx.HTTPError, OSError, TransportError) as error:
            raise _failure(error) from error

    async def _transport(self, family: str | None, reach: Reach) -> httpx.AsyncBaseTransport:
        if self._given is not None:
            return self._given
        key = family, reach
        async with self._opening:
            if key not in self._transports:
                if self._tls is None:
                    self._tls = await trio.to_thread.run_sync(tls_context)
                self._transports[key] = self._open_transport(family, reach)
        return self._transports[key]

    def _open_transport(self, family: str | None, reach: Reach) -> httpx.AsyncHTTPTransport:
        import httpcore
        import httpx

        from torrentfs.transports.http_network import Network

        assert self._tls is not None
        transport = httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False)
        transport._pool = httpcore.AsyncConnectionPool(  # httpx cannot be told of a backend
            ssl_context=self._tls,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_CONNECTIONS // 2,
            keepalive_expiry=KEEP_ALIVE,
            network_backend=Network(self.outgoing, reach, family),
        )
        return transport

    async def _check_redirect(self, source: str, target: str, address: str | None) -> Reach:
        """Refuse a redirect, or say where it may lead; `address` is whose answer it was."""
        import httpx

        try:
            parsed, origin = httpx.URL(target), httpx.URL(source)
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise HttpError("redirects to something that is no URL") from error
        if parsed.scheme not in ("http", "https"):
            raise HttpError(f"redirects to {parsed.scheme or 'nowhere'}:, which is refused")
        if self.allow_local:
            return Reach.ANYWHERE
        if address is not None:
            from_public = is_public(address)
        else:
            from_public = not await self._is_local(_host(origin))
        if not from_public:
            return Reach.ANYWHERE
        if _host(parsed) != _host(origin) and await self._is_local(_host(parsed)):
            raise HttpError("redirects to an address of this host or its network: refused")
        return Reach.PUBLIC

    async def _is_local(self, host: str) -> bool:
        """Whether any address of `host` is not a public one."""
        return any(not is_public(address) for address in await self.resolve(host))

    async def drop_connections(self) -> None:
        """Give up all connections, those in use too: requests fail, the next ones make new ones."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        with trio.CancelScope(shield=True):
            while self._transports:
                await self._transports.popitem()[1].aclose()

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<HttpClient {self.requests} requests>"


async def resolve_host(host: str, bind: str | None = None) -> list[str]:
    """The IP addresses of a host name or literal; [] when it has none, or `bind` no footing."""
    literal = await resolve_literal(host)
    if literal:
        return literal
    try:
        found = await look_up(host, 0, trio.socket.SOCK_STREAM, bind)
    except (OSError, UnicodeError):
        return []
    return [str(place[0]) for _, place in found]


async def resolve_literal(host: str) -> list[str]:
    """The IP address of a literal, in any spelling, and of this host's own names; else []."""
    await trio.lowlevel.checkpoint()
    literal = numeric_addresses(host.rstrip("."), 0, trio.socket.SOCK_STREAM)
    if literal:
        return [literal[0][1][0]]
    return ["127.0.0.1"] if is_own_name(host) else []


def _load() -> None:
    """Import httpx and have httpcore receive in larger pieces than its 64 KiB."""
    import httpcore
    import httpx  # noqa: F401

    import torrentfs.transports.http_network  # noqa: F401

    httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = RECEIVE_SIZE


def tls_context() -> ssl.SSLContext:
    """Verification against certifi's roots and those that the machine's owner added."""
    import httpx

    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def _authorization(userinfo: bytes) -> dict[str, str]:
    """The header for `http://user:password@host/`, which httpx's client would have made."""
    if not userinfo:
        return {}
    user, _, password = userinfo.partition(b":")
    token = base64.b64encode(unquote_to_bytes(user) + b":" + unquote_to_bytes(password))
    return {"Authorization": f"Basic {token.decode()}"}


def _join(url: str, place: str) -> str:
    import httpx

    try:
        target = httpx.URL(url).join(place)
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise HttpError("redirects to something that is no URL") from error
    return str(target)


def _host(url: httpx.URL) -> str:
    """The host as it is connected to: no Unicode, no brackets."""
    return url.raw_host.decode("ascii")


def _address_of(response: httpx.Response) -> str | None:
    """The address that answered, if it is known."""
    stream = response.extensions.get("network_stream")
    address = stream.get_extra_info("server_addr") if stream is not None else None
    return str(address) if address is not None else None


def _failure(error: Exception) -> HttpError:
    """The one place where httpx's exceptions become ours."""
    import httpx

    from torrentfs.transports.http_network import NotAllowed

    if isinstance(error, TransportError):
        return HttpError(str(error), permanent=isinstance(error, NotAllowed))
    if isinstance(error, httpx.ConnectTimeout):
        return HttpError("connecting timed out")
    if isinstance(error, httpx.ReadTimeout):
        return HttpError("stalled: no byte in time")
    if isinstance(error, httpx.TimeoutException):
        return HttpError("timed out")
    reason = str(error).strip() or type(error).__name__
    if isinstance(error, httpx.ConnectError):
        told = root_cause(error)
        if told is not None:
            reason = reason_of(told)
        return HttpError(f"cannot connect: {reason}")
    broken = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
    return HttpError(reason, broken=broken)


def reason_of(error: OSError) -> str:
    """Why connecting failed, in words; trio repeats the address in its own."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        why = getattr(error, "verify_message", "")
        return f"the certificate is not trusted: {why}"
    if isinstance(error, ssl.SSLError):
        why = getattr(error, "reason", None) or str(error)  # neither is set in every case
        return f"no TLS with this server ({why.lower().replace('_', ' ')})"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return (error.strerror or str(error)).lower()


async def _read_whole(reply: HttpStream, max_bytes: int) -> bytes:
    """The body, unpacked if the server compressed it unasked; at most `max_bytes`."""
    encoding = reply.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise HttpError(f"answer has content encoding {encoding[:40]!r}, which was not asked for")
    unpacker = zlib.decompressobj(47) if "gzip" in encoding or encoding == "deflate" else None
    body = bytearray()
    async with contextlib.aclosing(reply.chunks()) as chunks:
        async for chunk in chunks:
            if unpacker is None:
                body += chunk
            else:
                try:
                    # one byte more than allowed, so that the check below sees the excess
                    body += unpacker.decompress(chunk, max_bytes + 1 - len(body))
                except zlib.error as error:
                    raise HttpError("answer is not the gzip data it claims to be") from error
            if len(body) > max_bytes:
                raise HttpError(f"answer is larger than {max_bytes} bytes")
    return bytes(body)


def seconds_until(retry_after: str | None, *, cap: float) -> float | None:
    """`Retry-After` (RFC 9110: seconds or a date) in seconds, 1 to `cap`; None if unusable."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(cap, max(1.0, seconds))
