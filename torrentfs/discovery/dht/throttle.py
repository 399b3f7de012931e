"""How much we answer: so many bytes in all, so many queries of each asker.

The sender of a datagram is easily forged, and an answer is larger than its question: without a
limit we could be made to flood somebody. So all answers together have a rate, and so has each
asker; who asks more often is not answered. Asked too much by one does not cost the others theirs.
Who asked is remembered for `MAX_ASKERS`, the latest ones, and a bucket of tokens each.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

ANSWER_RATE, ANSWER_BURST = 20_000.0, 100_000.0
"""Bytes a second, and at once: some 60 answers a second. libtorrent's limit is 8,000; an ordinary
node is asked some 5 to 20 times a second."""

ASKER_RATE, ASKER_BURST = 5.0, 40.0
"""Queries a second of one host, and at once. libtorrent blocks above 5 a second; a lookup asks each
node twice, and several torrents may be looked up at the same time."""

MAX_ASKERS = 4096


class Allowance:
    """A bucket of tokens that fills at `rate` a second up to `burst`."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = now

    def take(self, amount: float, now: float) -> bool:
        """Take so many tokens, or none and say False."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < amount:
            return False
        self._left -= amount
        return True


class Throttle:
    """Decides whether a query is answered."""

    def __init__(self, now: float) -> None:
        self.refused = 0
        self._answers = Allowance(ANSWER_RATE, ANSWER_BURST, now)
        self._askers: OrderedDict[Hashable, Allowance] = OrderedDict()

    def may_ask(self, asker: Hashable, now: float) -> bool:
        """A query came; False when its sender asks too often."""
        allowance = self._askers.get(asker)
        if allowance is None:
            allowance = self._askers[asker] = Allowance(ASKER_RATE, ASKER_BURST, now)
            if len(self._askers) > MAX_ASKERS:
                self._askers.popitem(last=False)
        else:
            self._askers.move_to_end(asker)
        allowed = allowance.take(1.0, now)
        self.refused += not allowed
        return allowed

    def may_answer(self, size: int, now: float) -> bool:
        """An answer of `size` bytes is ready; False when there have been too many."""
        allowed = self._answers.take(size, now)
        self.refused += not allowed
        return allowed
