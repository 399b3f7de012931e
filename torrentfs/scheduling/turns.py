"""Who may be active: which torrents have peers, trackers and web seeds at a time, of thousands.

A torrent is *asleep* until somebody reads it. Then it is *opened*: what is in the cache is
answered. Only when a byte is missing does it need one of the few *places* of those who are active.
This module decides who gets the places; it knows no sockets and no clock. Facts come in
(`on_used`, `on_need`, `on_progress`, ...), `decide` says whom to start, stop
and close.

**The queue.** Reads come before read-ahead. Among reads, who has never had a turn in vain comes
before who has, so that a hundred dead torrents do not stand before one that lives; but whoever has
waited for `AGING` seconds counts as fresh. Else first come, first served.

**Whose place is taken** when none is free, for a read that waits:

1. who rests: no read of it waits, and the last one was `REST` seconds ago, or all its files are
   closed; the longest unused first;
2. who stalls: a read waits, and no byte came for `PATIENCE` seconds (`AGAIN` if it had a turn in
   vain before and the one who queues had not); the longest silence first. Then its turn was in
   vain, and it queues again;
3. who had its turn: `TURN` seconds. Being served well, it queues again and gets its next turn by
   the same rules; so a wait in the queue is bounded whatever the others do.

For read-ahead alone only the place of who rests and needs nothing is taken.

**Sleep.** Who needs nothing and was not used (read, or of use to peers) for `idle` seconds is
closed. Of those that are merely open only `most_open` are kept, the last used ones.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

PLACES = 32
"""Torrents active at a time."""

IDLE = 300.0
"""Seconds without use after which a torrent goes back to sleep."""

MOST_OPEN = 64
"""Torrents kept open beside the active ones: each costs two descriptors."""

REST = 1.0
PATIENCE = 6.0
AGAIN = 2.0
TURN = 20.0
AGING = 30.0
"""Seconds; see above."""

LOOK = 0.5
"""Seconds between two looks while somebody queues."""

GLANCE = 30.0
"""Seconds to the next look while somebody needs something, and has a place."""


class Need(IntEnum):
    """What a torrent lacks."""

    NOTHING = 0
    AHEAD = 1
    """Bytes that nobody waits for yet: read-ahead, pins."""
    READ = 2
    """Bytes under a read that waits."""


class Decision(NamedTuple):
    """Keys of torrents, in the order in which it should be done: stop, close, start."""

    stop: list[str]
    """Give up their places; they stay open."""
    close: list[str]
    """Go to sleep; those of them that were active are among `stop` too."""
    start: list[str]


class _Torrent:
    __slots__ = (
        "active", "key", "need", "number", "progress", "queued", "released", "since", "touched",
        "used", "vain",
    )  # fmt: skip

    def __init__(self, key: str, number: int, now: float) -> None:
        self.key = key
        self.number = number
        self.need = Need.NOTHING
        self.active = False
        self.since = now
        """When it became active, or began to queue."""
        self.used = self.touched = now
        """When it was last read; or was read or of use to peers."""
        self.progress = float("-inf")
        self.released = False
        self.vain = 0
        """Turns in a row in which nothing came."""
        self.queued = False

    def rests(self, now: float) -> bool:
        """Whether nobody would notice at once if it lost its place."""
        return self.need is not Need.READ and (self.released or now - self.used >= REST)

    def silence(self, now: float) -> float:
        """Seconds for which nothing came."""
        return now - max(self.since, self.progress)


class Turns:
    """The torrents that are open, who of them has a place, and who waits for one."""

    def __init__(
        self, places: int = PLACES, idle: float = IDLE, most_open: int = MOST_OPEN
    ) -> None:
        self.places = places
        """May be changed at any time; `decide` follows."""
        self.idle = idle
        self.most_open = most_open
        self._torrents: dict[str, _Torrent] = {}
        self._active: dict[str, _Torrent] = {}
        self._queue: dict[str, _Torrent] = {}
        self._arrivals = 0

    # -- facts --------------------------------------------------------------------------------

    def on_used(self, key: str, now: float) -> None:
        """It is read: known from now on as open."""
        torrent = self._torrents.get(key)
        if torrent is None:
            self._arrivals += 1
            torrent = self._torrents[key] = _Torrent(key, self._arrivals, now)
        torrent.used = torrent.touched = now
        torrent.released = False

    def on_touched(self, key: str, now: float) -> None:
        """It gives to peers, or gets what nobody waits for: no time to sleep."""
        torrent = self._torrents.get(key)
        if torrent is not None:
            torrent.touched = now

    def on_released(self, key: str) -> None:
        """All its files are closed: until it is used again nobody will miss its place."""
        torrent = self._torrents.get(key)
        if torrent is not None:
            torrent.released = True

    def on_need(self, key: str, need: Need, now: float) -> None:
        """What it lacks now; with `READ` or `AHEAD` it queues unless it is active."""
        torrent = self._torrents.get(key)
        if torrent is None or torrent.need is need:
            return
        torrent.need = need
        if torrent.active:
            return
        if need is Need.NOTHING:
            torrent.queued = False
            self._queue.pop(key, None)
        elif not torrent.queued:
            self._enqueue(torrent, now)

    def on_progress(self, key: str, now: float) -> None:
        """Bytes came."""
        torrent = self._torrents.get(key)
        if torrent is not None:
            torrent.progress = now
            torrent.vain = 0

    def on_gone(self, key: str) -> None:
        """It is asleep, or no more: forget it."""
        for table in (self._torrents, self._active, self._queue):
            table.pop(key, None)

    def seize(self, key: str, now: float) -> bool:
        """Be active at once, without a need, if a place is free and nobody queues for it."""
        taken = self._queue or len(self._active) >= max(1, self.places)
        if taken and key not in self._active:
            return False
        self.on_used(key, now)
        self._start(self._torrents[key], now)
        return True

    def release(self, key: str, now: float) -> None:
        """Give up its place, and its place in the queue; it needs nothing now."""
        torrent = self._torrents.get(key)
        if torrent is not None:
            torrent.need = Need.NOTHING
            torrent.queued = torrent.active = False
            torrent.since = now
            self._active.pop(key, None)
            self._queue.pop(key, None)

    # -- questions ----------------------------------------------------------------------------

    def is_active(self, key: str) -> bool:
        """Whether it has a place."""
        return key in self._active

    def is_queued(self, key: str) -> bool:
        """Whether it waits for a place."""
        return key in self._queue

    @property
    def active(self) -> tuple[str, ...]:
        """Who has a place, longest first."""
        return tuple(self._active)

    @property
    def queued(self) -> tuple[str, ...]:
        """Who waits for one, in order of arrival."""
        return tuple(self._queue)

    def __len__(self) -> int:
        return len(self._torrents)

    # -- decisions ----------------------------------------------------------------------------

    def decide(self, now: float) -> Decision:
        """Whom to stop, close and start now; what it says is taken for done."""
        decision = Decision([], [], [])
        while len(self._active) > max(1, self.places):
            # the fewest places ever asked for is one: else nobody could be read at all
            worst = min(self._active.values(), key=lambda t: (t.need, not t.rests(now), t.used))
            self._stop(worst, now, decision)
        # who has just lost his place to fewer places does not take another's in the same moment
        waiting = [t for t in self._queue.values() if t.key not in decision.stop]
        for torrent in sorted(waiting, key=lambda t: self._rank(t, now)):
            if len(self._active) >= max(1, self.places):
                victim = self._victim(torrent, now, decision.start)
                if victim is None:
                    break  # those behind it have no better claim
                self._stop(victim, now, decision)
            self._start(torrent, now)
            decision.start.append(torrent.key)
        self._close_idle(now, decision)
        return decision

    def next_change(self, now: float) -> float | None:
        """When to call `decide` again if nothing happens; None: no need, all are asleep."""
        if self._queue:
            return now + LOOK
        when = [
            t.touched + self.idle if t.need is Need.NOTHING else now + min(self.idle, GLANCE)
            for t in self._torrents.values()
        ]
        return max(now, min(when)) if when else None

    def _rank(self, torrent: _Torrent, now: float) -> tuple[int, bool, float, int]:
        return -torrent.need, not self._is_fresh(torrent, now), torrent.since, torrent.number

    def _is_fresh(self, torrent: _Torrent, now: float) -> bool:
        return not torrent.vain or now - torrent.since >= AGING

    def _victim(self, queuer: _Torrent, now: float, started: list[str]) -> _Torrent | None:
        """Whose place `queuer` gets, or None."""
        waits = queuer.need is Need.READ
        best: tuple[int, float, int] | None = None
        found: _Torrent | None = None
        for torrent in self._active.values():
            if torrent.key in started:
                continue
            rank = self._claim(torrent, queuer, now)
            if rank is None or not (waits or (rank[0] == 0 and torrent.need is Need.NOTHING)):
                continue
            order = (*rank, torrent.number)
            if best is None or order < best:
                best, found = order, torrent
        return found

    def _claim(self, torrent: _Torrent, queuer: _Torrent, now: float) -> tuple[int, float] | None:
        """How weak the claim of an active torrent to its place is (smallest: weakest)."""
        if torrent.rests(now):
            return 0, torrent.used
        impatient = torrent.vain and self._is_fresh(queuer, now)
        silence = torrent.silence(now)
        if torrent.need is Need.READ and silence >= (AGAIN if impatient else PATIENCE):
            return 1, -silence
        if now - torrent.since >= TURN:
            return 2, torrent.since
        return None

    def _close_idle(self, now: float, decision: Decision) -> None:
        unused = [t for t in self._torrents.values() if t.need is Need.NOTHING]
        for torrent in unused:
            if now - torrent.touched >= self.idle:
                if torrent.active:
                    self._stop(torrent, now, decision)
                decision.close.append(torrent.key)
        spare = len(self._torrents) - len(self._active) - len(decision.close) - self.most_open
        if spare > 0:
            kept = [t for t in unused if not t.active and t.key not in decision.close]
            kept.sort(key=lambda t: (t.used, t.number))
            decision.close.extend(torrent.key for torrent in kept[:spare])
        for key in decision.close:
            self.on_gone(key)

    def _enqueue(self, torrent: _Torrent, now: float) -> None:
        torrent.queued = True
        torrent.since = now
        self._queue[torrent.key] = torrent

    def _start(self, torrent: _Torrent, now: float) -> None:
        self._queue.pop(torrent.key, None)
        torrent.queued = False
        if not torrent.active:
            torrent.active = True
            torrent.since = now
            torrent.progress = float("-inf")
            self._active[torrent.key] = torrent

    def _stop(self, torrent: _Torrent, now: float, decision: Decision) -> None:
        del self._active[torrent.key]
        torrent.active = False
        if torrent.need is Need.READ and torrent.silence(now) >= AGAIN:
            torrent.vain += 1
        decision.stop.append(torrent.key)
        if torrent.need is not Need.NOTHING:
            self._enqueue(torrent, now)

    def __repr__(self) -> str:
        return (
            f"<Turns {len(self._active)} of {self.places} places taken, "
            f"{len(self._queue)} queue, {len(self._torrents)} open>"
        )
