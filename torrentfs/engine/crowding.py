"""Who goes when somebody calls and no place is free: a seed that we need no longer.

Two that have everything have nothing to say to each other, but a torrent that was completed, or
is shared, stays connected to all seeds that it ever dialled; peers that want something would find
no place. libtorrent parts with them at once (`close_redundant_connections`). We wait until a place
is wanted: what a cache gives up has to be fetched again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.engine.peer import Peer
    from torrentfs.metainfo.bitfield import Bitfield

SETTLED = 10.0
"""Seconds after which a peer has said what it has, and what it wants."""


def make_place(have: Bitfield, peers: Sequence[Peer]) -> bool:
    """If we `have` all, part with the seed that was silent for longest; whether one went."""
    if not have.complete:
        return False
    now = trio.current_time()
    redundant = [
        peer
        for peer in peers
        if peer.pieces.complete
        and not peer.they_are_interested
        and now - peer.connected_at >= SETTLED
    ]
    if not redundant:
        return False
    min(redundant, key=lambda peer: peer.last_received).close("both have everything")
    return True
