"""What the user may say about WebRTC; pure values, known to both processes.

There is no default STUN or TURN server: torrentfs calls no third party that neither the user nor
the torrent named. Without one, peers on the same network and peers that can be reached directly
work; a peer behind another NAT needs a server.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import NamedTuple

from torrentfs.errors import ConfigError

PORT = 3478
TLS_PORT = 5349
"""Where a URL names none (RFC 7064 section 3.2, RFC 7065 section 3.2)."""

_SERVER = re.compile(
    r"(?P<scheme>stun|turns?):(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:?\[\]@/]+)(:(?P<port>\d{1,5}))?"
    r"(\?transport=(?P<transport>udp|tcp))?"
)


@dataclass(frozen=True, slots=True)
class TurnServer:
    """A relay (RFC 8656) and what it wants to know: `turn:host[:port][?transport=udp|tcp]`."""

    url: str
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:  # no password in a log
        return f"TurnServer({self.url!r}, {self.username!r})"


@dataclass(frozen=True, slots=True)
class RtcConfig:
    """How to speak WebRTC. `ConfigError` when a server's URL or a number makes no sense.

    `bind` is a network device, a local IP address or both (ADDRESS%DEVICE): host candidates are of
    it alone and every socket is bound to it. `relay_only` gives peers no address of ours but the
    relay's. `max_connections` counts everything that exists at a time, offers included;
    `max_offers` those offers of ours that nobody has answered yet. `max_workers` is how many
    processes may share the work, 0 for as many as the machine's cores suggest.
    """

    stun: tuple[str, ...] = ()
    turn: tuple[TurnServer, ...] = ()
    relay_only: bool = False
    bind: str | None = None
    max_connections: int = 150
    max_offers: int = 100
    max_workers: int = 0

    def __post_init__(self) -> None:
        for url in self.stun:
            check_server(url, ("stun",))
        for server in self.turn:
            check_server(server.url, ("turn", "turns"))
        if self.relay_only and not self.turn:
            raise ConfigError("WebRTC through a relay only needs a TURN server: give --turn")
        if self.max_connections < 1 or self.max_offers < 1 or self.max_workers < 0:
            raise ConfigError("the limits of WebRTC connections and offers start at 1")


class ServerPlace(NamedTuple):
    """Where a STUN or TURN server is, and how it is spoken to: `transport` is "udp" or "tcp"."""

    host: str
    port: int
    transport: str
    tls: bool


def server_place(url: str) -> ServerPlace:
    """What the URL of a server says (RFC 7064, RFC 7065); `ConfigError` as from `check_server`."""
    check_server(url, ("stun", "turn", "turns"))
    match = _SERVER.fullmatch(url)
    assert match is not None
    tls = match["scheme"] == "turns"
    return ServerPlace(
        host=match["host"].strip("[]"),
        port=int(match["port"] or (TLS_PORT if tls else PORT)),
        transport=match["transport"] or ("tcp" if tls else "udp"),
        tls=tls,
    )


def check_server(url: str, schemes: tuple[str, ...]) -> None:
    """Whether `url` names a STUN or TURN server (RFC 7064, RFC 7065); `ConfigError` if not."""
    match = _SERVER.fullmatch(url)
    if match is None or match["scheme"] not in schemes or not _is_place(match):
        forms = " or ".join(f"{scheme}:HOST[:PORT]" for scheme in schemes)
        raise ConfigError(f"not a server for WebRTC: {url!r} (expected {forms})")
    if match["transport"] and match["scheme"] == "stun":
        raise ConfigError(f"a STUN server has no transport to choose: {url!r}")
    if match["scheme"] == "turns" and match["transport"] == "udp":
        raise ConfigError(f"TURN over DTLS is not supported: use turns: with TCP, not {url!r}")


def _is_place(match: re.Match[str]) -> bool:
    host, port = match["host"], match["port"]
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return False
    return port is None or 0 < int(port) < 65536
