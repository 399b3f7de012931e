"""A torrent seeded in place: its pieces are read from the user's own files, and never written.

`Originals` is a `PieceStore` over files that were hashed (or checked) a moment ago. They belong to
the user, who may change them at any time; so each has a *stamp* (see `payload`), and what is read
counts only if the file still had its stamp when the read was over. When it has another one, all its
pieces become *unsure*: each is read whole and hashed before it is given out again, once, and is
either right (somebody touched the file, or changed another part of it) or lost. So a file that was
changed costs a check, and never gives a peer a wrong byte that it could not blame on a flipped bit
of ours. `watch` looks at all files now and then, so that peers learn what is gone before they ask,
and get back what was restored.

Files are opened when they are read, a few at a time: one table of descriptors serves all torrents
of a process. A file that was deleted is let go of at the next read or look, so that its space
becomes free.

Only what a file itself says costs a piece. A process that has no descriptor or memory left closes
what it can and tries again, and then refuses this one read (`StorageError`); where a disk cannot
read a place, that piece is lost, and tried again at every look.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from torrentfs.errors import StorageError
from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.metainfo.checking import check_piece
from torrentfs.storage.base import PieceLost, StoreStatistics
from torrentfs.storage.descriptors import Descriptors
from torrentfs.storage.layout import Layout
from torrentfs.storage.payload import Stamp, open_original, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.payload import Payload

T = TypeVar("T")

log = logging.getLogger(__name__)

MAX_OPEN = 128
"""Files open at once, of all torrents that share a table, beside those in use."""

WATCH_SECONDS = 10.0
"""Between two looks at all files; longer where a look takes long (`WATCH_SHARE`)."""
WATCH_SHARE = 50
"""A look takes at most one part in so many of the time: 100,000 files take about 0.4 s."""
CHECK_SHARE = 4
"""So do checks of what changed: a large file may be written to all the time."""

_THREADS = 8
_ATTEMPTS = 4
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Trouble of this process or machine, which says nothing about the file."""
_PAUSES = (0.0, 0.05, 0.25)
"""Seconds before each new attempt after such trouble."""
_RWF_NOWAIT = getattr(os, "RWF_NOWAIT", 0)


class Original(NamedTuple):
    """A file of the user's that holds a file of the torrent."""

    place: str
    stamp: Stamp


class Changed(Exception):
    """A file has another stamp, or (None) cannot be read, or not in this `place`; in a thread."""

    def __init__(self, file: int, stamp: Stamp | None = None, *, place: bool = False) -> None:
        super().__init__(file)
        self.file = file
        self.stamp = stamp
        self.place = place


def originals_of(payload: Payload, metainfo: Metainfo) -> dict[int, Original]:
    """Where each file of a torrent lies that was made of `payload`, by its number there.

    Padding and empty files have no place: nothing of them is ever read.
    """
    found: dict[int, Original] = {}
    numbers = (number for number, file in enumerate(metainfo.files) if not file.pad)
    for number, (place, file) in zip(numbers, enumerate(payload.files), strict=True):
        if file.length:
            found[number] = Original(payload.place(place), file.stamp)
    return found


