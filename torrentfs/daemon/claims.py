"""What is claimed: which torrents there are to be, and why. No function here has a checkpoint.

Three parties claim: commands (`kept`), the command line (`given`), and files of watch directories
(`watched`). They enter what they know of a torrent and then set their claim; what follows of it is
done by whoever settles (see `library`). The record of a torrent that was here before says when
that was, and what was known of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from typing import TYPE_CHECKING, Any

from torrentfs.daemon.items import Item, LibraryError
from torrentfs.daemon.sources import shorten
from torrentfs.engine.dormant import check_readable
from torrentfs.engine.privacy import trackers_of
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo import limits
from torrentfs.metainfo.magnet import Magnet, parse_magnet
from torrentfs.storage.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torrentfs.daemon.config import Beside
    from torrentfs.daemon.items import Listeners, WatchedFile
    from torrentfs.metainfo.hashes import InfoHashes
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.records import Records

log = logging.getLogger(__name__)

MAX_ITEMS = 20_000
"""Torrents of one mount: each costs memory, and a limit that is met is better than none."""


class Claims:
    """All items, by key, and what claims them; `end_search(key)` is called for what is known."""

    def __init__(
        self, records: Records, listeners: Listeners, end_search: Callable[[str], None]
    ) -> None:
        self.items: dict[str, Item] = {}
        self._records = records
        self._listeners = listeners
        self._end_search = end_search
        self._files: dict[str, Item] = {}  # by the path of a file in a watch directory

    def holds(self, item: Item) -> bool:
        """Whether `item` is still the one of its key."""
        return self.items.get(item.key) is item

    def drop(self, item: Item) -> None:
        """Forget an item that nothing claims."""
        if self.holds(item):
            del self.items[item.key]

    def rename(self, item: Item, key: str) -> Item:
        """Give `item` another key; returns the item that is to be settled.

        That is another one if there is one of that key: they are the same torrent.
        """
        del self.items[item.key]
        other = self.items.get(key)
        if other is None:
            item.key = key
            self.items[key] = item
            return item
        other.kept |= item.kept
        other.given |= item.given
        other.watched |= item.watched
        other.said |= item.said
        self._files |= dict.fromkeys(item.watched, other)
        for publication in item.published:
            publication.rename(item, other)
        other.published += [one for one in item.published if one not in other.published]
        item.kept = item.given = False
        item.watched.clear()
        item.published.clear()
        return other

    def same(self, hashes: InfoHashes) -> Item | None:
        """The item of this torrent, by whichever form of its hash."""
        item = self.items.get(hashes.key)
        if item is None and hashes.v2 is not None:
            for other in self.items.values():
                if other.metainfo is not None and other.metainfo.hashes.v2 == hashes.v2:
                    return other
        return item

    def enter(
        self, metainfo: Metainfo | None, magnet: Magnet, source: str, *, is_news: bool = False
    ) -> Item:
        """The item of a torrent, made if need be, with what is told of it now; not yet claimed.

        With `is_news` the metadata is that of a .torrent that somebody names now, and whom that
        says to ask is asked from now on (trackers give a new key now and then), in the place of
        those of the .torrent before. Else it is what we knew.
        """
        hashes = metainfo.hashes if metainfo is not None else magnet.hashes
        item = self.same(hashes)
        if item is None:
            if len(self.items) >= MAX_ITEMS:
                raise LibraryError(f"the library is full: {MAX_ITEMS} torrents are the most")
            item = self._new_item(hashes.key, source)
        if metainfo is None and item.metainfo is not None and not is_readable(item.metainfo):
            item.metainfo = None  # its magnet was asked for: peers have the layers that it lacks
            item.trouble = ""
        elif item.is_claimed and item.metainfo is None and not is_readable(metainfo):
            metainfo = None  # and they are looked for already
        if metainfo is not None and item.metainfo is None:
            self._end_search(item.key)
            item.metainfo = metainfo
            item.name = metainfo.name
        elif metainfo is not None and is_news:
            _renew(item, metainfo)
        item.name = item.name or magnet.name or hashes.key
        hints = joined(item.hints, magnet)
        if hints != item.hints:
            item.is_renewed = True
            if item.metainfo is None:
                self._end_search(item.key)
        item.hints = hints
        return item

    def _new_item(self, key: str, source: str) -> Item:
        record = self._records.records.get(key)
        if record is None:
            record = Record(key, added=0.0)
        item = Item(
            key=key,
            name=record.name,
            source=source or record.source,
            added=record.added,
            pins=record.pins,
        )
        if record.kept or record.watched:  # it was here the last time
            item.folder, item.paused, item.recalled = record.folder, record.paused, True
            item.hints = parse_hints(record.hints)
            item.said = dict(record.said)
        elif record.listed:  # the command line named it then, and may do so again
            item.paused = record.paused
        self.items[key] = item
        return item

    def claim_files(self, found: Iterable[WatchedFile]) -> list[Item]:
        """Enter what these files name, not yet settled."""
        return [item for file in found for item in self._claim_file(file)]

    def hold_file(self, item: Item, path: str, folder: tuple[str, ...]) -> None:
        """Let `item` stand for a file that cannot be looked at, but was there."""
        item.watched[path] = folder
        self._files[path] = item

    def _claim_file(self, file: WatchedFile) -> list[Item]:
        before = self._files.get(file.path)
        if file.metainfo is None and file.magnet is None:
            return self._on_bad_file(file, before)
        magnet = file.magnet
        if magnet is None:
            assert file.metainfo is not None
            magnet = Magnet(file.metainfo.hashes)
        try:
            item = self.enter(file.metainfo, magnet, file.path)
        except LibraryError as error:
            log.warning("%s: %s", shorten(file.path), error)
            return []
        touched = [item]
        if before is not None and before is not item:
            touched += self.unclaim_file(file.path)
        if file.magnet is None and file.metainfo is not None and item.metainfo is not None:
            # a start looks at all files again: only one that says something else now is news
            told = file.metainfo.advice.fingerprint
            if item.said.get(file.path) != told:
                _renew(item, file.metainfo)
            item.said[file.path] = told
        item.watched[file.path] = file.folder
        self._files[file.path] = item
        if item.path is not None:
            item.trouble = ""
        self._choose_folder(item)
        return touched

    def _on_bad_file(self, file: WatchedFile, before: Item | None) -> list[Item]:
        if before is not None and before.key != file_key(file.path):
            before.trouble = f"{file.trouble}; what it was before is kept"
            self._listeners.tell_of("changed", before)
            return []
        item = before or Item(
            key=file_key(file.path),
            name=file.path.rpartition("/")[2],
            source=file.path,
            added=0.0,
            folder=file.folder,
        )
        item.trouble = file.trouble
        item.watched[file.path] = file.folder
        self.items[item.key] = self._files[file.path] = item
        self._listeners.tell_of("changed", item)
        return [item]

    def unclaim_file(self, path: str) -> list[Item]:
        item = self._files.pop(path, None)
        if item is None:
            return []
        item.watched.pop(path, None)
        item.said.pop(path, None)
        self._choose_folder(item)
        return [item]

    def _choose_folder(self, item: Item) -> None:
        """Where an item is that only files in watch directories place."""
        if item.kept or not item.watched or item.folder in item.watched.values():
            return
        item.folder = item.watched[min(item.watched)]


def _renew(item: Item, metainfo: Metainfo) -> None:
    """Another .torrent of it says whom to ask."""
    assert item.metainfo is not None
    renewed = item.metainfo.renewed(metainfo)
    item.is_renewed |= renewed is not item.metainfo
    item.metainfo = renewed


def is_readable(metainfo: Metainfo | None) -> bool:
    """Whether it is known, and could be shown."""
    try:
        if metainfo is not None:
            check_readable(metainfo)
    except InvalidTorrent:
        return False
    return metainfo is not None


def file_key(path: str) -> str:
    """The key of an item that stands for a file which is no torrent."""
    return "file-" + hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()


def parse_hints(text: str) -> Magnet | None:
    """The magnet of a record; None when it is none."""
    try:
        return parse_magnet(text)
    except InvalidTorrent:
        return None


def joined(known: Magnet | None, told: Magnet) -> Magnet:
    """What both say; the selection is that of the first who makes one."""
    if known is None:
        return told

    def both(name: str, most: int) -> tuple[Any, ...]:
        return tuple(dict.fromkeys([*getattr(known, name), *getattr(told, name)]))[:most]

    return dataclasses.replace(
        known,
        name=known.name or told.name,
        trackers=both("trackers", limits.MAX_TRACKERS),
        web_seeds=both("web_seeds", limits.MAX_WEB_SEEDS),
        peers=both("peers", limits.MAX_MAGNET_PEERS),
        select=known.select or told.select,
    )


def extended(magnet: Magnet, beside: Beside, *, private: bool) -> Magnet:
    """`magnet` with what the user told for all torrents of the mount, whose peers come first."""
    own = Magnet(magnet.hashes, web_seeds=beside.web_seeds, peers=beside.peers)
    trackers = dict.fromkeys(trackers_of(private, magnet.trackers, beside.trackers))
    return dataclasses.replace(
        joined(magnet, own),
        trackers=tuple(trackers)[: limits.MAX_TRACKERS],
        peers=joined(own, magnet).peers,
    )
