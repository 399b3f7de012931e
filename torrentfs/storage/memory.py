"""The memory tier: whole pieces in RAM, counted in bytes, shared by all torrents.

Two tenants live here under one limit:

* *unwritten* pieces wait for the disk. They are never dropped: until their bytes are in a file,
  memory is the only place that has them.
* *recent* pieces are written (or never will be, when there is no disk), and are kept for those
  who read them again: least recently used goes first.

`unwritten` pushes `recent` out, never the other way round; what bounds `unwritten` is the writer
(see `tiered`), which makes `put` wait.
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


class MemoryTier:
    """Pieces in memory: at most `limit` bytes, or one piece where a piece is larger than that.

    `on_dropped(key)` is called after a recent piece had to go.
    """

    def __init__(self, limit: int, on_dropped: Callable[[Key], None]) -> None:
        self.limit = limit
        self._on_dropped = on_dropped
        # the limit is kept by `_shrink`: it counts both tenants, and tells who was dropped
        self._recent: LRUCache[Key, Buffer] = LRUCache(math.inf, getsizeof=len)
        self.unwritten: dict[Key, Buffer] = {}
        self.unwritten_bytes = 0

    @property
    def size(self) -> int:
        """Bytes held now."""
        return int(self._recent.currsize) + self.unwritten_bytes

    def get(self, key: Key) -> Buffer | None:
        """The piece, which thereby becomes the most recent one."""
        data = self.unwritten.get(key)
        if data is None:
            data = self._recent.get(key)
        return data

    def hold(self, key: Key, data: Buffer) -> None:
        """Take a piece that has to be written."""
        self.release(key)
        self._recent.pop(key, None)
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
        """Keep a piece for re-reads, as the most recent one."""
        self._recent.pop(key, None)
        self._shrink(len(data))
        self._recent[key] = data

    def settle(self, key: Key) -> None:
        """An unwritten piece was written, or never will be: keep it as a recent one."""
        data = self.release(key)
        if data is not None:
            self.keep(key, data)

    def forget(self, key: Key) -> None:
        """Drop a piece, without a call of `on_dropped`."""
        self.release(key)
        self._recent.pop(key, None)

    def forget_store(self, number: int) -> None:
        """Drop every piece of one store."""
        for key in [key for key in (*self.unwritten, *self._recent) if key[0] == number]:
            self.forget(key)

    def _shrink(self, room: int = 0) -> None:
        while self._recent and self.size + room > self.limit:
            key, _ = self._recent.popitem()
            self._on_dropped(key)

    def __contains__(self, key: Key) -> bool:
        return key in self.unwritten or key in self._recent

    def __repr__(self) -> str:
        return f"<MemoryTier {self.size}/{self.limit} bytes, {self.unwritten_bytes} unwritten>"
