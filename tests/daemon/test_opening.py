"""From a source to a torrent: who is asked, with what, and what is added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.daemon.fakes import MAGNET, FakeSession
from tests.metainfo.torrents import build
from torrentfs.daemon.config import Beside
from torrentfs.daemon.opening import find
from torrentfs.daemon.sources import parse_source
from torrentfs.errors import ConfigError, MetadataTimeout
from torrentfs.metainfo.bencoding import encode
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.wire.krpc import Item

if TYPE_CHECKING:
    from pathlib import Path

BESIDE = Beside(("http://u/",), ("http://w/",), (("10.0.0.2", 2),))


async def test_a_magnet_is_looked_for_with_all_that_is_known(autojump_clock: object) -> None:
    session, said = FakeSession([], 1), []
    found = await find(session, parse_source(MAGNET), BESIDE, timeout=5, on_progress=said.append)
    assert said == ["looking for the metadata of film", "film: asking 3 peers"]
    assert session.added == []  # nothing is started yet
    await found.add(session)
    (magnet,) = session.resolved
    (added,) = session.added
    assert added["peers"] == magnet.peers == (("10.0.0.2", 2), ("10.0.0.1", 1))  # the user's first
    assert added["trackers"] == magnet.trackers == ("udp://t:1", "http://u/")
    assert added["web_seeds"] == ("http://w/",)
    assert added["select"] == (range(1, 2),)
    await found.shelve(session, eager=True)
    assert session.added[1] == added | {"eager": True}


async def test_a_private_magnet_asks_its_own_trackers_alone(autojump_clock: object) -> None:
    session = FakeSession([], 1)
    found = await find(session, parse_source(MAGNET), BESIDE, timeout=5, private=True)
    assert session.resolved[0].trackers == ("udp://t:1",)
    assert not found.metainfo.private  # as we know now: everybody may be asked
    assert found.beside.trackers == ("udp://t:1", "http://u/")
    assert found.magnet is not None
    assert found.magnet.trackers == ("udp://t:1",)


async def test_a_file_asks_nobody(tmp_path: Path) -> None:
    torrent = tmp_path / "t.torrent"
    torrent.write_bytes(build("v1"))
    session = FakeSession([], 1)
    found = await find(session, parse_source(str(torrent)), BESIDE, timeout=5)
    assert session.resolved == []
    assert found.metainfo.hashes == parse_torrent(torrent.read_bytes()).hashes
    assert (found.beside, found.select) == (BESIDE, ())


async def test_it_ends_in_one_declared_error(autojump_clock: object) -> None:
    session = FakeSession([], 100)
    with pytest.raises(MetadataTimeout, match="nobody has"):
        await find(session, parse_source(MAGNET), Beside(), timeout=5)
    publisher = parse_source("magnet:?xs=urn:btpk:" + "a" * 64)
    with pytest.raises(ConfigError, match="--no-dht"):
        await find(session, publisher, Beside(), timeout=5)
    with pytest.raises(ConfigError, match="leave out --proxy"):
        await find(session, publisher, Beside(), timeout=5, dht_off="--proxy")


async def test_publisher_and_metadata_share_the_time(autojump_clock: object) -> None:
    class Node:
        async def newest_item(self, key: bytes, salt: bytes, known: object = None) -> Item:
            await trio.sleep(4)
            return Item(encode({"ih": b"h" * 20}), key, bytes(64), 1)

    session = FakeSession([], 100)
    session.dht = Node()
    publisher = parse_source("magnet:?xs=urn:btpk:" + "a" * 64)
    started = trio.current_time()
    with pytest.raises(MetadataTimeout):
        await find(session, publisher, Beside(), timeout=5)
    assert trio.current_time() - started == 5
