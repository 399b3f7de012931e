"""Torrents whose place another one has taken: they end when nobody has a file of theirs open.

Who reads the old edition of a publication goes on reading it. It is in the library no more, so
nobody finds it; but it can be read, and counts as a torrent of the mount when that ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.daemon.places import Mount
    from torrentfs.engine.dormant import Dormant
    from torrentfs.storage.records import Pin


class Session(Protocol):
    """What is needed of a session."""

    async def forget(self, key: str) -> None: ...


class Retired:
    """The torrents that end; `turn` is held by whoever changes what is shown."""

    def __init__(self, session: Session, nursery: trio.Nursery, turn: trio.Lock) -> None:
        self._session = session
        self._nursery = nursery
        self._turn = turn
        self._volumes: dict[str, Dormant] = {}

    @property
    def volumes(self) -> list[Dormant]:
        """Those that somebody still reads."""
        return list(self._volumes.values())

    async def add(self, key: str, volume: Dormant, mount: Mount) -> None:
        """Let `volume` end when it is closed; nothing more is fetched for its pins."""
        self._volumes[key] = volume
        await volume.unpin_all(volume.pins)
        self._nursery.start_soon(self._end, key, volume, mount)

    async def take_back(self, key: str, pins: Sequence[Pin]) -> None:
        """It is shown again, with these pins; nothing happens when it is not one of these.

        They need no room of their own: those of what it takes the place of end in a moment.
        """
        volume = self._volumes.pop(key, None)
        if volume is not None and pins:
            await volume.pin_all(pins, even_without_room=True)

    async def _end(self, key: str, volume: Dormant, mount: Mount) -> None:
        await mount.wait_closed(volume)
        with trio.CancelScope(shield=True):
            async with self._turn:
                if self._volumes.get(key) is volume:
                    del self._volumes[key]
                    mount.expel(volume)
                    await self._session.forget(key)
