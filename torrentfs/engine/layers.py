"""The piece layers of a hybrid torrent that came without them, fetched while it is read (BEP 52).

A magnet gives the info dictionary and nothing outside of it, so of a hybrid torrent the v1 hashes
are known and the v2 piece layers are not. It is read as v1 at once. Meanwhile the layers are asked
of one peer that speaks v2, a few runs at a time, so that payload hardly notices (a run is 16 KiB on
the wire and proves itself). Each file whose layer is here is read by the block from then on (see
`leaves`); when all are, the torrent is stored with them, and the next mount has them at once.

Who has none says so and is asked again after a minute: it may be fetching them itself. Who is
silent is not asked again, or its late answers would look like answers to nothing. Who lies loses
the connection. v2-only torrents do not come here: without layers none of their pieces can be
verified, so `metadata` fetches those first.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from torrentfs.engine.leaves import Leaves
from torrentfs.engine.wakeup import Wakeup
from torrentfs.wire.hash_exchange import LayerFetch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from torrentfs.engine.peer import Peer
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.scheduling.picker import SourceId
    from torrentfs.wire.messages import Hashes

log = logging.getLogger(__name__)

QUEUE = 4
"""Runs asked at a time: 64 KiB of answers."""

PATIENCE = 10.0
"""Seconds without an answer after which another peer is asked."""

REST = 60.0
"""Seconds for which a peer that has no layers is not asked again."""

GATHER = 1.0
"""Seconds for which layers of small files are gathered, so that thousands come into use at once."""

INLINE = 64 * 1024
"""Bytes of layers that are looked at without a thread: 1 ms of hashing."""

END_WITHIN = 2.0
"""Seconds that storing may take at the end."""


class Layers:
    """Fetches what is missing; `run` brings it into use."""

    def __init__(self, metainfo: Metainfo, on_layers: Callable[[Metainfo], None]) -> None:
        """`on_layers`: the same torrent, with more piece layers."""
        self.metainfo = metainfo
        self.keep: Callable[[Metainfo], Awaitable[object]] | None = None
        """Stores the torrent; given by the session."""
        self._on_layers = on_layers
        self._fetch = LayerFetch(metainfo)
        self._giver: Peer | None = None
        self._until = 0.0
        self._resting: dict[SourceId, float] = {}
        self._found: dict[bytes, bytes] = {}
        self._wakeup = Wakeup()

    @staticmethod
    def are_missing(metainfo: Metainfo) -> bool:
        """Whether there is something to fetch, and it would be of use."""
        return metainfo.has_v1 and Leaves.are_of_use(metainfo) and bool(metainfo.missing_layers())

    # --- asking --------------------------------------------------------------------------------

    def on_offer(self, peer: Peer, now: float) -> None:
        """A peer is there: it is asked, if nobody else is."""
        if self._fetch.done or self._giver is not None or not peer.speaks_v2:
            return
        if now < self._resting.get(peer.source, 0.0):
            return
        self._giver = peer
        self._until = now + PATIENCE
        self._fetch.ask_again()
        self._ask()

    def _ask(self) -> None:
        assert self._giver is not None
        for request in self._fetch.requests(QUEUE):
            self._giver.sender.send(request)

    def on_hashes(self, source: SourceId, message: Hashes, now: float) -> None:
        """An answer; `RemoteProtocolError` when it is a lie. What comes too late is ignored."""
        if self._giver is None or self._giver.source != source:
            return
        self._fetch.on_hashes(message)
        self._until = now + PATIENCE
        layer = self._fetch.layers.pop(message.pieces_root, None)
        if layer is not None:
            self._found[message.pieces_root] = layer
            self._wakeup.set()
        if self._fetch.done:
            self._giver = None
        else:
            self._ask()

    def on_reject(self, source: SourceId, now: float) -> None:
        """It does not have them."""
        if self._giver is not None and self._giver.source == source:
            self._turn_away(now + REST)

    def on_gone(self, source: SourceId) -> None:
        """A source has left."""
        if self._giver is not None and self._giver.source == source:
            self._turn_away(0.0)
        self._resting.pop(source, None)

    def _turn_away(self, until: float) -> None:
        """Another peer is asked for what is not here."""
        assert self._giver is not None
        self._resting[self._giver.source] = until
        self._giver = None

    def tick(self, peers: Iterable[Peer], now: float) -> None:
        """Once a second: is the one who was asked silent, and is there another?"""
        if self._fetch.done:
            return
        if self._giver is not None and now >= self._until:
            self._turn_away(float("inf"))
        if self._giver is None:
            for peer in peers:
                self.on_offer(peer, now)

    # --- using ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Bring layers into use as they come, until all are here; store them."""
        stored = self.metainfo
        try:
            while self._found or not self._fetch.done:
                await self._wakeup.wait()
                if not self._fetch.done:
                    await trio.sleep(GATHER)
                await self._use()
        finally:
            if self.metainfo is not stored and self.keep is not None:
                with trio.CancelScope(shield=True), trio.move_on_after(END_WITHIN):
                    await self.keep(self.metainfo)

    async def _use(self) -> None:
        found = dict(self._found)
        if sum(map(len, found.values())) <= INLINE:
            self.metainfo = self.metainfo.with_piece_layers(found)
        else:
            self.metainfo = await trio.to_thread.run_sync(self.metainfo.with_piece_layers, found)
        for root in found:
            del self._found[root]
        log.debug("%s: %d piece layers came", self.metainfo.name, len(found))
        self._on_layers(self.metainfo)

    def __repr__(self) -> str:
        asked = "nobody" if self._giver is None else repr(self._giver)
        return f"<Layers {len(self.metainfo.piece_layers)} there, {asked} asked>"
