"""Who should bring an urgent block, and is a block late?

Both questions are answered from each source's *arrival time* (`Pace.arrival`): round trip, and
queued bytes over measured rate.

**Sharing a piece.** `n` blocks are wanted at once and several sources have them. If all finish at
the same moment T, none waits for another: T solves `sum(rate_i x (T - latency_i)) = n x block` over
the sources with `latency_i < T` (water filling). A source's share is `rate_i x (T - latency_i)`:
proportional to its rate, and nothing when others are done before its first block could come.

**Late.** A block is asked a second time when the source that has it would take more than
`HEDGE_FACTOR` times as long as the other. The factor keeps twins from hedging each other; the
loser is cancelled when the winner's block is here, usually before it was sent at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.metainfo.geometry import BLOCK_LENGTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.scheduling.rates import Pace

HEDGE_FACTOR = 2.0
"""How many times sooner the second source must be."""

HEDGE_MARGIN = 0.015
"""Seconds sooner, in addition: below this the pause of an event loop decides, not the source."""


def finish_time(blocks: int, lines: Sequence[tuple[float, float]]) -> float:
    """When `blocks` are all here if shared best among `lines` of (latency s, bytes per second)."""
    amount = blocks * BLOCK_LENGTH
    speed = 0.0
    head_start = 0.0
    done = float("inf")
    for latency, rate in sorted(lines):
        if latency >= done:
            break
        speed += rate
        head_start += rate * latency
        done = (amount + head_start) / speed
    return done


def share(blocks: int, mine: tuple[float, float], others: Sequence[tuple[float, float]]) -> int:
    """How many of `blocks` the line `mine` should take; all when there are no others."""
    if not others:
        return blocks
    done = finish_time(blocks, [mine, *others])
    latency, rate = mine
    if latency >= done:
        return 0
    # round up: the last block goes to somebody, and one too many costs less than one too few
    return min(blocks, int(rate * (done - latency) / BLOCK_LENGTH) + 1)


def remaining(pace: Pace, position: int, now: float) -> float:
    """Seconds until the block at `position` (0: next) of a source's queue should be here.

    A source that is overdue by x is expected to stay silent for about x more.
    """
    rate = pace.rate or pace.assumed
    return pace.silence(now) + max(0.0, (position + 1) * BLOCK_LENGTH / rate)


def late_from(other: float) -> float:
    """Seconds beyond which a block is worth asking of one that needs `other`."""
    return HEDGE_FACTOR * other + HEDGE_MARGIN


def is_late(left: float, other: float) -> bool:
    """Whether a block expected in `left` seconds is worth asking of one that needs `other`."""
    return left > late_from(other)
