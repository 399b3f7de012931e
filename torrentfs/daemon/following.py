"""From a publisher's magnet link to the torrent that he names as his newest (BEP 46).

He is asked for once, when the torrent is mounted: a mount does not change under its readers. The
item in the DHT is signed with the key in the link, so it is his word, whoever hands it over.
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
    from torrentfs.wire.krpc import Item


class Publications(Protocol):
    """What is needed of a DHT node."""

    async def newest_item(self, key: bytes, salt: bytes) -> Item: ...


async def follow(
    node: Publications | None, source: PublisherSource, *, timeout: float, private: bool
) -> MagnetSource:
    """The magnet of the publisher's newest torrent.

    `ConfigError` where the DHT is off, `MetadataTimeout` when he is not found within `timeout`
    seconds, `InvalidTorrent` when what he says names no torrent.
    """
    name = shorten(source.text)
    if node is None or private:
        option = "--private" if private else "--no-dht"
        raise ConfigError(f"{name}: a publisher is found in the DHT only: leave out {option}")
    publisher = source.publisher
    with trio.move_on_after(timeout):
        item = await node.newest_item(publisher.key, publisher.salt)
        info_hash = info_hash_in(item)
        if info_hash is None:
            raise InvalidTorrent(f"{name}: what its publisher says there names no torrent")
        return MagnetSource(source.text, parse_magnet(source.text, InfoHashes(v1=info_hash)))
    raise MetadataTimeout(f"{name}: its publisher was not found in the DHT in {timeout:g} s")
