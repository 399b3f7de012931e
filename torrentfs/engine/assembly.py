"""From blocks to verified pieces: buffers, hashing off the main thread, and who is to blame.

A partial piece is one `bytearray`, filled in place: the copy out of the receive buffer is the
only one a block ever sees. When its last block is in, the piece goes to a worker that hashes it
in a thread (inline when it is so small that the hop would cost more), hands it to whoever waits
for it, and then stores it: readers never wait for the disk, but what is fetched does, while more is
unwritten than the memory limit has room for (see `storage/tiered.py`). A bad piece is asked again
and the digests of its blocks are kept, so that the peer that lied is found by comparing with the
good ones (see `scheduling/blame.py`).

Blocks that can be proved one by one (BEP 52, see `leaves`) are checked as they come, or as their
leaf hashes come, and are readable from then on; a wrong one names its giver at once.

Nothing unverified ever leaves this module (promise 1).
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from typing import TYPE_CHECKING

import trio

from torrentfs.engine.partial import PartialPiece
from torrentfs.engine.wakeup import Wakeup
from torrentfs.metainfo.checking import check_piece
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling.ledger import bits

if TYPE_CHECKING:
    from collections.abc import Callable

    from torrentfs.engine.leaves import Leaves
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.scheduling.blame import Blame
    from torrentfs.scheduling.picker import Picker, SourceId
    from torrentfs.storage.base import PieceStore
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
        store: PieceStore,
        *,
        on_verified: Callable[[int, bytearray], None],
        on_proved: Callable[[int], None],
        on_stored: Callable[[int], None],
        on_guilty: Callable[[SourceId, str], None],
    ) -> None:
        self._metainfo = metainfo
        self._name = metainfo.hashes.key[:8]
        self._geometry = metainfo.geometry
        self._picker = picker
        self._blame = blame
        self._store = store
        self._on_verified = on_verified
        self._on_proved = on_proved
        self._on_stored = on_stored
        self._on_guilty = on_guilty
        self.leaves: Leaves | None = None
        """Given by the torrent when blocks can be proved one by one."""
        self._partial: dict[int, PartialPiece] = {}
        self._progress: dict[int, float] = {}
        self._complete: deque[int] = deque()
        self._broken: set[int] = set()
        self._wakeups = [Wakeup() for _ in range(WORKERS)]
        self.failures = 0
        self.giver: SourceId | None = None
        """Who gave the last of what `on_verified` or `on_proved` is about, while they run."""

    def on_block(self, source: SourceId, piece: int, begin: int, data: Buffer, now: float) -> bool:
        """Take a block that `source` sent; False when nobody wanted it (its bytes are waste)."""
        verdict = self._picker.on_block(source, piece, begin, len(data), now)
        if not verdict.wanted:
            return False
        block = begin // BLOCK_LENGTH
        leaf = None if self.leaves is None else self.leaves.leaf(piece, block)
        if leaf is not None and not self._matches(leaf, piece, begin, data):
            self._on_wrong_block(piece, block, source)
            return False
        partial = self._partial.get(piece)
        if partial is None:
            partial = self._partial[piece] = PartialPiece(
                self._geometry.piece_size(piece), partly=self._picker.is_partly(piece)
            )
        partial.write(begin, data)
        partial.giver = source
        self._progress[piece] = now
        if leaf is not None:
            partial.proved |= 1 << block
            self.giver = source
            self._on_proved(piece)
        if verdict.piece_complete or (leaf is not None and self._is_padded(piece, partial)):
            self._on_complete(piece)
        return True

    def _on_complete(self, piece: int) -> None:
        self._complete.append(piece)
        for wakeup in self._wakeups:
            wakeup.set()

    def _is_padded(self, piece: int, partial: PartialPiece) -> bool:
        """Whether only padding was missing, which is made here: a hybrid torrent ends files so."""
        assert self.leaves is not None
        covered = self.leaves.covered(piece, 0, partial.size)
        proved = (1 << -(-covered // BLOCK_LENGTH)) - 1
        if covered == partial.size or partial.proved != proved:
            return False
        partial.pad(covered)
        return self._picker.on_known(piece, ~proved)

    def _matches(self, leaf: bytes, piece: int, begin: int, data: Buffer) -> bool:
        assert self.leaves is not None
        covered = self.leaves.covered(piece, begin, len(data))
        return hashlib.sha256(memoryview(data)[:covered]).digest() == leaf

    def on_leaves(self, piece: int) -> None:
        """Leaf hashes of `piece` came: check the blocks that were here before."""
        partial = self._partial.get(piece)
        if partial is None or self.leaves is None:
            return
        givers = self._picker.origins(piece)
        for block in bits(self._picker.received_of(piece) & ~partial.proved):
            leaf = self.leaves.leaf(piece, block)
            if leaf is None:
                continue
            begin = block * BLOCK_LENGTH
            length = min(BLOCK_LENGTH, partial.size - begin)
            if self._matches(leaf, piece, begin, partial.read(begin, length)):
                partial.proved |= 1 << block
                continue
            if piece in self._complete:
                self._complete.remove(piece)
            self._on_wrong_block(piece, block, givers[block])
        self.giver = partial.giver
        self._on_proved(piece)
        if self._is_padded(piece, partial):
            self._on_complete(piece)

    def _on_wrong_block(self, piece: int, block: int, giver: SourceId | None) -> None:
        self.failures += 1
        log.info("%s: a block of piece %d failed its hash check", self._name, piece)
        self._picker.on_wrong_block(piece, block)
        self._accuse(set() if giver is None else {giver}, piece)

    def read_proved(self, piece: int, begin: int, length: int) -> bytes | memoryview | None:
        """Bytes of a piece that is not whole, or None unless all of them are proved."""
        partial = self._partial.get(piece)
        if partial is None or not partial.is_proved(begin, length):
            return None
        self._picker.on_used(piece)
        return partial.read(begin, length)

    def is_proved(self, piece: int, begin: int, length: int) -> bool:
        """Whether `read_proved` gives these bytes."""
        partial = self._partial.get(piece)
        return partial is not None and partial.is_proved(begin, length)

    def progress_of(self, piece: int) -> float | None:
        """When the last block of a piece that is not here came, or None if none has.

        A copy that failed its hash was progress too; one that we stumbled over never is, or a
        bug of ours would keep a read waiting for ever.
        """
        return None if piece in self._broken else self._progress.get(piece)

    def drop(self, piece: int) -> None:
        """The picker gave up a partial piece: free its memory."""
        self._partial.pop(piece, None)
        self._progress.pop(piece, None)
        if self.leaves is not None:
            self.leaves.forget(piece)

    async def run(self) -> None:
        """Verify complete pieces until cancelled; those left then, when it is called again."""
        async with trio.open_nursery() as nursery:
            for wakeup in self._wakeups:
                nursery.start_soon(self._work, wakeup)

    async def _work(self, wakeup: Wakeup) -> None:
        while True:
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
            await wakeup.wait()

    async def _finish(self, piece: int) -> None:
        partial = self._partial.pop(piece)
        data = partial.whole()
        digests: list[bytes] = []
        try:
            good = await self._is_good(piece, partial, data)
            if not good or self._blame.needs_digests(piece):
                digests = await _digests_of(data)
        except trio.Cancelled:  # no verdict: it is asked of nobody, so the next `run` looks at it
            self._partial[piece] = partial
            self._complete.appendleft(piece)
            raise
        if not good:
            self._on_bad(piece, digests)
            return
        if digests:
            guilty = self._blame.on_verified(piece, self._picker.origins(piece), digests)
            self._accuse(guilty, piece)
        self._progress.pop(piece, None)
        if self.leaves is not None:
            self.leaves.forget(piece)
        self._picker.on_stored(piece)
        self.giver = partial.giver
        self._on_verified(piece, data)
        try:
            await self._store.put(piece, data)
        finally:  # also when the torrent stops being active while the disk is behind
            self._on_stored(piece)

    async def _is_good(self, piece: int, partial: PartialPiece, data: bytearray) -> bool:
        """Whether a whole piece is what it should be; large ones are hashed in a thread."""
        if partial.proved == (1 << -(-len(data) // BLOCK_LENGTH)) - 1 and self._is_covered(piece):
            return True  # each of its blocks matched its leaf
        if len(data) <= INLINE_HASH:
            return check_piece(self._metainfo, piece, data)
        return await trio.to_thread.run_sync(check_piece, self._metainfo, piece, data)

    def _is_covered(self, piece: int) -> bool:
        """Whether leaves cover all of a piece: a hybrid torrent may end it with padding."""
        size = self._geometry.piece_size(piece)
        return self.leaves is not None and self.leaves.covered(piece, 0, size) == size

    def _on_bad(self, piece: int, digests: list[bytes]) -> None:
        self.failures += 1
        guilty = self._blame.on_failed(piece, self._picker.origins(piece), digests)
        log.info("%s: piece %d failed its hash check", self._name, piece)
        self._picker.on_failed(piece)
        self._accuse(guilty, piece)

    def _accuse(self, guilty: set[SourceId], piece: int) -> None:
        for source in guilty:
            self._on_guilty(source, f"sent wrong bytes in piece {piece}")

    def __repr__(self) -> str:
        return f"<Assembly {len(self._partial)} partial pieces, {self.failures} failed>"


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
