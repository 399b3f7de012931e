"""A publisher's magnet link becomes that of his newest torrent, or an error that says why not."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from torrentfs.daemon.following import dht_is_off, follow
from torrentfs.daemon.sources import MagnetSource, PublisherSource, parse_source
from torrentfs.engine.config import SessionConfig
from torrentfs.errors import ConfigError, InvalidTorrent, MetadataTimeout
from torrentfs.metainfo.bencoding import encode
from torrentfs.transports.proxy import parse_proxy
from torrentfs.wire.krpc import Item

LINK = f"magnet:?xs=urn:btpk:{'ab' * 32}&s=6e&dn=weekly&tr=http%3A%2F%2Ft.example%2Fa"


class FakeNode:
    """A DHT with one item, or none."""

    def __init__(self, value: object = None) -> None:
        self.value = value
        self.asked: list[tuple[bytes, bytes]] = []

    async def newest_item(self, key: bytes, salt: bytes, known: Item | None = None) -> Item:
        self.asked.append((key, salt))
        if self.value is None:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return Item(encode(self.value), key, bytes(64), 1, salt)


def source() -> PublisherSource:
    found = parse_source(LINK)
    assert isinstance(found, PublisherSource)
    return found


async def test_the_newest_torrent() -> None:
    node = FakeNode({"ih": b"h" * 20})
    found = await follow(node, source(), timeout=5)
    assert isinstance(found, MagnetSource)
    assert node.asked == [(b"\xab" * 32, b"n")]
    assert found.magnet.hashes.v1 == b"h" * 20
    assert found.magnet.name == "weekly"
    assert found.magnet.trackers == ("http://t.example/a",)


async def test_what_he_says_names_no_torrent() -> None:
    with pytest.raises(InvalidTorrent, match="names no torrent"):
        await follow(FakeNode({"x": 1}), source(), timeout=5)


async def test_he_is_not_found(autojump_clock: MockClock) -> None:
    with pytest.raises(MetadataTimeout, match="not found in the DHT in 5 s"):
        await follow(FakeNode(), source(), timeout=5)


async def test_without_the_dht() -> None:
    with pytest.raises(ConfigError, match="leave out --no-dht"):
        await follow(None, source(), timeout=5)
    with pytest.raises(ConfigError, match="leave out --private"):
        await follow(FakeNode(), source(), timeout=5, off="--private")


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({}, ""),
        ({"private": True}, "--private"),
        ({"dht": None}, "--no-dht"),
        ({"dht": None, "proxy": parse_proxy("socks5://127.0.0.1:1")}, "--proxy"),
        ({"tcp": False}, "--no-tcp or --no-utp"),
        ({"tcp": False, "utp": True}, ""),
    ],
    ids=["on", "private", "no-dht", "proxy", "no-tcp", "utp"],
)
def test_the_option_that_keeps_us_from_the_dht(settings: dict[str, Any], option: str) -> None:
    assert dht_is_off(SessionConfig(**settings)) == option
