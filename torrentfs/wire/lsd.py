"""Local service discovery (BEP 14): what is multicast to say "here is a peer of these torrents".

    BT-SEARCH * HTTP/1.1
    Host: 239.192.152.143:6771
    Port: 6881
    Infohash: 40 hex digits, once or more
    cookie: a word of the sender's own, by which it knows its own announces

It looks like HTTP and is none. Read leniently: header names in any case, unknown ones ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torrentfs.errors import RemoteProtocolError

GROUP4 = ("239.192.152.143", 6771)
GROUP6 = ("ff15::efc0:988f", 6771)

MAX_BYTES = 1400
"""Of a datagram; must not be cut into pieces."""

MOST = 20
"""Torrents in one announce, so that it stays below `MAX_BYTES`; also how many are read of one."""

_FIRST_LINE = "BT-SEARCH * HTTP/1.1"
_HASH = re.compile(r"[0-9a-fA-F]{40}")


@dataclass(frozen=True, slots=True)
class LocalAnnounce:
    """A peer that listens at `port` of the datagram's sender has the torrents `info_hashes`."""

    port: int
    info_hashes: tuple[bytes, ...]
    cookie: str = ""


def write_announce(announce: LocalAnnounce, *, ipv6: bool = False) -> bytes:
    """The datagram."""
    host, port = GROUP6 if ipv6 else GROUP4
    lines = [_FIRST_LINE, f"Host: {f'[{host}]' if ipv6 else host}:{port}", f"Port: {announce.port}"]
    lines += [f"Infohash: {info_hash.hex()}" for info_hash in announce.info_hashes[:MOST]]
    if announce.cookie:
        lines.append(f"cookie: {announce.cookie}")
    return ("\r\n".join(lines) + "\r\n\r\n\r\n").encode("ascii")


def parse_announce(data: bytes) -> LocalAnnounce:
    """Read a datagram; `RemoteProtocolError` when it is no announce."""
    if len(data) > MAX_BYTES:
        raise RemoteProtocolError(f"a local announce of {len(data)} bytes")
    first, *lines = data.decode("latin-1").split("\r\n")
    if first.strip() != _FIRST_LINE:
        raise RemoteProtocolError("a datagram that is no local announce")
    port, cookie = 0, ""
    hashes: dict[bytes, None] = {}
    for line in lines:
        name, _, value = line.partition(":")
        value = value.strip()
        match name.strip().lower():
            case "port":
                port = int(value) if re.fullmatch(r"[0-9]{1,5}", value) else 0
            case "infohash" if _HASH.fullmatch(value):
                hashes[bytes.fromhex(value)] = None
            case "cookie":
                cookie = value
            case _:
                pass
    if not 0 < port < 65536 or not hashes:
        raise RemoteProtocolError("a local announce without port or info-hash")
    return LocalAnnounce(port, tuple(hashes)[:MOST], cookie)
