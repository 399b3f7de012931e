"""What the search for a magnet's metadata leaves to its torrent: the WebRTC peers that it met.

The search has a swarm of its own, and so has the torrent that follows a moment later. WebRTC peers
are passed on as they are, connected (`Swarm.kept`, `Swarm.guests`): they cannot be dialled, and one
that has not noticed the end of a connection yet passes over our next offer, and with it half a
minute. When nobody follows within `SUCCESSION` they are let go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torrentfs.engine.swarm import Met

SUCCESSION = 5.0
"""Seconds within which the torrent must be there: on a busy machine the disk may take some of them
to keep the metadata."""


class Succession:
    """Who waits for the torrents of searches that are over, by `InfoHashes.key`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._met: dict[str, list[Met]] = {}

    def leave(self, key: str, met: Sequence[Met]) -> None:
        """A search is over: these are for the torrent `key`."""
        if met:
            self._met.setdefault(key, []).extend(met)
            self._nursery.start_soon(self._wait, key)

    def claim(self, key: str) -> list[Met]:
        """Who was left to this torrent; once."""
        return self._met.pop(key, [])

    async def _wait(self, key: str) -> None:
        try:
            await trio.sleep(SUCCESSION)
        finally:
            part(self.claim(key))

    def __repr__(self) -> str:
        return f"<Succession of {len(self._met)} torrents>"


def part(met: Iterable[Met]) -> None:
    """Nobody wants these: close their connections."""
    for one in met:
        one.stream.abort()
