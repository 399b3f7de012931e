"""One reader's place in a file, and the cursors of one file. See `readheads` for the rules."""

from __future__ import annotations

from dataclasses import dataclass

from torrentfs.scheduling.rates import Rate

KIB = 1024
MIB = 1024 * KIB

STICKY_SECONDS = 2.0
"""A cursor that came back keeps its window through jumps until unused for this long."""


@dataclass(frozen=True, slots=True)
class ReadAheadConfig:
    """Sizes in bytes, times in seconds; defaults from measured clients."""

    readahead: int = 32 * MIB
    """Largest window of one cursor (`--readahead`); 0: none, and no hints beyond pieces read."""
    total: int = 64 * MIB
    """All windows of the torrent together (at least `start` each)."""
    start: int = 256 * KIB
    """First window, and what proves a reader to be sequential."""
    near: int = 1 * MIB
    """A read this near to a frontier continues it."""
    head_near: int = 64 * KIB
    edge: int = 1 * MIB
    """Size of the head and tail hints."""
    whole_file: int = 4 * MIB
    tail_run: int = 16 * MIB
    played: int = 1 * MIB
    """Bytes in a row from the start of a file that only somebody reads who will read all of it."""
    max_cursors: int = 8
    idle: float = 30.0
    linger: float = 5.0
    drain_seconds: float = 30.0
    drain_floor: int = 1 * MIB
    """A slow drain does not shrink the window below this."""

    @classmethod
    def within(cls, cache: int, readahead: int) -> ReadAheadConfig:
        """For a cache of `cache` bytes: all windows together take no more than half of it, lest
        they evict each other, and no less than one reader may have."""
        most = cache // 2
        return cls(readahead=min(readahead, most), total=min(max(readahead, cls().total), most))


class Cursor:
    """A frontier that contiguous reads move on."""

    __slots__ = (
        "active", "consumed", "drain", "frontier", "last", "requests", "sticky", "units",
    )  # fmt: skip

    def __init__(self, offset: int, now: float) -> None:
        self.frontier = offset
        """End of what was read so far."""
        self.consumed = 0
        """Bytes read since the jump, each counted once."""
        self.requests = 0
        self.last = now
        self.drain = Rate(10.0)
        self.active = True
        """Whether it may have a window."""
        self.sticky = False
        self.units = range(0)
        """Its window as published, in the units of its `ReadHeads`: pieces or blocks."""

    def advance(self, offset: int, size: int, now: float) -> None:
        """A read continues it; one behind the frontier only counts as a sign of life."""
        self.last = now
        self.requests += 1
        end = offset + size
        if end > self.frontier:
            fresh = min(size, end - self.frontier)
            self.consumed += fresh
            self.drain.add(fresh, now)
            self.frontier = end

    @property
    def streaming(self) -> bool:
        """Whether it proved to be sequential."""
        return self.requests >= 2 or self.consumed >= 256 * KIB

    def window(self, config: ReadAheadConfig) -> int:
        """Bytes to have ready beyond the frontier."""
        if not self.streaming:
            return 0
        consumed = self.consumed
        if consumed < config.start:
            return min(consumed, config.readahead)
        size = config.start << ((consumed // config.start).bit_length() - 1)
        if size > config.drain_floor:
            drained = int(config.drain_seconds * self.drain.per_second(self.last))
            size = min(size, max(config.drain_floor, drained))
        return min(size, config.readahead)

    def __repr__(self) -> str:
        return f"<Cursor at {self.frontier}, {self.consumed} consumed>"


class FileState:
    """Cursors, handles and hints of one file."""

    __slots__ = ("cursors", "hints", "length", "opens", "played", "released", "saw_head", "start")

    def __init__(self, start: int, length: int) -> None:
        self.start = start
        self.length = length
        self.cursors: list[Cursor] = []
        """Least recently used first."""
        self.hints: list[range] = []
        self.opens = 0
        self.released: float | None = None
        self.saw_head = False
        self.played = False

    def find(self, offset: int, near: int) -> Cursor | None:
        """The cursor that a read at `offset` continues: the nearest within reach."""
        best: Cursor | None = None
        least = near + 1
        for cursor in self.cursors:
            distance = abs(offset - cursor.frontier)
            if distance < least:
                best, least = cursor, distance
        if best is not None and best is not self.cursors[-1]:
            self.cursors.remove(best)
            self.cursors.append(best)
        return best

    def jump(self, offset: int, now: float, most: int) -> Cursor:
        """A new cursor; the one longest unused goes when there are too many."""
        if len(self.cursors) >= most:
            del self.cursors[0]
        cursor = Cursor(offset, now)
        self.cursors.append(cursor)
        return cursor

    def settle(self, now: float) -> bool:
        """Decide who is active: the latest ones, one per handle, and sticky ones. True: changed."""
        places = max(1, self.opens)
        changed = False
        for cursor in reversed(self.cursors):
            if cursor.sticky and now - cursor.last > STICKY_SECONDS:
                cursor.sticky = False
            active = places > 0 or cursor.sticky
            places -= 1
            changed |= active is not cursor.active
            cursor.active = active
        return changed
