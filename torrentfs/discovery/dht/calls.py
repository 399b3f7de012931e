"""Our questions that wait for an answer: whose they are, and how long we wait.

An answer counts only when its transaction (32 random bits) is known *and* it comes from the address
that was asked. How long an answer takes is learned from those that came, as TCP learns it (RFC
6298), with a first guess of `FIRST_GUESS`. After that time a question is *slow*: whoever asked goes
on without it. It is *lost* much later; until then an answer is still welcome.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from torrentfs.wire.krpc import Address, Response

FIRST_GUESS = 0.5
"""Seconds, before anything was learned: most nodes of the world answer in less."""

LEAST, MOST = 0.15, 1.5
"""Seconds: bounds of when a question is slow."""

LOST = 4.0
"""Seconds after which there will be no answer."""

MAX_CALLS = 1000
"""Questions at once; a lookup has some ten, late ones included."""


@dataclass(slots=True)
class Waiting:
    """A question under way. One of the first two is called at the end (a refusal is as bad as
    silence), `on_slow` perhaps before; each is told the time."""

    address: Address
    since: float
    on_answer: Callable[[Response, float], None]
    on_lost: Callable[[float], None]
    on_slow: Callable[[float], None] | None = None


class Calls:
    """Pending questions by transaction."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._waiting: dict[bytes, Waiting] = {}
        self._due: list[tuple[float, bytes, bool]] = []
        """When, whose, and whether it is lost then, or only slow."""
        self._mean: float | None = None
        self._deviation = 0.0

    @property
    def slow_after(self) -> float:
        """Seconds in which nearly every answer comes."""
        if self._mean is None:
            return FIRST_GUESS
        return min(MOST, max(LEAST, self._mean + 4.0 * self._deviation))

    @property
    def is_full(self) -> bool:
        """Whether no more questions may be asked for now."""
        return len(self._waiting) >= MAX_CALLS

    def begin(self, waiting: Waiting) -> bytes:
        """Note a question that is about to be sent; returns its transaction."""
        transaction = self._rng.randbytes(4)
        while transaction in self._waiting:
            transaction = self._rng.randbytes(4)
        self._waiting[transaction] = waiting
        if waiting.on_slow is not None:
            heapq.heappush(self._due, (waiting.since + self.slow_after, transaction, False))
        heapq.heappush(self._due, (waiting.since + LOST, transaction, True))
        return transaction

    def end(self, transaction: bytes, sender: Address, now: float) -> Waiting | None:
        """The question that this answers, which waits no more; None when it answers none."""
        waiting = self._waiting.get(transaction)
        if waiting is None or waiting.address != sender:
            return None
        del self._waiting[transaction]
        self._learn(now - waiting.since)
        return waiting

    def _learn(self, took: float) -> None:
        if self._mean is None:
            self._mean, self._deviation = took, took / 2
            return
        # half of RFC 6298's gain: each sample is of another node
        self._deviation += (abs(took - self._mean) - self._deviation) / 8
        self._mean += (took - self._mean) / 16

    def overdue(self, now: float) -> list[tuple[Waiting, bool]]:
        """Questions that have become slow (False) or lost (True) by now, which wait no more."""
        found: list[tuple[Waiting, bool]] = []
        while self._due and self._due[0][0] <= now:
            _, transaction, lost = heapq.heappop(self._due)
            waiting = self._waiting.get(transaction)
            if waiting is None:
                continue
            if lost:
                del self._waiting[transaction]
            found.append((waiting, lost))
        return found

    def next_time(self) -> float:
        """When `overdue` may have something; infinite when nothing waits."""
        while self._due and self._due[0][1] not in self._waiting:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else float("inf")

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Calls {len(self)} waiting, slow after {self.slow_after:.2f} s>"
