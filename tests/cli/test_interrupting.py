"""Signals become an exception at once, or, while threads are at work, when somebody looks."""

from __future__ import annotations

import os
import signal

import pytest

from torrentfs.cli.interrupting import held, interruptible
from torrentfs.cli.making import hashing_bar
from torrentfs.daemon.outcome import Interrupted, exit_code

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_says_what_is_left(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    words = f"{signum.name}; nothing is x"
    with pytest.raises(Interrupted, match=words) as caught, interruptible("nothing is x"):
        os.kill(os.getpid(), signum)
    assert exit_code(caught.value) == 128 + signum
    assert signal.getsignal(signum) is before


@pytest.mark.parametrize("signum", SIGNALS)
def test_while_files_are_hashed_it_is_raised_by_the_next_look_at_the_progress(
    signum: signal.Signals,
) -> None:
    done: list[int] = []

    def work() -> None:
        with hashing_bar("x", 10) as on_progress:
            for size in (1, 2):
                on_progress(size)
                os.kill(os.getpid(), signum)  # where `threading` may be starting a thread
                done.append(size)

    with (
        pytest.raises(Interrupted, match=f"{signum.name}; nothing is x"),
        interruptible("nothing is x"),
    ):
        work()
    assert done == [1]


def test_one_that_came_after_the_last_look_is_raised_at_the_end() -> None:
    reached: list[str] = []

    def work() -> None:
        with held():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("the end of the threads")
        reached.append("what comes after")

    with pytest.raises(Interrupted), interruptible("nothing is x"):
        work()
    assert reached == ["the end of the threads"]


def test_only_the_first_of_many_is_raised() -> None:
    cleaned: list[bool] = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)  # impatient, in the midst of the cleaning
            cleaned.append(True)

    with pytest.raises(Interrupted, match="SIGTERM"), interruptible("nothing is x"):
        work()
    assert cleaned == [True]


def test_nothing_is_held_where_nobody_interrupts() -> None:
    with held() as look:
        look()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
