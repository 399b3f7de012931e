"""Asking trackers how many peers they know of torrents (BEP 48), when somebody wants to see it.

Announces tell two of the three numbers anyway, for nothing. A scrape is for a user who looks at a
torrent now: nothing asks by itself. Torrents at the same tracker are asked for together, as many at
once as its protocol takes; not asked are trackers of torrents that do not announce (they sleep),
that failed last, that want no more, or that were asked in the last `SCRAPE_GAP` seconds.

What comes is kept by each `Tracker`, and shown by `TrackerTiers.statistics`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.wire import http_tracker, udp_tracker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torrentfs.discovery.tracker import Tracker
    from torrentfs.discovery.trackers import Announcer, TrackerTiers

log = logging.getLogger(__name__)

SCRAPE_TIME = 10.0
"""Seconds that whoever looks waits at most; a tracker that is up answers in one."""


class _Question:
    """What one tracker is asked."""

    def __init__(self, url: str, announcer: Announcer, at_once: int) -> None:
        self.trackers: list[Tracker] = []
        self.askers: dict[bytes, list[Tracker]] = {}
        self._url = url
        self._announcer = announcer
        self._at_once = at_once

    def add(self, tracker: Tracker, info_hashes: Iterable[bytes]) -> None:
        """A torrent wants to know of its info-hashes."""
        self.trackers.append(tracker)
        for info_hash in info_hashes:
            self.askers.setdefault(info_hash, []).append(tracker)

    async def ask(self) -> None:
        """Ask, some info-hashes after the others."""
        wanted = list(self.askers)
        error = None
        try:
            for at in range(0, len(wanted), self._at_once):
                some = wanted[at : at + self._at_once]
                counts = await self._announcer.scrape(self._url, some)
                now = trio.current_time()
                for info_hash in counts.keys() & set(some):
                    for tracker in self.askers[info_hash]:
                        tracker.on_counts(info_hash, counts[info_hash], now)
        except (TransportError, RemoteProtocolError) as failed:
            log.debug("tracker %s tells no counts: %s", self._url, failed)
            error = str(failed)
        for tracker in self.trackers:
            tracker.on_scraped(error)


async def scrape(torrents: Iterable[TrackerTiers], *, within: float = SCRAPE_TIME) -> None:
    """Ask for the counts of some torrents; returns when all answered, `within` seconds at most."""
    now = trio.current_time()
    questions: dict[str, _Question] = {}
    beside = []
    for tiers in torrents:
        if not tiers.is_running:
            continue
        if tiers.beside is not None:
            beside.append(tiers.beside)
        for tracker in tiers.ordered():
            announcer = tiers.announcers.get(tracker.scheme)
            if announcer is None or not tracker.may_scrape(now):
                continue
            tracker.on_scrape(now)
            udp = tracker.scheme == "udp"
            most = udp_tracker.SCRAPED_AT_ONCE if udp else http_tracker.SCRAPED_AT_ONCE
            question = questions.setdefault(tracker.url, _Question(tracker.url, announcer, most))
            question.add(tracker, tracker.wanted(tiers.info_hashes))
    with trio.move_on_after(within):
        async with trio.open_nursery() as nursery:
            for question in questions.values():
                nursery.start_soon(question.ask)
            for sockets in beside:
                nursery.start_soon(sockets.scrape)
