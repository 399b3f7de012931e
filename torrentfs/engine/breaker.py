"""A torrent whose swarm is dead fails fast: one reader pays the full time-out, not each.

A media scanner issues 2 to 16 reads after its first error and goes through files one by one, so
100 dead files at 120 s a read would stop it for hours. After one expiry the breaker is *open*:
reads of missing bytes fail in `FAST` seconds. Every `RETRY` seconds one read is let through with
the full time-out (half-open). Any byte that arrives closes it again, and so does a source that
offers the piece which was waited for in vain; peers that have other pieces do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torrentfs.metainfo.bitfield import Bitfield

FAST = 1.0
"""Seconds that a read of missing bytes waits while the breaker is open."""

RETRY = 30.0
"""Seconds between two reads that may wait in full while it is open."""


class Breaker:
    """Closed (normal), or open since a read expired."""

    __slots__ = ("_missing", "_retry_at", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._retry_at: float | None = None
        self._missing: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether reads of missing bytes fail fast now."""
        return self._retry_at is not None

    def retry_in(self, now: float) -> float:
        """Seconds until a read may wait in full again."""
        return 0.0 if self._retry_at is None else max(0.0, self._retry_at - now)

    def allowance(self, now: float) -> float:
        """How long a read that starts waiting now may wait without progress, in seconds."""
        if self._retry_at is None:
            return self.timeout
        if now >= self._retry_at:
            self._retry_at = now + RETRY
            return self.timeout
        return min(FAST, self.timeout)

    def on_expired(self, now: float, piece: int | None = None) -> None:
        """A read ran into its time-out, for want of `piece`."""
        self._missing = piece
        if self._retry_at is None:
            self._retry_at = now + RETRY

    def on_progress(self) -> None:
        """Bytes arrived: normal again."""
        self._retry_at = None

    def on_offer(self, pieces: Bitfield) -> None:
        """A source offers `pieces`: normal again if what was waited for is among them."""
        if self._retry_at is not None and (self._missing is None or self._missing in pieces):
            self._retry_at = None
