"""What was used least recently, over all torrents of a cache: who has to go first.

The unit is an *extent*, a run of pieces of about 1 MiB (one piece where pieces are larger): finer
would cost memory, coarser would evict what is needed. A use only writes a number into the shelf's
array; the heap holds one entry for each extent with something on disk, with the use known when it
was pushed. An entry that comes out too old is pushed again with the true number, so both sides
are cheap. The trees of torrents that are not open are one entry each, named by their domain.

Stamps are microseconds of the wall clock made strictly rising: they have to be comparable over
restarts and between processes.
"""

from __future__ import annotations

import heapq
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE = -1
"""In place of a shelf's number: the entry is the domain of a tree that is not open."""

Entry = tuple[int, int, int | str]
"""(last use, number of the shelf or IDLE, extent or domain)."""


class Recency:
    """A heap of extents by last use."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._last = 0

    def stamp(self) -> int:
        """The number of a use that happens now."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last

    def push(self, entry: Entry) -> None:
        """List an extent that is not listed."""
        heapq.heappush(self._heap, entry)

    def pop(self, last_use: Callable[[Entry], int | None]) -> Entry | None:
        """Unlist the least recently used extent; `last_use` is the truth, None = not here."""
        while self._heap:
            entry = heapq.heappop(self._heap)
            use = last_use(entry)
            if use is None:
                continue
            if use <= entry[0]:
                return entry
            heapq.heappush(self._heap, (use, entry[1], entry[2]))
        return None

    def __len__(self) -> int:
        return len(self._heap)
