"""The cache: memory in front, disk behind, one writer between them.

`put` leaves a piece in memory and returns; one task writes what is there, all that piled up for a
torrent at a time, neighbours in one system call. Being the only task that changes files, it also
makes room before it writes (see `vault`) and frees what was lost. What is unwritten is bounded by
half of the memory limit: beyond that `put` waits.

**Disk trouble** (full, read-only, gone, a broken catalog) is logged in one line, once. For
`RETRY_SECONDS` pieces then live in memory only, as long as they fit; what is already on disk is
still read. Nothing above needs to know, beyond `on_evicted`. A disk that finishes nothing for
`STUCK_SECONDS` while somebody waits for room is trouble as well, until it does.

A cache whose directory cannot be used at all works the same way: from memory only.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import time
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import trio

from torrentfs.errors import StorageError
from torrentfs.metainfo.intervals import each_of
from torrentfs.storage.base import MIB, CacheConfig, CacheStatistics, StoredMetadata, Use
from torrentfs.storage.catalog import TROUBLE, Known, is_full
from torrentfs.storage.memory import Buffer, Key, MemoryTier
from torrentfs.storage.store import TorrentStore
from torrentfs.storage.vault import Vault
from torrentfs.storage.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from torrentfs.metainfo.hashes import InfoHashes
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.shelf import Shelf

__all__ = ["Cache", "TorrentStore", "open_cache"]

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_SECONDS = 30.0
STUCK_SECONDS = 5.0
"""Longest that downloads wait for the disk to write something."""
_BATCH = 8 * MIB
_LOOK_AT = 2048
_SYNC_EVERY = 5.0
_USES_EVERY = 60.0
_CLOSE_WITHIN = 5.0
_SYNC_WITHIN = 2.0


@asynccontextmanager
async def open_cache(config: CacheConfig) -> AsyncIterator[Cache]:
    """Open the cache of a directory; never fails: without the disk it works from memory.

    At the end unwritten pieces are written, within a few seconds.
    """
    cache = Cache(config)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        await cache._open(nursery)
        try:
            yield cache
        except BaseException as error:
            failure = error  # raised below, or the nursery would wrap it into a group
        finally:
            with trio.CancelScope(shield=True):
                await cache._close()
    if failure is not None:
        raise failure


class Cache:
    """Made by `open_cache`. Everything here belongs to the trio thread."""

    def __init__(self, config: CacheConfig) -> None:
        self.config = config
        self.memory = MemoryTier(config.memory_limit, self._on_dropped)
        self.verifier = Verifier()
        self.vault = Vault(config, self._on_forgotten)
        self.trouble: str | None = None
        """What is wrong with the disk now, in words."""
        self._usable = False
        self._retry_at = -math.inf
        self._stores: dict[int, TorrentStore] = {}
        self._by_shelf: dict[int, TorrentStore] = {}
        self._numbers = 0
        self._written_bytes = 0
        self._batches = 0
        self._stuck = False
        self._work = trio.Event()
        self._room = trio.lowlevel.ParkingLot()
        self._turn = trio.Lock()  # who changes files
        # shielded: what was put before a cancellation is still written by `_close`
        self._tasks = trio.CancelScope(shield=True)

    # --- metadata ---

    async def metadata(self, hashes: InfoHashes) -> StoredMetadata | None:
        """The .torrent file of a torrent seen before, by any form of its hash, and when it came."""
        if not self._usable:
            return None
        try:
            return await self.vault.metadata(hashes)
        except TROUBLE as error:
            self._on_trouble(error)
            return None

    async def keep_metadata(self, metainfo: Metainfo, added: float) -> float:
        """Remember a torrent; returns when it was *first* added (seconds since 1970)."""
        if self._usable:
            try:
                return await self.vault.keep_metadata(metainfo, added)
            except TROUBLE as error:
                self._on_trouble(error)
        return added

    async def dates(self, torrents: Sequence[InfoHashes]) -> list[float | None]:
        """When each was first added (seconds since 1970), of those that were."""
        if self._usable:
            try:
                return await self.vault.ask(self.vault.catalog.dates, torrents)
            except TROUBLE as error:
                self._on_trouble(error)
        return [None] * len(torrents)

    async def keep_many(self, torrents: Sequence[Metainfo], added: Sequence[float]) -> list[Known]:
        """Remember many torrents at once; when each was *first* added, and what is here of it.

        One transaction and no file is opened, so a thousand cost half a second.
        """
        if self._usable:
            try:
                return await self.vault.keep_many(torrents, added)
            except TROUBLE as error:
                self._on_trouble(error)
        return [Known(when, 0) for when in added]

    # --- peers ---

    async def peers(self, hashes: InfoHashes, now: float) -> list[tuple[str, int]]:
        """Addresses of peers that were useful before, those of late first."""
        if self._usable:
            try:
                return await self.vault.ask(self.vault.catalog.peers, hashes.key, now)
            except TROUBLE as error:
                self._on_trouble(error)
        return []

    async def keep_peers(
        self,
        hashes: InfoHashes,
        useful: Sequence[tuple[str, int]],
        unwanted: Sequence[tuple[str, int]],
        now: float,
    ) -> None:
        """Note who was useful until `now` (seconds since 1970), and forget the `unwanted`."""
        if self._usable:
            try:
                keep = self.vault.catalog.keep_peers
                await self.vault.ask(keep, hashes.key, useful, unwanted, now)
            except TROUBLE as error:
                self._on_trouble(error)

    # --- torrents ---

    async def open_torrent(
        self, metainfo: Metainfo, on_evicted: Callable[[Sequence[int]], None]
    ) -> TorrentStore:
        """The store of a torrent, with what it kept from earlier runs.

        `on_evicted(pieces)` is called in the trio thread whenever pieces are no longer in `have`.
        """
        shelf: Shelf | None = None
        if self._usable:
            try:
                await self.vault.know(metainfo, time.time())
                shelf = await self.vault.open_shelf(metainfo)
            except TROUBLE as error:
                self._on_trouble(error)
            else:
                if shelf is None:
                    log.warning("too many processes have %r open: from memory", metainfo.name)
        self._numbers += 1
        store = TorrentStore(self, self._numbers, metainfo, shelf, on_evicted)
        self._stores[store.number] = store
        if shelf is not None:
            self._by_shelf[shelf.number] = store
        return store

    async def close_torrent(self, store: TorrentStore) -> None:
        """Write what is unwritten, and let go; the store is of no use afterwards."""
        if store.number not in self._stores:
            return
        shelf, number = store.shelf, store.number
        with trio.CancelScope(shield=True):
            if shelf is not None:
                with trio.move_on_after(_CLOSE_WITHIN):
                    while await self._step(only=number):
                        pass
                async with self._turn:
                    await self._close_shelf(shelf)
                self._by_shelf.pop(shelf.number, None)
                store.shelf = None
        del self._stores[number]
        self.memory.forget_store(number)
        store.have.clear()
        self._room.unpark_all()

    async def _close_shelf(self, shelf: Shelf) -> None:
        try:
            await self.vault.close_shelf(shelf, sync_within=_SYNC_WITHIN)
        except TROUBLE as error:
            self._on_trouble(error)

    async def uses(self) -> list[Use]:
        """What the disk has of each torrent; `StorageError` when it cannot be asked."""
        return await self._care(self.vault.uses)

    async def shrink(self, size: int) -> int:
        """Give up what was used least recently until at most `size` bytes are on disk.

        Returns the bytes freed. `StorageError` when the disk cannot be used.
        """
        async with self._turn:
            return await self._care(self.vault.shrink, size)

    async def _care(self, work: Callable[..., Awaitable[T]], *args: object) -> T:
        if not self._usable:
            raise StorageError(f"the cache is in memory only: {self.trouble or 'it has no disk'}")
        try:
            return await work(*args)
        except TROUBLE as error:
            self._on_trouble(error)
            raise StorageError(f"the cache cannot be used: {_words(error)}") from error

    async def flush(self) -> None:
        """Wait until every piece that was put is on disk, or cannot be, and is recorded."""
        while await self._step():
            pass
        async with self._turn:
            await self._save()

    async def _save(self) -> None:
        for shelf in list(self.vault.shelves.values()):
            try:
                await self.vault.save(shelf)
            except TROUBLE as error:
                self._on_trouble(error)

    # --- what the user says ---

    async def keep_pins(self, pins: Mapping[str, Sequence[range]]) -> None:
        """Never evict these pieces of these torrents (by key), and no others of them are spared."""
        if self._usable:
            try:
                await self.vault.keep_pins(pins)
            except TROUBLE as error:
                self._on_trouble(error)

    async def lacks(self, key: str, pieces: Sequence[range]) -> bool:
        """Whether some of the pieces are not on disk as far as is known; opens no file."""
        if not self._usable:
            return bool(pieces)
        try:
            bits = await self.vault.ask(self.vault.catalog.bits, key)
        except TROUBLE as error:
            self._on_trouble(error)
            return bool(pieces)
        return any(
            piece >= 8 * len(bits) or not bits[piece >> 3] & (0x80 >> (piece & 7))
            for piece in each_of(pieces)
        )

    async def evict(self, store: TorrentStore, pieces: Sequence[int]) -> int:
        """Drop these pieces of a torrent, but not pinned ones; returns the bytes freed on disk."""
        async with self._turn:
            shelf = store.shelf
            gone = [piece for piece in sorted(pieces) if shelf is None or piece not in shelf.kept]
            for piece in gone:
                self.memory.forget((store.number, piece))
            freed = 0
            if shelf is not None:
                freed = shelf.tree.used
                try:
                    await self.vault.drop(shelf, gone)
                except TROUBLE as error:
                    self._on_trouble(error)
                freed -= shelf.tree.used
            store.on_dismissed([p for p in gone if shelf is None or p not in shelf.on_disk])
            self._room.unpark_all()
            return max(0, freed)

    # --- what stores ask ---

    def wants_writing(self, shelf: Shelf | None, piece: int) -> bool:
        """True when a verified piece is not on disk and can be expected to get there."""
        if shelf is None or not self._usable or self._stuck:
            return False
        if piece in shelf.on_disk and piece not in shelf.unsure:
            return False
        return self.trouble is None or trio.current_time() >= self._retry_at

    def on_unwritten(self) -> None:
        """There is work for the writer."""
        self._work.set()

    async def wait_for_room(self) -> None:
        """Wait while too much is unwritten; at once, with no checkpoint, when it is not.

        Nor for a disk that is stuck: what comes meanwhile stays in memory (`wants_writing`).
        """
        while self.memory.unwritten_bytes > self.config.memory_limit // 2 and not self._stuck:
            batches = self._batches
            with trio.move_on_after(STUCK_SECONDS) as patience:
                await self._room.park()
            if patience.cancelled_caught and batches == self._batches and not self._stuck:
                self._stuck = True
                self._on_trouble(OSError(errno.ETIMEDOUT, "the disk does not answer"))
                self._room.unpark_all()

    def _on_dropped(self, key: Key) -> None:
        store = self._stores.get(key[0])
        if store is not None:
            store.on_dropped(key[1])

    def _on_forgotten(self, shelf: Shelf, pieces: Sequence[int]) -> None:
        store = self._by_shelf.get(shelf.number)
        if store is not None:
            store.on_forgotten(pieces)

    # --- the writer ---

    async def _run(self) -> None:
        with self._tasks:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._upkeep)
                while True:
                    await self._work.wait()
                    self._work = trio.Event()
                    while await self._step():
                        pass

    async def _step(self, only: int | None = None) -> bool:
        """Free what was lost and write one batch; False when there was nothing to write."""
        async with self._turn:
            for shelf in list(self.vault.shelves.values()):
                if shelf.to_release:
                    try:
                        await self.vault.free_released(shelf)
                        await self.vault.record(shelf)
                    except TROUBLE as error:
                        self._on_trouble(error)
            batch = self._next_batch(only)
            if not batch:
                return False
            store = self._stores[batch[0][0]]
            pieces = [(key[1], self.memory.unwritten[key]) for key in batch]
            try:
                if store.shelf is not None:
                    await self._write(store.shelf, pieces)
            finally:
                for key in batch:
                    on_disk = store.shelf.on_disk if store.shelf is not None else ()
                    self.memory.settle(key, written=key[1] in on_disk)
                self._batches += 1
                self._stuck = False
                self._room.unpark_all()
            return True

    def _next_batch(self, only: int | None) -> list[Key]:
        """Unwritten pieces of one store, ascending: what came first, and all that fits with it."""
        batch: list[Key] = []
        size = 0
        number = only
        most = min(_BATCH, self.config.size // 4)
        for key, data in islice(self.memory.unwritten.items(), _LOOK_AT if only is None else None):
            if number is None:
                number = key[0]
            if key[0] != number:
                continue
            size += len(data)
            if batch and size > most:
                break
            batch.append(key)
        batch.sort()
        return batch

    async def _write(self, shelf: Shelf, pieces: list[tuple[int, Buffer]]) -> None:
        need = sum(len(data) for _, data in pieces)
        try:
            if not await self.vault.make_room(shelf, need):
                self._on_trouble(
                    OSError(errno.ENOSPC, "no room within --cache-size and free space")
                )
                return
            try:
                await self.vault.write(shelf, pieces)
            except TROUBLE as error:
                if not is_full(error) or not await self.vault.evict(2 * need):
                    raise
                await self.vault.write(shelf, pieces)
        except TROUBLE as error:
            self._on_trouble(error)
        else:
            self._written_bytes += need
            if self.trouble is not None:
                log.info("the cache works again")
                self.trouble = None

    async def _upkeep(self) -> None:
        """Now and then: sync, so that closing is short; note uses; give other processes room."""
        uses_at = trio.current_time() + _USES_EVERY
        while True:
            await trio.sleep(_SYNC_EVERY)
            if not self.vault.used:
                continue
            try:
                for shelf in list(self.vault.shelves.values()):
                    if shelf.tree.needs_sync:
                        await self.vault.in_disk_thread(shelf.tree.sync)
                await self.vault.refresh_totals()
                if self.vault.totals.others:
                    async with self._turn:
                        await self.vault.make_room(None, 0)
            except TROUBLE as error:
                self._on_trouble(error)
            if trio.current_time() >= uses_at:
                uses_at = trio.current_time() + _USES_EVERY
                async with self._turn:
                    await self._save()

    def _on_trouble(self, error: Exception) -> None:
        words = _words(error)
        if words != self.trouble:
            log.warning("the cache in %s: %s; going on in memory", self.config.directory, words)
        self.trouble = words
        self._retry_at = trio.current_time() + RETRY_SECONDS

    # --- life ---

    async def _open(self, nursery: trio.Nursery) -> None:
        try:
            await self.vault.open()
        except TROUBLE as error:
            self._on_trouble(error)
            return
        self._usable = True
        nursery.start_soon(self._run)

    async def _close(self) -> None:
        if self._usable and self.trouble is None:
            async with self._turn:
                with contextlib.suppress(*TROUBLE):
                    # what we held while alone is more than our share if others came since
                    await self.vault.make_room(None, 0)
        for store in list(self._stores.values()):
            await self.close_torrent(store)
        self._tasks.cancel()
        async with self._turn:
            self._usable = False
            with contextlib.suppress(*TROUBLE):
                await self.vault.close()

    def statistics(self) -> CacheStatistics:
        """Counters, now."""
        return CacheStatistics(
            memory_bytes=self.memory.size,
            unwritten_bytes=self.memory.unwritten_bytes,
            disk_bytes=self.vault.used,
            idle_bytes=self.vault.totals.idle_bytes,
            others_bytes=self.vault.totals.others_bytes,
            written_bytes=self._written_bytes,
            evicted_pieces=self.vault.evicted_pieces,
            disk_trouble=self.trouble,
        )

    def __repr__(self) -> str:
        return f"<Cache {str(self.config.directory)!r} {self.memory!r}>"


def _words(error: Exception) -> str:
    """`permission denied: /cache/torrents`, without number and quotes."""
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror.lower()
        return f"{reason}: {error.filename}" if error.filename else reason
    return str(error)
