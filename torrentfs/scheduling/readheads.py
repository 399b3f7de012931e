"""Where readers are, and what they will want next: from reads to an agenda.

One `ReadHeads` per torrent. Its state is per *file*, not per handle: players open a file seven
times, kernels answer for several programs out of one page cache. A file has up to eight cursors. A
read within 1 MiB of a cursor's frontier continues it (the kernel keeps two requests in flight and
lets them overtake each other); any other read is a *jump* and makes a new cursor, so a random probe
never moves the cursor of a film.

* **Window.** None before a second contiguous request or 256 KiB, so random reads cost their own
  pieces only. Then 256 KiB, doubling, and never more than was consumed since the jump: a probe
  wastes at most as much as it read. Bounded by `readahead`, by 30 s of the cursor's own drain rate,
  and by a share of `total`, which bounds all windows of the torrent together.
* **Steps.** A window is published when it has moved by an eighth, not at every read.
* **Seeks.** A file has as many active cursors as open handles (at least one). A jump beyond that
  takes the window of the cursor longest unused at once. A cursor that is read again after it lost
  its window (two streams through one handle) is spared from then on, until idle for two seconds. A
  read still waiting at the place that was left (the kernel's own read-ahead, mostly) stays urgent,
  but yields to younger reads for two seconds.
* **Hints.** The first read near 0 hints the first and the last 1 MiB (all of a file up to 4 MiB):
  the indexes of most formats. A jump into the tail hints on to the end: 16 MiB for a file whose
  head was read before (a moov atom, an AVI index), 1 MiB otherwise. Opening fetches nothing.
* **Played.** A file read on from its start for more than 1 MiB is played, not probed: `take_played`
  says so, once, for those who know what else its reader will want.
* **Ends.** A cursor idle for 30 s goes; five seconds after the last release, all of the file goes,
  except reads that wait. Waiting reads are counted by token and leave only by `unpark`.

* **Blocks.** Where blocks can be proved one by one (BEP 52; `provable` says of which pieces) wants
  are blocks: those under a read, those of a window, those of a hint, and not the pieces around
  them. A cursor whose window has `WHOLE` pieces streams for good and wants pieces again: they are
  cheaper to check, and can be stored.

Times come as `now`; sizes are bytes. Offsets are within a file, everything outward is pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling.agenda import ALL, Agenda, Level, Want
from torrentfs.scheduling.cursor import Cursor, FileState, ReadAheadConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torrentfs.metainfo.geometry import Geometry

__all__ = ["Agenda", "Level", "ReadAheadConfig", "ReadHeads", "ReadHeadsStatistics", "Want"]

LEFT_BEHIND = 2.0
"""Seconds that a read at a place the reader has left yields to younger ones."""

MAX_FILES = 256
"""Files with state; the one longest unused is forgotten (its waiting reads are not)."""


WHOLE = 4
"""Pieces in a window from which a cursor wants whole pieces, not blocks."""


class _Park(NamedTuple):
    start: int
    end: int
    deadline: float
    cursor: Cursor | None


class Place(NamedTuple):
    """Where a program reads: the next byte of a file, and the bytes beyond that are fetched."""

    file: int
    offset: int
    window: int


@dataclass(frozen=True, slots=True)
class ReadHeadsStatistics:
    """Counts, and the bytes of all windows as published."""

    files: int
    cursors: int
    parked: int
    jumps: int
    window_bytes: int


class ReadHeads:
    """Cursors of one torrent's files; `version` changes when `agenda` may have."""

    def __init__(
        self,
        geometry: Geometry,
        config: ReadAheadConfig | None = None,
        provable: Callable[[int], bool] | None = None,
    ) -> None:
        """`provable`: whether single blocks of a piece can be proved; None: of no piece."""
        self.geometry = geometry
        self.config = config or ReadAheadConfig()
        self._provable = provable
        self._unit = BLOCK_LENGTH if provable else geometry.piece_length
        self.version = 0
        self.jumps = 0
        self._files: dict[int, FileState] = {}
        self._parked: dict[int, _Park] = {}
        self._played: list[int] = []
        self._tokens = 0
        self._urgent: tuple[Want, ...] | None = ()
        self._rest: tuple[Want, ...] | None = ()
        self._expiry = float("inf")

    # --- what happens ------------------------------------------------------------------------

    def on_open(self, file: int, now: float) -> None:
        """A handle was opened; fetches nothing."""
        state = self._state(file, now)
        state.opens += 1
        state.released = None
        if state.settle(now):
            self._republish(state, now)

    def on_release(self, file: int, now: float) -> None:
        """A handle was closed."""
        state = self._files.get(file)
        if state is None:
            return
        state.opens = max(0, state.opens - 1)
        if not state.opens:
            state.released = now
            self._expiry = min(self._expiry, now + self.config.linger)
        if state.settle(now):
            self._republish(state, now)

    def on_read(self, file: int, offset: int, size: int, now: float) -> None:
        """A read, hit or miss; clamped to the file."""
        length = self.geometry.file_lengths[file]
        size = min(size, length - offset)
        if size <= 0:
            return
        if now >= self._expiry:
            self._expire(now)
        state = self._state(file, now)
        cursor = state.find(offset, self.config.near)
        if cursor is None:
            self.jumps += 1
            cursor = state.jump(offset, now, self.config.max_cursors)
            self._expiry = min(self._expiry, now + self.config.idle)
            cursor.advance(offset, size, now)
            self._hint(state, file, offset)
            state.settle(now)
            self._republish(state, now)
            return
        came_back = not cursor.active
        cursor.advance(offset, size, now)
        if not state.played and self._is_played(cursor):
            state.played = True
            self._played.append(file)
            self.version += 1
        if came_back:
            cursor.sticky = True
            state.settle(now)
            self._republish(state, now)
        elif self._aim(state, cursor):
            self._rest = None
            self.version += 1

    def _is_played(self, cursor: Cursor) -> bool:
        """Whether it has read on from the start of the file for longer than who only looks."""
        config = self.config
        return (
            config.readahead > 0
            and cursor.consumed > config.played
            and cursor.frontier - cursor.consumed < config.head_near
        )

    def take_played(self) -> list[int]:
        """Files that are read through from their start, as was found since the last call."""
        played, self._played = self._played, []
        return played

    def park(self, file: int, offset: int, size: int, deadline: float, now: float) -> int:
        """A read waits: its pieces are URGENT until `unpark(token)`. Counted."""
        start = self.geometry.file_starts[file] + offset
        size = max(1, min(size, self.geometry.file_lengths[file] - offset))
        state = self._files.get(file)
        cursor = state.find(offset, self.config.near + size) if state else None
        self._tokens += 1
        self._parked[self._tokens] = _Park(start, start + size, deadline, cursor)
        self._urgent = None
        self.version += 1
        return self._tokens

    def unpark(self, token: int, now: float) -> None:
        """The read was answered or given up; an unknown token is ignored."""
        if self._parked.pop(token, None) is not None:
            self._urgent = None
            self.version += 1

    def on_provable(self) -> None:
        """What `provable` says has changed."""
        self._urgent = self._rest = None
        self.version += 1

    # --- what is wanted ----------------------------------------------------------------------

    def agenda(self, now: float) -> Agenda:
        """All wants, most wanted first. The two parts stay the same objects while unchanged."""
        if now >= self._expiry:
            self._expire(now)
        if self._urgent is None:
            self._urgent = tuple(self._waiting())
        if self._rest is None:
            self._rest = tuple(self._ahead())
        return Agenda(self._urgent, self._rest)

    def next_change(self, now: float) -> float | None:
        """When time alone will change the agenda; None: never."""
        if now >= self._expiry:
            self._expire(now)
        if self._rest is None or self._urgent is None:
            return now  # `version` has changed: an agenda is due
        return None if self._expiry == float("inf") else max(now, self._expiry)

    def _waiting(self) -> Iterator[Want]:
        def rank(park: _Park) -> float:
            left = park.cursor is not None and not park.cursor.active and park.cursor.streaming
            return park.deadline + (LEFT_BEHIND if left else 0.0)

        seen: dict[int, int] = {}
        for park in sorted(self._parked.values(), key=rank):
            whole = park.cursor is not None and self._is_whole(park.cursor)
            for piece, blocks in self._blocks(park.start, park.end, whole):
                if blocks & ~seen.get(piece, 0):
                    seen[piece] = seen.get(piece, 0) | blocks
                    yield Want(piece, Level.URGENT, park.deadline, blocks)

    def _is_whole(self, cursor: Cursor) -> bool:
        """Whether a cursor wants whole pieces."""
        return cursor.window(self.config) >= WHOLE * self.geometry.piece_length

    def _blocks(self, start: int, end: int, whole: bool) -> Iterator[tuple[int, int]]:
        """The pieces under `[start, end)` of piece space, and of each the blocks to want."""
        piece_length = self.geometry.piece_length
        provable = None if whole else self._provable
        for piece in range(start // piece_length, (end - 1) // piece_length + 1):
            if provable is None or not provable(piece):
                yield piece, ALL
                continue
            base = piece * piece_length
            first = max(0, start - base) // BLOCK_LENGTH
            stop = (min(piece_length, end - base) - 1) // BLOCK_LENGTH + 1
            full = first == 0 and end - base >= piece_length
            yield piece, ALL if full else (1 << stop) - (1 << first)

    def _ahead(self) -> Iterator[Want]:
        """Windows interleaved piece by piece, so that none starves; then the hints."""
        runs: list[list[Want]] = []
        hints: list[range] = []
        for state in self._files.values():
            hints += state.hints
            for cursor in state.cursors:
                if cursor.active and cursor.units:
                    runs.append(self._run(state, cursor))
        if len(runs) == 1:
            yield from runs[0]
        else:
            for row in zip_longest(*runs):
                yield from (want for want in row if want is not None)
        likely: dict[int, int] = {}
        for hint in hints:
            for piece, blocks in self._blocks(hint.start, hint.stop, whole=False):
                likely[piece] = likely.get(piece, 0) | blocks
        for piece, blocks in likely.items():
            yield Want(piece, Level.HINT, float("inf"), blocks)

    def _run(self, state: FileState, cursor: Cursor) -> list[Want]:
        """The window of a cursor; the deadline of a piece is when its drain rate reaches it."""
        pace = max(cursor.drain.per_second(cursor.last), 65536.0)
        place, unit = cursor.units.start, self._unit
        end = min(cursor.units.stop * unit, state.start + state.length)
        ahead = place * unit - state.start - cursor.frontier
        start = cursor.last + ahead / pace
        step = self.geometry.piece_length / pace
        window = Level.WINDOW
        blocks = self._blocks(place * unit, end, self._is_whole(cursor))
        return [
            Want(piece, window, start + step * n, wanted)
            for n, (piece, wanted) in enumerate(blocks)
        ]

    # --- windows -----------------------------------------------------------------------------

    def _state(self, file: int, now: float) -> FileState:
        state = self._files.pop(file, None)
        if state is None:
            geometry = self.geometry
            state = FileState(geometry.file_starts[file], geometry.file_lengths[file])
            if len(self._files) >= MAX_FILES:
                self._files.pop(next(iter(self._files)))
                self._rest = None
                self.version += 1
        self._files[file] = state  # most recently used last
        return state

    def _aim(self, state: FileState, cursor: Cursor) -> bool:
        """Compute the window; True when it moved by an eighth or more, and is published."""
        units = self._window(state, cursor)
        old = cursor.units
        if units == old:
            return False
        step = max(1, len(units) >> 3)
        if (
            old
            and units
            and old.start <= units.start < old.stop  # lagging behind only costs stored pieces
            and 0 <= units.stop - old.stop < step
            and units.stop * self._unit < state.start + state.length
        ):
            return False
        if old and units and units.stop == old.stop and units.start < old.stop:
            return False  # at the end of the file only the consumed edge moves
        cursor.units = units
        return True

    def _window(self, state: FileState, cursor: Cursor) -> range:
        """Units of [frontier, frontier + window), within the file."""
        size = cursor.window(self.config) if cursor.active else 0
        if size:
            size = min(size, self._share())
        end = min(cursor.frontier + size, state.length)
        if end <= cursor.frontier:
            return range(0)
        unit = self._unit
        first = (state.start + cursor.frontier) // unit
        return range(first, (state.start + end - 1) // unit + 1)

    def _share(self) -> int:
        """What one window may have of the torrent's total."""
        active = sum(
            1 for state in self._files.values() for cursor in state.cursors
            if cursor.active and cursor.streaming
        )  # fmt: skip
        return max(self.config.start, self.config.total // max(1, active))

    def _republish(self, state: FileState, now: float) -> None:
        for cursor in state.cursors:
            cursor.units = self._window(state, cursor)
        self._rest = None
        self._urgent = None  # ranks depend on which cursors are active
        self.version += 1

    def _hint(self, state: FileState, file: int, offset: int) -> None:
        config = self.config
        if not config.readahead:
            return
        if offset < config.head_near and not state.saw_head:
            state.saw_head = True
            if state.length <= config.whole_file:
                state.hints = [_run_of(state, 0, state.length)]
            else:
                state.hints = [
                    _run_of(state, 0, config.edge),
                    _run_of(state, state.length - config.edge, config.edge),
                ]
            return
        rest = state.length - offset
        if rest <= (config.tail_run if state.saw_head else config.edge):
            run = _run_of(state, offset, rest)
            if run not in state.hints:
                state.hints = [*state.hints[:2], run]

    def _expire(self, now: float) -> None:
        """Drop idle cursors and released files; set the next expiry."""
        config = self.config
        self._expiry = float("inf")
        changed = False
        for file, state in list(self._files.items()):
            if state.released is not None and now >= state.released + config.linger:
                del self._files[file]
                changed = True
                continue
            kept = [cursor for cursor in state.cursors if now < cursor.last + config.idle]
            if len(kept) != len(state.cursors):
                state.cursors = kept
                changed = True
            ends = [cursor.last + config.idle for cursor in kept]
            if state.released is not None:
                ends.append(state.released + config.linger)
            self._expiry = min([self._expiry, *ends])
        if changed:
            self._rest = self._urgent = None
            self.version += 1

    # --- looking -----------------------------------------------------------------------------

    def cursors(self, file: int) -> Sequence[Cursor]:
        """The cursors of a file, least recently used first."""
        state = self._files.get(file)
        return tuple(state.cursors) if state else ()

    def places(self) -> list[Place]:
        """All cursors, those of the file read last at the end."""
        unit = self._unit
        return [
            Place(file, min(cursor.frontier, state.length), len(cursor.units) * unit)
            for file, state in self._files.items()
            for cursor in state.cursors
        ]

    def statistics(self) -> ReadHeadsStatistics:
        """Everything at this moment."""
        cursors = [cursor for state in self._files.values() for cursor in state.cursors]
        return ReadHeadsStatistics(
            files=len(self._files),
            cursors=len(cursors),
            parked=len(self._parked),
            jumps=self.jumps,
            window_bytes=sum(len(c.units) for c in cursors) * self._unit,
        )

    def __repr__(self) -> str:
        return f"<ReadHeads {len(self._files)} files, {len(self._parked)} waiting>"


def _run_of(state: FileState, offset: int, size: int) -> range:
    """The part of piece space that a hint means."""
    start = state.start + max(0, offset)
    return range(start, start + size)
