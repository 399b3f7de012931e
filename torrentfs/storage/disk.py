"""The disk tier of one torrent: a sparse tree of files in the torrent's own layout.

Everything here is synchronous and runs in worker threads, except `read_nowait`, which asks the
page cache only. Nothing here knows which pieces are held: callers say so.

* **Lazy.** A file or directory is created by the first write into it: a torrent of 200,000 files
  costs nothing until it is read.
* **Fingerprints.** After each change of our own the tree notes the file's inode, size, mtime and
  ctime. A file that does not look as we left it, in this run or (through the catalog) since a
  clean stop, was changed by somebody else: it is put among the `suspects`, and the store re-checks
  its pieces. Even a bit flipped with its mtime put back changes the ctime. What is not seen is a
  change made by somebody else while we are ourselves writing into the same file.
* **Space** is what the file system says (`st_blocks`), before and after each change.
* **Holes.** A range to be released is widened to whole file system blocks where the pieces beside
  it are not held either. A file of which nothing is held any more is unlinked. Where the file
  system cannot punch holes, unlinking is all there is (`can_punch` turns False, and the caller
  evicts by whole files).
* **Vanished directory.** All paths are relative to a descriptor of the `data` directory, so when
  the cache was removed under us nothing is ever created in a new one that is not ours.

One thread at a time may change the tree (`write`, `release`); any number may read.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import struct
import threading
from typing import TYPE_CHECKING

from torrentfs.storage.kernel import punch_hole, sync_file_system
from torrentfs.storage.layout import Layout, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torrentfs.metainfo.geometry import FileSpan
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.descriptors import Descriptors

log = logging.getLogger(__name__)

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_RWF_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_MOST_BUFFERS = 1024  # IOV_MAX of Linux
_SYNC_ONE_BY_ONE = 64
_BLOCK = 512  # the unit of st_blocks, whatever the file system's own block is (stat(2))
_FINGERPRINT = struct.Struct("<5q")
_COMPARED = 32  # bytes: the space on disk is not compared, it may change by itself
_ENTRY = struct.Struct("<q40s")


class Damaged(Exception):
    """The files do not have the bytes that were asked for (shorter, missing, unreadable)."""


class DiskTree:
    """The files of one torrent below `root`, an existing directory."""

    def __init__(
        self, root: Path, metainfo: Metainfo, descriptors: Descriptors, number: int
    ) -> None:
        self.layout = Layout(metainfo)
        self.number = number
        self.used = 0
        self.can_punch = True
        self._descriptors = descriptors
        self._can_ask_page_cache = bool(_RWF_NOWAIT)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._block = os.fstatvfs(self._root).f_frsize or 4096
        self._lock = threading.Lock()
        self._known: dict[int, bytes] = {}
        self._changing: set[int] = set()
        self._suspects: set[int] = set()
        self._unsynced: set[int] = set()
        self._syncing = threading.Lock()
        self.sync_failed = False
        """One failed: what it was about may be lost, though the next succeeds (fsync(2))."""
        self.sync_everything = False
        """Set when files that were not touched in this run may not be on the disk yet."""

    # --- reading ---

    def read_nowait(self, piece: int, begin: int, length: int) -> memoryview | None:
        """The bytes if they lie in one open, unsuspected file and in the page cache."""
        spans = self.layout.spans(piece, begin, length)
        span = next(spans)
        if span.length != length:
            return None
        if self.layout.is_pad(span.file):
            return memoryview(bytes(length))
        if not self._can_ask_page_cache:
            return None
        key = (self.number, span.file)
        fd = self._descriptors.borrow_open(key)
        if fd is None:
            return None
        try:
            if not self._is_as_known(span.file, fd):
                return None
            buffer = bytearray(length)
            if os.preadv(fd, [buffer], span.offset, _RWF_NOWAIT) != length:
                return None
        except OSError as error:
            # EAGAIN: not in the page cache. EOPNOTSUPP: a file system without it (tmpfs). Others:
            # `read` meets them again, where they can be waited for and named
            if error.errno == errno.EOPNOTSUPP:
                self._can_ask_page_cache = False
            return None
        finally:
            self._descriptors.give_back(key, fd)
        return memoryview(buffer)

    def read(self, piece: int, begin: int, length: int) -> bytes | bytearray:
        """The bytes, in a thread. `Damaged` when the files do not have them."""
        spans = list(self.layout.spans(piece, begin, length))
        if len(spans) == 1 and not self.layout.is_pad(spans[0].file):
            return self._read_span(spans[0])
        data = bytearray(length)
        place = 0
        for span in spans:
            if not self.layout.is_pad(span.file):
                data[place : place + span.length] = self._read_span(span)
            place += span.length
        return data

    def _read_span(self, span: FileSpan) -> bytes:
        try:
            with self._descriptors.borrow(
                (self.number, span.file), lambda: self._open(span.file)
            ) as fd:
                self._is_as_known(span.file, fd)
                data = os.pread(fd, span.length, span.offset)
                while 0 < len(data) < span.length:
                    more = os.pread(fd, span.length - len(data), span.offset + len(data))
                    if not more:
                        break
                    data += more
        except OSError as error:
            raise Damaged(str(error)) from error
        if len(data) != span.length:
            raise Damaged(f"{self.layout.path(span.file)} is too short")
        return data

    # --- writing ---

    def write(self, pieces: Sequence[tuple[int, bytes | bytearray]]) -> None:
        """Write whole pieces, ascending; neighbours go out together. `OSError` when it fails."""
        for run in self.layout.runs(pieces):
            with self._descriptors.borrow(
                (self.number, run.file),
                lambda run=run: self._create(run.file),  # type: ignore[misc]
            ) as fd:
                self._change(run.file, fd, lambda run=run, fd=fd: _write_run(fd, run))  # type: ignore[misc]

    def release(self, pieces: Sequence[int], any_held: Callable[[range], bool]) -> None:
        """Free the space of pieces, ascending, none of which is held. `OSError` when it fails."""
        ranges: dict[int, list[tuple[int, int]]] = {}
        geometry = self.layout.geometry
        for piece in pieces:
            for span in self.layout.spans(piece, 0, geometry.piece_size(piece)):
                if self.layout.is_pad(span.file):
                    continue
                cut = ranges.setdefault(span.file, [])
                if cut and cut[-1][1] == span.offset:
                    cut[-1] = (cut[-1][0], span.offset + span.length)
                else:
                    cut.append((span.offset, span.offset + span.length))
        for file, cut in ranges.items():
            if any_held(geometry.pieces_of_file(file)):
                self._punch(file, cut, any_held)
            else:
                self._unlink(file)

    def _punch(
        self, file: int, cut: list[tuple[int, int]], any_held: Callable[[range], bool]
    ) -> None:
        if not self.can_punch:
            return

        def change(fd: int) -> None:
            for start, end in cut:
                low, high = self._widen(file, start, end, any_held)
                if self.can_punch and not punch_hole(fd, low, high - low):
                    self.can_punch = False
                    log.info("the cache's file system cannot punch holes: evicting whole files")

        try:
            with self._descriptors.borrow((self.number, file), lambda: self._open(file)) as fd:
                self._change(file, fd, lambda: change(fd))
        except FileNotFoundError:
            return

    def _widen(
        self, file: int, start: int, end: int, any_held: Callable[[range], bool]
    ) -> tuple[int, int]:
        """Grow a range to whole blocks where that harms no held piece."""
        low = start - start % self._block
        if low < start and any_held(self.layout.pieces_in(file, low, start)):
            low = start
        high = end + -end % self._block
        size = self.layout.geometry.file_lengths[file]
        if end < size and any_held(self.layout.pieces_in(file, end, min(high, size))):
            high = end
        return low, high

    def _unlink(self, file: int) -> None:
        path = self.layout.path(file)
        try:
            blocks = os.stat(path, dir_fd=self._root, follow_symlinks=False).st_blocks
            os.unlink(path, dir_fd=self._root)
        except FileNotFoundError:
            blocks = 0
        self._descriptors.discard((self.number, file))
        with self._lock:
            self.used = max(0, self.used - blocks * _BLOCK)
            self._known.pop(file, None)
            self._unsynced.discard(file)

    def _change(self, file: int, fd: int, change: Callable[[], None]) -> None:
        self._is_as_known(file, fd)
        with self._lock:
            self._changing.add(file)
            self._unsynced.add(file)
        before = os.fstat(fd).st_blocks
        try:
            change()
        finally:
            after = os.fstat(fd)
            with self._lock:
                self._changing.discard(file)
                self._unsynced.add(file)  # a sync meanwhile did not have all of it
                self._known[file] = _fingerprint(after)
                self.used = max(0, self.used + (after.st_blocks - before) * _BLOCK)

    # --- opening, and what is known of the files ---

    def _open(self, file: int) -> int:
        path = self.layout.path(file)
        try:
            return os.open(path, os.O_RDWR | _FLAGS, dir_fd=self._root)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return os.open(path, os.O_RDONLY | _FLAGS, dir_fd=self._root)

    def _create(self, file: int) -> int:
        path = self.layout.path(file)
        flags = os.O_RDWR | os.O_CREAT | _FLAGS
        try:
            return os.open(path, flags, 0o644, dir_fd=self._root)
        except FileNotFoundError:
            self._make_parents(path)
            return os.open(path, flags, 0o644, dir_fd=self._root)

    def _make_parents(self, path: str) -> None:
        place = path.find("/")
        while place != -1:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path[:place], 0o755, dir_fd=self._root)
            place = path.find("/", place + 1)

    def _is_as_known(self, file: int, fd: int) -> bool:
        """False, and the file is suspected, when somebody else changed it."""
        with self._lock:
            if file in self._changing:
                return True
            status = os.fstat(fd)
            now = _fingerprint(status)
            before = self._known.get(file)
            if before is not None and before[:_COMPARED] == now[:_COMPARED]:
                return True
            self._known[file] = now
            if before is None and not status.st_size:
                return True  # made by us, now
            if before is not None:
                change = status.st_blocks - _FINGERPRINT.unpack(before)[4]
                self.used = max(0, self.used + change * _BLOCK)
            self._suspects.add(file)
            return False

    def take_suspects(self) -> set[int]:
        """Files that were changed by somebody else and were not reported yet."""
        if not self._suspects:
            return set()
        with self._lock:
            suspects, self._suspects = self._suspects, set()
        return suspects

    def load_known(self, blob: bytes) -> None:
        """Take what `dump_known` gave at the last clean stop."""
        usable = len(blob) - len(blob) % _ENTRY.size
        self._known = dict(_ENTRY.iter_unpack(memoryview(blob)[:usable]))

    def dump_known(self) -> bytes:
        """All fingerprints, for the catalog."""
        with self._lock:
            return b"".join(_ENTRY.pack(file, mark) for file, mark in self._known.items())

    def measure(self) -> None:
        """Count the space of the whole tree, by walking it (after an unclean stop)."""
        used = 0
        for *_, names, folder in os.fwalk(".", dir_fd=self._root, follow_symlinks=False):
            for name in names:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                used += status.st_blocks * _BLOCK
        self.used = used

    def free_space(self) -> int:
        """Bytes that may still be written to the file system."""
        status = os.fstatvfs(self._root)
        return status.f_bavail * status.f_frsize

    def sync(self) -> None:
        """Bring what was written to the disk itself. `OSError` when that fails.

        What was written before this call is there when it returns, also if another thread is at it.
        """
        with self._syncing:
            with self._lock:
                files, self._unsynced = self._unsynced, set()
            try:
                self._sync(files)
            except OSError:
                self.sync_failed = True
                with self._lock:
                    self._unsynced |= files
                raise

    def _sync(self, files: set[int]) -> None:
        if self.sync_everything or len(files) > _SYNC_ONE_BY_ONE:
            sync_file_system(self._root)
            self.sync_everything = False
            return
        for file in files:
            with (
                contextlib.suppress(FileNotFoundError),
                self._descriptors.borrow((self.number, file), lambda: self._open(file)) as fd,  # noqa: B023
            ):
                os.fdatasync(fd)

    @property
    def needs_sync(self) -> bool:
        """True when something was written since the last `sync`."""
        return bool(self._unsynced) or self.sync_everything

    def close(self) -> None:
        """Close all descriptors; the tree is of no use afterwards."""
        self._descriptors.discard_tree(self.number)
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def __repr__(self) -> str:
        return f"<DiskTree {self.layout.name!r} {self.used} bytes>"


def _fingerprint(status: os.stat_result) -> bytes:
    return _FINGERPRINT.pack(
        status.st_ino & 0x7FFF_FFFF_FFFF_FFFF,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_blocks,
    )


def _write_run(fd: int, run: Run) -> None:
    buffers = list(run.buffers)
    offset = run.offset
    while buffers:
        written = os.pwritev(fd, buffers[:_MOST_BUFFERS], offset)
        offset += written
        done = 0
        while done < len(buffers) and written >= len(buffers[done]):
            written -= len(buffers[done])
            done += 1
        del buffers[:done]
        if written:
            buffers[0] = buffers[0][written:]
