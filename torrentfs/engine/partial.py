"""The bytes of a piece that is not whole yet, and which of its blocks are proved.

A piece wanted whole has one buffer of its size, filled in place. One wanted for some of its blocks
(BEP 52, see `leaves`) may stay partial for long, and be 16 MiB: it keeps the blocks that came and
no more, and is put together when it is whole after all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.metainfo.geometry import BLOCK_LENGTH

if TYPE_CHECKING:
    from torrentfs.scheduling.source import SourceId
    from torrentfs.wire.messages import Buffer


class PartialPiece:
    """`size` bytes, of which some have come. `partly`: it keeps single blocks."""

    __slots__ = ("_blocks", "_data", "giver", "proved", "size")

    def __init__(self, size: int, *, partly: bool) -> None:
        self.size = size
        self.proved = 0
        """Mask of the blocks that were proved."""
        self.giver: SourceId | None = None
        """Who gave the last block."""
        self._data = None if partly else bytearray(size)
        self._blocks: dict[int, bytes] = {}

    def write(self, begin: int, data: Buffer) -> None:
        """Keep a block (a copy)."""
        if self._data is None:
            self._blocks[begin // BLOCK_LENGTH] = bytes(data)
        else:
            self._data[begin : begin + len(data)] = data

    def is_proved(self, begin: int, length: int) -> bool:
        """Whether these bytes are all here and proved."""
        first, stop = begin // BLOCK_LENGTH, -(-(begin + length) // BLOCK_LENGTH)
        wanted = (1 << stop) - (1 << first)
        return self.proved & wanted == wanted

    def read(self, begin: int, length: int) -> bytes | memoryview:
        """Bytes of blocks that have come."""
        if self._data is not None:
            return memoryview(self._data).toreadonly()[begin : begin + length]
        first, last = begin // BLOCK_LENGTH, (begin + length - 1) // BLOCK_LENGTH
        place = begin - first * BLOCK_LENGTH
        if first == last:
            return memoryview(self._blocks[first])[place : place + length]
        run = b"".join([self._blocks[block] for block in range(first, last + 1)])
        return memoryview(run)[place : place + length]

    def pad(self, begin: int) -> None:
        """All from `begin` on is padding (BEP 47): zeros, whatever came."""
        rest = self.size - begin
        if self._data is not None:
            self._data[begin:] = bytes(rest)
            return
        first, kept = divmod(begin, BLOCK_LENGTH)
        for block in range(first, -(-self.size // BLOCK_LENGTH)):
            length = min(BLOCK_LENGTH, self.size - block * BLOCK_LENGTH)
            self._blocks[block] = self._blocks.get(block, b"")[:kept].ljust(length, b"\0")
            kept = 0

    def whole(self) -> bytearray:
        """All of it; every block has come."""
        if self._data is not None:
            return self._data
        return bytearray().join([self._blocks[block] for block in range(len(self._blocks))])

    def __repr__(self) -> str:
        return f"<PartialPiece of {self.size} bytes, {self.proved.bit_count()} blocks proved>"
