"""Who has pins and prefetches fetched: wakes torrents that lack some of theirs, a few at a time.

A hundred pinned torrents do not all open at once: at most a quarter of the places that active
torrents have, `MOST` at most, are at work; the others wait asleep, first come first served. At
work, a torrent wants less than any that is read (`Need.AHEAD`): it waits for a place that nobody
needs, and loses it to whoever reads.

One for which nothing comes for `PATIENCE` seconds while it is active, or of which pieces were lost
again (a full disk), is put off: for a minute, then twice as long each time, up to an hour. So a
dead torrent's pin costs a minute now and then, and holds up nobody. While all is here nothing runs.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import trio

from torrentfs.engine.wakeup import Wakeup
from torrentfs.errors import DataUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torrentfs.engine.dormant import Dormant
    from torrentfs.engine.torrent import Torrent

log = logging.getLogger(__name__)

MOST = 8
"""Torrents at work at once."""

LOOK = 1.0
"""Seconds between two looks while any is at work."""

PATIENCE = 60.0
"""Seconds without a byte after which an active one is put off."""

AGAIN = 5.0
"""Seconds to the next try with one that was sent to sleep in the middle of it."""

FIRST_PAUSE = 60.0
LAST_PAUSE = 3600.0
"""Seconds for which one is put off: doubled from the first to the last."""


class Stock(Protocol):
    """What the porter asks of the cache."""

    @property
    def trouble(self) -> str | None:
        """Why nothing can be kept now, in words."""

    async def lacks(self, key: str, pieces: Sequence[range]) -> bool:
        """Whether some of the pieces are not in the cache; opens no file."""


class _Job:
    __slots__ = ("active", "bytes", "due", "pause", "since")

    def __init__(self, now: float) -> None:
        self.due = now
        self.pause = FIRST_PAUSE
        self.since = now
        """When a byte came last, or it became active."""
        self.bytes = 0
        self.active = False


class Porter:
    """The torrents of one session that have errands."""

    def __init__(self, stock: Stock, places: Callable[[], int], nursery: trio.Nursery) -> None:
        """`places`: how many torrents may be active."""
        self._places = places
        self._stock = stock
        self._nursery = nursery
        self._waiting: dict[Dormant, _Job] = {}
        self._at_work: dict[Dormant, _Job] = {}
        self._wakeup = Wakeup()

    def look(self, dormant: Dormant) -> None:
        """Its errands have changed, or what stood in their way."""
        now = trio.current_time()
        if dormant in self._at_work:
            self._at_work[dormant].since = now
        else:
            self._waiting[dormant] = _Job(now)
        self._wakeup.set()

    def on_lost(self, dormant: Dormant) -> None:
        """Pinned pieces were lost; who is at work or put off has its own way of finding out."""
        if dormant not in self._at_work and dormant not in self._waiting:
            self._waiting[dormant] = job = _Job(trio.current_time() + FIRST_PAUSE)
            job.pause *= 2
            self._wakeup.set()

    def forget(self, dormant: Dormant) -> None:
        """It is no more."""
        self._waiting.pop(dormant, None)
        self._at_work.pop(dormant, None)
        dormant.errands.take_back()

    def is_at_work(self, dormant: Dormant) -> bool:
        """Whether it may fetch what its errands lack."""
        return dormant in self._at_work

    async def run(self) -> None:
        """Look after all, until cancelled."""
        while True:
            when = float("inf")
            try:
                when = self._step(trio.current_time())
            except Exception:  # a bug of ours must cost this moment, not the mount
                log.exception("a bug while looking after pins")
                when = trio.current_time() + FIRST_PAUSE
            with trio.move_on_at(when):
                await self._wakeup.wait()

    def _step(self, now: float) -> float:
        """Whatever is due; when to look again."""
        for dormant, job in list(self._at_work.items()):
            self._judge(dormant, job, now)
        for dormant, job in list(self._waiting.items()):
            if len(self._at_work) >= max(1, min(MOST, self._places() // 4)):
                break
            if job.due <= now and not dormant.paused:
                del self._waiting[dormant]
                job.since = now
                self._at_work[dormant] = job
                self._nursery.start_soon(self._begin, dormant)
        if self._at_work:
            return now + LOOK
        due = [job.due for dormant, job in self._waiting.items() if not dormant.paused]
        return max(now + LOOK, min(due)) if due else float("inf")

    async def _begin(self, dormant: Dormant) -> None:
        errands = dormant.errands
        try:
            if dormant.torrent is None and not await self._stock.lacks(dormant.key, errands.pieces):
                if dormant in self._at_work:
                    self._finish(dormant)
                return
            torrent = await dormant.wake()
        except DataUnavailable as error:
            if dormant in self._at_work:
                self._put_off(dormant, str(error))
            return
        if dormant in self._at_work and self._stock.trouble:
            self._put_off(dormant, f"the cache: {self._stock.trouble}")
        elif dormant in self._at_work:
            errands.give(torrent)
            self._wakeup.set()

    def on_opened(self, dormant: Dormant, torrent: Torrent) -> None:
        """It was opened again, after a nap in the middle of its work."""
        if dormant in self._at_work and not self._stock.trouble:
            dormant.errands.give(torrent)

    def _finish(self, dormant: Dormant) -> None:
        del self._at_work[dormant]
        for each in list(dormant.errands.prefetches.values()):
            dormant.errands.end(each)
        dormant.errands.take_back()

    def _judge(self, dormant: Dormant, job: _Job, now: float) -> None:
        errands, torrent = dormant.errands, dormant.torrent
        if dormant.paused:
            self._set_aside(dormant, job)
            return
        if torrent is None:  # being opened, or it was sent to sleep: then it is woken again
            if not dormant.is_busy and now - job.since > AGAIN:
                job.since = now
                self._nursery.start_soon(self._begin, dormant)
            return
        if self._stock.trouble:
            self._put_off(dormant, f"the cache: {self._stock.trouble}")
            return
        errands.settle()
        active = torrent.inactive is None
        if torrent.downloaded != job.bytes:
            job.pause = FIRST_PAUSE
        if torrent.downloaded != job.bytes or active is not job.active or not active:
            job.bytes, job.active, job.since = torrent.downloaded, active, now
        if errands.is_over:
            lost = errands.missing(errands.kept_pieces)
            if not lost:
                self._finish(dormant)
            elif not torrent.picker.lacks_anything:
                self._put_off(dormant, f"{lost} pieces were lost again")
        elif now - job.since >= PATIENCE:
            self._put_off(dormant, f"no byte came in {now - job.since:.0f} s")

    def _set_aside(self, dormant: Dormant, job: _Job) -> None:
        del self._at_work[dormant]
        self._waiting[dormant] = job
        dormant.errands.take_back("the torrent is paused")

    def _put_off(self, dormant: Dormant, why: str) -> None:
        job = self._at_work.pop(dormant)
        job.due = trio.current_time() + job.pause
        job.pause = min(LAST_PAUSE, job.pause * 2)
        self._waiting[dormant] = job
        log.info("%s: what is pinned waits for %s", dormant.metainfo.name, why)
        dormant.errands.take_back(
            f"{why}; the next try is in {job.due - trio.current_time():.0f} s"
        )

    def __repr__(self) -> str:
        return f"<Porter {len(self._at_work)} at work, {len(self._waiting)} wait>"
