"""Pieces that come to the store and go from it: who is told, and when they are wanted again.

Peers hear of both at once: HAVE (BEP 3), and `lt_donthave` (BEP 54) from whom that is understood.
The picker hears of what was stored before it is stored (see `assembly`), and of what was lost with
the next demand or within a second: at once, and pieces of one read that push each other out of a
tiny cache would be fetched in turns as fast as they come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torrentfs.engine.peer import Peer
    from torrentfs.scheduling.picker import Picker
    from torrentfs.storage.base import PieceStore


class Holdings:
    """What a torrent has, as its peers and its picker know it."""

    def __init__(
        self,
        store: PieceStore,
        picker: Picker,
        peers: Callable[[], Sequence[Peer]],
        on_completed: Callable[[], None],
    ) -> None:
        """`on_completed` is called once, when the last missing piece was stored."""
        self._store = store
        self._picker = picker
        self._peers = peers
        self._on_completed = on_completed
        self._completed = store.have.complete
        self.on_lost: Callable[[Sequence[int]], None] = lambda pieces: None
        """Called with pieces that are not here any more."""
        self.lost: set[int] = set()
        """Pieces that the picker still takes for stored."""

    def on_stored(self, piece: int) -> None:
        """A verified piece was put into the store."""
        if piece not in self._store.have:  # no room for it, on disk or in memory
            self.lost.add(piece)
            return
        if self._store.have.complete and not self._completed:
            self._completed = True  # once (BEP 3), whatever is evicted and fetched again
            self._on_completed()
        for peer in self._peers():
            peer.tell_have(piece)
            peer.update_interest()

    def on_evicted(self, pieces: Sequence[int]) -> None:
        """The cache gave up pieces to make room, or found them damaged."""
        self.lost.update(pieces)
        peers = self._peers()
        for piece in pieces:
            for peer in peers:
                peer.tell_dont_have(piece)
        self.on_lost(pieces)

    def on_regained(self, pieces: Sequence[int]) -> None:
        """Files that are shared in place were restored: what was lost is here again."""
        self.lost.difference_update(pieces)
        peers = self._peers()
        for piece in pieces:
            self._picker.on_stored(piece)
            for peer in peers:
                peer.tell_have(piece)
                peer.update_interest()

    def tell_lost(self) -> None:
        """Bring what was lost to the picker."""
        if not self.lost:
            return
        for piece in self.lost:
            if piece not in self._store.have:
                self._picker.on_lost(piece)
        self.lost.clear()
        for peer in self._peers():
            peer.update_interest()

    def __repr__(self) -> str:
        return f"<Holdings {self._store.have!r}, {len(self.lost)} lost>"
