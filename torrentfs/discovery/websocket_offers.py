"""What of our signalling still lives: offers that we made, offers that wait for our answer.

An offer holds a half-open connection, here and at its maker, so each has an end. Ours live
`OFFER_TIME`; an answer is believed once, and only for an offer that lives. Offers of others are
answered within `ANSWER_TIME` and at most `MAX_UNANSWERED` at a time, not faster than `Allowance`
has it; a flood costs one look-up each.

Pure: `now` is an argument, in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.discovery.websocket_allowance import Allowance

if TYPE_CHECKING:
    from collections.abc import Iterable

OFFER_TIME = 50.0
"""Seconds that an offer of ours lives: as in WebTorrent."""
ANSWER_TIME = 30.0
"""Seconds after which an answer of ours would find nobody waiting."""
MAX_UNANSWERED = 8
"""Offers of others in work at a time, for one torrent at one tracker: each is a connection being
made."""
BURST, RATE = 20.0, 1.0
"""Offers of others taken for one torrent at one tracker: 20 at once, then one a second."""


class OurOffers:
    """The offers that we made to one swarm over one tracker."""

    def __init__(self) -> None:
        self._ends: dict[bytes, float] = {}  # in the order of their ends

    def add(self, offer_ids: Iterable[bytes], now: float) -> None:
        """They are being sent."""
        self._ends.update(dict.fromkeys(offer_ids, now + OFFER_TIME))

    def take(self, offer_id: bytes, now: float) -> bool:
        """An answer came: whether it is one to an offer that lives, which it does no longer."""
        if self._ends.get(offer_id, now) <= now:  # what is over is for `expire` to tell
            return False
        del self._ends[offer_id]
        return True

    def drop(self, offer_ids: Iterable[bytes]) -> None:
        """Those of them that are here end before their time."""
        for offer_id in offer_ids:
            self._ends.pop(offer_id, None)

    def expire(self, now: float) -> list[bytes]:
        """Forget those whose time is over, and say which."""
        over = [offer_id for offer_id, end in self._ends.items() if end <= now]
        for offer_id in over:
            del self._ends[offer_id]
        return over

    def clear(self) -> list[bytes]:
        """Forget all, and say which there were."""
        return self.expire(float("inf"))

    @property
    def next_end(self) -> float:
        """When `expire` has something to do."""
        return next(iter(self._ends.values()), float("inf"))

    @property
    def last_end(self) -> float:
        """When none of those that live now does so any more."""
        return next(reversed(self._ends.values()), float("-inf"))

    def __len__(self) -> int:
        return len(self._ends)

    def __repr__(self) -> str:
        return f"<OurOffers {len(self)}>"


class TheirOffers:
    """The offers of others that wait for our answer, for one torrent at one tracker."""

    def __init__(self) -> None:
        self._ends: dict[tuple[bytes, bytes, bytes], float] = {}
        self._allowance = Allowance(BURST, RATE)

    def admit(self, key: tuple[bytes, bytes, bytes], now: float) -> bool:
        """Whether there is room for the offer `key` (info-hash, peer id, offer id)."""
        if len(self._ends) >= MAX_UNANSWERED:
            self._ends = {known: end for known, end in self._ends.items() if end > now}
        if len(self._ends) >= MAX_UNANSWERED or key in self._ends:
            return False
        if not self._allowance.spare(now):
            return False
        self._ends[key] = now + ANSWER_TIME
        return True

    def end(self, key: tuple[bytes, bytes, bytes], now: float) -> bool:
        """It is answered or declined: whether it was still waiting."""
        return self._ends.pop(key, now) > now

    def __len__(self) -> int:
        return len(self._ends)

    def __repr__(self) -> str:
        return f"<TheirOffers {len(self)}>"
