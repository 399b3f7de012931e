"""Who may have how many WebRTC offers that wait for an answer.

An offer is half of a connection: sockets, a certificate, with a relay an allocation there. So a
session has a bounded number of them, and a torrent with three trackers could use up a third.
Facts come in, `ask` decides; no clock and no socket is known here.

**A share.** A torrent has at most its share at a time, over all its trackers and info-hashes: a
quarter of all, divided by those who announce, `MOST` at most and `FEWEST` at least. So whoever
comes next still finds some. One that is *awaited* (a read of it waits, or a magnet's metadata is
looked for) shares with those alone who are awaited too.

**Whose offer ends** when there are none left: one of who is not awaited, for who is; else one of
who has at least two more, of the same kind or lower. The largest holder gives its oldest. An offer
that is younger than `SETTLED` stays: who is there to take it does so by then, and would wait in
vain for the rest; one that nobody took in that time lies with nobody, mostly.

**The line.** Who got less than it could have is told when an offer ends (`next_in_line`): first
who is awaited, else who asked first.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

MOST, FEWEST = 10, 2
"""Bounds of the share of one torrent. With `FEWEST` for each of the 32 that may be active at once,
and somewhat more for the first, the sum is less than a hundred."""
SETTLED = 5.0
"""Seconds after which an offer may be ended in favour of somebody else's."""

Owner = TypeVar("Owner")


class Taken(NamedTuple, Generic[Owner]):
    """An offer that must end now, so that another can be made."""

    owner: Owner
    offer_id: bytes


class Grant(NamedTuple, Generic[Owner]):
    """So many may be made; these end for that."""

    allowed: int
    taken: tuple[Taken[Owner], ...]


class OfferShares(Generic[Owner]):
    """The offers of a session, `total` at most. `is_awaited` says whether somebody waits now."""

    def __init__(self, total: int, is_awaited: Callable[[Owner], bool]) -> None:
        self.total = total
        self._is_awaited = is_awaited
        self._held: dict[Owner, dict[bytes, float]] = {}  # by when they were made, in that order
        self._making: Counter[Owner] = Counter()
        self._joined: dict[Owner, None] = {}
        self._line: dict[Owner, None] = {}

    def join(self, owner: Owner) -> None:
        """It announces from now on."""
        self._joined[owner] = None

    def leave(self, owner: Owner) -> None:
        """It does no longer; offers of it may still be answered."""
        self._joined.pop(owner, None)
        self._line.pop(owner, None)

    @property
    def joined(self) -> list[Owner]:
        """Who announces, in the order of coming."""
        return list(self._joined)

    @property
    def owners(self) -> list[Owner]:
        """Who has offers, also those that announce no longer."""
        return list(self._held)

    @property
    def used(self) -> int:
        """Offers that live, or are being made."""
        return sum(map(len, self._held.values())) + self._making.total()

    def number(self, owner: Owner) -> int:
        """How many it has, or are being made for it."""
        return len(self._held.get(owner, ())) + self._making[owner]

    def ask(self, owner: Owner, count: int, now: float) -> Grant[Owner]:
        """It wants `count` more. Each that is granted is followed by `on_made` or `on_not_made`."""
        room = min(count, self._share(owner) - self.number(owner))
        granted, taken = 0, []
        while granted < room:
            if self.used >= self.total:
                victim = self._victim(owner, now)
                if victim is None:
                    break
                self.on_end(*victim)
                taken.append(victim)
            self._making[owner] += 1
            granted += 1
        if granted < room:
            self._line.setdefault(owner)
        else:
            self._line.pop(owner, None)
        return Grant(granted, tuple(taken))

    def on_made(self, owner: Owner, offer_id: bytes, now: float) -> None:
        """One that was granted is there."""
        self.on_not_made(owner)  # is being made no longer
        self._held.setdefault(owner, {})[offer_id] = now

    def on_not_made(self, owner: Owner) -> None:
        """One that was granted could not be made, or was given up."""
        self._making[owner] -= 1
        if not self._making[owner]:
            del self._making[owner]  # an owner holds a swarm, and is remembered no longer than it

    def on_end(self, owner: Owner, offer_id: bytes) -> None:
        """It was answered, or nobody can answer it any more."""
        held = self._held.get(owner, {})
        held.pop(offer_id, None)
        if not held:
            self._held.pop(owner, None)

    def next_in_line(self) -> Owner | None:
        """Who is to be told that there are offers again, if there are; it leaves the line."""
        if not self._line or self.used >= self.total:
            return None
        owner = next(filter(self._is_awaited, self._line), next(iter(self._line)))
        del self._line[owner]
        return owner

    def _share(self, owner: Owner) -> int:
        awaited = self._is_awaited(owner)
        rivals = [one for one in self._joined if not awaited or self._is_awaited(one)]
        return max(FEWEST, min(MOST, self.total // 4 // max(1, len(rivals))))

    def _victim(self, owner: Owner, now: float) -> Taken[Owner] | None:
        """Whose offer ends for one of `owner`."""
        hurried, enough = self._is_awaited(owner), self.number(owner) + 2
        best: tuple[bool, int, float] | None = None
        found: Taken[Owner] | None = None
        for other, held in self._held.items():
            offer_id, made = next(iter(held.items()))
            awaited = other in self._joined and self._is_awaited(other)
            if other == owner or now - made < SETTLED or (awaited and not hurried):
                continue
            if awaited == hurried and self.number(other) < enough:
                continue
            rank = (awaited, -self.number(other), made)
            if best is None or rank < best:
                best, found = rank, Taken(other, offer_id)
        return found

    def __repr__(self) -> str:
        return f"<OfferShares {self.used} of {self.total}, {len(self._line)} in line>"
