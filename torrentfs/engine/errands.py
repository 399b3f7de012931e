"""What is to be fetched of a torrent although nobody reads it: its pins, and prefetches.

A *pin* is kept until it is withdrawn: its pieces are fetched, never evicted, and fetched again if
they are lost. A *prefetch* ends when all of it was here once, or when it is cancelled. Both are
bytes of files, as the user named them; what is fetched and kept are the pieces under them. They
stay with the `Dormant` through naps; the torrent has them (`Background`) while the `Porter` says.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

import trio

from torrentfs.errors import ConfigError
from torrentfs.metainfo.intervals import groups, joined, total, without
from torrentfs.scheduling.background import missing
from torrentfs.storage.record_file import Pin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torrentfs.engine.torrent import Torrent
    from torrentfs.metainfo.bitfield import Bitfield
    from torrentfs.metainfo.geometry import Geometry

__all__ = ["Errands", "Pin", "Prefetch", "bytes_of", "pins_of", "range_of"]

MOST_PREFETCHES = 1000
"""Of one torrent at a time."""

RUN = 100
"""Files of a range that are written down one by one at most."""

PINS = "pins"
"""The name of the errand of all pins together."""

_RANK_PREFETCH = 1
_RANK_PINS = 2


def range_of(geometry: Geometry, pin: Pin) -> range:
    """The bytes of piece space that a pin means; `ConfigError` for a file that is not there."""
    file, offset, length = pin
    start, end = 0, geometry.length
    if file is not None:
        if not 0 <= file < len(geometry.file_starts):
            raise ConfigError(f"the torrent has no file number {file}")
        start = geometry.file_starts[file]
        end = start + geometry.file_lengths[file]
    if offset < 0 or (length is not None and length < 0):
        raise ConfigError("offset and length must not be negative")
    first = min(start + offset, end)
    return range(first, end if length is None else min(first + length, end))


def pins_of(geometry: Geometry, kept: Sequence[range]) -> tuple[Pin, ...]:
    """Ranges of piece space as pins, file by file; all of it is one pin.

    So is each range of more than `RUN` files, as bytes of the whole torrent: all but one file of
    a hundred thousand are two pins.
    """
    if tuple(kept) == (range(geometry.length),) and geometry.length:
        return (Pin(),)
    return tuple(pin for part in kept for pin in _pins_of_range(geometry, part))


def _pins_of_range(geometry: Geometry, part: range) -> Iterator[Pin]:
    starts = geometry.file_starts
    if bisect_left(starts, part.stop) - bisect_right(starts, part.start) >= RUN:
        yield Pin(None, part.start, len(part))
        return
    for span in geometry.files_in(part.start, len(part)):
        is_rest = span.offset + span.length == geometry.file_lengths[span.file]
        yield Pin(span.file, span.offset, None if is_rest else span.length)


def bytes_of(geometry: Geometry, pieces: Iterable[range]) -> int:
    """Bytes of data of these pieces."""
    size = geometry.piece_length
    spans = [range(r.start * size, min(r.stop * size, geometry.length)) for r in pieces]
    if not geometry.aligned:
        return total(spans)
    return sum(part.length for r in spans for part in geometry.files_in(r.start, len(r)))


class Prefetch:
    """Bytes that somebody will read soon. Made by `Dormant.prefetch_all`."""

    def __init__(
        self,
        errands: Errands,
        pins: tuple[Pin, ...],
        pieces: tuple[range, ...],
        number: int,
        path: str,
    ) -> None:
        self.pins = pins
        """The bytes, in the way of pins."""
        self.path = path
        """What they were called when they were asked for."""
        self.pieces = pieces
        self.number = number
        self.total = total(pieces)
        """Pieces under it."""
        self.done = trio.Event()
        """All of it was here, or it was cancelled."""
        self.cancelled = False
        self._errands = errands

    @property
    def missing(self) -> int:
        """Pieces of it that are not here, as far as is known."""
        return self._errands.missing(self.pieces)

    @property
    def trouble(self) -> str:
        """Why it does not go on, in words; else empty."""
        return "" if self.done.is_set() else self._errands.trouble

    def cancel(self) -> None:
        """Do not fetch the rest of it."""
        self.cancelled = not self.done.is_set()
        self._errands.end(self)

    def __repr__(self) -> str:
        return f"<Prefetch {self.number} of {self.total} pieces, {self.missing} missing>"


class Errands:
    """The pins and prefetches of one torrent."""

    def __init__(self, geometry: Geometry, pins: Iterable[Pin] = ()) -> None:
        self._geometry = geometry
        self.kept = joined(range_of(geometry, pin) for pin in pins)
        """Pinned bytes of piece space."""
        self._kept_pieces: tuple[range, ...] | None = None
        self._kept_size: int | None = None
        self.prefetches: dict[int, Prefetch] = {}
        self.trouble = ""
        """Why nothing of it is fetched now although some is missing, in words."""
        self._numbers = 0
        self._torrent: Torrent | None = None
        self._known: Bitfield | None = None
        """What the torrent had when it fell asleep."""

    # -- what is wanted -------------------------------------------------------------------------

    @property
    def pins(self) -> tuple[Pin, ...]:
        """The pins in order, joined where they touch."""
        return pins_of(self._geometry, self.kept)

    @property
    def kept_pieces(self) -> tuple[range, ...]:
        """The pieces under the pins."""
        if self._kept_pieces is None:
            self._kept_pieces = groups(self.kept, self._geometry.piece_length)
        return self._kept_pieces

    @property
    def kept_size(self) -> int:
        """Bytes of the pieces under the pins."""
        if self._kept_size is None:
            self._kept_size = bytes_of(self._geometry, self.kept_pieces)
        return self._kept_size

    @property
    def pieces(self) -> tuple[range, ...]:
        """The pieces under everything."""
        prefetched = [part for each in self.prefetches.values() for part in each.pieces]
        return joined([*self.kept_pieces, *prefetched])

    def with_pins(self, pins: Iterable[Pin]) -> tuple[range, ...]:
        """What would be kept with these pins as well."""
        return joined([*self.kept, *(range_of(self._geometry, pin) for pin in pins)])

    def keep(self, kept: tuple[range, ...]) -> None:
        """Pin these bytes of piece space, and no others."""
        self.kept = kept
        self._kept_pieces = self._kept_size = None
        if self._torrent is not None:
            self._begin_pins(self._torrent)
            self._torrent.schedule(trio.current_time())

    def without_pins(self, pins: Iterable[Pin]) -> tuple[range, ...]:
        """What would be kept without these bytes."""
        return without(self.kept, [range_of(self._geometry, pin) for pin in pins])

    def __bool__(self) -> bool:
        return bool(self.kept or self.prefetches)

    def pieces_of(self, pins: Iterable[Pin]) -> tuple[range, ...]:
        """The pieces under these bytes."""
        spans = [range_of(self._geometry, pin) for pin in pins]
        return groups(spans, self._geometry.piece_length)

    @property
    def size(self) -> int:
        """Bytes of the pieces under everything."""
        return bytes_of(self._geometry, self.pieces) if self.prefetches else self.kept_size

    def size_with(self, pieces: Sequence[range]) -> int:
        """The same, with these as well."""
        return bytes_of(self._geometry, joined([*self.pieces, *pieces]))

    def prefetch(self, pins: Sequence[Pin], path: str = "") -> Prefetch:
        """Begin one."""
        if len(self.prefetches) >= MOST_PREFETCHES:
            raise ConfigError(f"{MOST_PREFETCHES} prefetches of this torrent are under way")
        pieces = self.pieces_of(pins)
        self._numbers += 1
        found = Prefetch(self, tuple(pins), pieces, self._numbers, path)
        self.prefetches[found.number] = found
        if self._torrent is not None:
            self._torrent.background.begin(found.number, pieces, _RANK_PREFETCH)
            self._torrent.schedule(trio.current_time())
        return found

    def end(self, prefetch: Prefetch) -> None:
        """It is over, or not wanted any more."""
        if self.prefetches.pop(prefetch.number, None) is None:
            return
        prefetch.done.set()
        if self._torrent is not None:
            self._torrent.background.end(prefetch.number)
            self._torrent.schedule(trio.current_time())

    # -- how far it is --------------------------------------------------------------------------

    def missing(self, pieces: Sequence[range]) -> int:
        """How many of these pieces are not here, as far as is known."""
        have = self.have
        return missing(pieces, have) if have is not None else total(pieces)

    @property
    def have(self) -> Bitfield | None:
        """The pieces that are here, as far as is known; not a copy."""
        return self._torrent.store.have if self._torrent is not None else self._known

    def settle(self) -> None:
        """End the prefetches that have come."""
        torrent = self._torrent
        if torrent is not None:
            for each in list(self.prefetches.values()):
                if torrent.background.is_over(each.number):
                    self.end(each)

    @property
    def is_over(self) -> bool:
        """Whether the torrent has tried all of it, since it was given."""
        if self._torrent is None:
            return not self.kept and not self.prefetches
        background = self._torrent.background
        return background.is_over(PINS) and all(map(background.is_over, self.prefetches))

    # -- while the torrent is open ---------------------------------------------------------------

    def give(self, torrent: Torrent) -> None:
        """Let the torrent fetch what is missing, from now on."""
        self.trouble = ""
        self._torrent = torrent
        self._begin_pins(torrent)
        for each in self.prefetches.values():
            torrent.background.begin(each.number, each.pieces, _RANK_PREFETCH)
        torrent.schedule(trio.current_time())

    def _begin_pins(self, torrent: Torrent) -> None:
        torrent.background.begin(PINS, self.kept_pieces, _RANK_PINS)

    def take_back(self, trouble: str = "") -> None:
        """Stop; why, in words. What is missing stays so until the next `give`."""
        self.trouble = trouble
        torrent, self._torrent = self._torrent, None
        if torrent is None:
            return
        self._known = torrent.store.have.copy()
        torrent.background.end(PINS)
        for number in self.prefetches:
            torrent.background.end(number)
        torrent.schedule(trio.current_time())

    def on_asleep(self, torrent: Torrent) -> None:
        """The torrent is about to be closed."""
        if self._torrent is not None:
            self.take_back("the torrent is asleep")
        self._known = torrent.store.have.copy()

    def __repr__(self) -> str:
        return f"<Errands: {len(self.kept)} pins, {len(self.prefetches)} prefetches>"
