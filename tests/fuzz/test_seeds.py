"""Each fuzz target takes its own seeds, and a few hundred blind changes of them."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.run import TARGETS, load, mutate


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_their_neighbours(target: str) -> None:
    module = load(target)
    seeds = list(module.seeds())
    assert seeds
    for seed in seeds:
        module.one_input(seed)
    rng = random.Random(2)
    for _ in range(200):
        module.one_input(mutate(rng.choice(seeds), rng, seeds))
