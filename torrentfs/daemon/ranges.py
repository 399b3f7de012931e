"""Ranges of files, many and long ones at once, within bounds.

Who reads a table asks for a thousand ranges together. All of them should be wanted at once, so
that every source has something to do; but a read fails when its piece makes no progress for a
time, and the last of a thousand would have to wait for all the others. So a long range is read in
chunks, and only so many bytes (`UNDER_WAY`) are wanted at a time, first come first served. A range
counts with all of its pieces, as it is these that are fetched.

Reads here are of who knows what he wants: they cost what lies under them (`Reader.read`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from torrentfs.errors import DataUnavailable
from torrentfs.metainfo.geometry import BLOCK_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torrentfs.metainfo.torrent_file import Metainfo

MIB = 1024 * 1024

CHUNK = 4 * MIB
"""Bytes of one read of the torrent, rounded to the borders of pieces."""

UNDER_WAY = 32 * MIB
"""Bytes of pieces wanted at a time, of one torrent. A swarm of 300 KB/s brings them within the
usual time-out of two minutes; one of 100 MB/s has them under way for a third of a second."""


class Readable(Protocol):
    """What is needed of a torrent (engine.torrent)."""

    @property
    def metainfo(self) -> Metainfo: ...
    async def read(
        self, file: int, offset: int, size: int, *, ahead: bool = True
    ) -> bytes | memoryview: ...


class Range(NamedTuple):
    """`size` bytes of file number `file` from `offset` on."""

    file: int
    offset: int
    size: int


class Ranges:
    """Reads ranges of one torrent."""

    def __init__(self, torrent: Readable, *, under_way: int = UNDER_WAY) -> None:
        self._torrent = torrent
        self._geometry = torrent.metainfo.geometry
        piece = self._geometry.piece_length
        self.unit = BLOCK_LENGTH if torrent.metainfo.has_v2 else piece
        """Bytes that are fetched as a whole, in piece space."""
        self._chunk = max(1, CHUNK // piece) * piece
        self._most = under_way
        self._under_way = 0
        self._line: deque[tuple[int, trio.Event]] = deque()

    async def read(self, file: int, offset: int, size: int) -> bytes:
        """Exactly these bytes, clamped to the end of the file; the errors of `Reader.read`."""
        (answer,) = await self.read_many([Range(file, offset, size)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def read_many(self, ranges: Sequence[Range]) -> list[bytes | DataUnavailable]:
        """The bytes of each, or why they cannot be had. One that fails keeps no other."""
        answers: list[_Answer] = []
        async with trio.open_nursery() as nursery:
            for wanted in ranges:
                answer = _Answer()
                answers.append(answer)
                for chunk in self._chunks(wanted):
                    cost = self._cost(chunk)
                    await self._enter(cost)
                    if answer.error is not None:
                        self._leave(cost)
                        break
                    answer.parts.append(b"")
                    nursery.start_soon(self._fill, answer, len(answer.parts) - 1, chunk, cost)
        return [answer.join() for answer in answers]

    async def _fill(self, answer: _Answer, place: int, chunk: Range, cost: int) -> None:
        try:
            answer.parts[place] = await self._torrent.read(*chunk, ahead=False)
        except DataUnavailable as error:
            answer.error = answer.error or error
        finally:
            self._leave(cost)

    def _chunks(self, wanted: Range) -> Iterator[Range]:
        """Cut at borders of pieces, so that no piece is read twice for it."""
        file, offset, size = wanted
        base = self._geometry.file_starts[file]
        end = min(offset + size, self._geometry.file_lengths[file])
        while offset < end:
            border = ((base + offset) // self._chunk + 1) * self._chunk - base
            stop = min(border, end)
            yield Range(file, offset, stop - offset)
            offset = stop

    def _cost(self, chunk: Range) -> int:
        start = self._geometry.file_starts[chunk.file] + chunk.offset
        first, last = start // self.unit, (start + chunk.size - 1) // self.unit
        return (last - first + 1) * self.unit

    def _has_room(self, cost: int) -> bool:
        return not self._under_way or self._under_way + cost <= self._most

    async def _enter(self, cost: int) -> None:
        """Wait in line until `cost` more bytes may be wanted."""
        if not self._line and self._has_room(cost):
            self._under_way += cost
            return
        event = trio.Event()
        self._line.append((cost, event))
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self._under_way -= cost
            else:
                self._line.remove((cost, event))
            self._admit()
            raise

    def _leave(self, cost: int) -> None:
        self._under_way -= cost
        self._admit()

    def _admit(self) -> None:
        while self._line and self._has_room(self._line[0][0]):
            cost, event = self._line.popleft()
            self._under_way += cost
            event.set()

    def __repr__(self) -> str:
        return f"<Ranges {self._under_way} bytes under way, {len(self._line)} in line>"


class _Answer:
    """The parts of one range, as they come."""

    __slots__ = ("error", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self.error: DataUnavailable | None = None

    def join(self) -> bytes | DataUnavailable:
        if self.error is not None:
            return self.error
        return b"".join(self.parts)
