"""From what the engine knows to the words of the API."""

from __future__ import annotations

from tests.daemon.control.fakes import BROWSERS, fake_mount
from tests.storage.torrents import make
from torrentfs.daemon.control import describe
from torrentfs.daemon.publications import Publication
from torrentfs.engine.stats import PeerStatistics
from torrentfs.metainfo.magnet import Publisher
from torrentfs.wire.krpc import Item


def test_text_from_outside_is_made_fit_for_json() -> None:
    assert describe.clean("plain ä") == "plain ä"
    assert describe.clean("half \ud800 pair") == "half ? pair"


def test_urls_lead_to_any_name() -> None:
    assert describe.url_of(("a b", "ä#?%", "x\udcff")) == "/files/a%20b/%C3%A4%23%3F%25/x%FF"


def test_peers_are_told() -> None:
    mount = fake_mount()
    mount.volume.peers = (PeerStatistics("[::1]:1", "utp", "x\ud800", 0.5, 1, 2, 3.0, 4.0, "D"),)
    (peer,) = describe.peers(mount.volume)
    assert (peer.address, peer.kind, peer.client, peer.flags) == ("[::1]:1", "utp", "x?", "D")
    assert describe.of_item(mount.item).peers == 1


def test_browsers_are_told_of_once_there_may_be_any() -> None:
    mount = fake_mount()
    assert describe.status(mount.subject, []).webrtc is None
    mount.session.webrtc = BROWSERS
    found = describe.status(mount.subject, []).webrtc
    assert found is not None
    assert found.model_dump() == {
        "workers": [42],
        "restarts": 1,
        "connections": 9,
        "offers": 5,
        "open": 3,
        "trouble": "turn:relay refuses the credentials (401)",
        "signalling": {
            "offers_sent": 20,
            "answers_received": 4,
            "offers_received": 6,
            "answers_sent": 5,
            "dropped": 1,
        },
    }


def test_publications_are_told() -> None:
    mount = fake_mount()
    one = Publication("magnet:?xs=urn:btpk:" + "ab" * 32, Publisher(b"\xab" * 32))
    mount.item.published.append(one)
    [found] = describe.of_item(mount.item).publications
    assert (found.id, found.link, found.sequence, found.asked) == (one.id, one.link, None, None)
    assert not found.is_coming
    one.said, one.asked, one.trouble = Item(b"1:x", sequence=7), 5.0, "gone \ud800"
    one.coming = mount.item  # type: ignore[assignment]
    [found] = describe.of_item(mount.item).publications
    assert (found.sequence, found.asked, found.is_coming) == (7, 5.0, True)
    assert found.trouble == describe.of_item(mount.item).trouble == "gone ?"
    assert describe.of_item(mount.item).model_dump_json()


def test_padding_is_not_shown() -> None:
    mount = fake_mount()
    item = mount.library.put(make((("a", 5), ("b", 5)), name="padded", version="hybrid"))
    found = describe.files(mount.subject, item, 0, 100)
    assert [file.path for file in found.files] == ["padded/a", "padded/b"]
    assert describe.of_item(item).files == 2


def test_the_place_of_a_piece_is_a_file_and_an_offset() -> None:
    geometry = make().metainfo.geometry  # of 0, 70001, 16384 and 123457 bytes
    assert describe.place_of(geometry, 0, 0) == (1, 0)
    assert describe.place_of(geometry, 2, 70_001 - 65_536) == (2, 0)
    assert describe.place_of(geometry, 6, 0) == (3, 6 * 32_768 - 70_001 - 16_384)
