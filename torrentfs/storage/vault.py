"""The disk side of a cache: directory, catalog, shelves, and the space that they may take.

**Space.** Before bytes are written, room is made for them: the least recently used extents of all
torrents, open here or idle, are forgotten (the caller is told at once, so that nothing serves
them), then their holes are punched. What counts is what the file system says it spent, so
`size` holds within the blocks of one batch's borders. Other processes on the same directory are
seen through the catalog: each may always use its equal share of `size`, more while the others
leave it, and gives it back when they do not (`make_room(None, 0)`, now and then).

**Pins.** Pieces that the user pinned are passed over, here and by every process that uses the
directory: the catalog names them. Extents with nothing else are not listed at all.

**Order.** mark unclean (durable) -> change files -> record bits. All changes come from one task
(see `tiered`), so no two threads ever change files at once.

**Trouble.** Errors of disk and catalog (`TROUBLE`) pass through: the caller decides to go on in
memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import uuid
from typing import TYPE_CHECKING, TypeVar

import trio

from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo.hashes import InfoHashes
from torrentfs.metainfo.torrent_file import parse_torrent
from torrentfs.storage.base import MIB, Use
from torrentfs.storage.catalog import (
    TROUBLE,
    Catalog,
    Kept,
    Known,
    Totals,
    Unusable,
    move_aside,
)
from torrentfs.storage.descriptors import Descriptors
from torrentfs.storage.locks import FileLock, key_of
from torrentfs.storage.recency import IDLE, Entry, Recency
from torrentfs.storage.shelf import Shelf, load_shelf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.base import CacheConfig, StoredMetadata

log = logging.getLogger(__name__)
T = TypeVar("T")

_OPEN_FILES = 128
_THREADS = 4
_EVICT_AT_LEAST = 4 * MIB
_SHRINK_STEP = 256 * MIB
_EVICT_SHARE = 64  # of the size, where that is less


class Vault:
    """An open cache directory. `on_forgotten(shelf, pieces)`: they are not on disk any more."""

    def __init__(
        self, config: CacheConfig, on_forgotten: Callable[[Shelf, Sequence[int]], None]
    ) -> None:
        self._config = config
        self._on_forgotten = on_forgotten
        self._torrents = config.directory / "torrents"
        self._disk_limiter = trio.CapacityLimiter(_THREADS)
        self._catalog_limiter = trio.CapacityLimiter(1)
        self._descriptors = Descriptors(_OPEN_FILES)
        self._catalog: Catalog | None = None
        self._lock: FileLock | None = None
        self._numbers = 0
        self._opening = trio.Lock()
        self.shelves: dict[int, Shelf] = {}
        self.recency = Recency()
        self._idle: set[str] = set()  # domains that `recency` lists
        self._spared: set[str] = set()  # idle ones of which nothing may be evicted
        self.totals = Totals(0, 0, 0, ())
        self.evicted_pieces = 0

    # --- threads ---

    async def in_disk_thread(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking work on files; never more than a few at a time."""
        return await trio.to_thread.run_sync(work, *args, limiter=self._disk_limiter)

    async def ask(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking work on the catalog, which has one thread."""
        return await trio.to_thread.run_sync(work, *args, limiter=self._catalog_limiter)

    @property
    def catalog(self) -> Catalog:
        """The open catalog; `OSError` when there is none."""
        if self._catalog is None:
            raise OSError("the cache is not open")
        return self._catalog

    # --- the directory ---

    async def open(self) -> None:
        """Open the directory and its catalog. `TROUBLE` when that fails."""
        await self.ask(self._open)
        await self.refresh_totals()

    def _open(self) -> None:
        directory = self._config.directory
        self._torrents.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(f"{directory} is not writable")
        lock = FileLock.take(directory / "lock", shared=True)
        if lock is None:
            raise OSError(f"{directory} is being repaired by another process")
        try:
            self._catalog = self._open_catalog(directory / "catalog.sqlite", lock)
            self._free_the_orphaned(self._catalog)
        except BaseException:
            lock.close()
            raise
        self._lock = lock

    def _open_catalog(self, path: Path, lock: FileLock) -> Catalog:
        owner = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            return Catalog(path, owner)
        except Unusable as error:
            if not lock.upgrade():
                raise OSError(
                    f"its catalog cannot be used ({error}), and another process has it open"
                ) from error
            aside = move_aside(path)
            log.warning("the cache's catalog cannot be used (%s): moved to %s", error, aside)
            catalog = Catalog(path, owner)
            lock.downgrade()
            return catalog

    def _free_the_orphaned(self, catalog: Catalog) -> None:
        """Disown trees of dead processes; remove trees that the catalog does not know."""
        for domain in catalog.owned_domains():
            folder = self._torrents / domain
            folder.mkdir(exist_ok=True)
            lock = FileLock.take(folder / "lock")
            if lock is not None:
                catalog.disown(domain)
                lock.close()
        known = catalog.domains()
        for folder in self._torrents.iterdir():
            if folder.name in known or key_of(folder.name) is None:
                continue
            lock = FileLock.take(folder / "lock")
            if lock is not None:
                if folder.name not in catalog.domains():
                    shutil.rmtree(folder / "data", ignore_errors=True)
                lock.close()

    async def close(self) -> None:
        """Close the catalog; shelves are closed by then."""
        if self._catalog is not None:
            await self.ask(self._catalog.close)
            self._catalog = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # --- metadata ---

    async def metadata(self, hashes: InfoHashes) -> StoredMetadata | None:
        """What is kept of a torrent, if it is still intact."""
        return await self.ask(self.catalog.metadata, hashes)

    async def keep_metadata(self, metainfo: Metainfo, added: float) -> float:
        """Remember a torrent; returns when it was first added."""

        def keep() -> float:
            return self.catalog.keep_metadata(
                metainfo.hashes, metainfo.to_torrent(), len(metainfo.piece_layers), added
            )

        return await self.ask(keep)

    async def keep_many(self, torrents: Sequence[Metainfo], added: Sequence[float]) -> list[Known]:
        """Remember many torrents at once; what is known of each."""

        def keep() -> list[Known]:
            return self.catalog.keep_many(
                [
                    Kept(m.hashes, m.to_torrent(), len(m.piece_layers), when)
                    for m, when in zip(torrents, added, strict=True)
                ]
            )

        return await self.ask(keep)

    async def know(self, metainfo: Metainfo, added: float) -> None:
        """See to it that the torrent is remembered: without metadata its tree is of no use."""
        if not await self.ask(self.catalog.knows, metainfo.hashes):
            await self.keep_metadata(metainfo, added)

    # --- shelves ---

    async def open_shelf(self, metainfo: Metainfo) -> Shelf | None:
        """The torrent's place on disk; None when other processes have all of them."""
        async with (
            self._opening
        ):  # or an eviction from the idle tree would count as another process
            shelf = await self._open_shelf(metainfo, None)
            if shelf is not None:
                self._spared.discard(shelf.domain)
            return shelf

    async def _open_shelf(self, metainfo: Metainfo, domain: str | None) -> Shelf | None:
        self._numbers += 1
        shelf = await self.ask(
            load_shelf,
            self._torrents,
            metainfo,
            self.catalog,
            self._descriptors,
            self._numbers,
            domain,
        )
        if shelf is None:
            return None
        self.shelves[shelf.number] = shelf
        for extent in shelf.extents():
            self._list(shelf, extent)
        await self.refresh_totals()
        return shelf

    async def close_shelf(self, shelf: Shelf, sync_within: float) -> None:
        """Record everything and let go; the tree is clean if it could be synced in time."""
        try:
            await self.free_released(shelf)
            await self.save(shelf)
            with trio.move_on_after(sync_within) as patience:
                await trio.to_thread.run_sync(
                    shelf.tree.sync, limiter=self._disk_limiter, abandon_on_cancel=True
                )
            if not patience.cancelled_caught:
                await self.ask(shelf.seal, self.catalog)
            await self.ask(self.catalog.disown, shelf.domain)
        finally:
            del self.shelves[shelf.number]
            await self.ask(shelf.close)
        await self.refresh_totals()

    def touch(self, shelf: Shelf, piece: int) -> None:
        """A piece on disk was used now."""
        shelf.touch(piece, self.recency.stamp())

    def _list(self, shelf: Shelf, extent: int) -> None:
        if shelf.listed.add(extent):
            self.recency.push((shelf.uses[extent], shelf.number, extent))

    # --- changes: all from one task ---

    async def write(
        self, shelf: Shelf, pieces: Sequence[tuple[int, bytes | bytearray]]
    ) -> list[int]:
        """Write verified pieces, ascending; returns those that are on disk now."""
        await self._mark_unclean(shelf)
        shelf.to_release.update(piece for piece, _ in pieces)  # unless all goes well
        written = await self.in_disk_thread(shelf.write, pieces)
        shelf.add(written)
        shelf.to_release.difference_update(written)
        for piece in written:
            self._list(shelf, shelf.touch(piece, self.recency.stamp()))
        await self.record(shelf)
        return written

    async def record(self, shelf: Shelf) -> None:
        """Bring the catalog up to what is on disk."""
        await self._tell_catalog(shelf, shelf.record)

    async def save(self, shelf: Shelf) -> None:
        """Do the same, and note the uses of its parts."""
        await self._tell_catalog(shelf, shelf.save)

    async def _tell_catalog(
        self, shelf: Shelf, tell: Callable[[Catalog, list[tuple[int, bytes]]], None]
    ) -> None:
        changes = shelf.take_changes()
        try:
            await self.ask(tell, self.catalog, changes)
        except BaseException:
            shelf.put_back(changes)
            raise

    async def free_released(self, shelf: Shelf) -> None:
        """Punch the holes that are due."""
        if not shelf.to_release:
            return
        await self._mark_unclean(shelf)
        pieces = sorted(shelf.to_release - shelf.pins.keys())
        await self.in_disk_thread(shelf.release, pieces)
        shelf.to_release.difference_update(pieces)

    async def _mark_unclean(self, shelf: Shelf) -> None:
        if not shelf.marked_unclean:
            await self.ask(self.catalog.mark_unclean, shelf.domain)
            shelf.marked_unclean = True

    # --- space ---

    @property
    def used(self) -> int:
        """Bytes on disk of the shelves that are open here."""
        return sum(shelf.tree.used for shelf in self.shelves.values())

    @property
    def allowance(self) -> int:
        """Bytes that open shelves here and idle trees may take together."""
        size = self._config.size
        return max(size - self.totals.others_bytes, size // (1 + self.totals.others))

    async def refresh_totals(self) -> None:
        """See what other processes have on disk, and what they left there."""
        self.totals = await self.ask(self.catalog.totals)
        for use, domain in self.totals.idle:
            if domain not in self._idle and domain not in self._spared:
                self._idle.add(domain)
                self.recency.push((use, IDLE, domain))

    async def uses(self) -> list[Use]:
        """What the disk has of each torrent, of all processes; the largest first."""
        here = {shelf.domain: shelf.tree.used for shelf in self.shelves.values()}
        found: dict[str, Use] = {}
        for domain, recorded, is_open in await self.ask(self.catalog.uses):
            key = key_of(domain)
            if key is None:
                continue
            used = here.get(domain, recorded)
            known = found.get(key)  # several processes have a tree each
            if known is not None:
                used, is_open = used + known.used, is_open or known.open
            found[key] = Use(key, used, is_open)
        return sorted(found.values(), key=lambda use: (-use.used, use.key))

    async def shrink(self, size: int) -> int:
        """Evict until open shelves and idle trees take at most `size`; the bytes that are free now.

        What other processes have open is theirs.
        """
        await self.refresh_totals()
        before = now = self.used + self.totals.idle_bytes
        while now > size and await self.evict(min(now - size, _SHRINK_STEP)):
            await self.refresh_totals()
            now = self.used + self.totals.idle_bytes
        return max(0, before - now)

    async def make_room(self, shelf: Shelf | None, need: int) -> bool:
        """Evict until `need` more bytes fit. False when they cannot."""
        if need > self._config.size:
            return False
        await self.refresh_totals()
        while True:
            short = self.used + self.totals.idle_bytes + need - self.allowance
            if shelf is not None and need:
                free = await self.in_disk_thread(shelf.tree.free_space)
                short = max(short, need + self._config.min_free - free)
            if short <= 0:
                return True
            batch = max(short, min(_EVICT_AT_LEAST, self._config.size // _EVICT_SHARE))
            if not await self.evict(batch):
                return False

    async def keep_pins(self, pins: Mapping[str, Sequence[range]]) -> None:
        """Spare these pieces of these torrents (by key) from now on, and no others of them."""
        await self.ask(self.catalog.keep_pins, pins)
        for shelf in self.shelves.values():
            pieces = pins.get(key_of(shelf.domain) or "")
            if pieces is not None:
                shelf.keep(pieces)
                for extent in shelf.extents():
                    self._list(shelf, extent)
        self._spared = {domain for domain in self._spared if key_of(domain) not in pins}

    async def drop(self, shelf: Shelf, pieces: Sequence[int]) -> None:
        """Forget these pieces, and free their space; ascending. Under the writer's turn."""
        await self._forget({shelf: list(pieces)})

    async def evict(self, amount: int) -> bool:
        """Forget about `amount` bytes of what was used least recently; False when nothing is."""
        kept: list[Entry] = []
        victims: dict[Shelf, list[int]] = {}
        idle: str | None = None
        while amount > 0 and idle is None:
            entry = self.recency.pop(self._last_use)
            if entry is None:
                break
            if entry[1] == IDLE:
                idle = str(entry[2])
                self._idle.discard(idle)
                break
            shelf = self.shelves[entry[1]]
            extent = int(entry[2])
            shelf.listed.discard(extent)
            held = [p for p in shelf.held_in_extent(extent) if p not in shelf.kept]
            pieces = [piece for piece in held if piece not in shelf.pins]
            if len(pieces) < len(held):
                shelf.listed.add(extent)
                kept.append((shelf.uses[extent], shelf.number, extent))
            if pieces and not shelf.tree.can_punch:
                pieces = shelf.whole_files(pieces)
            amount -= sum(map(shelf.metainfo.geometry.piece_size, pieces))
            victims.setdefault(shelf, []).extend(pieces)
        for entry in kept:
            self.recency.push(entry)
        evicted = await self._forget(victims)
        if idle is not None:
            async with self._opening:
                return await self._evict_idle(idle, max(amount, 1)) or evicted
        return evicted

    async def _forget(self, victims: dict[Shelf, list[int]]) -> bool:
        evicted = False
        for shelf, pieces in victims.items():
            gone = [piece for piece in pieces if shelf.discard(piece)]
            if not gone:
                continue
            evicted = True
            self.evicted_pieces += len(gone)
            shelf.to_release.update(gone)
            self._on_forgotten(shelf, gone)
            await self.free_released(shelf)
            await self.record(shelf)
        return evicted

    def _last_use(self, entry: Entry) -> int | None:
        use, number, extent = entry
        if number == IDLE:
            return use
        shelf = self.shelves.get(number)
        if shelf is None:
            return None
        extent = int(extent)
        if not shelf.held_in_extent(extent):
            shelf.listed.discard(extent)
            return None
        return shelf.uses[extent]

    async def _evict_idle(self, domain: str, amount: int) -> bool:
        """Evict from a tree that is not open; its least recently used extents go first."""
        metainfo = await self.ask(self._idle_metainfo, domain)
        if metainfo is None:
            await self.refresh_totals()
            return True  # it is gone: look again
        try:
            shelf = await self._open_shelf(metainfo, domain)
        except TROUBLE as error:
            log.warning("the idle cache of %s cannot be used: %s", domain, error)
            self._idle.add(domain)  # not listed, and not to be listed again: look at the next one
            return True
        if shelf is None:  # another process opened it meanwhile
            await self.refresh_totals()
            return True
        victims: list[int] = []
        for extent in sorted(shelf.extents(), key=shelf.uses.__getitem__):
            if amount <= 0:
                break
            pieces = [p for p in shelf.held_in_extent(extent) if p not in shelf.kept]
            victims += pieces if shelf.tree.can_punch else shelf.whole_files(pieces)
            amount -= sum(map(metainfo.geometry.piece_size, pieces))
        if not await self._forget({shelf: victims}):
            self._spared.add(domain)  # all of it is pinned
        await self.close_shelf(shelf, sync_within=5)
        return True

    def _idle_metainfo(self, domain: str) -> Metainfo | None:
        """The metainfo of an idle tree. Without one the tree is of no use: it is removed."""
        key = bytes.fromhex(key_of(domain) or "")
        hashes = InfoHashes(v1=key) if len(key) == 20 else InfoHashes(v2=key)
        stored = self.catalog.metadata(hashes)
        if stored is not None:
            with contextlib.suppress(InvalidTorrent):  # made under other limits
                return parse_torrent(stored.torrent)
        lock = FileLock.take(self._torrents / domain / "lock")
        if lock is not None:
            shutil.rmtree(self._torrents / domain / "data", ignore_errors=True)
            self.catalog.forget_tree(domain)
            lock.close()
        return None
