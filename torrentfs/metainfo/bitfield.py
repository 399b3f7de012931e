"""A set of piece indexes, one bit each, in the bit order of BEP 3 (first piece: highest bit)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FULL_BYTE = 0xFF
_BITS_OF = [[bit for bit in range(8) if byte & (0x80 >> bit)] for byte in range(256)]


class Bitfield:
    """Mutable set of the piece indexes `0 <= i < size`, in `size / 8` bytes of memory.

    `count` is kept, so `complete` and `len()` are O(1).
    """

    __slots__ = ("_bits", "count", "size")

    def __init__(self, size: int, pieces: Iterable[int] = ()) -> None:
        self.size = size
        self.count = 0
        self._bits = bytearray((size + 7) // 8)
        for piece in pieces:
            self.add(piece)

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, size: int) -> Bitfield:
        """Take the wire form; raise `ValueError` on a wrong length or a set spare bit (BEP 3)."""
        if len(data) != (size + 7) // 8:
            raise ValueError(f"a bitfield of {size} pieces is {(size + 7) // 8} bytes")
        field = cls(size)
        field._bits[:] = data
        spare = -size % 8
        if spare and field._bits[-1] & ((1 << spare) - 1):
            raise ValueError("a spare bit of the bitfield is set")
        field.count = int.from_bytes(field._bits).bit_count()
        return field

    @classmethod
    def full(cls, size: int) -> Bitfield:
        """All pieces."""
        field = cls(size)
        field.fill()
        return field

    def fill(self) -> None:
        """Add every piece."""
        self._bits[:] = bytes([_FULL_BYTE]) * len(self._bits)
        spare = -self.size % 8
        if spare:
            self._bits[-1] = (_FULL_BYTE << spare) & _FULL_BYTE
        self.count = self.size

    def clear(self) -> None:
        """Remove every piece."""
        self._bits[:] = bytes(len(self._bits))
        self.count = 0

    def __contains__(self, piece: int) -> bool:
        return 0 <= piece < self.size and bool(self._bits[piece >> 3] & (0x80 >> (piece & 7)))

    def add(self, piece: int) -> bool:
        """Add one; True when it was not there. `IndexError` outside the torrent."""
        if not 0 <= piece < self.size:
            raise IndexError(piece)
        mask = 0x80 >> (piece & 7)
        if self._bits[piece >> 3] & mask:
            return False
        self._bits[piece >> 3] |= mask
        self.count += 1
        return True

    def discard(self, piece: int) -> bool:
        """Remove one; True when it was there."""
        if piece not in self:
            return False
        self._bits[piece >> 3] &= ~(0x80 >> (piece & 7)) & _FULL_BYTE
        self.count -= 1
        return True

    def __iter__(self) -> Iterator[int]:
        for number, byte in enumerate(self._bits):
            if byte:
                first = number * 8
                for bit in _BITS_OF[byte]:
                    yield first + bit

    def __len__(self) -> int:
        return self.count

    def __bool__(self) -> bool:
        return self.count > 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bitfield):
            return NotImplemented
        return self.size == other.size and self._bits == other._bits

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __bytes__(self) -> bytes:
        return bytes(self._bits)

    def count_in(self, pieces: range) -> int:
        """How many of these consecutive pieces are in the set; takes time for `size / 8` bytes."""
        start, stop = max(0, pieces.start), min(self.size, pieces.stop)
        if start >= stop:
            return 0
        bits = int.from_bytes(self._bits[start >> 3 : (stop + 7) >> 3])
        bits >>= -stop % 8
        return (bits & ((1 << (stop - start)) - 1)).bit_count()

    def copy(self) -> Bitfield:
        """An independent set of the same pieces."""
        twin = Bitfield(self.size)
        twin._bits[:] = self._bits
        twin.count = self.count
        return twin

    @property
    def complete(self) -> bool:
        """True when every piece is in the set."""
        return self.count == self.size

    def __repr__(self) -> str:
        return f"<Bitfield {self.count}/{self.size}>"
