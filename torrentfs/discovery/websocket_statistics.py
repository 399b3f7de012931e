"""What goes through WebSocket trackers, in numbers: for one torrent, and for a session.

A `Tally` counts what one torrent's announcer sends and gets. That of the session counts along, so
what it says never goes down when a torrent goes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from functools import reduce
from typing import TYPE_CHECKING, Literal

from torrentfs.discovery.tracker import TrackerStatistics
from torrentfs.wire.announce import SwarmCounts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.discovery.websocket_announcer import Post

    What = Literal["offers_sent", "answers_received", "offers_received", "answers_sent", "dropped"]

MAX_TRACKERS = 10
"""WebSocket trackers of one torrent: all are connected to at the same time."""


@dataclass(frozen=True, slots=True)
class SignallingStatistics:
    """What went through the WebSocket trackers of one torrent."""

    offers_sent: int
    answers_received: int
    offers_received: int
    answers_sent: int
    dropped: int
    """Offers beyond the limits, and answers to nothing."""


class Tally:
    """Counts; `total` counts along."""

    __slots__ = ("_counts", "_total")

    def __init__(self, total: Tally | None = None) -> None:
        self._counts: Counter[str] = Counter()
        self._total = total

    def count(self, what: What, number: int = 1) -> None:
        """So many more of a field of `SignallingStatistics`."""
        self._counts[what] += number
        if self._total is not None:
            self._total.count(what, number)

    def statistics(self) -> SignallingStatistics:
        """The numbers so far."""
        return SignallingStatistics(
            *(self._counts[one.name] for one in fields(SignallingStatistics))
        )

    def __repr__(self) -> str:
        return f"<Tally {self.statistics()}>"


def tracker_statistics(url: str, tier: int, posts: Sequence[Post], now: float) -> TrackerStatistics:
    """One row for a tracker, whatever the number of info-hashes."""
    socket = next((post.socket for post in posts), None)
    next_announce: float | None = None
    error: str | None = None
    failures = max((post.failures for post in posts), default=0)
    if not posts:
        error = f"only {MAX_TRACKERS} WebSocket trackers are asked for a torrent"
    elif socket is not None and socket.is_open:
        error = next((post.last_error for post in posts if post.last_error), None)
        due = min(post.due for post in posts)
        next_announce = max(0.0, due - now) if due < float("inf") else None
    elif socket is not None and socket.last_error is not None:
        error = socket.last_error
        failures = max(failures, socket.failures)
        next_announce = max(0.0, socket.next_try - now)
    counts = reduce(SwarmCounts.or_more, (post.counts for post in posts), SwarmCounts())
    counted = max((post.counted for post in posts), default=float("-inf"))
    return TrackerStatistics(
        url=url,
        tier=tier,
        announces=sum(post.announces for post in posts),
        failures=failures,
        last_error=error,
        warning=next((post.warning for post in posts if post.warning), None),
        peers=sum(post.peers for post in posts),
        seeders=counts.seeders,
        leechers=counts.leechers,
        next_announce=next_announce,
        downloaded=counts.downloaded,
        counted=now - counted if counted > float("-inf") else None,
    )
