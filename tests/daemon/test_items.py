"""What an item says of itself."""

from __future__ import annotations

from torrentfs.daemon.items import Item
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.magnet import Magnet


def item() -> Item:
    return Item(key="ab" * 20, name="film", source="magnet:?", added=1.0)


def test_the_strongest_claim_is_the_origin() -> None:
    one = item()
    assert not one.is_claimed
    one.given = True
    assert (one.is_claimed, one.origin) == (True, "command line")
    one.watched["/w/film.torrent"] = ()
    assert one.origin == "watch"
    one.kept = True
    assert one.origin == "added"
    assert repr(one) == "<Item abababab 'film' added, failed>"


def test_states_of_what_has_no_metadata() -> None:
    one = item()
    assert one.state == "failed"
    one.hints = Magnet(InfoHashes(v1=bytes(20)))
    assert one.state == "metadata"
    one.paused = True
    assert one.state == "paused"
