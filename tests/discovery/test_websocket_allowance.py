"""The bucket: what is there may be taken, what is owed must be waited for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torrentfs.discovery.websocket_allowance import Allowance


def test_a_burst_and_then_the_rate() -> None:
    allowance = Allowance(3, 0.5)
    assert [allowance.spare(10.0) for _ in range(5)] == [True, True, True, False, False]
    assert not allowance.spare(11.0)
    assert allowance.spare(12.0)
    assert [allowance.spare(1000.0) for _ in range(5)].count(True) == 3


def test_debts_are_waited_for() -> None:
    allowance = Allowance(10, 5)
    assert allowance.owe(10, 0.0) == 0.0
    assert allowance.owe(10, 0.0) == 2.0
    assert allowance.owe(5, 2.0) == 1.0
    assert allowance.owe(0, 1.0) == 1.0  # a clock that stands still or goes back gives nothing
    assert "of 10" in repr(allowance)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), min_size=1, max_size=50))
def test_who_waits_as_told_never_exceeds_the_rate(steps: list[tuple[float, float]]) -> None:
    allowance = Allowance(4, 2)
    now = spent = 0.0
    for cost, pause in steps:
        now += allowance.owe(cost, now) + pause
        spent += cost
    assert spent <= 4 + 2 * now + 1e-6
