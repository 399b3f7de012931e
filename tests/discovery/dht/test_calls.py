"""Questions under way: answers that count, and how long we wait."""

from __future__ import annotations

from random import Random

from torrentfs.discovery.dht.calls import FIRST_GUESS, LEAST, LOST, MAX_CALLS, MOST, Calls, Waiting

THERE, ELSEWHERE = ("8.8.8.8", 5), ("8.8.8.8", 6)


def waiting(since: float = 0.0, *, slow: bool = True) -> Waiting:
    return Waiting(
        THERE,
        since,
        lambda response, now: None,
        lambda now: None,
        (lambda now: None) if slow else None,
    )


def test_only_who_was_asked_may_answer_and_once() -> None:
    calls = Calls(Random(1))
    one = waiting()
    transaction = calls.begin(one)
    assert calls.end(b"none", THERE, 0.1) is None
    assert calls.end(transaction, ELSEWHERE, 0.1) is None
    assert calls.end(transaction, THERE, 0.1) is one
    assert calls.end(transaction, THERE, 0.1) is None
    assert calls.overdue(100.0) == []
    assert calls.next_time() == float("inf")


def test_slow_then_lost() -> None:
    calls = Calls(Random(1))
    one = waiting()
    calls.begin(one)
    assert calls.next_time() == FIRST_GUESS
    assert calls.overdue(FIRST_GUESS - 0.01) == []
    assert calls.overdue(FIRST_GUESS) == [(one, False)]
    assert calls.next_time() == LOST
    assert calls.overdue(LOST) == [(one, True)]
    assert len(calls) == 0
    calls.begin(waiting(10.0, slow=False))
    assert calls.next_time() == 10.0 + LOST


def test_a_slow_one_may_still_answer() -> None:
    calls = Calls(Random(1))
    one = waiting()
    transaction = calls.begin(one)
    calls.overdue(1.0)
    assert calls.end(transaction, THERE, 2.0) is one


def test_patience_is_learned() -> None:
    calls = Calls(Random(1))
    for n in range(50):
        calls.end(calls.begin(waiting(float(n))), THERE, n + 0.1)
    assert LEAST <= calls.slow_after < 0.2
    for n in range(200):
        calls.end(calls.begin(waiting(float(n))), THERE, n + 3.0)
    assert calls.slow_after == MOST


def test_there_is_a_limit() -> None:
    calls = Calls(Random(1))
    transactions = set()
    for _ in range(MAX_CALLS):
        assert not calls.is_full
        transactions.add(calls.begin(waiting()))
    assert calls.is_full
    assert len(transactions) == len(calls) == MAX_CALLS
