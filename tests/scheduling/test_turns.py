"""Who may be active: places, the queue before them, and sleep."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from torrentfs.scheduling.turns import (
    AGAIN,
    AGING,
    GLANCE,
    LOOK,
    PATIENCE,
    REST,
    TURN,
    Need,
    Turns,
)

READ, AHEAD, NOTHING = Need.READ, Need.AHEAD, Need.NOTHING


def wants(turns: Turns, key: str, now: float, need: Need = READ) -> None:
    turns.on_used(key, now)
    turns.on_need(key, need, now)


def started(turns: Turns, now: float) -> str:
    return "".join(turns.decide(now).start)


def stopped(turns: Turns, now: float) -> str:
    return "".join(turns.decide(now).stop)


def full(*keys: str, now: float = 0.0) -> Turns:
    """As many places as keys, all taken by reads."""
    turns = Turns(len(keys))
    for key in keys:
        wants(turns, key, now)
    assert turns.decide(now).start == list(keys)
    return turns


def test_opened_is_not_active() -> None:
    turns = Turns(1)
    turns.on_used("a", 0)
    assert turns.decide(0) == ([], [], [])
    assert not turns.is_active("a")
    assert turns.next_change(0) == turns.idle


def test_a_need_takes_a_free_place_at_once() -> None:
    turns = Turns(2)
    wants(turns, "a", 0)
    wants(turns, "b", 0, AHEAD)
    assert turns.decide(0).start == ["a", "b"]
    assert turns.active == ("a", "b")
    assert turns.next_change(0) == GLANCE  # nobody queues: only whether they may sleep


def test_reads_come_before_read_ahead_and_both_in_order() -> None:
    turns = full("x")
    for key, need in (("a", AHEAD), ("b", READ), ("c", AHEAD), ("d", READ)):
        wants(turns, key, 1, need)
    assert turns.queued == ("a", "b", "c", "d")
    turns.on_gone("x")
    order = []
    for _ in range(4):
        order.append(started(turns, 1))
        turns.on_gone(order[-1])
    assert order == ["b", "d", "a", "c"]


def test_who_rests_gives_its_place_the_longest_unused_first() -> None:
    turns = full("a", "b", "c")
    for key, now in (("b", 1.0), ("a", 2.0)):
        turns.on_used(key, now)
        turns.on_need(key, NOTHING, now)
    wants(turns, "d", 2.5)
    decision = turns.decide(2.5)
    assert (decision.stop, decision.start) == (["b"], ["d"])
    assert not turns.is_queued("b")
    wants(turns, "e", 2.5)
    assert turns.decide(2.5).stop == []  # it was read half a second ago
    assert turns.next_change(2.5) == 2.5 + LOOK
    assert stopped(turns, 2.0 + REST) == "a"


def test_with_its_files_closed_it_rests_at_once() -> None:
    turns = full("a")
    wants(turns, "a", 1, AHEAD)
    wants(turns, "b", 1)
    assert started(turns, 1) == ""
    turns.on_released("a")
    assert started(turns, 1) == "b"
    assert turns.is_queued("a")  # what it wanted ahead comes in its turn


def test_the_dead_give_their_places_to_the_living() -> None:
    turns = full("dead", "fine")
    wants(turns, "new", 1)
    turns.on_progress("fine", 5)
    assert started(turns, PATIENCE - 0.1) == ""
    turns.on_progress("fine", PATIENCE)
    decision = turns.decide(PATIENCE)
    assert (decision.stop, decision.start) == (["dead"], ["new"])
    assert turns.queued == ("dead",)


def test_known_to_be_dead_it_stands_behind_and_gives_way_sooner() -> None:
    turns = full("dead")
    wants(turns, "also dead", 1)
    assert started(turns, PATIENCE) == "also dead"
    assert started(turns, 2 * PATIENCE) == "dead"
    wants(turns, "new", 2 * PATIENCE)
    assert turns.queued == ("also dead", "new")
    assert started(turns, 2 * PATIENCE + AGAIN - 0.1) == ""
    assert started(turns, 2 * PATIENCE + AGAIN) == "new"


def test_waiting_long_makes_the_dead_equal() -> None:
    turns = full("dead")
    wants(turns, "new", 0)
    now = PATIENCE
    assert started(turns, now) == "new"
    while not turns.is_active("dead"):
        now += LOOK
        wants(turns, f"newer {now}", now)
        for key in turns.active:
            turns.on_progress(key, now)
        turns.decide(now)
    assert now < PATIENCE + AGING + TURN


def test_who_is_served_well_takes_turns_too() -> None:
    turns = full("film")
    wants(turns, "other film", 1)
    now = 1.0
    while now < TURN:
        assert started(turns, now) == ""
        now += LOOK
        turns.on_progress("film", now)
    assert started(turns, TURN) == "other film"
    assert turns.queued == ("film",)


def test_read_ahead_takes_nothing_from_anybody() -> None:
    turns = full("a")
    wants(turns, "b", 0, AHEAD)
    assert started(turns, 10 * TURN) == ""
    turns.on_need("a", AHEAD, 10 * TURN)
    assert started(turns, 20 * TURN) == ""
    turns.on_need("a", NOTHING, 20 * TURN)
    assert started(turns, 20 * TURN) == "b"


def test_seizing_takes_a_free_place_only() -> None:
    turns = Turns(2)
    assert turns.seize("a", 0)
    assert turns.seize("a", 0)
    wants(turns, "b", 0)
    assert not turns.seize("c", 0)  # b is about to get it
    turns.decide(0)
    assert turns.active == ("a", "b")
    assert not turns.seize("c", 0)
    assert len(turns) == 2  # c is as asleep as before


def test_unused_it_sleeps() -> None:
    turns = Turns(2, idle=300)
    assert turns.seize("a", 0)
    turns.on_used("b", 10)
    assert turns.next_change(0) == 300
    assert turns.decide(299) == ([], [], [])
    assert turns.decide(300) == (["a"], ["a"], [])
    assert turns.decide(310) == ([], ["b"], [])
    assert turns.next_change(310) is None
    assert len(turns) == 0


def test_what_peers_get_keeps_it_awake_but_is_no_use_to_a_reader() -> None:
    turns = Turns(1, idle=300)
    turns.seize("seed", 0)
    turns.on_touched("seed", 200)
    assert turns.decide(300) == ([], [], [])
    assert turns.next_change(300) == 500
    wants(turns, "read", 300)
    assert turns.decide(300).start == ["read"]


def test_who_waits_for_something_does_not_sleep() -> None:
    turns = full("a")
    wants(turns, "b", 0, AHEAD)
    assert turns.decide(10_000).close == []
    turns.on_need("b", NOTHING, 10_000)
    assert turns.queued == ()
    assert turns.decide(10_000).close == ["b"]


def test_few_stay_open() -> None:
    turns = Turns(1, most_open=2)
    for number in range(5):
        turns.on_used(f"{number}", number)
    assert turns.decide(5).close == ["0", "1", "2"]


@pytest.mark.parametrize("places", [0, 1])
def test_fewer_places_from_now_on(places: int) -> None:
    turns = full("a", "b", "c")
    turns.on_need("b", NOTHING, 1)
    turns.places = places
    turns.on_used("c", 2)
    assert turns.decide(2).stop == ["b", "a"]
    assert turns.active == ("c",)
    assert turns.queued == ("a",)


def test_giving_up_a_place() -> None:
    turns = full("a")
    wants(turns, "b", 0)
    turns.release("a", 1)
    assert started(turns, 1) == "b"
    assert turns.queued == ()


def test_who_loses_a_place_to_fewer_places_does_not_take_anothers_at_once() -> None:
    turns = Turns(2)
    for key in "ab":
        assert turns.seize(key, 0)
        turns.on_need(key, READ, 0)
    turns.places = 1
    decision = turns.decide(PATIENCE + 1)  # both are silent
    assert len(decision.stop) == 1
    assert decision.start == []
    assert len(turns.active) == 1


def test_facts_about_strangers_are_nothing() -> None:
    turns = Turns()
    turns.on_need("a", READ, 0)
    turns.on_progress("a", 0)
    turns.on_touched("a", 0)
    turns.on_released("a")
    turns.release("a", 0)
    turns.on_gone("a")
    assert turns.decide(0) == ([], [], [])
    assert "0 of 32" in repr(turns)


@settings(max_examples=50)
@given(
    dead=st.integers(0, 40),
    alive=st.integers(1, 8),
    places=st.integers(1, 8),
    steps=st.lists(st.sampled_from([LOOK, 0.1, 2.0]), min_size=1, max_size=5),
)
def test_everybody_gets_a_turn(dead: int, alive: int, places: int, steps: list[float]) -> None:
    """A hundred dead ones hold up the living for a bounded time, and these each other."""
    turns = Turns(places)
    for number in range(dead):
        wants(turns, f"dead {number}", 0)
    now = 0.0
    served: dict[str, float] = {}
    while now < 3 * PATIENCE:  # the dead are known to be so by now, as far as places allow
        now += LOOK
        turns.decide(now)
    arrived = now
    for number in range(alive):
        wants(turns, f"alive {number}", now)
    for _ in range(10_000):
        turns.decide(now)
        for key in turns.active:
            if key.startswith("alive"):
                turns.on_progress(key, now)
                served.setdefault(key, now)
        if len(served) == alive:
            break
        now += steps[int(now * 10) % len(steps)]
    # those that were never tried, and are dead, come before: no more than all of them at PATIENCE
    rounds = -(-(dead + alive) // places)
    assert now - arrived <= (rounds + 1) * (max(PATIENCE, TURN) + 2.0)


class TurnsMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, its invariants hold."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = Turns(2, idle=50, most_open=3)
        self.now = 0.0
        self.active: set[str] = set()

    keys = st.sampled_from("abcdefgh")

    @rule(key=keys)
    def use(self, key: str) -> None:
        self.turns.on_used(key, self.now)

    @rule(key=keys, need=st.sampled_from(Need))
    def need(self, key: str, need: Need) -> None:
        self.turns.on_need(key, need, self.now)

    @rule(key=keys)
    def progress(self, key: str) -> None:
        self.turns.on_progress(key, self.now)

    @rule(key=keys)
    def released(self, key: str) -> None:
        self.turns.on_released(key)

    @rule(key=keys)
    def seize(self, key: str) -> None:
        if self.turns.seize(key, self.now):
            self.active.add(key)

    @rule(key=keys, gone=st.booleans())
    def leave(self, key: str, gone: bool) -> None:
        if gone:
            self.turns.on_gone(key)
        else:
            self.turns.release(key, self.now)
        self.active.discard(key)

    @rule(places=st.integers(0, 4))
    def change_places(self, places: int) -> None:
        self.turns.places = places

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 7.0, 25.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def decide(self) -> None:
        queued, active = set(self.turns.queued), set(self.turns.active)
        decision = self.turns.decide(self.now)
        assert not set(decision.stop) & set(decision.start)
        assert not set(decision.close) & set(decision.start)
        assert set(decision.stop) <= active
        assert set(decision.start) <= queued
        assert set(decision.close).isdisjoint(self.turns.active + self.turns.queued)
        self.active = self.active - set(decision.stop) | set(decision.start)
        assert len(self.turns.active) <= max(1, self.turns.places)
        if self.turns.queued:
            assert len(self.turns.active) == max(1, self.turns.places)
        idle = len(self.turns) - len(self.turns.active) - len(self.turns.queued)
        assert idle <= self.turns.most_open

    @invariant()
    def the_tables_agree(self) -> None:
        assert set(self.turns.active) == self.active
        assert set(self.turns.active).isdisjoint(self.turns.queued)
        when = self.turns.next_change(self.now)
        assert (when is None) == (len(self.turns) == 0)
        assert when is None or when >= self.now


TestTurnsMachine = TurnsMachine.TestCase
TestTurnsMachine.settings = settings(max_examples=100, stateful_step_count=40)
