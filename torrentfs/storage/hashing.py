"""From files to a torrent: every byte read once, by as many threads as there are processors.

Pieces are independent (see `metainfo.create`), so a worker takes a run of neighbouring pieces
(`_BATCH` bytes or more, so that a disk with a head reads in long strokes), reads it in chunks
through a buffer of its own and hashes each chunk with the GIL released. Memory is one chunk for
each worker, and the hashes, whatever the size of the files and pieces.

What was hashed is what lies there: each file must have the stamp of its listing before and after a
worker reads from it, and once more at the end (`PayloadChanged`). No worker outlives the call; when
it is interrupted they stop at their next chunk.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from torrentfs.errors import ConfigError
from torrentfs.metainfo import limits
from torrentfs.metainfo.create import TorrentBuilder, choose_piece_length
from torrentfs.storage.originals import Changed, Originals, originals_of
from torrentfs.storage.payload import changed, shown, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator

    from torrentfs.metainfo.create import PieceDigest, Version
    from torrentfs.metainfo.geometry import Geometry
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.payload import Payload

_CHUNK = limits.MIB
_BATCH = 32 * limits.MIB
_BATCH_PIECES = 1024
_LOOK_EVERY = 0.1
"""Seconds between two looks at the progress."""

T = TypeVar("T")
Digests = list[tuple[int, "PieceDigest"]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the user chooses about a torrent besides its files."""

    version: Version = "hybrid"
    piece_length: int | None = None
    """Bytes; None chooses by size."""
    private: bool = False
    source: str | None = None


