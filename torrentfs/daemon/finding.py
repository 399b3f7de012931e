"""What a user means: the torrent of an info-hash or its first digits, of a publication, a path, a
name.

Nothing here changes anything, and nothing has a checkpoint.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torrentfs.daemon.items import LibraryError, NotFound
from torrentfs.daemon.sources import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torrentfs.daemon.items import Item
    from torrentfs.daemon.places import Mount

PREFIX_DIGITS = 6
"""Least digits of an info-hash that stand for it."""


def item_of(items: Mapping[str, Item], key: str) -> Item:
    """The torrent of this key; `NotFound`."""
    item = items.get(key)
    if item is None:
        raise NotFound(f"the library has no torrent {shorten(key)}")
    return item


def by_hash(items: Mapping[str, Item], text: str) -> Item | None:
    """The torrent of an info-hash in hex: a hybrid has two."""
    text = text.lower()
    if text in items:
        return items[text]
    if not re.fullmatch("[0-9a-f]{64}", text):
        return None
    return next((item for item in items.values() if _v2_of(item) == text), None)


def _v2_of(item: Item) -> str:
    """Its v2 info-hash in hex, empty where there is none or it is not known."""
    known = item.metainfo or item.hints
    return known.hashes.v2.hex() if known is not None and known.hashes.v2 is not None else ""


def find(items: Mapping[str, Item], mount: Mount | None, text: str) -> Item:
    """The torrent of an info-hash or its first digits, a publication, a path in the mount, a name.

    `NotFound` when it is none, `LibraryError` when it is several.
    """
    if (item := by_hash(items, text)) is not None:
        return item
    for item in items.values():  # a publication is called the same whatever it shows
        if any(one.id == text and one.item is item for one in item.published):
            return item
    path = tuple(part for part in text.split("/") if part)
    matches = [item for item in items.values() if path and item.path == path]
    if not matches:
        matches = [item for item in items.values() if item.name == text]
    digits = text.lower()
    if not matches and len(digits) >= PREFIX_DIGITS and re.fullmatch("[0-9a-f]+", digits):
        matches = [
            item
            for key, item in items.items()
            if key.startswith(digits) or _v2_of(item).startswith(digits)
        ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        keys = ", ".join(item.key[:12] for item in matches[:5])
        raise LibraryError(f"{shorten(text)} is {len(matches)} torrents: {keys}")
    if path and mount is not None:
        return locate(items, mount, path)[0]
    raise NotFound(f"the library has no torrent {shorten(text)}")


def locate(
    items: Mapping[str, Item], mount: Mount | None, path: tuple[str, ...]
) -> tuple[Item, int | None]:
    """The torrent at or above `path` in the mount, and which of its files that is.

    None: a directory of it. `NotFound` for what is not there, `LibraryError` for what holds
    several torrents.
    """
    shown = shorten("/".join(path)) or "/"
    if mount is None:
        raise NotFound(f"{shown}: nothing is mounted yet")
    try:
        volume = mount.tree.volume(mount.tree.follow(path))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{shown}: there is no such file in the mount") from None
    if volume is None:
        raise LibraryError(f"{shown} is a folder of torrents, not one of them")
    return item_of(items, volume[0].metainfo.hashes.key), volume[1]
