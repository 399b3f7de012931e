"""Serving peers what we have: whom (choking, BEP 3), and the bytes, metadata and hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from torrentfs.engine.uploads import MAX_REQUEST_LENGTH
from torrentfs.errors import StorageError
from torrentfs.metainfo.merkle import leaf_hashes
from torrentfs.scheduling.choker import RECHOKE_SECONDS, Choker, ChokerPeer
from torrentfs.scheduling.picker import Request
from torrentfs.wire.hash_exchange import HashServer
from torrentfs.wire.leaf_exchange import LeafRuns
from torrentfs.wire.messages import MetadataRequest
from torrentfs.wire.metadata import MetadataServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from torrentfs.engine.peer import Peer
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.base import PieceStore
    from torrentfs.wire.messages import HashRequest, Message

KEPT_LEAVES = 64
"""Pieces whose block hashes are kept: a peer asks for the runs of one piece one by one."""

CHANGE_SECONDS = 1.0
"""Between two rounds of choking because a peer changed its mind: it may do so a million times."""


class Serving:
    """The uploads of one torrent. With `allowed` False every peer stays choked."""

    def __init__(
        self,
        metainfo: Metainfo,
        store: PieceStore,
        rng: Random,
        *,
        allowed: bool,
        peers: Callable[[], Iterable[Peer]],
        on_lost: Callable[[int], None],
    ) -> None:
        self.allowed = allowed
        self.uploaded = 0
        """Bytes of blocks sent, to all peers."""
        self._geometry = metainfo.geometry
        self._store = store
        self._rng = rng
        self._peers = peers
        self._on_lost = on_lost
        self._metadata = MetadataServer(metainfo.info)
        self._hashes = HashServer(metainfo)
        self._runs = LeafRuns(metainfo)
        self._leaves: dict[int, bytes] = {}
        self._choker = Choker()
        self._last = float("-inf")
        self._changed = False

    def on_layers(self, metainfo: Metainfo) -> None:
        """The same torrent, with more piece layers: they are given too."""
        self._hashes = HashServer(metainfo)
        self._runs = LeafRuns(metainfo)

    def on_change(self, now: float) -> None:
        """A peer wants, or no longer wants, pieces, or has left: a free slot may be used."""
        self._changed = True
        if now >= self._last + CHANGE_SECONDS:
            self._rechoke(now)

    def tick(self, now: float) -> None:
        """Once a second."""
        if self._changed or now >= self._last + RECHOKE_SECONDS:
            self._rechoke(now)

    def _rechoke(self, now: float) -> None:
        self._last = now
        self._changed = False
        if not self.allowed:
            return
        peers = {peer.source: peer for peer in self._peers()}
        facts = {
            source: ChokerPeer(
                interested=peer.they_are_interested,
                download_rate=peer.down_rate.per_second(now),
                upload_rate=peer.sender.rate.per_second(now),
                connected_at=peer.connected_at,
            )
            for source, peer in peers.items()
        }
        self._choker.seeding = self._store.have.complete
        unchoked = self._choker.rechoke(facts, now, self._rng)
        for source, peer in peers.items():
            if source in unchoked:
                peer.sender.unchoke()
            else:
                peer.sender.choke()

    def is_servable(self, request: Request) -> bool:
        """Whether a block that a peer asks for exists, is here and is not too long."""
        piece, begin, length = request
        return (
            piece in self._store.have
            and 0 < length <= MAX_REQUEST_LENGTH
            and begin + length <= self._geometry.piece_size(piece)
        )

    async def read(self, request: Request) -> bytes | memoryview | None:
        """The bytes of a block that a peer asked for, or None when they are gone."""
        if request.piece not in self._store.have:
            return None
        data = self._store.read_nowait(*request)
        if data is not None:
            return data
        try:
            return await self._store.read(*request)
        except StorageError:
            if request.piece not in self._store.have:  # else it cannot be read just now
                self._on_lost(request.piece)
            return None

    async def answer(self, question: MetadataRequest | HashRequest, *, served: bool) -> Message:
        """Answer a peer that asks for the metadata (BEP 9) or for hashes (BEP 52).

        Block hashes are made of the piece, which costs reading it: only whom we serve gets them.
        """
        if isinstance(question, MetadataRequest):
            return self._metadata.answer(question)
        piece = self._runs.piece_of(question) if served else None
        if piece is not None:
            leaves = self._leaves.get(piece) or await self._leaves_of(piece)
            if leaves is not None:
                return self._runs.give(piece, question, leaves)
        return self._hashes.answer(question)

    async def _leaves_of(self, piece: int) -> bytes | None:
        """The hashes of the blocks of a piece that we have, or None."""
        tree = self._runs.tree(piece)
        data = await self.read(Request(piece, 0, self._geometry.piece_size(piece)))
        if tree is None or data is None:
            return None
        covered = memoryview(data)[: tree.size]
        leaves = await trio.to_thread.run_sync(leaf_hashes, covered)
        if len(self._leaves) >= KEPT_LEAVES:
            del self._leaves[next(iter(self._leaves))]
        self._leaves[piece] = leaves
        return leaves

    def __repr__(self) -> str:
        return f"<Serving {self._choker!r}, {self.uploaded} bytes sent>"
