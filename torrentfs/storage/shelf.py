"""One torrent's place on disk: its tree, which pieces are in it, and how far they are trusted.

* `on_disk`: the bytes were written (and verified before that).
* `unsure`, a part of it: not proved since an unclean stop, or in a file that somebody changed. An
  unsure piece is hashed before its first use (see `store`).
* `kept`: pieces that the user pinned. They are not evicted at all.
* `pins`: pieces that a thread is reading. They are not evicted meanwhile, or the reader could get
  the zeros of a fresh hole.

State belongs to the trio thread. `load_*`, `write`, `release` and `save` run in threads, the last
three never two at a time (the writer calls them, see `tiered`).
"""

from __future__ import annotations

import shutil
from array import array
from typing import TYPE_CHECKING

from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.storage.base import MIB
from torrentfs.storage.catalog import CHUNK, Catalog, TreeRow
from torrentfs.storage.disk import DiskTree
from torrentfs.storage.locks import FileLock, domain_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.descriptors import Descriptors

_EXTENT = MIB


class Shelf:
    """The disk side of one torrent, locked for this process."""

    def __init__(
        self, domain: str, metainfo: Metainfo, tree: DiskTree, row: TreeRow | None, lock: FileLock
    ) -> None:
        self.domain = domain
        self.number = tree.number
        self.metainfo = metainfo
        self.tree = tree
        size = metainfo.geometry.num_pieces
        self.pieces_per_extent = max(1, _EXTENT // metainfo.geometry.piece_length)
        extents = -(-size // self.pieces_per_extent)
        self.on_disk = Bitfield(size)
        self.unsure = Bitfield(size)
        self.uses = array("Q", bytes(8 * extents))
        self.listed = Bitfield(extents)
        self.pins: dict[int, int] = {}
        self.kept = Bitfield(size)
        self.to_release: set[int] = set()
        self.marked_unclean = row is not None and not row.clean
        self._lock = lock
        self._changed: set[int] = set()
        if row is not None:
            self._take_row(row)

    def _take_row(self, row: TreeRow) -> None:
        self.on_disk = _bits(row.bits, self.on_disk.size)
        if row.clean:
            self.unsure = _bits(row.unsure, self.on_disk.size)
        else:
            self.unsure = self.on_disk.copy()
        if len(row.uses) == len(self.uses) * self.uses.itemsize:
            self.uses = array("Q", row.uses)

    # --- which pieces ---

    def add(self, pieces: Iterable[int]) -> None:
        """Their bytes were written."""
        for piece in pieces:
            self.on_disk.add(piece)
            self.unsure.discard(piece)
            self._changed.add(piece // (8 * CHUNK))

    def discard(self, piece: int) -> bool:
        """It is not here any more; its space is to be released by the caller."""
        self.unsure.discard(piece)
        if not self.on_disk.discard(piece):
            return False
        self._changed.add(piece // (8 * CHUNK))
        return True

    def note_suspects(self) -> None:
        """Distrust the pieces of files that somebody changed."""
        for file in self.tree.take_suspects():
            for piece in self.metainfo.geometry.pieces_of_file(file):
                if piece in self.on_disk:
                    self.unsure.add(piece)

    def touch(self, piece: int, use: int) -> int:
        """Note a use; returns the extent."""
        extent = piece // self.pieces_per_extent
        self.uses[extent] = use
        return extent

    def held_in_extent(self, extent: int) -> list[int]:
        """The pieces of an extent that are on disk."""
        first = extent * self.pieces_per_extent
        return [p for p in range(first, first + self.pieces_per_extent) if p in self.on_disk]

    def extents(self) -> list[int]:
        """All extents with a piece on disk, ascending."""
        return list(dict.fromkeys(piece // self.pieces_per_extent for piece in self.on_disk))

    def whole_files(self, pieces: Iterable[int]) -> list[int]:
        """All held pieces of the files that the pieces touch, for trees that cannot punch."""
        geometry = self.metainfo.geometry
        files = {
            span.file
            for piece in pieces
            for span in self.tree.layout.spans(piece, 0, geometry.piece_size(piece))
        }
        held = {p for file in files for p in geometry.pieces_of_file(file) if p in self.on_disk}
        return sorted(piece for piece in held - self.pins.keys() if piece not in self.kept)

    def keep(self, pieces: Iterable[range]) -> None:
        """These are pinned, and no others."""
        self.kept = Bitfield(self.on_disk.size)
        for run in pieces:
            for piece in run[: max(0, self.on_disk.size - run.start)]:
                self.kept.add(piece)

    def pin(self, piece: int) -> None:
        """A read begins: the piece stays."""
        self.pins[piece] = self.pins.get(piece, 0) + 1

    def unpin(self, piece: int) -> None:
        """A read ends."""
        left = self.pins[piece] - 1
        if left:
            self.pins[piece] = left
        else:
            del self.pins[piece]

    # --- for threads ---

    def write(self, pieces: Sequence[tuple[int, bytes | bytearray]]) -> list[int]:
        """Write pieces; returns those written: one whose padding is not zeros cannot be kept."""
        keepable = [p for p in pieces if self.tree.layout.pads_are_zero(*p)]
        self.tree.write(keepable)
        return [piece for piece, _ in keepable]

    def release(self, pieces: Sequence[int]) -> None:
        """Free the space of those pieces (ascending) that are not held."""
        bits = bytes(self.on_disk)  # may only lose pieces meanwhile, which is on the safe side
        gone = [piece for piece in pieces if not bits[piece >> 3] & (0x80 >> (piece & 7))]
        self.tree.release(gone, lambda pieces: _any_in(bits, pieces))

    def take_changes(self) -> list[tuple[int, bytes]]:
        """The parts of the bitmap that changed since the last call, as the catalog has them."""
        if not self._changed:
            return []
        bits = bytes(self.on_disk)
        changes = [(c, bits[c * CHUNK : (c + 1) * CHUNK]) for c in sorted(self._changed)]
        self._changed = set()
        return changes

    def put_back(self, changes: list[tuple[int, bytes]]) -> None:
        """What `take_changes` gave could not be recorded: it is still due."""
        self._changed.update(chunk for chunk, _ in changes)

    def oldest_use(self) -> int:
        """The last use of what was used least recently."""
        return min((self.uses[extent] for extent in self.extents()), default=0)

    def record(self, catalog: Catalog, changes: list[tuple[int, bytes]]) -> None:
        """Write bits into the catalog."""
        catalog.record(self.domain, changes, self.tree.used)

    def save(self, catalog: Catalog, changes: list[tuple[int, bytes]]) -> None:
        """Write bits and uses into the catalog."""
        self.record(catalog, changes)
        catalog.record_uses(self.domain, self.uses.tobytes(), self.oldest_use())

    def seal(self, catalog: Catalog) -> None:
        """Sync the files, then call the tree clean, unless a sync failed before. `TROUBLE`."""
        if not self.marked_unclean:
            return
        self.tree.sync()
        if self.tree.sync_failed:
            return
        unsure = bytes(self.unsure) if self.unsure else b""
        catalog.mark_clean(self.domain, self.tree.dump_known(), unsure)
        self.marked_unclean = False

    def close(self) -> None:
        """Close files and drop the lock."""
        self.tree.close()
        self._lock.close()

    def __repr__(self) -> str:
        return f"<Shelf {self.domain} {self.on_disk!r}, {self.unsure.count} unsure>"


def load_shelf(
    torrents: Path,
    metainfo: Metainfo,
    catalog: Catalog,
    descriptors: Descriptors,
    number: int,
    domain: str | None = None,
) -> Shelf | None:
    """Lock and load a torrent's tree: its first free domain, or just `domain`. In a thread.

    None when all are in use by other processes. `TROUBLE`.
    """
    for name in [domain] if domain else domain_names(metainfo.hashes.key):
        folder = torrents / name
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock.take(folder / "lock")
        if lock is None:
            continue
        try:
            return _load(folder, name, metainfo, catalog, descriptors, number, lock)
        except BaseException:
            lock.close()
            raise
    return None


def _load(
    folder: Path,
    name: str,
    metainfo: Metainfo,
    catalog: Catalog,
    descriptors: Descriptors,
    number: int,
    lock: FileLock,
) -> Shelf:
    data = folder / "data"
    row = catalog.claim(name)
    if row is None and data.exists():
        # what is not in the catalog is nobody's, and was not counted
        shutil.rmtree(data)
    data.mkdir(exist_ok=True)
    tree = DiskTree(data, metainfo, descriptors, number)
    if row is not None and row.clean:
        tree.used = row.used
        tree.load_known(row.known)
    elif row is not None:
        tree.measure()
        tree.sync_everything = True
    shelf = Shelf(name, metainfo, tree, row, lock)
    shelf.keep(catalog.pins(metainfo.hashes.key))
    return shelf


def _bits(data: bytes, size: int) -> Bitfield:
    length = (size + 7) // 8
    try:
        return Bitfield.from_bytes(data[:length].ljust(length, b"\0"), size)
    except ValueError:
        return Bitfield(size)


def _any_in(bits: bytes, pieces: range) -> bool:
    """True when a bit of the range is set; by whole bytes, for ranges of millions."""
    first, last = pieces.start, pieces.stop
    low, high = (first + 7) // 8, last // 8
    if low < high and bits.count(0, low, high) != high - low:
        return True
    edges = (*range(first, low * 8), *range(high * 8, last)) if low < high else pieces
    return any(bits[piece >> 3] & (0x80 >> (piece & 7)) for piece in edges)
