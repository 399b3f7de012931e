"""Where every byte of a torrent lies: all piece, block and file arithmetic, in one place.

A torrent is one linear *piece space* cut into pieces of `piece_length`. A file occupies
`[start, start + length)` of it. In a v1 or hybrid torrent files follow each other without a gap
(padding files, BEP 47, are files like others here). In a v2-only torrent (BEP 52) each file
starts at a piece boundary; the gap behind a file belongs to no file, holds no data, and the
last piece of a file is shorter than `piece_length`.

A *span* is a run of bytes inside one piece: `(piece, begin, length)`.
A *block* is 16 KiB, the unit of a request (BEP 3); the last one of a piece may be shorter.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLOCK_LENGTH = 16384
"""Bytes of a block; the unit in which peers are asked (BEP 3) and merkle leaves are (BEP 52)."""


class Span(NamedTuple):
    """`length` bytes at `begin` inside `piece`."""

    piece: int
    begin: int
    length: int


class FileSpan(NamedTuple):
    """`length` bytes at `offset` inside file number `file`."""

    file: int
    offset: int
    length: int


class Geometry:
    """The sizes and places of a torrent's pieces and files; immutable after construction.

    `lengths` are the files' sizes in bytes, in torrent order. With `aligned` each file starts
    at a piece boundary (v2-only torrents).
    """

    __slots__ = ("aligned", "file_lengths", "file_starts", "length", "num_pieces", "piece_length")

    def __init__(self, piece_length: int, lengths: Sequence[int], *, aligned: bool = False) -> None:
        if piece_length <= 0:
            raise ValueError("a piece has at least one byte")
        self.piece_length = piece_length
        self.aligned = aligned
        self.file_lengths = array("Q", lengths)
        self.file_starts = array("Q", bytes(8 * len(self.file_lengths)))
        place = 0
        for number, length in enumerate(self.file_lengths):
            if aligned and length and place % piece_length:
                place += piece_length - place % piece_length
            self.file_starts[number] = place
            place += length
        self.length = place
        self.num_pieces = -(-place // piece_length)

    def piece_size(self, piece: int) -> int:
        """Bytes of data in `piece`: `piece_length` except at the end (of a file, if aligned)."""
        if not 0 <= piece < self.num_pieces:
            raise IndexError(piece)
        start = piece * self.piece_length
        end = self.length
        if self.aligned:
            number = self._file_at(start)
            end = self.file_starts[number] + self.file_lengths[number]
        return min(self.piece_length, end - start)

    def num_blocks(self, piece: int) -> int:
        """How many blocks `piece` has."""
        return -(-self.piece_size(piece) // BLOCK_LENGTH)

    def block_length(self, piece: int, begin: int) -> int:
        """Bytes of the block of `piece` that starts at `begin`."""
        return min(BLOCK_LENGTH, self.piece_size(piece) - begin)

    def spans(self, start: int, length: int) -> Iterator[Span]:
        """Cut `length` bytes at `start` of the piece space into spans, in order."""
        end = start + length
        while start < end:
            piece, begin = divmod(start, self.piece_length)
            step = min(self.piece_length - begin, end - start)
            yield Span(piece, begin, step)
            start += step

    def file_spans(self, file: int, offset: int, size: int) -> Iterator[Span]:
        """Cut `size` bytes at `offset` of `file` into spans; clamped to the end of the file."""
        size = min(size, self.file_lengths[file] - offset)
        return self.spans(self.file_starts[file] + offset, max(0, size))

    def pieces_of_file(self, file: int) -> range:
        """The pieces that hold a byte of `file`."""
        length = self.file_lengths[file]
        start = self.file_starts[file]
        if not length:
            return range(0)
        return range(start // self.piece_length, (start + length - 1) // self.piece_length + 1)

    def files_in(self, start: int, length: int) -> Iterator[FileSpan]:
        """The file spans that make up `length` bytes at `start` of the piece space, in order.

        Empty files are left out; so are the gaps of an aligned torrent.
        """
        end = start + length
        number = self._file_at(start)
        while number < len(self.file_starts) and self.file_starts[number] < end:
            low = max(start, self.file_starts[number])
            high = min(end, self.file_starts[number] + self.file_lengths[number])
            if low < high:
                yield FileSpan(number, low - self.file_starts[number], high - low)
            number += 1

    def _file_at(self, place: int) -> int:
        """The last file that starts at or before `place` and is not empty there, if any is."""
        number = bisect_right(self.file_starts, place) - 1
        # empty files share the start of the file behind them: bisect_right already gave the last
        return max(0, number)

    def __repr__(self) -> str:
        return (
            f"<Geometry {self.length} bytes, {self.num_pieces} pieces of {self.piece_length}, "
            f"{len(self.file_starts)} files>"
        )
