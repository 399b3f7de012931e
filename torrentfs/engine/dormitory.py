"""Wakes torrents and sends them to sleep, as `scheduling.turns` decides.

One task for all torrents of a session. It sleeps without a timer while all of them do, looks every
half second while somebody waits for a place, and otherwise when the next one may have been idle for
long enough. What happened meanwhile (bytes came, bytes were sent) is read off the counters of those
that are open, a few dozen at most; nothing is told per block.

An active life is a task in the nursery of the session. It is ended at once; what it still owes (its
`stopped` to the trackers, the addresses of useful peers) goes on behind that for two seconds at
most, and the next life of the same torrent begins after it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol, cast

import trio

from torrentfs.engine.dormant import Dormant, check_readable
from torrentfs.engine.errands import bytes_of
from torrentfs.engine.life import Life
from torrentfs.engine.porter import Porter
from torrentfs.engine.wakeup import Wakeup
from torrentfs.errors import ConfigError, DataUnavailable
from torrentfs.metainfo.intervals import groups
from torrentfs.scheduling.turns import LOOK, Need, Turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.engine.config import SessionConfig
    from torrentfs.engine.dormant import Shelving
    from torrentfs.engine.torrent import Torrent
    from torrentfs.storage.store import TorrentStore
    from torrentfs.storage.tiered import Cache

log = logging.getLogger(__name__)

SPARE = 8
"""One part in so many of the cache cannot be pinned: what is read needs room, too."""


class Host(Protocol):
    """Who can make torrents: the session."""

    @property
    def config(self) -> SessionConfig:
        """What the user wants."""

    @property
    def cache(self) -> Cache:
        """Where the pieces are, what is pinned, and when a torrent was first seen."""

    async def open_dormant(self, dormant: Dormant) -> Torrent:
        """Open its store, and put what it needs around it."""

    async def run_torrent(
        self, torrent: Torrent, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Be active until cancelled."""

    async def close_torrent(self, torrent: Torrent) -> None:
        """Let go of its store."""


