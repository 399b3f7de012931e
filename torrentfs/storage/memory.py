"""The memory tier: whole pieces in RAM, counted in bytes, shared by all torrents.

Three tenants live here under one limit:

* *unwritten* pieces wait for the disk. They are never dropped: until their bytes are in a file,
  memory is the only place that has them.
* *recent* pieces will not be written (there is no disk, or it is full), and are kept for those who
  read them again: least recently used goes first.
* *copies* are of pieces that are on disk as well. The kernel's page cache has those too, and
  gives them back under pressure, which we do not: so they get `COPIES` of the limit, enough for
  the window of a stream.

`unwritten` pushes the others out, never the other way round; what bounds `unwritten` is the
writer (see `tiered`), which makes `put` wait.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable

Buffer = bytes | bytearray
Key = tuple[int, int]
"""A piece of any torrent: (number of the store, piece)."""


COPIES = 0.25
"""Share of the limit for pieces that the disk has as well."""


class MemoryTier:
    """Pieces in memory: at most `limit` bytes, or one piece where a piece is larger than that.

    `on_dropped(key)` is called after a recent piece or a copy had to go.
    """

    def __init__(self, limit: int, on_dropped: Callable[[Key], None]) -> None:
        self.limit = limit
        self._on_dropped = on_dropped
        # the limits are kept by `_shrink`: it counts all tenants, and tells who was dropped
        self._recent: LRUCache[Key, Buffer] = LRUCache(math.inf, getsizeof=len)
        self._copies: LRUCache[Key, Buffer] = LRUCache(math.inf, getsizeof=len)
        self.unwritten: dict[Key, Buffer] = {}
        self.unwritten_bytes = 0

    @property
    def size(self) -> int:
        """Bytes held now."""
        return int(self._recent.currsize + self._copies.currsize) + self.unwritten_bytes

    def get(self, key: Key) -> Buffer | None:
        """The piece, which thereby becomes the most recent one."""
        data = self.unwritten.get(key)
        if data is None:
            data = self._copies.get(key)
        if data is None:
            data = self._recent.get(key)
        return data

    def hold(self, key: Key, data: Buffer) -> None:
        """Take a piece that has to be written."""
        self.forget(key)
        self.unwritten[key] = data
        self.unwritten_bytes += len(data)
        self._shrink()

    def release(self, key: Key) -> Buffer | None:
        """Take a piece out of the unwritten ones."""
        data = self.unwritten.pop(key, None)
        if data is not None:
            self.unwritten_bytes -= len(data)
        return data

    def keep(self, key: Key, data: Buffer) -> None:
        """Keep a piece that only memory has for re-reads, as the most recent one."""
        self.forget(key)
        self._shrink(len(data))
        self._recent[key] = data

    def keep_copy(self, key: Key, data: Buffer) -> None:
        """Keep a piece that the disk has too for re-reads soon, as the most recent one."""
        self.forget(key)
        while self._copies and self._copies.currsize + len(data) > self.limit * COPIES:
            self._drop(self._copies)
        self._shrink(len(data))
        self._copies[key] = data

    def settle(self, key: Key, *, written: bool) -> None:
        """An unwritten piece was written, or never will be: keep it in its new place."""
        data = self.release(key)
        if data is None:
            return
        if written:
            self.keep_copy(key, data)
        else:
            self.keep(key, data)

    def forget(self, key: Key) -> None:
        """Drop a piece, without a call of `on_dropped`."""
        self.release(key)
        self._recent.pop(key, None)
        self._copies.pop(key, None)

    def forget_store(self, number: int) -> None:
        """Drop every piece of one store."""
        for key in [
            key for key in (*self.unwritten, *self._recent, *self._copies) if key[0] == number
        ]:
            self.forget(key)

    def _shrink(self, room: int = 0) -> None:
        while self.size + room > self.limit and (self._copies or self._recent):
            self._drop(self._copies or self._recent)

    def _drop(self, tenant: LRUCache[Key, Buffer]) -> None:
        key, _ = tenant.popitem()
        self._on_dropped(key)

    def __contains__(self, key: Key) -> bool:
        return key in self.unwritten or key in self._copies or key in self._recent

    def __repr__(self) -> str:
        return f"<MemoryTier {self.size}/{self.limit} bytes, {self.unwritten_bytes} unwritten>"
