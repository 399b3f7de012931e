"""How much a tracker may cost us: a bucket of tokens that refills.

A tracker that floods us must cost neither memory nor the CPU time of a mount, and one that sends
a burst for good reasons (a popular torrent, many torrents on one socket) must not be hurt. Both
are the same bucket, asked in two ways: `spare` takes tokens only if they are there (the rest is
dropped), `owe` takes them always and says how long to wait, which pushes back on the sender.

Pure: `now` is an argument, in seconds.
"""

from __future__ import annotations


class Allowance:
    """`burst` tokens at first and at most; `rate` more each second."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = burst
        self._at = float("-inf")

    def spare(self, now: float) -> bool:
        """Take one token if there is one."""
        self._refill(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def owe(self, cost: float, now: float) -> float:
        """Take `cost` tokens, on credit if need be; the seconds until the debt is paid."""
        self._refill(now)
        self._left -= cost
        return max(0.0, -self._left / self._rate)

    def _refill(self, now: float) -> None:
        if now > self._at:
            if self._at > float("-inf"):
                self._left = min(self._burst, self._left + (now - self._at) * self._rate)
            self._at = now

    def __repr__(self) -> str:
        return f"<Allowance {self._left:.0f} of {self._burst:.0f}>"