class Dormitory:
    """The dormants of one session."""

    def __init__(self, host: Host, turns: Turns, nursery: trio.Nursery) -> None:
        self.turns = turns
        self.volumes: dict[str, Dormant] = {}
        self._host = host
        self._nursery = nursery
        self._shelving = trio.Lock()
        self._wakeup = Wakeup()
        self.porter = Porter(host.cache, lambda: turns.places, nursery)
        self._seen: dict[str, tuple[int, int]] = {}
        """Bytes that the open ones had received and sent at the last look."""

    async def run(self) -> None:
        """Decide whenever there is something to decide, until cancelled."""
        self._nursery.start_soon(self.porter.run)
        while True:
            when = None
            try:
                when = self._decide(trio.current_time())
            except Exception:  # a bug of ours must cost this moment, not the mount
                log.exception("a bug while deciding who may be active")
                when = trio.current_time() + LOOK
            with trio.move_on_at(float("inf") if when is None else when):
                await self._wakeup.wait()

    def look(self) -> None:
        """Something has changed: decide soon."""
        self._wakeup.set()

    def _decide(self, now: float) -> float | None:
        turns = self.turns
        for key in list(self._seen):
            self._look_at(self.volumes[key], now)
        decision = turns.decide(now)
        for key in decision.stop:
            self._stop(self.volumes[key], self._queue_words())
        for key in decision.close:
            self._nursery.start_soon(self._send_to_sleep, self.volumes[key])
        for key in decision.start:
            self._start(self.volumes[key])
        for key in turns.queued:
            torrent = self.volumes[key].torrent
            if torrent is not None and torrent.inactive is not None:
                torrent.inactive = self._queue_words()
        return turns.next_change(now)

    def _look_at(self, dormant: Dormant, now: float) -> None:
        """Bring the counters and the need of an open torrent to the turns."""
        torrent, turns, key = dormant.torrent, self.turns, dormant.key
        if torrent is None:
            return
        counters = torrent.downloaded, torrent.uploaded
        if counters[0] > self._seen[key][0]:
            turns.on_progress(key, now)
        if counters != self._seen[key]:
            turns.on_touched(key, now)
        if dormant.users:
            turns.on_used(key, now)
        self._seen[key] = counters
        turns.on_need(key, dormant.need, now)

    def _queue_words(self) -> str:
        return f"waits for one of {self.turns.places} places (--max-active)"

    # -- lives --------------------------------------------------------------------------------

    def _start(self, dormant: Dormant) -> None:
        torrent = dormant.torrent
        assert torrent is not None
        torrent.inactive = "it is waking"
        previous, dormant.life = dormant.life, Life()
        self._nursery.start_soon(self._live, dormant, torrent, dormant.life, previous)

    def _stop(self, dormant: Dormant, why: str) -> None:
        if dormant.torrent is not None:
            dormant.torrent.rest(why)
        if dormant.life is not None:
            dormant.life.scope.cancel()

    async def _live(
        self, dormant: Dormant, torrent: Torrent, life: Life, previous: Life | None
    ) -> None:
        """One active life of `torrent`, which `dormant` may have let go of before it begins."""
        try:
            if previous is not None:
                await previous.ended.wait()
            with life.scope:
                torrent.inactive = None
                dormant.count_from_here()
                log.debug("%s: active", torrent.metainfo.name)
                await self._host.run_torrent(torrent, life)
        except Exception:  # a bug of ours must cost this torrent's turn, not the mount
            log.exception("%s: a bug ended its active life", torrent.metainfo.name)
            torrent.rest("it was ended by a bug")
            self.turns.release(dormant.key, trio.current_time())
        finally:
            life.began.set()
            life.ended.set()
            if dormant.life is life:
                dormant.life = None
            log.debug("%s: not active any more", torrent.metainfo.name)

    async def start_eagerly(self, dormant: Dormant) -> None:
        """Be active at once, without a need, if there is a place; returns when it is."""
        if self._seize(dormant):
            await self._begin(dormant)

    def _seize(self, dormant: Dormant) -> bool:
        return not dormant.paused and self.turns.seize(dormant.key, trio.current_time())

    async def _begin(self, dormant: Dormant) -> None:
        """Be active in a place that was seized."""
        dormant.users += 1  # so that it is not closed in between
        try:
            try:
                torrent = await dormant.wake()
            except DataUnavailable as error:
                log.warning("%s: %s", dormant.metainfo.name, error)
                self.turns.on_gone(dormant.key)
                return
            if dormant.life is None and self.turns.is_active(dormant.key):
                life = dormant.life = Life()
                self._nursery.start_soon(self._live, dormant, torrent, life, None)
                await life.began.wait()
        finally:
            dormant.users -= 1
            self.look()

    async def _send_to_sleep(self, dormant: Dormant) -> None:
        if dormant.is_busy or dormant.need is not Need.NOTHING:  # since that was decided
            self.on_used(dormant)
            self.on_need(dormant)
        elif dormant.torrent is not None:
            await dormant.sleep()

    async def shelve_many(self, shelvings: Sequence[Shelving]) -> list[Dormant]:
        """The dormants of these torrents, new or known; see `Session.shelve_many`."""
        for each in shelvings:
            check_readable(each.metainfo)
        async with self._shelving:  # so that nobody shelves the same torrent meanwhile
            new: dict[str, Shelving] = {}
            for each in shelvings:
                if each.metainfo.hashes.key not in self.volumes:
                    new.setdefault(each.metainfo.hashes.key, each)
            now = time.time()
            when = [now if each.added is None else each.added for each in new.values()]
            cache, timeout = self._host.cache, self._host.config.read_timeout
            known = await cache.keep_many([each.metainfo for each in new.values()], when)
            for (key, each), (added, pieces) in zip(new.items(), known, strict=True):
                added = added if each.added is None else each.added
                self.volumes[key] = Dormant(each, self, added=added, pieces=pieces, timeout=timeout)
        pinned = {key: self.volumes[key].errands for key, each in new.items() if each.pins}
        if pinned:
            await self._host.cache.keep_pins({key: own.kept_pieces for key, own in pinned.items()})
            for key in pinned:
                self.porter.look(self.volumes[key])
        found = []
        async with trio.open_nursery() as nursery:
            for each in shelvings:
                dormant = self.volumes[each.metainfo.hashes.key]
                found.append(dormant)
                if each is not new.get(dormant.key):
                    dormant.add_peers(each.peers, "user")
                if each.eager and self._seize(dormant):  # places go in the order of naming
                    nursery.start_soon(self._begin, dormant)
        return found

    async def forget(self, dormant: Dormant, reason: str) -> None:
        """End it for good; reads that wait fail."""
        dormant.fail_reads(reason)
        self.porter.forget(dormant)
        if dormant.errands.kept:
            dormant.errands.keep(())
            await self.keep_pins(dormant)
        await dormant.sleep()
        self.turns.on_gone(dormant.key)
        self._seen.pop(dormant.key, None)
        self.volumes.pop(dormant.key, None)

    # -- as a `Keeper` ------------------------------------------------------------------------

    def on_used(self, dormant: Dormant) -> None:
        """It is read."""
        self.turns.on_used(dormant.key, trio.current_time())

    def on_need(self, dormant: Dormant) -> None:
        """It may lack something now."""
        self.turns.on_need(dormant.key, dormant.need, trio.current_time())
        self.look()

    def on_released(self, dormant: Dormant) -> None:
        """All its files are closed."""
        self.turns.on_released(dormant.key)

    def is_queued(self, dormant: Dormant) -> bool:
        """Whether it waits for a place."""
        return self.turns.is_queued(dormant.key)

    def begin_opening(self, dormant: Dormant) -> None:
        """Open it, in a task of its own."""
        self._nursery.start_soon(self._open, dormant)

    async def _open(self, dormant: Dormant) -> None:
        try:
            torrent = await self._host.open_dormant(dormant)
        except Exception as error:
            log.exception("%s cannot be opened", dormant.metainfo.name)
            dormant.on_not_opened(f"it cannot be opened: {error}")
        except BaseException:
            dormant.on_not_opened("torrentfs is shutting down")
            raise
        else:
            self.turns.on_used(dormant.key, trio.current_time())
            dormant.on_opened(torrent)
            self.porter.on_opened(dormant, torrent)
            self._seen[dormant.key] = torrent.downloaded, torrent.uploaded
            self.look()

    def give_up(self, dormant: Dormant) -> None:
        """Take its place back, at once."""
        self.turns.release(dormant.key, trio.current_time())
        self._stop(dormant, "it is not active")
        self.look()

    async def close(self, dormant: Dormant, torrent: Torrent) -> None:
        """Close the store."""
        self._seen.pop(dormant.key, None)
        self.turns.on_gone(dormant.key)
        await self._host.close_torrent(torrent)

    def on_errands(self, dormant: Dormant) -> None:
        """It has more to fetch in the background, or may go on with that."""
        self.porter.look(dormant)

    def on_lost(self, dormant: Dormant) -> None:
        """Pinned pieces of it were lost."""
        self.porter.on_lost(dormant)

    async def keep_metadata(self, dormant: Dormant) -> None:
        """Remember its .torrent as it is now."""
        await self._host.cache.keep_metadata(dormant.metainfo, dormant.added)

    async def keep_pins(self, dormant: Dormant) -> None:
        """See to it that its pinned pieces are never evicted, and no others are spared."""
        await self._host.cache.keep_pins({dormant.key: dormant.errands.kept_pieces})

    async def evict(self, torrent: Torrent, pieces: Sequence[int]) -> int:
        """Drop pieces from the cache, but not pinned ones; the bytes freed on disk."""
        return await self._host.cache.evict(cast("TorrentStore", torrent.store), pieces)

    def check_room(self, dormant: Dormant, kept: Sequence[range]) -> None:
        """`ConfigError` if these bytes cannot be pinned, for want of room."""
        geometry = dormant.metainfo.geometry
        size = bytes_of(geometry, groups(kept, geometry.piece_length))
        others = [each for each in self.volumes.values() if each is not dormant]
        taken = sum(each.errands.kept_size for each in others if each.errands.kept)
        self._check("pin", "pins", size, taken)

    def check_prefetch(self, dormant: Dormant, pieces: Sequence[range]) -> None:
        """`ConfigError` if the cache has no room for these beside what is fetched and kept."""
        size = dormant.errands.size_with(pieces) - dormant.errands.size
        taken = sum(each.errands.size for each in self.volumes.values() if each.errands)
        self._check("prefetch", "pins and prefetches", size, taken)

    def _check(self, verb: str, who: str, size: int, taken: int) -> None:
        cache = self._host.config.cache_size
        most = cache - cache // SPARE
        if size > most - taken:
            raise ConfigError(
                f"no room to {verb} {_words(size)}: {_words(max(0, most - taken))} are left of the "
                f"{_words(most)} that {who} may take of the cache (--cache-size {_words(cache)})"
            )

    def __repr__(self) -> str:
        return f"<Dormitory of {len(self.volumes)}: {self.turns!r}>"


def _words(size: int) -> str:
    """`1.5 GiB`."""
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1024:.0f} KiB"
