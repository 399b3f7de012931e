"""Offers that outlive who announced them: a `websocket.Former`.

The search for a magnet's metadata ends with the first peer that gave it, while others have not
answered yet. Their answers are still worth a connection, which is the torrent's then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.discovery.websocket_offers import OurOffers
    from torrentfs.wire.ws_tracker import PeerAnswer


class Maker(Protocol):
    """Who made the offers: a `Signaller`."""

    def on_answer(self, url: str, answer: PeerAnswer) -> None:
        """A peer took one."""

    def forget_offers(self, offer_ids: Sequence[bytes]) -> None:
        """Nobody can answer these any more."""


class LeftOffers:
    """The offers of one info-hash at the tracker `url` that live."""

    def __init__(self, offers: OurOffers, url: str, maker: Maker) -> None:
        self._offers = offers
        self._url = url
        self._maker = maker

    def on_late_answer(self, answer: PeerAnswer) -> bool:
        """A peer answered an offer: whether it was one of these, so that nobody else is told."""
        if not self._offers.take(answer.offer_id, trio.current_time()):
            return False
        self._maker.on_answer(self._url, answer)
        return True

    def offers_end(self) -> float:
        """When the last of them ends, by `trio.current_time`."""
        return self._offers.last_end

    def end_offers(self) -> None:
        """Nobody can answer those that are left any more."""
        over = self._offers.clear()
        if over:
            self._maker.forget_offers(over)

    def __repr__(self) -> str:
        return f"<LeftOffers {len(self._offers)} at {self._url}>"
