"""What a publication remembers of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.discovery.dht.test_items import PUBLIC, signed
from torrentfs.daemon.items import Item
from torrentfs.daemon.publications import (
    FACT,
    Publication,
    id_of,
    parse_fact,
    recorded,
    watched_paths,
)
from torrentfs.metainfo.magnet import Publisher

LINK = f"magnet:?xs=urn:btpk:{PUBLIC.hex()}&s=6e"
PUBLISHER = Publisher(PUBLIC, b"n")
SAID = signed({"ih": b"h" * 20}, 7, b"n")


def publication() -> Publication:
    made = Publication(LINK, PUBLISHER, ("a", "b"), SAID, "ab" * 20, kept=True)
    made.watched["/w/1.magnet"] = ("b",)
    return made


def test_it_comes_back_as_it_was() -> None:
    fact = json.loads(json.dumps(publication().to_fact()))
    found, is_kept, watched = parse_fact(fact)
    assert (found.link, found.publisher, found.folder) == (LINK, PUBLISHER, ("a", "b"))
    assert (found.said, found.sequence, found.key) == (SAID, 7, "ab" * 20)
    assert (is_kept, watched) == (True, {"/w/1.magnet": ("b",)})
    assert not found.is_claimed
    assert Publication(LINK, PUBLISHER).to_fact().get("value") is None


def test_its_torrent_is_the_one_that_is_shown() -> None:
    made = publication()
    made.item = Item("cd" * 20, "weekly", LINK, 0.0)
    assert made.to_fact()["key"] == "cd" * 20
    made.item = Item(made.id, "weekly", LINK, 0.0, is_placeholder=True)
    assert made.to_fact()["key"] == "ab" * 20


def test_publisher_and_salt_make_its_name() -> None:
    assert id_of(PUBLISHER) == publication().id
    assert id_of(PUBLISHER) != id_of(Publisher(PUBLIC))
    assert repr(publication()) == f"<Publication {publication().id} 7>"


def test_items_turn_out_to_be_others() -> None:
    made = publication()
    one, other, third = (Item(key, "", "", 0.0) for key in "abc")
    made.item, made.coming = one, other
    made.rename(other, third)
    assert (made.item, made.coming) == (one, third)
    made.rename(one, other)
    assert (made.item, made.coming) == (other, third)


@pytest.mark.parametrize(
    "change",
    [
        {"link": "magnet:?xt=urn:btih:" + "a" * 40},
        {"link": "x"},
        {"link": 5},
        {"folder": 5},
        {"value": "xyz"},
        {"signature": None},
        {"sequence": "x"},
        {"sequence": float("inf")},  # JSON as Python reads it has that
        {"watched": [["a"]]},
        {"watched": None},
    ],
    ids=lambda change: "-".join(f"{name}-{value}"[:20] for name, value in change.items()),
)
def test_what_is_damaged_is_left_out(change: dict[str, Any]) -> None:
    fact = publication().to_fact() | change
    with pytest.raises(ValueError):  # noqa: PT011
        parse_fact(fact)
    assert list(recorded({FACT + "x": fact})) == []


def test_the_files_that_name_publishers() -> None:
    facts = {FACT + "x": publication().to_fact(), FACT + "y": None, "folder times": []}
    assert watched_paths(facts) == {"/w/1.magnet"}
    with pytest.raises(ValueError, match="not a publication"):
        parse_fact(None)
