"""Where each byte of a torrent lies in its tree of files.

The tree has the torrent's own layout, so that a complete torrent is simply its files: a
single-file torrent is `<name>`, another is `<name>/<path>`, below the `data` directory of the
torrent. Names are those of `metainfo`: safe, unique and stable. What holds no data of its own
takes no space and no file: padding files (BEP 47: always zeros), empty files, the gaps of a
v2-only torrent (`Geometry.files_in` leaves them out).

A path that is too long for one system call (`PATH_MAX` is 4096 bytes) lies in `.long/<number>`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torrentfs.metainfo.geometry import FileSpan
    from torrentfs.metainfo.torrent_file import Metainfo

_LONGEST_PATH = 3000
LONG_NAMES = ".long"


class Run(NamedTuple):
    """Buffers that follow each other in one file, from `offset` on."""

    file: int
    offset: int
    buffers: list[memoryview]


class Layout:
    """Pieces to file ranges and paths, for one torrent; immutable."""

    __slots__ = ("files", "geometry", "name", "single")

    def __init__(self, metainfo: Metainfo) -> None:
        self.geometry = metainfo.geometry
        self.files = metainfo.files
        self.name = metainfo.name
        self.single = metainfo.is_single_file

    def path(self, file: int) -> str:
        """The file's path below the `data` directory."""
        parts = (self.name,) if self.single else (self.name, *self.files[file].path)
        path = "/".join(parts)
        if len(os.fsencode(path)) > _LONGEST_PATH:
            return f"{LONG_NAMES}/{file}"
        return path

    def spans(self, piece: int, begin: int, length: int) -> Iterator[FileSpan]:
        """The file ranges of a run of bytes inside a piece, in order, padding included."""
        return self.geometry.files_in(piece * self.geometry.piece_length + begin, length)

    def is_pad(self, file: int) -> bool:
        """True when the file is padding: zeros that are never stored."""
        return self.files[file].pad

    def pads_are_zero(self, piece: int, data: bytes | bytearray) -> bool:
        """True when a piece can be rebuilt from the files: its padding is zeros."""
        place = 0
        for span in self.spans(piece, 0, len(data)):
            end = place + span.length
            if self.is_pad(span.file) and data.count(0, place, end) != span.length:
                return False
            place = end
        return True

    def runs(self, pieces: Sequence[tuple[int, bytes | bytearray]]) -> list[Run]:
        """Cut whole pieces, in ascending order, into as few runs as their places allow."""
        runs: list[Run] = []
        last, end = -1, -1
        for piece, data in pieces:
            view = memoryview(data)
            place = 0
            for span in self.spans(piece, 0, len(data)):
                part = view[place : place + span.length]
                place += span.length
                if self.is_pad(span.file):
                    continue
                if span.file == last and span.offset == end:
                    runs[-1].buffers.append(part)
                else:
                    runs.append(Run(span.file, span.offset, [part]))
                last, end = span.file, span.offset + span.length
        return runs

    def pieces_in(self, file: int, start: int, end: int) -> range:
        """The pieces that hold a byte of `[start, end)` of a file."""
        first = self.geometry.file_starts[file]
        length = self.geometry.piece_length
        return range((first + start) // length, (first + end - 1) // length + 1)
