"""A torrent of a mount, which sleeps until somebody reads it (a `Volume` of the vfs).

Names, sizes and hashes are at hand always; everything else exists only while it is awake, in two
stages:

* *opened*: store and reader are there, cached bytes are answered. No socket, no tracker, no task.
* *active*: swarm, trackers, DHT, local discovery and web seeds as well. It begins with the first
  byte that is wanted and is not here (a read, read-ahead, a pin), as soon as a place is free:
  who gets one is decided by `scheduling.turns`, and carried out by the `Dormitory`.

Asleep it costs no task, timer, descriptor or socket. A read opens it, and waits for that, then for
a place, then for the bytes; all of it within the time that a read may wait.

What a nap must not lose stays here: the circuit breaker (or a dead torrent would cost its full
time-out again), the swarm's peer book and bans, what the trackers said of their intervals, the web
seeds less the liars among them, how many bytes came and went. What it does lose is blocks of pieces
that are not whole, and suspicions of peers that are not proved.

A torrent that sleeps is not announced, and peers that call it are hung up on, as by a client that
does not have it.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from torrentfs.discovery.trackers import Totals
from torrentfs.engine.breaker import Breaker
from torrentfs.engine.errands import Errands, Pin, range_of
from torrentfs.engine.reader import HURRY
from torrentfs.engine.report import xattrs_of
from torrentfs.engine.stats import TorrentStatistics
from torrentfs.errors import DataUnavailable, InvalidTorrent
from torrentfs.metainfo.intervals import common, covers, each_of, groups
from torrentfs.scheduling.turns import Need

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from torrentfs.engine.errands import Prefetch
    from torrentfs.engine.life import Life
    from torrentfs.engine.swarm import Address, Swarm
    from torrentfs.engine.torrent import Torrent
    from torrentfs.engine.why import Why
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.transports.webseed import WebSeed

log = logging.getLogger(__name__)

REMEMBERED = 50
"""Addresses of peers that a torrent keeps while it sleeps."""

LET_GO = 2.0
"""Seconds that reads of the disk, and who holds a torrent awake, have to let go of it."""

GLANCE = 0.25
"""Seconds between two looks of a read that waits for its torrent to be opened."""

_NAPS = "the torrent goes to sleep"
"""What ends reads of the store when the user sends it to sleep: they begin again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelving:
    """A torrent to be shown; see `Session.shelve`."""

    metainfo: Metainfo
    added: float | None = None
    trackers: Sequence[str] = ()
    web_seeds: Sequence[str] = ()
    peers: Sequence[Address] = ()
    select: Sequence[range] = ()
    eager: bool = False
    pins: Sequence[tuple[int | None, int, int | None]] = ()
    """What was pinned in an earlier run: (file, offset, length), see `errands.Pin`."""


class Outfit(NamedTuple):
    """Where a torrent's bytes come from; kept through naps."""

    swarm: Swarm
    seeds: list[WebSeed]


class Keeper(Protocol):
    """Who opens, closes and runs: the `Dormitory`."""

    def on_used(self, dormant: Dormant) -> None:
        """It is read."""

    def on_need(self, dormant: Dormant) -> None:
        """It may lack something now."""

    def on_released(self, dormant: Dormant) -> None:
        """All its files are closed."""

    def is_queued(self, dormant: Dormant) -> bool:
        """Whether it waits for a place."""

    def begin_opening(self, dormant: Dormant) -> None:
        """Open it, in a task of its own; `dormant.on_opened` or `on_not_opened` will be called."""

    def give_up(self, dormant: Dormant) -> None:
        """Take its place back, at once."""

    async def close(self, dormant: Dormant, torrent: Torrent) -> None:
        """Close the store."""

    def on_errands(self, dormant: Dormant) -> None:
        """It has more to fetch in the background, or may go on with that."""

    def on_lost(self, dormant: Dormant) -> None:
        """Pinned pieces of it were lost."""

    async def keep_metadata(self, dormant: Dormant) -> None:
        """Remember its .torrent as it is now."""

    async def start_eagerly(self, dormant: Dormant) -> None:
        """Be active without a need, if there is a place."""

    def check_room(self, dormant: Dormant, kept: Sequence[range]) -> None:
        """`ConfigError` if these bytes cannot be pinned, for want of room."""

    def check_prefetch(self, dormant: Dormant, pieces: Sequence[range]) -> None:
        """`ConfigError` if the cache has no room for these beside what is fetched and kept."""

    async def keep_pins(self, dormant: Dormant) -> None:
        """See to it that its pinned pieces are never evicted, and no others are spared."""

    async def evict(self, torrent: Torrent, pieces: Sequence[int]) -> int:
        """Drop pieces from the cache, but not pinned ones; the bytes freed on disk."""


