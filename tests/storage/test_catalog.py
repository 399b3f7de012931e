"""The catalog: what survives, what is believed."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.storage.catalog import (
    CHUNK,
    SCHEMA,
    TROUBLE,
    Catalog,
    Kept,
    Known,
    Unusable,
    move_aside,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TREE = "0a" * 20


@contextmanager
def opened(tmp_path: Path, owner: str = "me") -> Iterator[Catalog]:
    catalog = Catalog(tmp_path / "catalog.sqlite", owner)
    try:
        yield catalog
    finally:
        catalog.close()


def test_a_tree_is_clean_only_when_it_was_said_to_be(tmp_path: Path) -> None:
    with opened(tmp_path) as catalog:
        assert catalog.claim(TREE) is None
        catalog.mark_unclean(TREE)
        catalog.record(TREE, [(0, b"\xf0"), (2, b"\x01")], 123)
    with opened(tmp_path) as catalog:
        row = catalog.claim(TREE)
        assert row is not None
        assert not row.clean
        assert row.used == 123
        assert row.bits == b"\xf0" + bytes(2 * CHUNK - 1) + b"\x01"
        catalog.record_uses(TREE, b"uses", 7)
        catalog.mark_clean(TREE, b"known", b"unsure")
    with opened(tmp_path) as catalog:
        row = catalog.claim(TREE)
        assert row is not None
        assert row.clean
        assert (row.uses, row.known, row.unsure) == (b"uses", b"known", b"unsure")


@pytest.mark.parametrize("harm", ["bits.bits", "trees.known", "trees.unsure"])
def test_a_proof_that_was_tampered_with_is_none(tmp_path: Path, harm: str) -> None:
    with opened(tmp_path) as catalog:
        catalog.claim(TREE)
        catalog.record(TREE, [(0, b"\xf0")], 1)
        catalog.mark_clean(TREE, b"known", b"unsure")
    table, column = harm.split(".")
    with sqlite3.connect(tmp_path / "catalog.sqlite") as db:
        db.execute(f"UPDATE {table} SET {column} = x'ff'")
    db.close()
    with opened(tmp_path) as catalog:
        row = catalog.claim(TREE)
        assert row is not None
        assert not row.clean


def test_totals_tell_idle_trees_from_those_of_others(tmp_path: Path) -> None:
    trees = [f"{number:040x}" for number in range(4)]
    with opened(tmp_path, "me") as mine, opened(tmp_path, "you") as yours:
        for owner, tree, used in zip(
            (mine, yours, yours, mine), trees, (1, 20, 300, 4000), strict=True
        ):
            owner.claim(tree)
            owner.record(tree, [], used)
        mine.record_uses(trees[3], b"", 99)
        mine.disown(trees[3])
        totals = mine.totals()
        assert (totals.idle_bytes, totals.others_bytes, totals.others) == (4000, 320, 1)
        assert totals.idle == ((99, trees[3]),)
        assert yours.totals().others_bytes == 1
        assert set(mine.owned_domains()) == set(trees[:3])
        mine.forget_tree(trees[3])
        assert mine.domains() == set(trees[:3])
        assert mine.totals().idle_bytes == 0


def test_metadata_with_more_layers_wins_and_the_first_date_stays(tmp_path: Path) -> None:
    hashes = InfoHashes(v1=bytes(20), v2=bytes(32))
    with opened(tmp_path) as catalog:
        assert catalog.keep_metadata(InfoHashes(v1=bytes(20)), b"few", 1, 10.0) == 10.0
        assert catalog.keep_metadata(hashes, b"more", 2, 20.0) == 10.0
        assert catalog.keep_metadata(hashes, b"fewer", 0, 30.0) == 10.0
        for known in (hashes, InfoHashes(v1=bytes(20)), InfoHashes(v2=bytes(32))):
            stored = catalog.metadata(known)
            assert stored is not None
            assert (stored.torrent, stored.added) == (b"more", 10.0)


def test_old_metadata_goes_unless_its_tree_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torrentfs.storage.catalog._MOST_TORRENTS", 3)
    hashes = [InfoHashes(v1=bytes([number]) * 20) for number in range(6)]
    with opened(tmp_path) as catalog:
        catalog.claim(hashes[0].key + ".2")
        for number, known in enumerate(hashes):
            catalog.keep_metadata(known, b"%d" % number, 0, 0.0)
        kept = [number for number, known in enumerate(hashes) if catalog.metadata(known)]
        assert kept == [0, 3, 4, 5]


@pytest.mark.parametrize("content", [b"not a database" * 99, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_damaged_file_is_unusable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(content)
    with pytest.raises(Unusable):
        Catalog(tmp_path / "catalog.sqlite", "me")


def test_a_newer_file_is_unusable_and_untouched(tmp_path: Path) -> None:
    with opened(tmp_path) as catalog:
        catalog.claim(TREE)
    with sqlite3.connect(tmp_path / "catalog.sqlite") as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()
    with pytest.raises(Unusable, match=f"schema {SCHEMA + 1}"):
        Catalog(tmp_path / "catalog.sqlite", "me")
    aside = move_aside(tmp_path / "catalog.sqlite")
    assert aside.exists()
    with opened(tmp_path) as catalog:
        assert catalog.claim(TREE) is None


def test_a_file_that_cannot_be_had_is_trouble_and_no_damage(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").mkdir()
    with pytest.raises(TROUBLE):
        Catalog(tmp_path / "catalog.sqlite", "me")
    with pytest.raises(TROUBLE):
        Catalog(tmp_path / "none" / "catalog.sqlite", "me")


def test_a_failed_change_leaves_nothing_half_done(tmp_path: Path) -> None:
    with opened(tmp_path) as catalog:
        catalog.claim(TREE)
        with pytest.raises(TypeError):
            catalog.record(TREE, [(0, b"\x80"), None], 5)  # type: ignore[list-item]
        with pytest.raises(sqlite3.Error):
            catalog.record(TREE, [(0, b"\x80"), (1, os)], 5)  # type: ignore[list-item]
        catalog.record(TREE, [], 6)
        row = catalog.claim(TREE)
        assert row is not None
        assert (row.bits, row.used) == (b"", 6)


DAY = 86400.0


def test_peers_are_kept_per_torrent_the_latest_first(tmp_path: Path) -> None:
    with opened(tmp_path) as catalog:
        catalog.keep_peers("one", [("10.0.0.1", 1), ("2001:db8::2", 2)], [], 100.0)
        catalog.keep_peers("two", [("10.0.0.9", 9)], [], 100.0)
        catalog.keep_peers("one", [("10.0.0.3", 3)], [], 200.0)
        catalog.keep_peers("one", [("10.0.0.1", 1)], [("2001:db8::2", 2)], 300.0)
    with opened(tmp_path) as catalog:
        assert catalog.peers("one", 400.0) == [("10.0.0.1", 1), ("10.0.0.3", 3)]
        assert catalog.peers("two", 400.0) == [("10.0.0.9", 9)]
        assert catalog.peers("none", 400.0) == []


def test_peers_are_few_and_do_not_last_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as catalog:
        for port in range(1, 100):
            catalog.keep_peers("one", [("10.0.0.1", port)], [], float(port))
        assert catalog.peers("one", 100.0) == [("10.0.0.1", port) for port in range(99, 49, -1)]
        assert len(catalog.peers("one", 30 * DAY + 60.0)) == 39
        catalog.keep_peers("two", [("10.0.0.2", 2)], [], 30 * DAY + 90.0)
        assert len(catalog.peers("one", 0.0)) == 9  # the others are gone
        monkeypatch.setattr("torrentfs.storage.catalog._MOST_PEERS_OF_ALL", 3)
        catalog.keep_peers("two", [], [], 30 * DAY + 90.0)
        assert catalog.peers("one", 0.0) == [("10.0.0.1", 99), ("10.0.0.1", 98)]


def test_a_catalog_from_before_peers_were_kept_keeps_them_and_all_it_had(tmp_path: Path) -> None:
    with opened(tmp_path) as catalog:
        catalog.keep_metadata(InfoHashes(v1=bytes(20)), b"torrent", 0, 10.0)
    with sqlite3.connect(tmp_path / "catalog.sqlite") as db:
        db.execute("DROP TABLE peers")
    db.close()
    with opened(tmp_path) as catalog:
        assert catalog.metadata(InfoHashes(v1=bytes(20))) is not None
        assert catalog.peers("one", 0.0) == []
        catalog.keep_peers("one", [("10.0.0.1", 1)], [], 1.0)
        assert catalog.peers("one", 2.0) == [("10.0.0.1", 1)]


def test_nonsense_in_the_table_of_peers_is_passed_over(tmp_path: Path) -> None:
    with opened(tmp_path) as catalog:
        catalog.keep_peers("one", [("10.0.0.1", 1)], [], 1.0)
    with sqlite3.connect(tmp_path / "catalog.sqlite") as db:
        db.execute("INSERT INTO peers VALUES ('one', x'00', 'port', 1), ('one', 'h', 70000, 1)")
    db.close()
    with opened(tmp_path) as catalog:
        assert catalog.peers("one", 2.0) == [("10.0.0.1", 1)]


def test_many_are_kept_at_once_and_their_pieces_counted(tmp_path: Path) -> None:
    hashes = [InfoHashes(v1=bytes([number]) * 20) for number in range(3)]
    with opened(tmp_path) as catalog:
        catalog.keep_metadata(hashes[1], b"t", 0, 5.0)
        for domain, bits in ((hashes[0].key, b"\xf1"), (hashes[0].key + ".2", b"\xff")):
            catalog.claim(domain)
            catalog.record(domain, [(0, bits)], 0)
        rows = [Kept(each, b"t", 0, 10.0) for each in hashes]
        assert catalog.keep_many(rows) == [Known(10.0, 5), Known(5.0, 0), Known(10.0, 0)]
        assert catalog.keep_many([]) == []
        assert all(catalog.knows(each) for each in hashes)
        assert not catalog.knows(InfoHashes(v2=bytes(32)))
