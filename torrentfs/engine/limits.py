"""Rate limits the user set: a token bucket per direction, shared by every torrent and source.

A bucket holds at most one second of its rate, so a pause does not become a burst that a slow
line would feel. Taking more than there is goes into debt and sleeps until the debt is paid:
whole messages are never split for the limit, and the long-run rate is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio


class RateLimit:
    """`rate` bytes a second, or no limit when it is None."""

    __slots__ = ("_last", "_tokens", "rate")

    def __init__(self, rate: int | None = None) -> None:
        self.rate = rate
        self._tokens = float(rate or 0)
        self._last: float | None = None

    def set_rate(self, rate: int | None) -> None:
        """Another limit from now on; what is owed is paid at the new rate."""
        if self.rate is None and rate is not None:
            self._tokens, self._last = float(rate), None
        self.rate = rate

    async def take(self, amount: int) -> None:
        """Account for `amount` bytes already moved or about to be; sleep while over the rate."""
        delay = self.reserve(amount)
        if delay:
            await trio.sleep(delay)

    def reserve(self, amount: int) -> float:
        """Account for `amount` bytes; returns for how many seconds the caller owes a pause."""
        if self.rate is None:
            return 0.0
        now = trio.current_time()
        elapsed = 0.0 if self._last is None else now - self._last
        self._last = now
        self._tokens = min(float(self.rate), self._tokens + elapsed * self.rate) - amount
        return max(0.0, -self._tokens / self.rate)

    def __repr__(self) -> str:
        return f"<RateLimit {self.rate or 'none'}>"


@dataclass(slots=True)
class Limits:
    """The two directions of a session."""

    download: RateLimit = field(default_factory=RateLimit)
    upload: RateLimit = field(default_factory=RateLimit)
