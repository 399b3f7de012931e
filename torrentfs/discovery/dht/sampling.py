"""Which torrents we keep, told to who indexes the DHT (BEP 51).

An answer has `MAX_SAMPLES` info-hashes at most, a random choice that stays the same for `INTERVAL`:
asking again before brings nothing, so nobody gains by asking often. What is forgotten meanwhile
leaves the choice, and another takes its place. We answer only; we index nothing ourselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.wire.krpc import MAX_SAMPLE_INTERVAL, MAX_SAMPLES, InfohashSample

if TYPE_CHECKING:
    from random import Random

    from torrentfs.discovery.dht.storage import Storage

INTERVAL = MAX_SAMPLE_INTERVAL
"""Seconds between two choices: the most that BEP 51 allows, as libtorrent."""


class Sampling:
    """The present choice among the torrents of `storage`."""

    def __init__(self, storage: Storage, rng: Random, now: float) -> None:
        self._storage = storage
        self._rng = rng
        self._chosen: list[bytes] = []
        self._until = now + INTERVAL

    def sample(self, now: float) -> InfohashSample:
        """What to answer now. `interval` is the time until there is something new."""
        storage = self._storage
        if now >= self._until:
            self._chosen = []
            self._until = now + INTERVAL
        self._chosen = [info_hash for info_hash in self._chosen if info_hash in storage]
        wanted = min(MAX_SAMPLES, len(storage)) - len(self._chosen)
        if wanted > 0:
            known = set(self._chosen)
            others = [info_hash for info_hash in storage.info_hashes() if info_hash not in known]
            self._chosen += self._rng.sample(others, wanted)
        left = max(0, min(INTERVAL, int(self._until - now)))
        return InfohashSample(left, len(storage), tuple(self._chosen))
