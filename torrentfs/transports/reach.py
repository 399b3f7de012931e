"""What a URL that a stranger chose may make this machine ask (server-side request forgery, SSRF).

A torrent names trackers and web seeds, and whoever made it may name a router, a printer or a
service of this very host instead: a GET can do harm there. Torrents do have honest trackers and
seeds at such addresses, so the rules are those of libtorrent's `ssrf_mitigation`:

* a tracker on loopback is asked only at `/announce...` (and scraped at `/scrape...`), where
  harmless things are;
* a web seed on a local network gets no query string of the torrent's making, which is what says
  to a service what to do;
* a redirect leads from a public address to no local one.

They hold for the *addresses* that a connection is made to, whatever spelling the URL has, and
are looked at when it is made: a name that changes its address in between gains nothing.
`--allow-local` lifts them.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_OWN_QUERY = re.compile(r"[?&]info_hash=[^&?#]*&piece=\d+&ranges=\d+-\d+$")
"""What BEP 17 has us ask; see `WebSeed.piece_url`."""


class Reach(enum.IntEnum):
    """Where a request may lead; the greater, the less."""

    ANYWHERE = 0
    BEYOND_LOOPBACK = 1
    PUBLIC = 2

    def includes(self, address: str) -> bool:
        """Whether an IP address may be connected to."""
        if self is Reach.ANYWHERE:
            return True
        return is_public(address) if self is Reach.PUBLIC else not is_loopback(address)

    @property
    def refusal(self) -> str:
        """In words, why an address was refused."""
        if self is Reach.PUBLIC:
            return "leads to an address of this host or its network: refused (see --allow-local)"
        return "leads to this host, at another path than /announce: refused (see --allow-local)"


Rule: TypeAlias = "Callable[[str], Reach]"
"""Where a path with its query, as it is sent, may be asked."""


def anywhere(target: str) -> Reach:
    """What the user names is asked wherever it is."""
    return Reach.ANYWHERE


def of_tracker(target: str) -> Reach:
    """A tracker's announce URL."""
    return _of_tracker(target, "/announce")


def of_scrape(target: str) -> Reach:
    """The URL of a tracker's counts, which is made of that of its announces (BEP 48)."""
    return _of_tracker(target, "/scrape")


def _of_tracker(target: str, beginning: str) -> Reach:
    path = unquote(target.partition("?")[0])
    harmless = path.startswith(beginning) and ".." not in path
    return Reach.ANYWHERE if harmless else Reach.BEYOND_LOOPBACK


def of_socket_tracker(target: str) -> Reach:
    """A WebSocket tracker's URL: they are used to be at the root."""
    return Reach.ANYWHERE if target == "/" else of_tracker(target)


def of_web_seed(target: str) -> Reach:
    """A web seed's URL; the query that BEP 17 has us append is not counted."""
    return Reach.PUBLIC if "?" in _OWN_QUERY.sub("", target) else Reach.ANYWHERE


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public Internet (not loopback, private, link-local)."""
    parsed = _parse(address)
    return parsed is not None and parsed.is_global and not parsed.is_multicast


def is_loopback(address: str) -> bool:
    """Whether connecting to an IP address ends at this host (the unspecified one does, too)."""
    parsed = _parse(address)
    return parsed is None or parsed.is_loopback or parsed.is_unspecified


def is_own_name(host: str) -> bool:
    """Whether a host name means this host by its nature (RFC 6761), whoever resolves it."""
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, and the IPv4 one that is inside of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is None and (parsed in _NAT64 or 1 < int(parsed) < 1 << 32):
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return inner
    return parsed