class Originals:
    """The pieces of `metainfo`, all of them, in the files at `places` (by file number).

    `descriptors` may be shared with others, who then have other numbers.
    """

    def __init__(
        self,
        metainfo: Metainfo,
        places: Mapping[int, Original],
        descriptors: Descriptors | None = None,
        number: int = 0,
    ) -> None:
        self.metainfo = metainfo
        self.have = Bitfield.full(metainfo.geometry.num_pieces)
        self.on_evicted: Callable[[Sequence[int]], None] = lambda pieces: None
        """Called in the trio thread with pieces that are no longer in `have`."""
        self.on_regained: Callable[[Sequence[int]], None] = lambda pieces: None
        """Called in the trio thread with pieces that are in `have` again."""
        self._layout = Layout(metainfo)
        self._places = {number: original.place for number, original in places.items()}
        self._stamps = {number: original.stamp for number, original in places.items()}
        self._seen: dict[int, Stamp | None] = dict(self._stamps)
        self._unsure: set[int] = set()
        self._unreadable: set[int] = set()
        self._unread: dict[int, int] = {}  # pieces that the disk of a file does not give
        self._due: set[int] = set()  # files that differ and were not checked to the end
        self._checking: dict[int, trio.Event] = {}
        self._open = Descriptors(MAX_OPEN) if descriptors is None else descriptors
        self._number = number
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._can_ask_page_cache = bool(_RWF_NOWAIT)
        self._reads = self._lost = 0

    # --- reading ---

    def read_nowait(self, piece: int, begin: int, length: int) -> memoryview | bytes | None:
        """The bytes, if they lie in one open file with its stamp and in the page cache."""
        if piece not in self.have or piece in self._unsure or not self._can_ask_page_cache:
            return None
        span = next(self._layout.spans(piece, begin, length))
        if span.length != length:
            return None
        key = (self._number, span.file)
        fd = self._open.borrow_open(key)
        if fd is None:
            return bytes(length) if self._layout.is_pad(span.file) else None
        try:
            buffer = bytearray(length)
            if os.preadv(fd, [buffer], span.offset, _RWF_NOWAIT) != length:
                return None
            if Stamp.of(os.fstat(fd)) != self._stamps[span.file]:
                return None
        except OSError as error:
            # EAGAIN: not in the page cache. EOPNOTSUPP: a file system that cannot be asked
            if error.errno == errno.EOPNOTSUPP:
                self._can_ask_page_cache = False
            return None
        finally:
            self._open.give_back(key, fd)
        self._reads += 1
        return memoryview(buffer)

    async def read(self, piece: int, begin: int, length: int) -> memoryview | bytes:
        """The bytes. `PieceLost` when the files do not have the piece any more.

        Any other `StorageError` is a trouble of this process, and passes.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        changes = 0
        while changes < _ATTEMPTS:
            if piece not in self.have:
                raise PieceLost(f"piece {piece} of {self.metainfo.name} is not in the files")
            if piece in self._unsure:
                await self._check(piece)
                continue
            try:
                data = await self._in_thread(self._read, piece, begin, length)
            except Changed as change:
                changes += 1
                if change.place:
                    self._unsure.add(piece)
                elif change.stamp != self._stamps[change.file]:  # or a check was quicker than this
                    self._suspect(change.file)
                continue
            if piece not in self._unsure:
                self._reads += 1
                return memoryview(data)
            changes += 1
        self._lose([piece])  # a file that is being written to: its reader would wait for ever
        raise PieceLost(f"piece {piece} of {self.metainfo.name} keeps changing")

    async def put(self, piece: int, data: bytearray) -> None:
        """Nothing is ever written to the files of others: the piece is not kept."""

    def _read(self, piece: int, begin: int, length: int) -> bytearray:
        """In a thread; `Changed` when a file is not what it was, `OSError` (`_SCARCE`) of ours."""
        data = bytearray(length)
        view = memoryview(data)
        place = 0
        for span in self._layout.spans(piece, begin, length):
            if not self._layout.is_pad(span.file):
                self._read_span(span.file, view[place : place + span.length], span.offset)
            place += span.length
        return data

    def _read_span(self, file: int, into: memoryview, offset: int) -> None:
        try:
            with self._open.borrow(
                (self._number, file), lambda: open_original(self._places[file])
            ) as fd:
                done = 0
                while done < len(into):
                    read = os.preadv(fd, [into[done:]], offset + done)
                    if not read:
                        raise Changed(file)
                    done += read
                stamp = Stamp.of(os.fstat(fd))
                if stamp != self._stamps[file]:
                    raise Changed(file, stamp)
        except OSError as error:
            raise _blame(file, error) from error

    # --- trust ---

    def _suspect(self, file: int) -> None:
        """Ask for a check of each piece of a file before it is given out."""
        self._open.discard((self._number, file))
        for piece in self.metainfo.geometry.pieces_of_file(file):
            if piece in self.have:
                self._unsure.add(piece)

    async def _check(self, piece: int) -> bool:
        """Read a piece from files as they are now, and believe it or lose it.

        Several that ask for the same piece wait for one check.
        """
        checking = self._checking.get(piece)
        if checking is not None:
            await checking.wait()
            return piece in self.have and piece not in self._unsure
        gate = self._checking[piece] = trio.Event()
        try:
            stamps = await self._in_thread(self.examine, piece)
        except Changed as change:
            if change.place:
                self._lose_place(change.file, piece)
            else:
                self._lose_file(change.file)
            return False
        finally:
            del self._checking[piece]
            gate.set()
        if stamps is None:
            self._lose([piece])
            return False
        for file, stamp in stamps.items():
            self._unreadable.discard(file)
            if self._stamps[file] != stamp:
                self._suspect(file)
                self._stamps[file] = stamp
        self._unsure.discard(piece)
        self._unread.pop(piece, None)
        if self.have.add(piece):
            self.on_regained([piece])
        return True

    def examine(self, piece: int) -> dict[int, Stamp] | None:
        """In a thread: the stamps of the files of a piece that is right, None if it is wrong.

        Nothing is changed here. `Changed` names a file that cannot be read; `OSError` (`_SCARCE`)
        says that this process cannot.
        """
        data = bytearray(self.metainfo.geometry.piece_size(piece))
        view = memoryview(data)
        place = 0
        stamps: dict[int, Stamp] = {}
        for span in self._layout.spans(piece, 0, len(data)):
            if not self._layout.is_pad(span.file):
                part = view[place : place + span.length]
                try:
                    stamps[span.file] = _read_anew(self._places[span.file], part, span.offset)
                except EOFError:
                    return None
                except OSError as error:
                    raise _blame(span.file, error) from error
            place += span.length
        return stamps if check_piece(self.metainfo, piece, data) else None

    def _lose_file(self, file: int) -> None:
        """A file cannot be read: its pieces are lost until it can be."""
        self._unreadable.add(file)
        self._open.discard((self._number, file))
        self._lose(self.metainfo.geometry.pieces_of_file(file))

    def _lose_place(self, file: int, piece: int) -> None:
        """The disk does not give a part of a file: its piece is lost until it does."""
        if file not in self._unread.values():
            log.warning(
                "a part of %s cannot be read: not shared for now", shown(self._places[file])
            )
        self._unread[piece] = file
        self._lose([piece])

    def _lose(self, pieces: Sequence[int]) -> None:
        self._unsure.difference_update(pieces)
        gone = [piece for piece in pieces if self.have.discard(piece)]
        self._lost += len(gone)
        if gone:
            self.on_evicted(gone)

    # --- watching ---

    async def watch(self) -> None:
        """Look at all files now and then, for ever."""
        while True:
            rest = await self.look()
            await trio.sleep(rest)

    async def look(self) -> float:
        """Look at all files, check those that changed piece by piece; seconds to rest then."""
        begun = trio.current_time()
        found = await trio.to_thread.run_sync(self._differing, abandon_on_cancel=True)
        looked = trio.current_time()
        self._due |= found
        try:
            for file in sorted(self._due | self._unreadable):
                await self._check_file(file, say_so=file in self._due)
                self._due.discard(file)
            for piece in sorted(self._unread):
                await self._check(piece)
        except StorageError as error:
            log.debug("%s: the rest is checked at the next look", error)
        checked = trio.current_time()
        return max(WATCH_SECONDS, (looked - begun) * WATCH_SHARE, (checked - looked) * CHECK_SHARE)

    def _differing(self) -> set[int]:
        """In a thread: files that look otherwise than at the last look."""
        seen = self._seen
        found: set[int] = set()
        for file, place in self._places.items():
            now: Stamp | None
            try:
                now = Stamp.of(os.stat(place))
            except OSError as error:
                if error.errno in _SCARCE:
                    continue
                now = None
            if now != seen[file]:
                seen[file] = now
                found.add(file)
        return found

    async def _check_file(self, file: int, *, say_so: bool) -> None:
        """Check every piece of a file; lost ones that are right again are had again."""
        place = shown(self._places[file])
        self._suspect(file)
        wrong = 0
        for piece in self.metainfo.geometry.pieces_of_file(file):
            if (piece in self._unsure or piece not in self.have) and not await self._check(piece):
                wrong += piece not in self._unread
                if file in self._unreadable:
                    if say_so:
                        log.warning("%s cannot be read: not shared for now", place)
                    return
        if wrong:
            log.warning("%s changed: %d pieces of it are not shared any more", place, wrong)
        else:
            log.info("%s was touched, and is as it was shared", place)

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        """Run it, again where only this process was in its way; `StorageError` when it stays so."""
        for pause in (*_PAUSES, None):
            try:
                return await trio.to_thread.run_sync(work, *args, limiter=self._limiter)
            except OSError as error:
                if pause is None:
                    reason = (error.strerror or str(error)).lower()
                    raise StorageError(f"cannot read {self.metainfo.name}: {reason}") from error
                self._open.close_unused()
                await trio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    # --- the rest ---

    def close(self) -> None:
        """Close all files."""
        self._open.discard_tree(self._number)

    def statistics(self) -> StoreStatistics:
        """Counters, now; nothing here is on a disk of ours."""
        return StoreStatistics(
            have=self.have.count,
            on_disk=0,
            unsure=len(self._unsure),
            unwritten=0,
            disk_bytes=0,
            memory_hits=0,
            disk_hits=self._reads,
            lost=self._lost,
            disk_trouble=None,
        )

    def __repr__(self) -> str:
        return f"<Originals {self.metainfo.name!r} {self.have!r}>"


def _blame(file: int, error: OSError) -> Exception:
    """What to raise for an `OSError` at a file."""
    if error.errno in _SCARCE:
        return error
    # what `open` raises has a name; then it is the whole file that cannot be read
    return Changed(file, place=error.errno == errno.EIO and error.filename is None)


def _read_anew(place: str, into: memoryview, offset: int) -> Stamp:
    """Fill `into` from a file opened anew; its stamp, which it had before and after. `OSError`."""
    fd = open_original(place)
    try:
        before = Stamp.of(os.fstat(fd))
        done = 0
        while done < len(into):
            read = os.preadv(fd, [into[done:]], offset + done)
            if not read:
                raise EOFError(place)
            done += read
        if Stamp.of(os.fstat(fd)) != before:
            raise OSError(errno.EAGAIN, "the file is being written to", place)
        return before
    finally:
        os.close(fd)