def check_readable(metainfo: Metainfo) -> None:
    """`InvalidTorrent` for a v2 torrent whose hashes are not all there: nothing could be proved."""
    if not metainfo.has_v1 and metainfo.missing_layers():
        raise InvalidTorrent(
            f"{metainfo.name}: the torrent lacks its piece layers; use its magnet link, "
            "then they are fetched from peers"
        )


class Dormant:
    """Made by `Session.shelve`."""

    def __init__(
        self, shelving: Shelving, keeper: Keeper, *, added: float, pieces: int, timeout: float
    ) -> None:
        self.metainfo = shelving.metainfo
        self.key = self.metainfo.hashes.key
        self.added = added
        self.select = tuple(shelving.select)
        self.trackers = tuple(shelving.trackers)
        self.web_seeds = tuple(shelving.web_seeds)
        self.torrent: Torrent | None = None
        """While it is opened."""
        self.life: Life | None = None
        """While it is active, and until the last of that has ended."""
        self.outfit: Outfit | None = None
        """Since it was opened for the first time."""
        self.is_outdated = False
        """Whether the outfit asks others than is known now."""
        self.breaker = Breaker(timeout)
        self.users = 0
        """Reads, and others, that must not be left without a torrent."""
        self.paused = False
        self.peers: list[tuple[Address, str]] = [(each, "user") for each in shelving.peers]
        """Addresses told before there was a swarm, and by whom."""
        self._named = set(shelving.peers)
        self.errands = Errands(self.metainfo.geometry, (Pin(*each) for each in shelving.pins))
        """What is to be fetched of it although nobody reads it."""
        self._keeper = keeper
        self._timeout = timeout
        self._handles: Counter[int] = Counter()
        self._opening: trio.Event | None = None
        self._closing: trio.Event | None = None
        self._trouble = ""
        self._stopped: str | None = None
        self._hurry: tuple[float, str] = (float("-inf"), "")
        self._napping: Torrent | None = None
        self._idle = trio.Event()
        self._pieces = min(pieces, self.metainfo.geometry.num_pieces)
        self._last: TorrentStatistics | None = None
        self._counted = (0, 0)
        """Bytes sent and received before the active life that trackers know of."""

    # -- as a volume --------------------------------------------------------------------------

    async def read(
        self, file: int, offset: int, size: int, *, ahead: bool = True
    ) -> bytes | memoryview:
        """Bytes of a file, see `reader.Reader.read`; opens the torrent."""
        while True:
            torrent = self.torrent
            if torrent is None:
                torrent = await self._opened()
            self.users += 1
            self._keeper.on_used(self)
            try:
                return await torrent.reader.read(file, offset, size, ahead=ahead)
            except DataUnavailable:
                if torrent is not self._napping:
                    raise
            finally:
                self._leave()

    def on_open(self, file: int) -> None:
        """A program opened a file; nothing is fetched or opened for that alone."""
        self._handles[file] += 1
        if self.torrent is not None:
            self.torrent.on_open(file)

    def on_release(self, file: int) -> None:
        """The last handle of one open is closed."""
        self._handles[file] -= 1
        if self._handles[file] <= 0:
            del self._handles[file]
        if self.torrent is not None:
            self.torrent.on_release(file)
        if not self._handles:
            self._keeper.on_released(self)

    def xattrs(self) -> Mapping[str, str]:
        """What `--xattrs` shows of it, by name without the `user.torrentfs.` prefix."""
        return xattrs_of(self.statistics())

    # -- waking and sleeping ------------------------------------------------------------------

    async def wake(self) -> Torrent:
        """Open it; that counts as a use. Nobody is called for that alone.

        It may go back to sleep after a while: `awake` holds it. `DataUnavailable` when it cannot
        be opened, or not in the time that a read may wait.
        """
        torrent = self.torrent or await self._opened()
        self._keeper.on_used(self)
        return torrent

    @asynccontextmanager
    async def awake(self) -> AsyncIterator[Torrent]:
        """Keep it open for the time of a `with` block, unless it is sent to sleep or forgotten."""
        torrent = await self.wake()
        self.users += 1
        try:
            yield torrent
        finally:
            self._leave()

    def _leave(self) -> None:
        self.users -= 1
        if not self.users:
            self._idle.set()

    async def _opened(self) -> Torrent:
        """Wait until it is open."""
        since = trio.current_time()
        await trio.lowlevel.checkpoint_if_cancelled()
        while self.torrent is None:
            if self._stopped is not None:
                raise DataUnavailable(self._stopped)
            now = trio.current_time()
            until, reason = self._hurry
            if now < until and now >= since + HURRY:
                raise DataUnavailable(reason)
            if now >= since + self._timeout:
                raise DataUnavailable(f"the cache did not open it in {self._timeout:.0f} s")
            event = self._closing if self._closing is not None else self._opening
            if event is None:
                self._trouble = ""
                event = self._opening = trio.Event()
                self._keeper.begin_opening(self)
            with trio.move_on_after(min(GLANCE, since + self._timeout - now)):
                await event.wait()
            if self._trouble:
                raise DataUnavailable(self._trouble)
        return self.torrent

    def on_opened(self, torrent: Torrent) -> None:
        """Its store and reader are there."""
        if self._last is not None:
            torrent.carry(self._last)
        torrent.reader.breaker = self.breaker
        torrent.paused = self.paused
        torrent.on_demand = self._on_demand
        torrent.holdings.on_lost = self._on_lost
        torrent.rest("it is not active yet")
        for file, times in self._handles.items():
            for _ in range(times):
                torrent.on_open(file)
        if self._stopped is not None:
            torrent.fail_reads(self._stopped)
        until, reason = self._hurry
        if trio.current_time() < until:
            torrent.hurry_reads(reason, until - trio.current_time())
        self.torrent = torrent
        self._end_opening()

    def on_not_opened(self, why: str) -> None:
        """It could not be opened."""
        self._trouble = why
        self._end_opening()

    def _end_opening(self) -> None:
        if self._opening is not None:
            self._opening.set()
            self._opening = None

    def _on_demand(self) -> None:
        if not self.paused:
            self._keeper.on_need(self)

    def _on_lost(self, pieces: Sequence[int]) -> None:
        kept = self.errands.kept_pieces
        if kept and any(covers(kept, range(piece, piece + 1)) for piece in pieces):
            self._keeper.on_lost(self)

    @property
    def is_busy(self) -> bool:
        """Whether somebody would miss it now."""
        return self.users > 0 or self._opening is not None or self._closing is not None

    async def sleep(self) -> None:
        """Close the store, end all tasks and sockets; reads that wait open it again."""
        while (event := self._opening if self._closing is None else self._closing) is not None:
            await event.wait()  # a moment; a read that waited too may be opening it again by then
        torrent = self.torrent
        if torrent is None:
            return
        closing = self._closing = trio.Event()
        self._napping = torrent
        self._keeper.give_up(self)
        try:
            with trio.CancelScope(shield=True):  # half asleep would be a leak; all of it is bounded
                torrent.fail_reads(_NAPS)
                self._note(torrent)
                self.torrent = None  # who reads now waits until it is closed, and opens it again
                with trio.move_on_after(LET_GO):  # who holds it longer finds its store closed
                    while self.users:
                        self._idle = trio.Event()
                        await self._idle.wait()
                if self.life is not None:
                    await self.life.ended.wait()
                self._note(torrent)
                self._let_go(torrent)
                await self._keeper.close(self, torrent)
        finally:
            self._closing = self._napping = None
            closing.set()

    def _note(self, torrent: Torrent) -> None:
        """Keep what a nap must not lose."""
        self.metainfo = torrent.metainfo  # with the piece layers that came meanwhile
        self._last = replace(
            torrent.statistics(),
            state="asleep",
            download_rate=0.0,
            upload_rate=0.0,
            waiting_reads=0,
            peers=(),
            trackers=(),
        )

    def _let_go(self, torrent: Torrent) -> None:
        """Nothing of ours may hold on to the torrent."""
        torrent.on_demand = lambda: None
        torrent.holdings.on_lost = lambda pieces: None
        self.errands.on_asleep(torrent)
        if self.outfit is not None:
            self.outfit.seeds[:] = torrent.seeds
            self.outfit.swarm.talk = None
            self.outfit.swarm.is_awaited = lambda: False
            self.outfit.swarm.on_crowded = lambda: False
            self.outfit.swarm.book.keep_best(REMEMBERED)

    async def renew(self, shelving: Shelving) -> bool:
        """Ask those that `shelving` names from now on, where a new .torrent or link names others.

        False: nothing is new. An active life ends, with a word to the trackers of before, and
        another one begins; reads that wait go on in that.
        """
        self.add_peers([each for each in shelving.peers if each not in self._named], "user")
        self._named |= set(shelving.peers)
        trackers, web_seeds = tuple(shelving.trackers), tuple(shelving.web_seeds)
        same = (trackers, web_seeds) == (self.trackers, self.web_seeds)
        if same and self.metainfo.renewed(shelving.metainfo) is self.metainfo:
            return False
        was_active = self.life is not None
        await self.sleep()
        self.metainfo = self.metainfo.renewed(shelving.metainfo)  # which has more layers by now
        self.trackers, self.web_seeds = trackers, web_seeds
        self.is_outdated = self.outfit is not None
        await self._keeper.keep_metadata(self)
        if self.errands.kept or self.errands.prefetches:
            self._keeper.on_errands(self)
        if was_active:
            await self._keeper.start_eagerly(self)
        return True

    # -- for the user -------------------------------------------------------------------------

    async def pause(self) -> None:
        """No traffic: reads of what is not here fail at once, cached bytes are still answered."""
        self.paused = True
        if self.torrent is not None:
            self.torrent.paused = True
            self._keeper.give_up(self)
            self.torrent.reader.look_again()
        if self.life is not None:
            await self.life.ended.wait()

    def resume(self) -> None:
        """Fetch again, when something is wanted."""
        self.paused = False
        if self.torrent is not None:
            self.torrent.paused = False
            self._keeper.on_need(self)
        if self.errands.kept or self.errands.prefetches:
            self._keeper.on_errands(self)

    def fail_reads(self, reason: str) -> None:
        """Fail every waiting read now, and those to come that would wait (shutdown)."""
        self._stopped = reason
        if self.torrent is not None:
            self.torrent.fail_reads(reason)

    def hurry_reads(self, reason: str, seconds: float) -> None:
        """For so many seconds, fail reads for which nothing comes: somebody wants to unmount."""
        self._hurry = (trio.current_time() + seconds, reason)
        if self.torrent is not None:
            self.torrent.hurry_reads(reason, seconds)

    def add_peers(self, addresses: Sequence[Address], origin: str) -> None:
        """Learn of peers; they are dialled when it is active."""
        if self.outfit is not None:
            self.outfit.swarm.add_peers(addresses, origin)
        else:
            self.peers += [(address, origin) for address in addresses]

    # -- the cache ----------------------------------------------------------------------------

    @property
    def pins(self) -> tuple[Pin, ...]:
        """What is pinned, for who makes it last (`Shelving.pins`)."""
        return self.errands.pins

    async def pin(
        self, file: int | None = None, offset: int = 0, length: int | None = None
    ) -> None:
        """Fetch these bytes (of a file, or of all) in the background, and keep them.

        `ConfigError` when the cache has not the room, or there is no such file.
        """
        await self.pin_all([Pin(file, offset, length)])

    async def pin_all(self, pins: Sequence[Pin], *, even_without_room: bool = False) -> None:
        """`pin` for several, all or none; `even_without_room` as those of an earlier run are."""
        kept = self.errands.with_pins(pins)
        if not even_without_room:
            self._keeper.check_room(self, kept)
        self.errands.keep(kept)
        await self._keeper.keep_pins(self)
        self._keeper.on_errands(self)

    async def unpin(
        self, file: int | None = None, offset: int = 0, length: int | None = None
    ) -> None:
        """The end of `pin` for these bytes: they stay until their room is needed."""
        await self.unpin_all([Pin(file, offset, length)])

    async def unpin_all(self, pins: Sequence[Pin]) -> None:
        """`unpin` for several."""
        kept = self.errands.without_pins(pins)
        if kept != self.errands.kept:
            self.errands.keep(kept)
            await self._keeper.keep_pins(self)

    def prefetch(
        self, file: int | None = None, offset: int = 0, length: int | None = None
    ) -> Prefetch:
        """Fetch these bytes in the background, below all that is read. They are not kept for good.

        `ConfigError` when the cache has not the room for them beside all pins and prefetches, or
        there is no such file.
        """
        return self.prefetch_all([Pin(file, offset, length)])

    def prefetch_all(self, pins: Sequence[Pin], path: str = "") -> Prefetch:
        """`prefetch` of several, all or none, as one; `path` is what they are called."""
        self._keeper.check_prefetch(self, self.errands.pieces_of(pins))
        found = self.errands.prefetch(pins, path)
        self._keeper.on_errands(self)
        return found

    async def evict(self, file: int | None = None, *, pinned: bool = False) -> int:
        """Drop what is cached of a file, or of all; the bytes freed on disk, at once.

        Pinned pieces stay, unless `pinned`: then they are not pinned any more. What is prefetched
        there is given up. `DataUnavailable` when the torrent cannot be opened.
        """
        gone = groups([range_of(self.metainfo.geometry, Pin(file))], self._piece_length)
        if pinned:
            await self.unpin(file)
        for each in list(self.errands.prefetches.values()):
            if common(each.pieces, gone):
                each.cancel()
        async with self.awake() as torrent:
            have = torrent.store.have
            return await self._keeper.evict(torrent, [p for p in each_of(gone) if p in have])

    async def why(self, file: int, offset: int) -> Why:
        """Why a byte is not here, or that it is. Opens the torrent, but asks nobody for anything.

        `ConfigError` for a byte that there is not.
        """
        # imported where it is used: start-up time counts
        from torrentfs.engine.why import why

        found = why(self, file, offset, trio.current_time())
        if self.torrent is None:
            try:
                await self.wake()
            except DataUnavailable as error:
                return replace(found, words=f"{found.words}; {error}")
            found = why(self, file, offset, trio.current_time())
        if self.errands.trouble and found.state != "here":
            found = replace(found, words=f"{found.words}; pins: {self.errands.trouble}")
        return found

    @property
    def _piece_length(self) -> int:
        return self.metainfo.geometry.piece_length

    # -- words --------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """asleep, queued, ready, fetching, stalled, complete or paused."""
        if self.paused:
            return "paused"
        if self.torrent is None:
            return "asleep"
        if self._keeper.is_queued(self):
            return "queued"
        return self.torrent.state

    @property
    def need(self) -> Need:
        """What it lacks now."""
        if self.torrent is None or self.paused:
            return Need.NOTHING
        return self.torrent.need

    def statistics(self) -> TorrentStatistics:
        """Everything worth knowing at this moment; asleep, what was known last."""
        if self.torrent is None:
            return replace(self._asleep(), state=self.state)
        return replace(self.torrent.statistics(), state=self.state)

    def _asleep(self) -> TorrentStatistics:
        """What was known last."""
        if self._last is None:
            self._last = TorrentStatistics(
                name=self.metainfo.name,
                key=self.key,
                state="asleep",
                size=sum(file.length for file in self.metainfo.files if not file.pad),
                pieces_have=self._pieces,
                pieces_total=self.metainfo.geometry.num_pieces,
                download_rate=0.0,
                upload_rate=0.0,
                downloaded=0,
                uploaded=0,
                wasted=0,
                hash_failures=0,
                waiting_reads=0,
            )
        return self._last

    def count_from_here(self) -> None:
        """An active life begins: trackers are told what comes and goes from now on (BEP 3)."""
        if self.torrent is not None:
            self._counted = self.torrent.uploaded, self.torrent.downloaded

    def totals(self) -> Totals:
        """What trackers are told."""
        now = self.statistics()
        missing = now.pieces_total - now.pieces_have
        left = self.metainfo.geometry.length * missing // (now.pieces_total or 1)
        uploaded, downloaded = self._counted
        return Totals(now.uploaded - uploaded, now.downloaded - downloaded, left)

    def __repr__(self) -> str:
        return f"<Dormant {self.metainfo.name!r} {self.state}>"


__all__ = ["Dormant", "Keeper", "Outfit", "Shelving", "check_readable"]
