"""The torrents of one mount: which there are, where they are shown, and what of that lasts.

**Claims and settling.** What happens (a command, a file that came or went, metadata that was
found) changes the *claims* of items, at once and without a checkpoint (`claims`). `settle` then
makes the rest agree: session, records, mount (`places`), and who listens. One task settles at a
time; what changes meanwhile is settled by the next, so nothing depends on the order in which
things happen.

**Metadata.** Only what has metadata is in the mount. Magnets of the command line are waited for
before there is a mount (that is what the command promises), all others are looked for in the
background; what records or cache know is never looked for.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import trio

from torrentfs.daemon import finding
from torrentfs.daemon.claims import Claims, extended, is_readable
from torrentfs.daemon.config import Beside
from torrentfs.daemon.editions import Editions
from torrentfs.daemon.items import (
    Change,
    Item,
    LibraryError,
    Listeners,
    NotFound,
    WatchedFile,
)
from torrentfs.daemon.places import Places
from torrentfs.daemon.retiring import Retired
from torrentfs.daemon.searching import Searches
from torrentfs.daemon.sources import (
    MagnetSource,
    PublisherSource,
    UrlSource,
    load,
    parse_torrent_of,
    shorten,
)
from torrentfs.engine.dormant import Shelving, check_readable
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo.magnet import Magnet
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.storage.catalog import Unusable
from torrentfs.storage.records import Pin, Records, open_records
from torrentfs.vfs.views import View

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from torrentfs.daemon.following import Publications
    from torrentfs.daemon.items import Origin
    from torrentfs.daemon.places import Mount
    from torrentfs.daemon.publications import Publication
    from torrentfs.daemon.sources import Fetcher, Source
    from torrentfs.engine.dormant import Dormant
    from torrentfs.metainfo.hashes import InfoHashes
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.base import StoredMetadata

__all__ = [
    "Change",
    "Item",
    "Library",
    "LibraryError",
    "NotFound",
    "Pin",
    "WatchedFile",
    "open_library",
]

log = logging.getLogger(__name__)

EAGER = 16
"""Up to so many sources of the command line are connected before the first read."""
FETCH_SECONDS = 60.0
"""Longest wait of a command for a .torrent from a URL, or for a publisher."""


class Session(Protocol):
    """What the library needs of a session (engine.session)."""

    @property
    def client(self) -> Fetcher: ...
    @property
    def dht(self) -> Publications | None: ...
    @property
    def cache(self) -> MetadataCache: ...
    async def resolve(
        self,
        magnet: Magnet,
        *,
        timeout: float,
        on_progress: Callable[[str], None] | None = None,
    ) -> Metainfo: ...
    async def shelve_many(self, shelvings: Sequence[Shelving]) -> Sequence[Dormant]: ...
    async def forget(self, key: str) -> None: ...


class MetadataCache(Protocol):
    """What the library needs of the cache (storage.tiered)."""

    async def metadata(self, hashes: InfoHashes) -> StoredMetadata | None: ...
    async def dates(self, torrents: Sequence[InfoHashes]) -> list[float | None]: ...


class Library:
    """All torrents of one mount. Made by `open_library`."""

    def __init__(
        self,
        session: Session,
        records: Records,
        nursery: trio.Nursery,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.records = records
        self.private = False
        """Magnets count as private until their metadata is known."""
        self.dht_off = ""
        """The option that keeps magnets from the DHT; empty when they may be looked up there."""
        self.beside = Beside()
        """Where to ask for every torrent, beside what it says itself."""
        self.view = View()
        """Which files of torrents the mount shows: others are not fetched for these either."""
        self.eager: set[str] = set()
        """Keys of torrents that connect before the first read."""
        self.listeners = Listeners()
        self._searches = Searches(session, nursery, self._on_metadata, self._on_no_torrent)
        self._searches.extend = self._extended
        self.claims = Claims(records, self.listeners, self._searches.end)
        self.items: Mapping[str, Item] = self.claims.items
        """All torrents, by key."""
        self.places = Places(self.items, records, self.listeners, clock)
        self.editions = Editions(self, session, nursery, clock)
        self._session = session
        self._turn = trio.Lock()
        self._dirty: dict[Item, None] = {}
        self._retired = Retired(session, nursery, self._turn)

    # --- commands ---

    async def add(
        self,
        source: Source,
        *,
        folder: tuple[str, ...] = (),
        origin: Origin = "added",
        paused: bool = False,
    ) -> Item:
        """Add a torrent; listed in the mount when this returns, if its metadata can be had at once.

        A magnet whose metadata is not known yet is looked for in the background, and so is what a
        publisher says. What is here already stays where it is, unless another `folder` is named.
        Errors as of `sources.load`, `editions.add`, and `LibraryError`.
        """
        if isinstance(source, PublisherSource):
            return await self.editions.add(source, folder=folder, origin=origin, paused=paused)
        if isinstance(source, MagnetSource):
            magnet = source.magnet
            metainfo = await self.known(magnet.hashes)
        else:
            metainfo = await load(source, self._session.client, timeout=FETCH_SECONDS)
            magnet = Magnet(metainfo.hashes)
        is_news = not isinstance(source, MagnetSource)
        item = self.claims.enter(metainfo, magnet, source.text, is_news=is_news)
        return await self._claim(item, folder, origin, paused)

    async def add_torrent(
        self, data: bytes, *, folder: tuple[str, ...] = (), name: str = "an uploaded file"
    ) -> Item:
        """Add the torrent whose .torrent file is `data`; InvalidTorrent when it is none."""
        source = UrlSource(name, name)
        metainfo = await trio.to_thread.run_sync(parse_torrent_of, source, data)
        item = self.claims.enter(metainfo, Magnet(metainfo.hashes), name, is_news=True)
        return await self._claim(item, folder, "added", False)

    async def _claim(
        self, item: Item, folder: tuple[str, ...], origin: Origin, paused: bool
    ) -> Item:
        is_new = not item.is_claimed
        if origin == "added":
            item.kept = True
        else:
            item.given = True
        if folder:
            item.folder = folder
        if paused:
            item.paused = True
        if item.metainfo is None:
            self._searches.end(item.key)  # who asks again wants it looked for now
        item.recalled = False
        await self.settle([item])
        if item.metainfo is not None and item.volume is None:
            trouble = item.trouble or f"{shorten(item.name)} was removed at the same time"
            if is_new:
                item.kept = item.given = False
                await self.settle([item])
            raise InvalidTorrent(trouble)
        return item

    async def remove(self, key: str, *, evict: bool = False) -> None:
        """Take a torrent out, for good.

        `LibraryError` when a file in a watch directory names it: then that is to be removed.
        """
        item = self._item(key)
        claims: list[Item | Publication] = [item, *item.published]
        paths = [path for one in claims for path in one.watched]
        there = await trio.to_thread.run_sync(_existing, paths, abandon_on_cancel=True)
        if there:
            raise LibraryError(
                f"{shorten(item.name)} is here because of {there}: remove that file instead"
            )
        if evict and item.volume is not None:
            await item.volume.evict(pinned=True)
        item.kept = item.given = False
        for path in paths:
            self.claims.unclaim_file(path)
        await self.settle([item, *self.editions.end_all(item)])

    async def pause(self, key: str) -> None:
        """Stop all traffic of a torrent; what is cached can be read. Survives a restart."""
        await self._set_paused(self._item(key), True)

    async def resume(self, key: str) -> None:
        """The end of `pause`."""
        await self._set_paused(self._item(key), False)

    async def _set_paused(self, item: Item, paused: bool) -> None:
        if item.paused == paused:
            return
        item.paused = paused
        if item.volume is not None:
            if paused:
                await item.volume.pause()
            else:
                item.volume.resume()
        await self.settle([item])
        self.listeners.tell_of("changed", item)
        for publication in item.published:  # all of it is paused, or none
            publication.wanted.set()
            for other in (publication.item, publication.coming):
                if other is not None:
                    await self._set_paused(other, paused)

    async def pin(self, key: str, pins: Sequence[Pin]) -> None:
        """Fetch bytes of a torrent in the background and keep them, for good.

        `ConfigError` when the cache has not the room, or the torrent has no metadata yet.
        """
        volume = self._volume(key)
        await volume.pin_all(pins)
        await self._note_pins(key, volume.pins)

    async def unpin(self, key: str, pins: Sequence[Pin]) -> None:
        """The end of `pin` for these bytes."""
        volume = self._volume(key)
        await volume.unpin_all(pins)
        await self._note_pins(key, volume.pins)

    async def evict(self, key: str, file: int | None = None, *, pinned: bool = False) -> int:
        """Drop what is cached of a file, or of all; the bytes freed. See `Dormant.evict`."""
        volume = self._volume(key)
        freed = await volume.evict(file, pinned=pinned)
        await self._note_pins(key, volume.pins)
        return freed

    def _volume(self, key: str) -> Dormant:
        item = self._item(key)
        if item.volume is None:
            raise LibraryError(f"the metadata of {shorten(item.name)} is not known yet")
        return item.volume

    async def _note_pins(self, key: str, pins: tuple[Pin, ...]) -> None:
        item = self._item(key)
        if item.pins == pins:
            return
        item.pins = pins
        await self.settle([item])
        self.listeners.tell_of("changed", item)

    async def search_now(self, key: str) -> None:
        """Look for the metadata of a magnet now, and not when its next turn comes."""
        item = self._item(key)
        self._searches.end(item.key)
        item.recalled = False
        self.editions.look_now(item)
        await self.settle([item])

    # --- questions ---

    def _item(self, key: str) -> Item:
        return finding.item_of(self.items, key)

    def by_hash(self, text: str) -> Item | None:
        """See `finding.by_hash`."""
        return finding.by_hash(self.items, text)

    def find(self, text: str) -> Item:
        """See `finding.find`."""
        return finding.find(self.items, self.places.mount, text)

    def locate(self, path: tuple[str, ...]) -> tuple[Item, int | None]:
        """See `finding.locate`."""
        return finding.locate(self.items, self.places.mount, path)

    @property
    def volumes(self) -> list[Dormant]:
        """All torrents that can be read."""
        shown = [item.volume for item in self.items.values() if item.volume is not None]
        return shown + self._retired.volumes

    @property
    def trouble(self) -> str:
        """What does not work as asked although everything goes on, in words; else empty."""
        if not self.records.trouble:
            return ""
        place = self.records.path.parent
        return f"the library is not written down in {place}: {self.records.trouble}"

    def changes(self) -> trio.MemoryReceiveChannel[Change]:
        """What happens from now on. Who is 1,000 changes behind is cut off, and looks anew."""
        return self.listeners.add()

    async def known(self, hashes: InfoHashes) -> Metainfo | None:
        """The metadata of a torrent that is here, was here, or is in the cache.

        Not one that lacks the hashes which its bytes are proved by: peers have them.
        """
        item = self.claims.same(hashes)
        if item is not None and is_readable(item.metainfo):
            return item.metainfo
        kept = list((await self.records.torrents([hashes.key])).values())
        stored = await self._session.cache.metadata(hashes)
        for data in kept if stored is None else [*kept, stored.torrent]:
            metainfo = await trio.to_thread.run_sync(_parse, data)
            if is_readable(metainfo):
                return metainfo
        return None

    # --- the rest follows ---

    async def settle(self, items: Iterable[Item]) -> None:
        """Make session, records, mount and listeners agree with what is claimed of `items`.

        Never done by halves: who is cancelled meanwhile waits for the end all the same.
        """
        self._dirty.update(dict.fromkeys(items))
        with trio.CancelScope(shield=True):
            async with self._turn:
                while self._dirty:
                    batch = list(self._dirty)
                    self._dirty.clear()
                    await self._settle(batch)

    async def _settle(self, items: list[Item]) -> None:
        leaving = [item for item in items if not item.is_claimed]
        staying = [item for item in items if item.is_claimed and self.claims.holds(item)]
        places = self.places
        comes = any(not item.added or places.is_misplaced(item) for item in staying)
        goes = any(places.is_shown(item) for item in leaving)
        now = places.moment() if comes or goes else places.latest
        await self._date([item for item in staying if not item.added], now)
        await self._shelve([item for item in staying if item.volume is None])
        await self._renew([item for item in staying if item.is_renewed])
        # who was claimed anew meanwhile (a file that moved to another watch directory) stays
        leaving = [item for item in leaving if not item.is_claimed]
        for item in leaving:
            self._leave(item)
        for item in staying:
            places.write_down(item)
        moving = [item for item in leaving if places.is_shown(item)]
        moving += [item for item in staying if places.is_misplaced(item)]
        replaced = await places.show(moving, now)
        for item in leaving:
            volume, item.volume = item.volume, None
            if volume is not None and item in replaced and places.mount is not None:
                await self._retired.add(item.key, volume, places.mount)
            elif volume is not None:
                await self._session.forget(item.key)

    async def _date(self, items: list[Item], now: float) -> None:
        """Date what comes for the first time; a mount elsewhere may have dated it already."""
        known = [item.metainfo for item in items if item.metainfo is not None]
        dates: dict[str, float | None] = {}
        if known:
            found = await self._session.cache.dates([metainfo.hashes for metainfo in known])
            keys = [metainfo.hashes.key for metainfo in known]
            dates = dict(zip(keys, found, strict=True))
        for item in items:
            item.added = dates.get(item.key) or now

    async def _shelve(self, items: list[Item]) -> None:
        """Give items with metadata their volumes, and look for that of those without."""
        wanted: list[tuple[Item, Shelving]] = []
        for item in items:
            if item.metainfo is None:
                self._searches.begin(item)
                continue
            try:
                check_readable(item.metainfo)
            except InvalidTorrent as error:
                item.trouble = str(error)
                continue
            wanted.append((item, self._shelving(item, item.metainfo)))
        volumes = await self._session.shelve_many([shelving for _, shelving in wanted])
        for (item, _), volume in zip(wanted, volumes, strict=True):
            item.volume = volume
            item.trouble = ""
            item.is_renewed = False
            await self._retired.take_back(item.key, item.pins)
            if item.paused:
                await volume.pause()

    async def _renew(self, items: list[Item]) -> None:
        """Tell volumes of others to ask, who were named since they were made."""
        for item in items:
            if item.volume is None or item.metainfo is None:
                continue
            item.is_renewed = False
            if await item.volume.renew(self._shelving(item, item.metainfo)):
                log.info("%s: there are other trackers or sources to ask now", shorten(item.name))
                self.listeners.tell_of("changed", item)

    def _shelving(self, item: Item, metainfo: Metainfo) -> Shelving:
        told = item.hints or Magnet(metainfo.hashes)
        hints = extended(told, self.beside, private=metainfo.private)
        return Shelving(
            metainfo=metainfo,
            added=item.added,
            trackers=hints.trackers,
            web_seeds=hints.web_seeds,
            peers=hints.peers,
            select=self.view.ranges(metainfo, hints.select),
            pins=item.pins,
            eager=item.key in self.eager and not item.paused,
        )

    def _extended(self, magnet: Magnet) -> Magnet:
        """Whom to ask for the metadata of `magnet`."""
        return extended(magnet, self.beside, private=self.private)

    def _leave(self, item: Item) -> None:
        """Cross an item out; its date and place are kept, should it come again."""
        self._searches.end(item.key)
        self.claims.drop(item)
        record = self.records.records.get(item.key)
        if record is not None and (item.metainfo is None or item.is_replaced):
            self.records.drop(item.key)
        elif record is not None:
            gone = dataclasses.replace(
                record, kept=False, watched=(), source="", paused=False, pins=(), listed=False
            )
            self.records.put(gone)
        if not self.places.is_shown(item):
            self.listeners.tell_of("removed", item)

    # --- metadata that is missing ---

    def _on_no_torrent(self, item: Item) -> None:
        self.listeners.tell_of("changed", item)

    async def _on_metadata(self, item: Item, metainfo: Metainfo) -> None:
        """The metadata of a magnet was found."""
        if not self.claims.holds(item) or item.metainfo is not None:
            return
        key = metainfo.hashes.key
        if key != item.key:  # a v2 hash of what has a v1 hash too, which is its name here
            self.records.drop(item.key)
            self.listeners.tell_of("removed", item)
            item = self.claims.rename(item, key)
        item.metainfo = metainfo
        item.name = metainfo.name
        item.trouble = ""
        await self.settle([item, *self.editions.on_metadata(item)])

    # --- watch directories ---

    async def on_files(self, found: Iterable[WatchedFile], gone: Iterable[str]) -> None:
        """Files of watch directories came, changed or went."""
        touched = await self.editions.claim_files(found)
        for path in gone:
            touched += self.claims.unclaim_file(path) + self.editions.unclaim_file(path)
        await self.settle(touched)

    async def informed(self, file: WatchedFile) -> WatchedFile:
        """`file` with the metadata of its magnet, if that need not be looked for."""
        if file.magnet is None or file.metainfo is not None:
            return file
        return dataclasses.replace(file, metainfo=await self.known(file.magnet.hashes))

    # --- the mount ---

    async def on_mounted(self, mount: Mount) -> None:
        """The mount shows what `places.shown` said; what came and went since follows now."""
        with trio.CancelScope(shield=True):
            async with self._turn:
                self.places.on_mounted(mount)
        await self.settle(self.items.values())
        self.editions.begin()

    def __repr__(self) -> str:
        return f"<Library of {len(self.items)} torrents>"


def _existing(paths: Iterable[str]) -> str:
    """The first of `paths` that exists, or nothing."""
    return next((path for path in paths if os.path.lexists(path)), "")


def _parse(data: bytes) -> Metainfo | None:
    try:
        return parse_torrent(data)
    except InvalidTorrent as error:
        log.warning("a .torrent that was kept is damaged: %s", error)
        return None


@asynccontextmanager
async def open_library(
    session: Session, path: Path | None, clock: Callable[[], float] = time.time
) -> AsyncIterator[Library]:
    """A library whose records are at `path`, or nowhere. `LibraryError`: they cannot be used."""
    try:
        async with open_records(path) as records, trio.open_nursery() as nursery:
            nursery.start_soon(records.run)
            yield Library(session, records, nursery, clock)
            nursery.cancel_scope.cancel()
    except Unusable as error:
        raise LibraryError(str(error)) from error