def builder_for(payload: Payload, recipe: Recipe) -> TorrentBuilder:
    """The builder of the torrent of `payload`; `ConfigError` when it would be over a limit."""
    padded = [file.length for file in payload.files] if recipe.version == "hybrid" else []
    length = recipe.piece_length or choose_piece_length(payload.size, padded)
    files = [(file.path, file.length) for file in payload.files]
    programs = [number for number, file in enumerate(payload.files) if file.executable]
    try:
        builder = TorrentBuilder(
            payload.name,
            files,
            length,
            recipe.version,
            private=recipe.private,
            source=recipe.source,
            executables=programs,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if builder.geometry.num_pieces > limits.MAX_PIECES:
        raise ConfigError(
            f"{builder.geometry.num_pieces} pieces are too many (at most {limits.MAX_PIECES}): "
            "choose a larger --piece-size"
        )
    if recipe.version == "hybrid" and 2 * len(files) > limits.MAX_FILES:
        raise ConfigError(
            f"a hybrid torrent has at most {limits.MAX_FILES // 2} files: use another"
        )
    return builder


def hash_payload(
    payload: Payload,
    builder: TorrentBuilder,
    *,
    threads: int | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> tuple[bytes, dict[bytes, bytes]]:
    """Hash all of `payload` and return the info dictionary and piece layers of its torrent.

    `on_progress(bytes hashed so far)` is called in the calling thread, some times a second.
    `PayloadChanged` when a file is not as it was listed.
    """
    work = _Work(payload, builder)
    with closing(work.run(threads, on_progress)) as batches:
        for digests in batches:
            for piece, digest in digests:
                builder.put(piece, digest)
    payload.check_all()
    return builder.finish()


def check_payload(
    payload: Payload,
    metainfo: Metainfo,
    *,
    sure: Collection[int] = (),
    threads: int | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Hash all of `payload` and compare with the torrent; `ConfigError` when it differs.

    Pieces that lie in `sure` files alone (by their place in the payload) are not read. Each worker
    holds one piece in memory. `on_progress` is as above.
    """
    work = _Check(payload, metainfo, sure)
    with closing(work.run(threads, on_progress)) as batches:
        for _ in batches:
            pass


class _Stopped(Exception):
    """The work was given up."""


class _Workers(Generic[T]):
    """Takes runs of pieces to `work_on` in threads; what it gives comes out in any order."""

    def __init__(self, geometry: Geometry) -> None:
        self.stopped = threading.Event()
        self.done = 0
        """Bytes read so far."""
        self._geometry = geometry
        self._lock = threading.Lock()

    def work_on(self, pieces: range) -> T:
        """In a worker."""
        raise NotImplementedError

    def run(
        self, threads: int | None, on_progress: Callable[[int], None]
    ) -> Generator[T, None, None]:
        """Do all the work; no worker outlives it, however it ends, if it is closed then."""
        workers = threads or len(os.sched_getaffinity(0))
        executor = ThreadPoolExecutor(workers, "hashing")
        try:
            batches: Iterator[range] | None = self._batches()
            running: set[Future[T]] = set()
            while running or batches is not None:
                while batches is not None and len(running) < 2 * workers:
                    batch = next(batches, None)
                    if batch is None:
                        batches = None
                    else:
                        running.add(executor.submit(self.work_on, batch))
                finished, running = wait(running, _LOOK_EVERY, FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
                on_progress(self.done)
        finally:
            self.stopped.set()
            executor.shutdown(cancel_futures=True)

    def count(self, size: int) -> None:
        """Bytes were read; in a worker, which ends here when all is given up."""
        if self.stopped.is_set():
            raise _Stopped
        with self._lock:
            self.done += size

    def _batches(self) -> Iterator[range]:
        pieces = self._geometry.num_pieces
        first = 0
        while first < pieces:
            size = 0
            last = first
            while last < pieces and last - first < _BATCH_PIECES and size < _BATCH:
                size += self._geometry.piece_size(last)
                last += 1
            yield range(first, last)
            first = last


class _Check(_Workers[None]):
    """Compares files with a torrent."""

    def __init__(self, payload: Payload, metainfo: Metainfo, sure: Collection[int]) -> None:
        super().__init__(metainfo.geometry)
        self._metainfo = metainfo
        self._originals = originals_of(payload, metainfo)
        numbers = [number for number, file in enumerate(metainfo.files) if not file.pad]
        self._doubtful = self._originals.keys() - {numbers[place] for place in sure}
        self._store = Originals(metainfo, self._originals)

    def work_on(self, pieces: range) -> None:
        """Raise `ConfigError` for the first piece that is wrong."""
        for piece in pieces:
            size = self._metainfo.geometry.piece_size(piece)
            if not any(number in self._doubtful for number in self._files_of(piece)):
                self.count(size)
                continue
            try:
                stamps = self._store.examine(piece)
            except Changed as change:
                raise changed(self._originals[change.file].place) from change
            except OSError as error:
                raise unreadable(error.filename or self._place(piece), error) from error
            if stamps is None:
                raise ConfigError(f"{self._place(piece)} is not what the torrent says")
            for number, stamp in stamps.items():
                if stamp != self._originals[number].stamp:
                    raise changed(self._originals[number].place)
            self.count(size)

    def _files_of(self, piece: int) -> list[int]:
        """The numbers of the files that have a part of a piece."""
        start = piece * self._geometry.piece_length
        spans = self._geometry.files_in(start, self._geometry.piece_size(piece))
        return [span.file for span in spans if span.file in self._originals]

    def _place(self, piece: int) -> str:
        """Where they are; one of them is wrong."""
        found = [self._originals[number].place for number in self._files_of(piece)]
        return " or ".join(map(shown, found[:3])) or self._metainfo.name


class _Work(_Workers[Digests]):
    """Hashes files for a builder."""

    def __init__(self, payload: Payload, builder: TorrentBuilder) -> None:
        super().__init__(builder.geometry)
        self._payload = payload
        self._builder = builder

    def work_on(self, pieces: range) -> Digests:
        """The digests of a run of pieces."""
        digests: Digests = []
        chunk = memoryview(bytearray(_CHUNK))
        with _OneFile(self._payload) as source:
            for piece in pieces:
                hasher = self._builder.hasher(piece)
                start = piece * self._geometry.piece_length
                size = self._geometry.piece_size(piece)
                for span in self._geometry.files_in(start, size):
                    fd = source.switch(span.file)
                    offset, left = span.offset, span.length
                    while left:
                        read = self._read(fd, chunk[: min(left, _CHUNK)], offset, span.file)
                        hasher.update(chunk[:read])
                        offset += read
                        left -= read
                        self.count(read)
                digests.append((piece, hasher.finish()))
        return digests

    def _read(self, fd: int, chunk: memoryview, offset: int, number: int) -> int:
        place = self._payload.place(number)
        try:
            read = os.preadv(fd, [chunk], offset)
        except OSError as error:
            raise unreadable(place, error) from error
        if not read:
            raise changed(place)
        return read


class _OneFile:
    """At most one file of the payload, open; its stamp is checked when it is opened and closed."""

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._number = -1
        self._fd = -1

    def __enter__(self) -> _OneFile:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._close(check=kind is None)

    def switch(self, number: int) -> int:
        """The descriptor of file `number`."""
        if number != self._number:
            self._close(check=True)
            self._fd = self._payload.open(number)
            self._number = number
        return self._fd

    def _close(self, *, check: bool) -> None:
        if self._fd < 0:
            return
        try:
            if check:
                self._payload.check(self._number, self._fd)
        finally:
            os.close(self._fd)
            self._fd = self._number = -1
