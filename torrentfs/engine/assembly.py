"""From blocks to verified pieces: buffers, hashing off the main thread, and who is to blame.

A partial piece is one `bytearray`, filled in place: the copy out of the receive buffer is the
only one a block ever sees. When its last block is in, the piece goes to a worker that hashes it
in a thread (inline when it is so small that the hop would cost more), hands it to whoever waits
for it, and stores it: a slow disk never delays a reader. A bad piece is asked again and the
digests of its blocks are kept, so that the peer that lied is found by comparing with the good
ones (see `scheduling/blame.py`).

Nothing unverified ever leaves this module (promise 1).
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from typing import TYPE_CHECKING

import trio

from torrentfs.engine.wakeup import Wakeup
from torrentfs.metainfo.checking import check_piece
from torrentfs.metainfo.geometry import BLOCK_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.scheduling.blame import Blame
    from torrentfs.scheduling.picker import Picker, SourceId
    from torrentfs.storage.tiered import TorrentStore
    from torrentfs.wire.messages import Buffer

log = logging.getLogger(__name__)

INLINE_HASH = 64 * 1024
"""Bytes up to which hashing (35 us at 1.9 GB/s) is cheaper than a thread hop (100 us)."""

WORKERS = 2
"""Pieces hashed and stored at once, per torrent; SHA-1 of one core outruns a fast line."""


class Assembly:
    """The partial pieces of one torrent and the workers that verify them."""

    def __init__(
        self,
        metainfo: Metainfo,
        picker: Picker,
        blame: Blame,
        store: TorrentStore,
        *,
        on_verified: Callable[[int, bytearray], None],
        on_stored: Callable[[int], None],
        on_guilty: Callable[[SourceId, str], None],
    ) -> None:
        self._metainfo = metainfo
        self._geometry = metainfo.geometry
        self._picker = picker
        self._blame = blame
        self._store = store
        self._on_verified = on_verified
        self._on_stored = on_stored
        self._on_guilty = on_guilty
        self._buffers: dict[int, bytearray] = {}
        self._progress: dict[int, float] = {}
        self._complete: deque[int] = deque()
        self._broken: set[int] = set()
        self._wakeups = [Wakeup() for _ in range(WORKERS)]
        self.failures = 0

    def on_block(self, source: SourceId, piece: int, begin: int, data: Buffer, now: float) -> bool:
        """Take a block that `source` sent; False when nobody wanted it (its bytes are waste)."""
        verdict = self._picker.on_block(source, piece, begin, len(data), now)
        if not verdict.wanted:
            return False
        buffer = self._buffers.get(piece)
        if buffer is None:
            buffer = self._buffers[piece] = bytearray(self._geometry.piece_size(piece))
        buffer[begin : begin + len(data)] = data
        self._progress[piece] = now
        if verdict.piece_complete:
            self._complete.append(piece)
            for wakeup in self._wakeups:
                wakeup.set()
        return True

    def progress_of(self, piece: int) -> float | None:
        """When the last block of a piece that is not here came, or None if none has.

        A copy that failed its hash was progress too; one that we stumbled over never is, or a
        bug of ours would keep a read waiting for ever.
        """
        return None if piece in self._broken else self._progress.get(piece)

    def drop(self, piece: int) -> None:
        """The picker gave up a partial piece: free its memory."""
        self._buffers.pop(piece, None)
        self._progress.pop(piece, None)

    async def run(self) -> None:
        """Verify complete pieces until cancelled."""
        async with trio.open_nursery() as nursery:
            for wakeup in self._wakeups:
                nursery.start_soon(self._work, wakeup)

    async def _work(self, wakeup: Wakeup) -> None:
        while True:
            await wakeup.wait()
            while self._complete:
                piece = self._complete.popleft()
                try:
                    await self._finish(piece)
                except Exception:  # a bug of ours must cost this piece, not the mount
                    log.exception("a bug while finishing piece %d", piece)
                    self._broken.add(piece)
                    self._picker.on_failed(piece)
                    if piece not in self._store.have:
                        self._picker.on_lost(piece)

    async def _finish(self, piece: int) -> None:
        data = self._buffers.pop(piece)
        if len(data) <= INLINE_HASH:
            good = check_piece(self._metainfo, piece, data)
        else:
            good = await trio.to_thread.run_sync(check_piece, self._metainfo, piece, data)
        if not good:
            await self._on_bad(piece, data)
            return
        if self._blame.needs_digests(piece):
            digests = await _digests_of(data)
            guilty = self._blame.on_verified(piece, self._picker.origins(piece), digests)
            self._accuse(guilty, piece)
        self._progress.pop(piece, None)
        self._picker.on_stored(piece)
        self._on_verified(piece, data)
        await self._store.put(piece, data)
        self._on_stored(piece)

    async def _on_bad(self, piece: int, data: bytearray) -> None:
        self.failures += 1
        digests = await _digests_of(data)
        guilty = self._blame.on_failed(piece, self._picker.origins(piece), digests)
        log.info("%s: piece %d failed its hash check", self._metainfo.hashes.key[:8], piece)
        self._picker.on_failed(piece)
        self._accuse(guilty, piece)

    def _accuse(self, guilty: set[SourceId], piece: int) -> None:
        for source in guilty:
            self._on_guilty(source, f"sent wrong bytes in piece {piece}")

    def __repr__(self) -> str:
        return f"<Assembly {len(self._buffers)} partial pieces, {self.failures} failed>"


async def _digests_of(data: bytearray) -> list[bytes]:
    if len(data) <= INLINE_HASH:
        return _block_digests(data)
    return await trio.to_thread.run_sync(_block_digests, data)


def _block_digests(data: bytearray) -> list[bytes]:
    """One digest per block, to compare two versions of a piece without keeping the first."""
    view = memoryview(data)
    return [
        hashlib.sha1(view[begin : begin + BLOCK_LENGTH], usedforsecurity=False).digest()
        for begin in range(0, len(data), BLOCK_LENGTH)
    ]
