"""Trackers over HTTP(S) (BEP 3, 7, 23, 48): one GET per announce and address family.

A tracker sees the address that a request comes from, so a host with both families is announced
to over both (BEP 7), in a connection of each; a literal address has only one, a bound client those
of its interface, and behind a proxy it is the proxy's to choose. A scrape is one GET. Redirects,
size and time are bounded by `transports.http`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from torrentfs.discovery.base import Answer, ask_all
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.reach import of_scrape, of_tracker
from torrentfs.wire import limits
from torrentfs.wire.http_tracker import (
    TrackerFailure,
    announce_url,
    parse_reply,
    parse_scrape,
    scrape_url,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from torrentfs.transports.http import HttpClient
    from torrentfs.transports.reach import Rule
    from torrentfs.wire.announce import AnnounceReply, AnnounceRequest, SwarmCounts

TIMEOUT = 30.0
"""Seconds for one announce in all. Loaded trackers do need ten; others are asked meanwhile."""


class HttpTrackers:
    """Announces to `http:` and `https:` trackers."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def announce(
        self, url: str, request: AnnounceRequest, on_reply: Callable[[AnnounceReply], None]
    ) -> None:
        """See `trackers.Announcer`."""
        target = announce_url(url, request)

        def ask(family: str | None) -> Callable[[], Awaitable[AnnounceReply]]:
            return lambda: self._ask(target, family, of_tracker, parse_reply)

        await ask_all([ask(family) for family in await self._families(url)], on_reply)

    async def scrape(self, url: str, info_hashes: Sequence[bytes]) -> Mapping[bytes, SwarmCounts]:
        """See `trackers.Announcer`."""
        target = scrape_url(url, info_hashes)
        if target is None:
            raise TransportError("its URL has no place for counts")
        return await self._ask(target, None, of_scrape, parse_scrape)

    async def _ask(
        self, target: str, family: str | None, rule: Rule, parse: Callable[[bytes], Answer]
    ) -> Answer:
        reply = await self._client.get(
            target,
            max_bytes=limits.MAX_TRACKER_REPLY_BYTES,
            timeout=TIMEOUT,
            family=family,
            rule=rule,
        )
        if reply.status == HTTPStatus.OK:
            return parse(reply.body)
        try:
            parse(reply.body)
        except TrackerFailure:  # some put their reason under a 4xx
            raise
        except RemoteProtocolError:
            pass
        raise TransportError(_words(reply.status))

    async def _families(self, url: str) -> list[str | None]:
        """The families to announce over; None leaves the choice to the connection."""
        if self._client.outgoing.proxy is not None:
            return [None]
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            return [None]
        found = {":" in address for address in await self._client.resolve(host)} if host else set()
        return ["ipv4", "ipv6"] if len(found) == 2 else [None]


def _words(status: int) -> str:
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase.lower()}"
    except ValueError:
        return f"HTTP {status}"
