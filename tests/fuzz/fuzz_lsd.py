"""Local announces: an announce that goes round, or `RemoteProtocolError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire.lsd import LocalAnnounce, parse_announce, write_announce

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULES = ["torrentfs.wire.lsd"]


def seeds() -> Iterable[bytes]:
    """Announces of one torrent and of many, and one in odd spelling."""
    yield write_announce(LocalAnnounce(6881, (b"h" * 20,), "cookie"))
    yield write_announce(LocalAnnounce(1, tuple(bytes([n]) * 20 for n in range(20))), ipv6=True)
    yield b"BT-SEARCH * HTTP/1.1\r\nPORT:7\r\ninfohash : " + b"aB" * 20 + b"\r\n:\r\n"


def one_input(data: bytes) -> None:
    """Read it; what came out must go round."""
    try:
        announce = parse_announce(data)
    except RemoteProtocolError:
        return
    cookie = "".join(c for c in announce.cookie if c.isascii() and c.isalnum())
    announce = LocalAnnounce(announce.port, announce.info_hashes, cookie[:100])
    assert parse_announce(write_announce(announce)) == announce
