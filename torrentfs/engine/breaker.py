"""A torrent whose swarm is dead fails fast: one reader pays the full time-out, not each.

A media scanner issues 2 to 16 reads after its first error and goes through files one by one, so
100 dead files at 120 s a read would stop it for hours. After one expiry the breaker is *open*:
reads of missing bytes fail in `FAST` seconds. `RETRY` seconds later one read is let through with
the full time-out, a *trial* (half-open). One runs at a time; when it ends in vain the pause to the
next one is twice as long, up to `LAST_RETRY`: it lasts longer than the pause, and who reads one
file after the other would otherwise spend most of his time in trials. A scan of 24 dead files with
16 reads each costs a second for each read, and four full waits in all.

Any byte that arrives closes it again, and so does a source that offers a piece which was waited for
in vain; peers that have other pieces do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torrentfs.metainfo.bitfield import Bitfield

FAST = 1.0
"""Seconds that a read of missing bytes waits while the breaker is open."""

RETRY = 30.0
LAST_RETRY = 240.0
"""Seconds until a read may wait in full while it is open: doubled from the first to the last."""

MOST_MISSING = 64
"""Pieces waited for in vain that are remembered, the latest: a scan reads one file after another,
and a peer may have the first of them alone."""


class Breaker:
    """Closed (normal), or open since a read expired."""

    __slots__ = ("_missing", "_pause", "_retry_at", "is_trying", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.is_trying = False
        """Whether a trial is under way."""
        self._retry_at: float | None = None
        self._pause = RETRY
        self._missing: dict[int | None, None] = {}  # what was waited for in vain, by time

    @property
    def is_open(self) -> bool:
        """Whether reads of missing bytes fail fast now."""
        return self._retry_at is not None

    def retry_in(self, now: float) -> float:
        """Seconds until a read may wait in full again, if none does so now."""
        return 0.0 if self._retry_at is None else max(0.0, self._retry_at - now)

    def begin_trial(self, now: float) -> bool:
        """Whether a read that starts waiting now is the next trial; then `end_trial` must come."""
        if self._retry_at is None or self.is_trying or now < self._retry_at:
            return False
        self.is_trying = True
        return True

    def end_trial(self, now: float) -> None:
        """The trial's read has ended, in whatever way; in vain, unless something came."""
        self.is_trying = False
        if self._retry_at is not None:
            self._pause = min(2 * self._pause, LAST_RETRY)
            self._retry_at = now + self._pause

    @property
    def allowance(self) -> float:
        """How long a read that starts waiting now may wait without progress, in seconds.

        Unless it is a trial: then it is `timeout`.
        """
        return self.timeout if self._retry_at is None else min(FAST, self.timeout)

    def on_expired(self, now: float, piece: int | None = None) -> None:
        """A read ran into its time-out, for want of `piece`; the next trial is not put off."""
        if self._retry_at is None:
            self._pause = RETRY
            self._retry_at = now + RETRY
            self._missing.clear()
        self._missing.pop(piece, None)
        self._missing[piece] = None
        if len(self._missing) > MOST_MISSING:
            del self._missing[next(iter(self._missing))]

    def on_progress(self) -> None:
        """Bytes arrived: normal again."""
        self._retry_at = None

    def on_offer(self, pieces: Bitfield) -> None:
        """A source serves us `pieces`: normal again if one was waited for in vain."""
        if self._retry_at is not None and any(
            piece is None or piece in pieces for piece in self._missing
        ):
            self._retry_at = None

    def on_offer_of(self, piece: int) -> None:
        """A source has one more piece: normal again if that was waited for in vain."""
        if piece in self._missing or None in self._missing:
            self._retry_at = None
