"""Listings that are open while entries come and go."""

from __future__ import annotations

import pytest

from tests.vfs.fakes import volume
from torrentfs.vfs.listing import Listing
from torrentfs.vfs.tree import ROOT, Tree


def names(listing: Listing) -> list[str]:
    return [entry.name.decode() for entry in listing.entries()]


def test_a_listing_has_nothing_that_came_or_went_since_it_was_opened() -> None:
    """The kernel would keep the entry of what went for an hour."""
    one, two = volume("one"), volume("two")
    tree = Tree(volumes=[one, two])
    listing = tree.listing(ROOT)
    tree.remove(one.metainfo.hashes.key, now=1.0)
    tree.add(volume("three"))
    assert sorted(names(listing)) == [".", "..", "two"]
    assert sorted(names(tree.listing(ROOT))) == [".", "..", "three", "two"]


def test_a_directory_that_is_open_ends_with_its_torrent() -> None:
    one = volume("t", [("a", 1), ("b", 1)])
    tree = Tree(volumes=[one])
    listing = tree.listing(tree.resolve(["t"]))
    tree.remove(one.metainfo.hashes.key, now=1.0)
    tree.add(one)
    with pytest.raises(FileNotFoundError):
        names(listing)
