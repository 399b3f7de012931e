"""One tracker of one torrent: when it may be asked, what it said last.

Decisions only; `now` and the random source are arguments. Two times matter:

* `not_before`: asking earlier is rude. After an answer it is the tracker's `min interval` (or
  `DEFAULT_MIN_INTERVAL`), after a failure a back-off that doubles, with jitter so that a
  restarted tracker does not get everybody at one moment.
* `due`: the regular next announce, the tracker's `interval` within sane bounds.

What the tracker says of errors is kept in its own words: it is what a user needs to see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from random import Random

    from torrentfs.wire.announce import AnnounceReply

DEFAULT_MIN_INTERVAL = 60.0
"""Seconds between announces to a tracker that does not state a minimum."""
MIN_INTERVAL, MAX_INTERVAL = 60.0, 7200.0
"""Bounds in seconds of what a tracker may set: neither a flood nor forever."""
FIRST_BACKOFF, MAX_BACKOFF = 10.0, 1800.0
"""Seconds to the next try after the first failure, and after very many."""


@dataclass(frozen=True, slots=True)
class TrackerStatistics:
    """A tracker as a user wants to see it; times are in seconds from now, None where unknown."""

    url: str
    tier: int
    announces: int
    failures: int
    """Failures in a row; 0 after an answer."""
    last_error: str | None
    warning: str | None
    peers: int
    """Usable peers in its last answer."""
    seeders: int | None
    leechers: int | None
    next_announce: float | None


class Tracker:
    """The state of one announce URL."""

    def __init__(self, url: str, tier: int) -> None:
        self.url = url
        self.tier = tier
        self.scheme = _scheme(url)
        self.announces = 0
        self.failures = 0
        self.last_error: str | None = None
        self.warning: str | None = None
        self.peers = 0
        self.seeders: int | None = None
        self.leechers: int | None = None
        self.interval = 0.0
        self.not_before = float("-inf")
        self.due = float("-inf")
        self.started: set[bytes] = set()
        """Info-hashes whose `started` it has answered."""
        self.contacted: set[bytes] = set()
        """Info-hashes that it may know us for, so `stopped` is owed: no clear failure came."""
        self.ids: dict[bytes, bytes] = {}
        """The `tracker id` to be given back, by info-hash."""

    def on_announce(self, info_hash: bytes) -> None:
        """An announce is on its way."""
        self.announces += 1
        self.contacted.add(info_hash)

    def on_reply(self, reply: AnnounceReply, info_hash: bytes, peers: int, now: float) -> None:
        """It answered, with `peers` usable ones."""
        self.failures = 0
        self.last_error = None
        self.warning = reply.warning
        self.peers = peers
        self.seeders, self.leechers = reply.seeders, reply.leechers
        if reply.tracker_id is not None:
            self.ids[info_hash] = reply.tracker_id
        self.started.add(info_hash)
        self.interval = min(MAX_INTERVAL, max(MIN_INTERVAL, float(reply.interval)))
        least = DEFAULT_MIN_INTERVAL if reply.min_interval is None else float(reply.min_interval)
        self.not_before = now + min(self.interval, max(MIN_INTERVAL, least))
        self.due = max(self.not_before, now + self.interval)

    def on_failure(self, info_hash: bytes, reason: str, now: float, rng: Random) -> None:
        """It refused or could not be reached, said in `reason`."""
        self.last_error = reason
        if info_hash not in self.started:
            self.contacted.discard(info_hash)
        self._back_off(now, rng)

    def on_stopped(self) -> None:
        """It was told that we have left, as far as it could be reached: next comes `started`."""
        self.started.clear()
        self.contacted.clear()

    def on_round_end(self, now: float, rng: Random) -> None:
        """Others answered; if this one was asked and is still silent, it comes later next time."""
        if self.contacted and self.not_before <= now:
            self.last_error = "no answer yet"
            self._back_off(now, rng)

    def _back_off(self, now: float, rng: Random) -> None:
        self.failures += 1
        wait = min(MAX_BACKOFF, FIRST_BACKOFF * 2.0 ** min(16, self.failures - 1))
        self.not_before = self.due = now + wait * rng.uniform(0.75, 1.25)

    def statistics(self, now: float) -> TrackerStatistics:
        """A frozen picture."""
        waiting = self.due - now if self.due > float("-inf") else None
        return TrackerStatistics(
            url=self.url,
            tier=self.tier,
            announces=self.announces,
            failures=self.failures,
            last_error=self.last_error,
            warning=self.warning,
            peers=self.peers,
            seeders=self.seeders,
            leechers=self.leechers,
            next_announce=None if waiting is None else max(0.0, waiting),
        )

    def __repr__(self) -> str:
        return f"<Tracker {self.url} {self.last_error or f'{self.peers} peers'}>"


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme.lower()
    except ValueError:  # a malformed IPv6 host
        return ""
