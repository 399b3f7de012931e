"""Who claims what: entering, joining, renaming. Behaviour as a whole is in test_library."""

from __future__ import annotations

import pytest

from tests.daemon.libraries import metainfo
from torrentfs.daemon import claims as module
from torrentfs.daemon.claims import Claims, extended, file_key, joined, parse_hints
from torrentfs.daemon.config import Beside
from torrentfs.daemon.items import LibraryError, Listeners, WatchedFile
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.limits import MAX_TRACKERS
from torrentfs.metainfo.magnet import Magnet
from torrentfs.storage.records import Records

FILM, SONG = metainfo("film"), metainfo("song")
HASHES = InfoHashes(v1=bytes(20))


def claims() -> Claims:
    return Claims(Records(None), Listeners(), lambda key: None)


def test_hints_are_joined_within_limits() -> None:
    one = Magnet(HASHES, trackers=("a", "b"), peers=(("h", 1),), select=(range(1),))
    two = Magnet(HASHES, name="n", trackers=("b", "c"), web_seeds=("w",), select=(range(2),))
    assert joined(None, two) is two
    assert joined(one, two) == Magnet(
        HASHES, "n", ("a", "b", "c"), ("w",), (("h", 1),), (range(1),)
    )
    many = Magnet(HASHES, trackers=tuple(str(n) for n in range(2 * MAX_TRACKERS)))
    assert len(joined(one, many).trackers) == MAX_TRACKERS


def test_what_the_mount_knows_is_for_every_torrent_but_a_private_one() -> None:
    mount = Beside(("all", "b"), ("w",), (("h", 1),))
    told = Magnet(HASHES, trackers=("b", "c"), peers=(("p", 2),))
    public = Magnet(HASHES, None, ("b", "c", "all"), ("w",), (("h", 1), ("p", 2)))
    assert extended(told, mount, private=False) == public
    private = Magnet(HASHES, None, ("b", "c"), ("w",), (("h", 1), ("p", 2)))
    assert extended(told, mount, private=True) == private
    assert extended(Magnet(HASHES), mount, private=True).trackers == ("all", "b")
    many = Beside(tuple(str(n) for n in range(2 * MAX_TRACKERS)))
    assert len(extended(told, many, private=False).trackers) == MAX_TRACKERS


def test_hints_of_a_damaged_record() -> None:
    assert parse_hints("no magnet") is None
    assert parse_hints(Magnet(HASHES).to_uri()) == Magnet(HASHES)


def test_there_is_a_most(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "MAX_ITEMS", 1)
    made = claims()
    made.enter(FILM, Magnet(FILM.hashes), "")
    made.enter(FILM, Magnet(FILM.hashes), "")
    with pytest.raises(LibraryError, match="full: 1"):
        made.enter(SONG, Magnet(SONG.hashes), "")


@pytest.mark.expect_log("the library is full")
def test_a_file_too_many_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ITEMS", 0)
    assert claims().claim_files([WatchedFile("/w/1", (), FILM)]) == []


def test_a_renamed_item_hands_over_its_claims() -> None:
    made = claims()
    one = made.enter(None, Magnet(InfoHashes(v2=bytes(32))), "")
    [same] = made.claim_files([WatchedFile("/w/1", (), magnet=Magnet(InfoHashes(v2=bytes(32))))])
    assert same is one
    two = made.enter(None, Magnet(HASHES), "")
    assert made.rename(one, two.key) is two
    assert two.watched == {"/w/1": ()}
    assert not one.is_claimed
    assert made.unclaim_file("/w/1") == [two]


def test_keys_of_files_are_no_info_hashes() -> None:
    assert file_key("/w/1") != file_key("/w/2")
    assert file_key("/w/\udcff").startswith("file-")
