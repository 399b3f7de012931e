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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torrentfs.errors import ConfigError
from torrentfs.metainfo import limits
from torrentfs.metainfo.create import TorrentBuilder, choose_piece_length
from torrentfs.storage.payload import changed, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torrentfs.metainfo.create import PieceDigest, Version
    from torrentfs.storage.payload import Payload

_CHUNK = limits.MIB
_BATCH = 32 * limits.MIB
_BATCH_PIECES = 1024
_LOOK_EVERY = 0.1
"""Seconds between two looks at the progress."""

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
    length = recipe.piece_length or choose_piece_length(payload.size)
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
    workers = threads or os.cpu_count() or 1
    work = _Work(payload, builder)
    executor = ThreadPoolExecutor(workers, "hashing")
    try:
        batches = work.batches()
        running: set[Future[Digests]] = set()
        exhausted = False
        while running or not exhausted:
            while not exhausted and len(running) < 2 * workers:
                batch = next(batches, None)
                if batch is None:
                    exhausted = True
                else:
                    running.add(executor.submit(work.hash_batch, batch))
            done, running = wait(running, _LOOK_EVERY, FIRST_COMPLETED)
            for future in done:
                for piece, digest in future.result():
                    builder.put(piece, digest)
            on_progress(work.hashed)
    finally:
        work.stopped.set()
        executor.shutdown(cancel_futures=True)
    payload.check_all()
    return builder.finish()


class _Stopped(Exception):
    """The work was given up."""


class _Work:
    """What the workers share."""

    def __init__(self, payload: Payload, builder: TorrentBuilder) -> None:
        self.stopped = threading.Event()
        self.hashed = 0
        self._payload = payload
        self._builder = builder
        self._geometry = builder.geometry
        self._lock = threading.Lock()

    def batches(self) -> Iterator[range]:
        """Runs of pieces, in order."""
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

    def hash_batch(self, pieces: range) -> Digests:
        """The digests of a run of pieces; in a worker."""
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
                        if self.stopped.is_set():
                            raise _Stopped
                        read = self._read(fd, chunk[: min(left, _CHUNK)], offset, span.file)
                        hasher.update(chunk[:read])
                        offset += read
                        left -= read
                        with self._lock:
                            self.hashed += read
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
