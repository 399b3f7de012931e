"""What is fetched although nobody reads it: prefetched and pinned pieces, in small helpings.

An *errand* is a set of pieces to be had. Of all errands of a torrent together only a helping of
`window` bytes is wanted at a time, so that 200 GB cost no more memory than a film that is played;
when half of it has come the next one is published. Its wants are the last of the agenda: below
every read, window and hint.

Each piece of an errand is fetched once. One that is lost afterwards is not fetched again by the
same errand: a cache without room would turn that into a circle. `missing` says what is not here at
the end, and who began the errand may begin it again, later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.metainfo.intervals import covers, joined, total
from torrentfs.scheduling.agenda import Agenda, Level, Want

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from torrentfs.metainfo.bitfield import Bitfield
    from torrentfs.metainfo.geometry import Geometry

WINDOW = 16 << 20
"""Bytes wanted at a time."""


class _Errand:
    __slots__ = ("came", "left", "number", "rank")

    def __init__(self, left: tuple[range, ...], rank: int, number: int) -> None:
        self.left = left
        """Its pieces from the first one on that has not come."""
        self.rank = rank
        self.number = number
        self.came: set[int] = set()
        """Pieces of `left` that came out of order."""

    def missing(self, stored: Bitfield) -> Iterator[int]:
        """The pieces that are yet to come; those in front that have come are forgotten."""
        at_front = True
        for place, run in enumerate(self.left):
            for piece in run:
                if piece in self.came or piece in stored:
                    if at_front:
                        self.came.discard(piece)
                    continue
                if at_front:
                    at_front = False
                    self.left = (range(piece, run.stop), *self.left[place + 1 :])
                yield piece
        if at_front:
            self.left = ()


class Background:
    """The errands of one torrent; `version` changes when `below` may."""

    def __init__(self, geometry: Geometry, window: int = WINDOW) -> None:
        self._geometry = geometry
        self._window = window
        self.version = 0
        self._errands: dict[Hashable, _Errand] = {}
        self._numbers = 0
        self._wants: tuple[Want, ...] = ()
        self._awaited: set[int] = set()
        self._stale = False
        self._above: Sequence[Want] = ()
        self._joined: tuple[Want, ...] = ()

    def begin(self, name: Hashable, pieces: Sequence[range], rank: int = 0) -> None:
        """Have these pieces; those of a lower rank first. One of the same name is replaced."""
        self._numbers += 1
        self._errands[name] = _Errand(joined(pieces), rank, self._numbers)
        self._change()

    def end(self, name: Hashable) -> None:
        """Do not want it any more."""
        if self._errands.pop(name, None) is not None:
            self._change()

    def is_over(self, name: Hashable) -> bool:
        """Whether every piece of an errand was here once, or there is no such errand."""
        errand = self._errands.get(name)
        return errand is None or not errand.left

    def _change(self) -> None:
        self._stale = True
        self.version += 1

    def on_stored(self, piece: int) -> bool:
        """It came; True: the next helping is due, and `version` has changed."""
        if piece not in self._awaited:
            return False
        self._awaited.discard(piece)
        for errand in self._errands.values():
            if covers(errand.left, range(piece, piece + 1)):
                errand.came.add(piece)
        if 2 * len(self._awaited) > len(self._wants):
            return False
        self._change()
        return True

    def below(self, agenda: Agenda, stored: Bitfield) -> Agenda:
        """The agenda with our wants behind the others; unchanged parts stay the same objects."""
        if self._stale:
            self._stale = False
            self._publish(stored)
        if not self._wants:
            return agenda
        if agenda.rest is not self._above or not self._joined:
            self._above = agenda.rest
            self._joined = (*agenda.rest, *self._wants)
        return Agenda(agenda.urgent, self._joined)

    def _publish(self, stored: Bitfield) -> None:
        chosen: dict[int, None] = {}
        room = self._window
        for errand in sorted(self._errands.values(), key=lambda each: (each.rank, each.number)):
            for piece in errand.missing(stored):
                if room <= 0:
                    break
                if piece not in chosen:
                    chosen[piece] = None
                    room -= self._geometry.piece_size(piece)
            if room <= 0:
                break
        self._wants = tuple(Want(piece, Level.BACKGROUND, float("inf")) for piece in chosen)
        self._awaited = set(chosen)
        self._joined = ()

    def __repr__(self) -> str:
        return f"<Background {len(self._errands)} errands, {len(self._awaited)} pieces awaited>"


def missing(pieces: Sequence[range], stored: Bitfield) -> int:
    """How many of these pieces are not stored."""
    return total(pieces) - sum(map(stored.count_in, pieces))
