"""Whom to serve: tit for tat with an optimistic slot (BEP 3), pure.

Every ten seconds the interested peers are ranked. While we download, by what they give us; once
complete (or as a pure uploader) by what they take, because a fast taker spreads pieces soonest. The
best `slots` are unchoked, and one more at random, the optimistic one, for 30 seconds: it finds
better partners and lets newcomers begin. New peers are three times as likely to be it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RECHOKE_SECONDS = 10.0
"""How often to call `rechoke` (BEP 3); sooner when an unchoked peer leaves or loses interest."""

OPTIMISTIC_SECONDS = 30.0
NEWCOMER_SECONDS = 60.0
NEWCOMER_WEIGHT = 3


class Chance(Protocol):
    """The source of chance; `random.Random` is one."""

    def choices(self, population: Sequence[int], weights: Sequence[float]) -> list[int]:
        """One of `population`, by weight."""
        ...


@dataclass(frozen=True, slots=True)
class ChokerPeer:
    """What the choker needs of a peer; rates in bytes per second, times monotonic."""

    interested: bool
    download_rate: float
    """What it gives us."""
    upload_rate: float
    """What it takes from us."""
    connected_at: float = 0.0
    snubbed: bool = False
    """It owes us blocks for long: no regular slot by its old rate."""


class Choker:
    """Remembers the optimistic slot between rounds."""

    def __init__(self, *, slots: int = 4) -> None:
        if slots < 0:
            raise ValueError("slots are not negative")
        self.slots = slots
        self.seeding = False
        """Rank by upload rate: we have everything, or do not download."""
        self.optimistic: int | None = None
        self._rotate_at = 0.0

    def rechoke(self, peers: Mapping[int, ChokerPeer], now: float, rng: Chance) -> set[int]:
        """The peers that should be unchoked now; at most `slots` + 1."""
        interested = {name: peer for name, peer in peers.items() if peer.interested}
        if len(interested) <= self.slots + 1 and self.slots:
            return set(interested)

        def worth(name: int) -> tuple[bool, float, int]:
            peer = interested[name]
            rate = peer.upload_rate if self.seeding else peer.download_rate
            return peer.snubbed and not self.seeding, -rate, name

        regular = set(sorted(interested, key=worth)[: self.slots])
        if self.slots:
            self._choose_optimistic(interested, regular, now, rng)
            if self.optimistic is not None:
                regular.add(self.optimistic)
        return regular

    def _choose_optimistic(
        self, interested: Mapping[int, ChokerPeer], regular: set[int], now: float, rng: Chance
    ) -> None:
        current = self.optimistic
        if current in interested and current not in regular and now < self._rotate_at:
            return
        others = [name for name in sorted(interested) if name not in regular and name != current]
        if not others:
            if current not in interested:
                self.optimistic = None
            return
        weights = [
            NEWCOMER_WEIGHT if now - interested[name].connected_at < NEWCOMER_SECONDS else 1
            for name in others
        ]
        self.optimistic = rng.choices(others, weights)[0]
        self._rotate_at = now + OPTIMISTIC_SECONDS

    def __repr__(self) -> str:
        return f"<Choker {self.slots} slots, optimistic {self.optimistic}>"
