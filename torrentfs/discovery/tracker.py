"""One tracker of one torrent: when it may be asked, what it said last.

Decisions only; `now` and the random source are arguments. Two times matter:

* `not_before`: asking earlier is rude. After an answer it is the tracker's `min interval` (or
  `DEFAULT_MIN_INTERVAL`), after a failure a back-off that doubles, with jitter so that a
  restarted tracker does not get everybody at one moment.
* `due`: the regular next announce, the tracker's `interval` within sane bounds.

A tracker may say itself when to come again after a refusal, or never to (BEP 31).

What the tracker says of errors is kept in its own words: it is what a user needs to see. So are its
counts of peers, by info-hash: announces tell two of them, scrapes all three, and asking for them is
not free (`may_scrape`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from torrentfs.wire.announce import SwarmCounts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from torrentfs.wire.announce import AnnounceReply

DEFAULT_MIN_INTERVAL = 60.0
"""Seconds between announces to a tracker that does not state a minimum."""
MIN_INTERVAL, MAX_INTERVAL = 60.0, 7200.0
"""Bounds in seconds of what a tracker may set: neither a flood nor forever."""
FIRST_BACKOFF, MAX_BACKOFF = 10.0, 1800.0
"""Seconds to the next try after the first failure, and after very many."""
ANEW_GAP = 15.0
"""Seconds after an answer until an announce that its interval does not allow: where we are reached
has changed. A line that comes and goes is no reason for more."""
SCRAPE_GAP = 300.0
"""Seconds between scrapes of a torrent at one tracker (libtorrent's automatic ones do the same)."""


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
    downloaded: int | None = None
    """Times that somebody has finished the torrent."""
    counted: float | None = None
    """Seconds since the tracker told one of these three numbers."""
    scrape_error: str | None = None
    """Why the last scrape told nothing."""


class Tracker:
    """The state of one announce URL."""

    def __init__(self, url: str, tier: int) -> None:
        self.url = url
        self.tier = tier
        self.scheme, self.host = _scheme_and_host(url)
        self.announces = 0
        self.failures = 0
        self.last_error: str | None = None
        self.warning: str | None = None
        self.peers = 0
        self.scrape_error: str | None = None
        self.interval = 0.0
        self.not_before = float("-inf")
        self.due = float("-inf")
        self.started: set[bytes] = set()
        """Info-hashes whose `started` it has answered."""
        self.contacted: set[bytes] = set()
        """Info-hashes that it may know us for, so `stopped` is owed: no clear failure came."""
        self.ids: dict[bytes, bytes] = {}
        """The `tracker id` to be given back, by info-hash."""
        self.refused: set[bytes] = set()
        """Info-hashes for which it never wants to be asked again."""
        self._counts: dict[bytes, SwarmCounts] = {}
        self._counted = float("-inf")
        self._answered = float("-inf")
        self._scraped = float("-inf")

    def on_announce(self, info_hash: bytes) -> None:
        """An announce is on its way."""
        self.announces += 1
        self.contacted.add(info_hash)

    def on_reply(self, reply: AnnounceReply, info_hash: bytes, peers: int, now: float) -> None:
        """It answered, with `peers` usable ones."""
        self.failures = 0
        self._answered = now
        self.last_error = None
        self.warning = reply.warning
        self.peers = peers
        self.on_counts(info_hash, SwarmCounts(reply.seeders, reply.leechers), now)
        if reply.tracker_id is not None:
            self.ids[info_hash] = reply.tracker_id
        self.started.add(info_hash)
        self.interval = min(MAX_INTERVAL, max(MIN_INTERVAL, float(reply.interval)))
        least = DEFAULT_MIN_INTERVAL if reply.min_interval is None else float(reply.min_interval)
        self.not_before = now + min(self.interval, max(MIN_INTERVAL, least))
        self.due = max(self.not_before, now + self.interval)

    def on_failure(
        self,
        info_hash: bytes,
        reason: str,
        now: float,
        rng: Random,
        retry_in: float | None = None,
    ) -> None:
        """It refused or could not be reached, said in `reason`; `retry_in` see `TrackerFailure`."""
        self.last_error = reason
        if info_hash not in self.started:
            self.contacted.discard(info_hash)
        if retry_in == float("inf"):  # of another form of the torrent it may say otherwise
            self.refused.add(info_hash)
            return
        self._back_off(now, rng)
        if retry_in is not None:
            self.not_before = self.due = now + max(MIN_INTERVAL, retry_in)

    def wanted(self, info_hashes: Iterable[bytes]) -> list[bytes]:
        """Those that it may be asked for."""
        return [each for each in info_hashes if each not in self.refused]

    def ask_anew(self, now: float) -> None:
        """What we said is no longer true, or it failed for reasons of ours: ask it soon.

        `ANEW_GAP` seconds after its last answer at the earliest, and not if it was given up.
        """
        if self.not_before < float("inf"):
            self.failures = 0
            self.not_before = min(self.not_before, max(now, self._answered + ANEW_GAP))
            self.due = min(self.due, self.not_before)

    def give_up(self) -> None:
        """It is not to be asked any more; `last_error` says why."""
        self.not_before = self.due = float("inf")

    def on_counts(self, info_hash: bytes, counts: SwarmCounts, now: float) -> None:
        """It told how many peers it knows; what it left out stays as it was."""
        if counts != SwarmCounts():
            self._counted = now
            self._counts[info_hash] = counts.over(self._counts.get(info_hash, SwarmCounts()))

    def may_scrape(self, now: float) -> bool:
        """Whether to ask for counts: seldom, and nobody who does not answer or wants no more."""
        return (
            not self.failures
            and self.not_before < float("inf")
            and now >= self._scraped + SCRAPE_GAP
        )

    def on_scrape(self, now: float) -> None:
        """It is being asked for counts."""
        self._scraped = now
        self.scrape_error = "no answer yet"

    def on_scraped(self, error: str | None) -> None:
        """It answered, or it did not."""
        self.scrape_error = error

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
        waiting = self.due - now if abs(self.due) < float("inf") else None
        counts = reduce(SwarmCounts.or_more, self._counts.values(), SwarmCounts())
        return TrackerStatistics(
            url=self.url,
            tier=self.tier,
            announces=self.announces,
            failures=self.failures,
            last_error=self.last_error,
            warning=self.warning,
            peers=self.peers,
            seeders=counts.seeders,
            leechers=counts.leechers,
            next_announce=None if waiting is None else max(0.0, waiting),
            downloaded=counts.downloaded,
            counted=now - self._counted if self._counted > float("-inf") else None,
            scrape_error=self.scrape_error,
        )

    def __repr__(self) -> str:
        return f"<Tracker {self.url} {self.last_error or f'{self.peers} peers'}>"


def _scheme_and_host(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        return parts.scheme.lower(), parts.hostname or ""
    except ValueError:  # a malformed IPv6 host
        return "", ""
