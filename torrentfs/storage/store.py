"""The verified pieces of one torrent: memory in front, disk behind, trust decided here.

A read is answered by the first of these that can:

1. memory: the piece as it was put (verified), no matter what the disk does;
2. the page cache, without a thread (`read_nowait`);
3. the disk, in a thread (`read`). A piece that is *unsure* (see `shelf`) is read whole and hashed
   first, once, however many wait for it; if it is wrong it is lost: `on_evicted`, `PieceLost`.

`have` is what memory or disk holds. It shrinks when a piece is evicted from disk and not in memory,
dropped from memory and not on disk, or found damaged; each time `on_evicted([...])` is called, in
the trio thread, possibly from within `put` (of any torrent) or `read`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.storage.base import PieceLost, StoreStatistics
from torrentfs.storage.disk import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.shelf import Shelf
    from torrentfs.storage.tiered import Cache

_ATTEMPTS = 4


class TorrentStore:
    """Made by `Cache.open_torrent`."""

    def __init__(
        self,
        cache: Cache,
        number: int,
        metainfo: Metainfo,
        shelf: Shelf | None,
        on_evicted: Callable[[Sequence[int]], None],
    ) -> None:
        self.metainfo = metainfo
        self.number = number
        self.shelf = shelf
        self.have = shelf.on_disk.copy() if shelf else Bitfield(metainfo.geometry.num_pieces)
        self._cache = cache
        self._memory = cache.memory
        self._on_evicted = on_evicted
        self._checking: dict[int, trio.Event] = {}
        self._memory_hits = self._disk_hits = self._lost = 0

    # --- reading ---

    def read_nowait(self, piece: int, begin: int, length: int) -> memoryview | bytes | None:
        """The bytes, if neither disk nor hash has to be waited for; else None: use `read`."""
        part = self._from_memory(piece, begin, length)
        if part is not None:
            return part
        shelf = self.shelf
        if shelf is None or piece not in shelf.on_disk:
            return None
        shelf.note_suspects()
        if piece in shelf.unsure:
            return None
        part = shelf.tree.read_nowait(piece, begin, length)
        if part is not None:
            self._disk_hits += 1
            self._cache.vault.touch(shelf, piece)
        return part

    async def read(self, piece: int, begin: int, length: int) -> memoryview | bytes:
        """The bytes. `PieceLost` when the piece is not here, or turns out to be damaged."""
        await trio.lowlevel.checkpoint_if_cancelled()
        for _ in range(_ATTEMPTS):
            part = self._from_memory(piece, begin, length)
            if part is not None:
                return part
            shelf = self.shelf
            if shelf is None or piece not in shelf.on_disk:
                raise PieceLost(f"piece {piece} is not in the cache")
            shelf.pin(piece)
            try:
                found = await self._from_disk(shelf, piece, begin, length)
            finally:
                shelf.unpin(piece)
            if found is not None:
                self._disk_hits += 1
                if piece in shelf.on_disk:
                    self._cache.vault.touch(shelf, piece)
                return found
        self._lose(piece)
        raise PieceLost(f"piece {piece} keeps changing in the cache")

    def _from_memory(self, piece: int, begin: int, length: int) -> memoryview | None:
        data = self._memory.get((self.number, piece))
        if data is None:
            return None
        self._memory_hits += 1
        return memoryview(data)[begin : begin + length]

    async def _from_disk(
        self, shelf: Shelf, piece: int, begin: int, length: int
    ) -> memoryview | bytes | None:
        """One attempt; None when the state changed meanwhile: look again."""
        shelf.note_suspects()
        if piece in shelf.unsure:
            checking = self._checking.get(piece)
            if checking is not None:
                await checking.wait()
                return None
            data = await self._check(shelf, piece)
            return memoryview(data)[begin : begin + length]
        try:
            part = await self._cache.vault.in_disk_thread(shelf.tree.read, piece, begin, length)
        except Damaged:
            if piece in shelf.on_disk:
                shelf.unsure.add(piece)  # the check finds out, and loses it
            return None
        shelf.note_suspects()
        if piece in shelf.unsure or piece not in shelf.on_disk:
            return None
        return memoryview(part)

    async def _check(self, shelf: Shelf, piece: int, *, keep: bool = True) -> bytes | bytearray:
        """Read a piece whole and hash it; `PieceLost` when it is wrong. `keep`: in memory."""
        gate = self._checking[piece] = trio.Event()
        try:
            size = self.metainfo.geometry.piece_size(piece)
            try:
                data = await self._cache.vault.in_disk_thread(shelf.tree.read, piece, 0, size)
                right = await self._cache.verifier.is_right(self.metainfo, piece, data)
                why = "does not match its hash"
            except Damaged as error:
                right, why = False, str(error)
            shelf.note_suspects()
            if not right:
                # not if it was put again meanwhile: then memory has it, and the disk will
                if (self.number, piece) not in self._memory:
                    self._lose(piece)
                raise PieceLost(f"piece {piece} is damaged in the cache: {why}")
            shelf.unsure.discard(piece)
            if keep and piece in self.have and (self.number, piece) not in self._memory:
                self._memory.keep_copy((self.number, piece), data)
            return data
        finally:
            del self._checking[piece]
            gate.set()

    async def verify(self, piece: int) -> bool | None:
        """Read a piece from the disk again and hash it; None when the disk does not have it.

        False: it is damaged there, and forgotten (memory may have it still).
        """
        shelf = self.shelf
        while (checking := self._checking.get(piece)) is not None:
            await checking.wait()
        if shelf is None or piece not in shelf.on_disk:
            return None
        shelf.pin(piece)
        try:
            await self._check(shelf, piece, keep=False)
        except PieceLost:
            if shelf.discard(piece):  # memory has it, so it was not lost
                shelf.to_release.add(piece)
                self._cache.on_unwritten()
            return False
        finally:
            shelf.unpin(piece)
        return True

    # --- keeping ---

    async def put(self, piece: int, data: bytearray) -> None:
        """Keep a whole, verified piece; `data` must not be changed afterwards.

        It is readable at once. Waits only while more is unwritten than the write-behind bound.
        """
        self.have.add(piece)
        key = (self.number, piece)
        if self._cache.wants_writing(self.shelf, piece):
            self._memory.hold(key, data)
            self._cache.on_unwritten()
            await self._cache.wait_for_room()
        elif self.shelf is not None and piece in self.shelf.on_disk:
            self._memory.keep_copy(key, data)
        else:
            self._memory.keep(key, data)

    # --- losing ---

    def on_forgotten(self, pieces: Sequence[int]) -> None:
        """The disk does not have them any more."""
        self._give_up([p for p in pieces if (self.number, p) not in self._memory])

    def on_dropped(self, piece: int) -> None:
        """Memory does not have it any more."""
        if self.shelf is None or piece not in self.shelf.on_disk:
            self._give_up([piece])

    def _lose(self, piece: int) -> None:
        self._lost += 1
        self._memory.forget((self.number, piece))
        if self.shelf is not None and self.shelf.discard(piece):
            self.shelf.to_release.add(piece)
            self._cache.on_unwritten()
        self._give_up([piece])

    def on_dismissed(self, pieces: Sequence[int]) -> None:
        """The user does not want them kept: neither memory nor disk has them any more."""
        self._give_up(pieces)

    def _give_up(self, pieces: Sequence[int]) -> None:
        gone = [piece for piece in pieces if self.have.discard(piece)]
        if gone:
            self._on_evicted(gone)

    def statistics(self) -> StoreStatistics:
        """Counters, now."""
        shelf = self.shelf
        return StoreStatistics(
            have=self.have.count,
            on_disk=shelf.on_disk.count if shelf else 0,
            unsure=shelf.unsure.count if shelf else 0,
            unwritten=sum(key[0] == self.number for key in self._memory.unwritten),
            disk_bytes=shelf.tree.used if shelf else 0,
            memory_hits=self._memory_hits,
            disk_hits=self._disk_hits,
            lost=self._lost,
            disk_trouble=self._cache.trouble,
        )

    def __repr__(self) -> str:
        return f"<TorrentStore {self.metainfo.name!r} {self.have!r}>"
