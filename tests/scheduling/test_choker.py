"""Tit for tat with an optimistic slot."""

from __future__ import annotations

from random import Random

import pytest

from torrentfs.scheduling.choker import Choker, ChokerPeer


def peers(count: int) -> dict[int, ChokerPeer]:
    return {n: ChokerPeer(True, download_rate=n * 10.0, upload_rate=-n * 1.0) for n in range(count)}


def test_few_are_all_served_and_the_uninterested_never() -> None:
    some = peers(4) | {9: ChokerPeer(False, 1e9, 1e9)}
    assert Choker().rechoke(some, 0.0, Random(1)) == {0, 1, 2, 3}


def test_the_best_four_and_one_by_chance_who_rotates() -> None:
    choker, rng = Choker(), Random(1)
    seen = set()
    for now in range(0, 1200, 10):
        chosen = choker.rechoke(peers(12), float(now), rng)
        assert {8, 9, 10, 11} <= chosen
        assert len(chosen) == 5
        seen |= chosen
    assert seen == set(range(12))


def test_the_optimistic_one_stays_for_thirty_seconds() -> None:
    choker, rng = Choker(), Random(2)
    first = choker.rechoke(peers(12), 0.0, rng)
    assert choker.rechoke(peers(12), 29.0, rng) == first
    assert choker.rechoke(peers(12), 31.0, rng) != first


def test_a_seed_ranks_by_upload_and_a_snubber_loses_its_slot() -> None:
    choker = Choker()
    choker.seeding = True
    assert {0, 1, 2, 3} <= choker.rechoke(peers(12), 0.0, Random(1))
    some = peers(12)
    some[11] = ChokerPeer(True, 1e9, 0.0, snubbed=True)
    choker = Choker()
    choker.rechoke(some, 0.0, Random(1))
    assert choker.rechoke(some, 1.0, Random(1)) >= {7, 8, 9, 10}


def test_no_slots_serve_nobody() -> None:
    assert Choker(slots=0).rechoke(peers(3), 0.0, Random(1)) == set()
    with pytest.raises(ValueError, match="negative"):
        Choker(slots=-1)
