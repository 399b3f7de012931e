"""How far pins are: what is listed of them, and counted.

A torrent may have a hundred thousand pinned files. So pieces are counted by whole ranges of the
bitfield, a list is cut after `limit` pins, and where there are many ranges the work is a thread's:
ours answers the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from torrentfs.daemon.control.describe import clean
from torrentfs.daemon.control.models import PinList, PinnedRange
from torrentfs.engine.errands import Pin, pins_of, range_of
from torrentfs.metainfo.intervals import groups, joined, total, without
from torrentfs.scheduling.background import missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torrentfs.daemon.control.contract import Item
    from torrentfs.metainfo.bitfield import Bitfield
    from torrentfs.metainfo.torrent_file import Metainfo

MANY = 200
"""Ranges from which on a thread counts."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is pinned of a torrent at one moment."""

    key: str
    name: str
    metainfo: Metainfo
    kept: tuple[range, ...]
    """Bytes of piece space."""
    have: Bitfield | None
    """A copy, for a thread; None where it is not known yet."""
    trouble: str

    def count(self, spans: Sequence[range]) -> tuple[int, int]:
        """Pieces under these bytes of piece space, and how many of them are missing."""
        pieces = groups(spans, self.metainfo.geometry.piece_length)
        number = total(pieces)
        return number, number if self.have is None else missing(pieces, self.have)

    def has_all(self, pins: Sequence[Pin]) -> bool:
        """Whether all of these bytes are pinned."""
        geometry = self.metainfo.geometry
        return not without([range_of(geometry, pin) for pin in pins], self.kept)

    def describe(self, pin: Pin) -> PinnedRange:
        """One pin."""
        pieces, absent = self.count([range_of(self.metainfo.geometry, pin)])
        return PinnedRange(
            key=self.key,
            path=path_of(self.name, self.metainfo, pin.file),
            offset=pin.offset,
            length=pin.length,
            pieces=pieces,
            missing=absent,
            trouble=self.trouble,
        )


def kept_of(items: Iterable[Item]) -> list[Kept]:
    """What is pinned of these torrents."""
    found = []
    for item in items:
        volume = item.volume
        if volume is None or not volume.errands.kept:
            continue
        errands = volume.errands
        have = errands.have.copy() if errands.have is not None else None
        trouble = clean(errands.trouble)
        found.append(Kept(item.key, item.name, volume.metainfo, errands.kept, have, trouble))
    return found


def pins_of_files(metainfo: Metainfo, files: Sequence[int] | None) -> list[Pin]:
    """These files of a torrent, None: all; those that lie side by side are one pin."""
    if files is None:
        return [Pin()]
    found = []
    starts, lengths = metainfo.geometry.file_starts, metainfo.geometry.file_lengths
    for run in joined(range(n, n + 1) for n in files):
        start, last = starts[run.start], run.stop - 1
        alone = len(run) == 1
        found.append(
            Pin(run.start) if alone else Pin(None, start, starts[last] + lengths[last] - start)
        )
    return found


async def pin_list(
    found: Sequence[Kept], limit: int, named: Sequence[Pin] = (), whole: Sequence[Pin] = ()
) -> PinList:
    """Up to `limit` of these pins, and how far `named` is, or else all of them.

    `whole` is all that is shown of the torrent, if it is one.
    """
    if len(named) + len(whole) + sum(len(each.kept) for each in found) < MANY:
        await trio.lowlevel.checkpoint()
        return _pin_list(found, limit, named, whole)
    return await trio.to_thread.run_sync(
        _pin_list, found, limit, named, whole, abandon_on_cancel=True
    )


def _pin_list(
    found: Sequence[Kept], limit: int, named: Sequence[Pin], whole: Sequence[Pin]
) -> PinList:
    pins: list[PinnedRange] = []
    number = pieces = absent = 0
    for each in found:
        geometry = each.metainfo.geometry
        of_torrent = pins_of(geometry, each.kept)
        number += len(of_torrent)
        pins += map(each.describe, of_torrent[: limit - len(pins)])
        spans = joined(range_of(geometry, pin) for pin in named) if named else each.kept
        counted = each.count(spans)
        pieces, absent = pieces + counted[0], absent + counted[1]
    trouble = next((each.trouble for each in found if each.trouble), "")
    return PinList(
        pins=pins,
        total=number,
        pieces=pieces,
        missing=absent,
        trouble=trouble,
        whole=bool(found and whole) and found[0].has_all(whole),
    )


def path_of(name: str, metainfo: Metainfo | None, file: int | None) -> str:
    """A file as a person knows it, below its torrent."""
    names = [name]
    if file is not None and metainfo is not None:
        names += metainfo.files[file].path
    return clean("/".join(names))
