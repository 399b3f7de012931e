"""From a publisher's magnet link to the torrent that he names as his newest (BEP 46).

The item in the DHT is signed with the key in the link, so it is his word, whoever hands it over.
Here he is asked once, for who reads without a mount and for a mount that begins; a mount goes on
asking (see `editions`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from torrentfs.daemon.sources import MagnetSource, PublisherSource, shorten
from torrentfs.discovery.dht.items import info_hash_in
from torrentfs.errors import ConfigError, InvalidTorrent, MetadataTimeout
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.magnet import parse_magnet

if TYPE_CHECKING:
    from torrentfs.engine.config import SessionConfig
    from torrentfs.metainfo.magnet import Magnet
    from torrentfs.wire.krpc import Item


class Publications(Protocol):
    """What is needed of a DHT node."""

    async def newest_item(self, key: bytes, salt: bytes, known: Item | None = None) -> Item: ...


def dht_is_off(config: SessionConfig) -> str:
    """The option that keeps a magnet from the DHT; empty when it may be looked up there."""
    if config.private:
        return "--private"
    if config.proxy is not None:
        return "--proxy"
    if config.dht is None:
        return "--no-dht"
    return "" if config.tcp or config.utp else "--no-tcp or --no-utp"


async def newest(
    node: Publications | None, source: PublisherSource, *, timeout: float, off: str = ""
) -> Item:
    """What the publisher said last.

    `ConfigError` where the DHT is off (`off` is the option that says so), `MetadataTimeout` when he
    is not found within `timeout` seconds.
    """
    name = shorten(source.text)
    if node is None or off:
        option = off or "--no-dht"
        raise ConfigError(f"{name}: a publisher is found in the DHT only: leave out {option}")
    with trio.move_on_after(timeout):
        return await node.newest_item(source.publisher.key, source.publisher.salt)
    raise MetadataTimeout(f"{name}: its publisher was not found in the DHT in {timeout:g} s")


def magnet_in(link: str, item: Item) -> Magnet | None:
    """The magnet of the torrent that an item names, with what the link says; None: it names none.

    `InvalidTorrent` when the link is none.
    """
    info_hash = info_hash_in(item)
    return parse_magnet(link, InfoHashes(v1=info_hash)) if info_hash is not None else None


async def follow(
    node: Publications | None, source: PublisherSource, *, timeout: float, off: str = ""
) -> MagnetSource:
    """The magnet of the publisher's newest torrent; errors as of `newest`.

    `InvalidTorrent` when what he says names no torrent.
    """
    magnet = magnet_in(source.text, await newest(node, source, timeout=timeout, off=off))
    if magnet is None:
        name = shorten(source.text)
        raise InvalidTorrent(f"{name}: what its publisher says there names no torrent")
    return MagnetSource(source.text, magnet)
