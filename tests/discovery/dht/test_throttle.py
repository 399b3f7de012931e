"""Who asks too often is not answered, and all together get so many bytes."""

from __future__ import annotations

from torrentfs.discovery.dht.throttle import (
    ANSWER_BURST,
    ANSWER_RATE,
    ASKER_BURST,
    ASKER_RATE,
    MAX_ASKERS,
    Allowance,
    Throttle,
)


def test_an_allowance_fills_up() -> None:
    allowance = Allowance(2.0, 4.0, 0.0)
    assert [allowance.take(1.0, 0.0) for _ in range(5)] == [True] * 4 + [False]
    assert [allowance.take(1.0, 1.0) for _ in range(3)] == [True, True, False]
    assert [allowance.take(1.0, 99.0) for _ in range(5)] == [True] * 4 + [False]


def test_one_asker_does_not_cost_another() -> None:
    throttle = Throttle(0.0)
    asked = [throttle.may_ask("1.2.3.4", n / 100) for n in range(1000)]
    assert ASKER_BURST + 9 * ASKER_RATE <= sum(asked) <= ASKER_BURST + 10 * ASKER_RATE
    assert throttle.may_ask("1.2.3.5", 10.0)
    assert throttle.refused == 1000 - sum(asked)


def test_all_answers_together_have_a_rate() -> None:
    throttle = Throttle(0.0)
    sent = sum(500 for n in range(100_000) if throttle.may_answer(500, n / 1000))
    assert 0.9 * 100 * ANSWER_RATE < sent <= ANSWER_BURST + 100 * ANSWER_RATE


def test_askers_are_forgotten() -> None:
    throttle = Throttle(0.0)
    for n in range(2 * MAX_ASKERS):
        throttle.may_ask(n, 0.0)
    assert len(throttle._askers) == MAX_ASKERS
