"""Magnet links: `InvalidTorrent`, or a `Magnet` whose own link gives it again."""

from __future__ import annotations

from collections.abc import Iterable

from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo.magnet import parse_magnet

MODULES = ["torrentfs.metainfo.magnet"]


def seeds() -> Iterable[bytes]:
    """Links with every field."""
    v1, v2 = "0123456789abcdef" * 2 + "01234567", "0123456789abcdef" * 4
    yield f"magnet:?xt=urn:btih:{v1}".encode()
    yield b"magnet:?xt=urn:btih:" + b"A2B3C4D5" * 4
    yield b"magnet:?xt=urn:btih:" + b"a" * 30 + b"t="
    yield f"magnet:?xt=urn:btmh:1220{v2}&dn=a+b%20c".encode()
    yield (
        f"magnet:?xt.1=urn:btih:{v1}&xt.2=urn:btmh:1220{v2}&dn=%C3%A4&tr=http%3A%2F%2Fa%2Fb%3Fc"
        "&tr.1=udp://t:80&ws=http://w/&xs=http://x/y.torrent&as=http://z/"
        "&x.pe=127.0.0.1:1&x.pe=[::1]:65535&x.pe=host.example:80&so=0,2,4-8"
    ).encode()


def one_input(data: bytes) -> None:
    """Parse and go round."""
    try:
        magnet = parse_magnet(data.decode("utf-8", "surrogateescape"))
    except InvalidTorrent:
        return
    assert parse_magnet(magnet.to_uri()) == magnet
