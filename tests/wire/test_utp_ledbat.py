"""LEDBAT: what makes the window grow and shrink."""

from __future__ import annotations

from random import Random

import pytest

from torrentfs.wire.utp_ledbat import FIRST_WINDOW, MAX_WINDOW, TARGET, DelayBase, Ledbat

PACKET = 1400


def test_the_queue_is_what_is_above_the_least() -> None:
    base = DelayBase()
    assert base.add(5_000, 0) == 0
    assert base.add(25_000, 1) == 20_000
    assert base.add(3_000, 2) == 0
    assert base.add(25_000, 3) == 22_000


def test_clocks_that_wrap_around() -> None:
    base = DelayBase()
    assert base.add(0xFFFFFF00, 0) == 0
    assert base.add(0x00000100, 1) == 0x200
    assert base.add(0xFFFFFE00, 2) == 0
    assert base.add(0x00000100, 3) == 0x300


def test_a_route_that_became_longer_is_believed_after_three_minutes() -> None:
    base = DelayBase()
    base.add(1_000, 0)
    assert base.add(51_000, 10) == 50_000
    for minute in range(1, 4):
        last = base.add(51_000, 60.0 * minute + 1)
    assert last == 0


def test_slow_start_doubles_and_ends_when_a_queue_is_seen() -> None:
    window = Ledbat(PACKET)
    assert window.window == FIRST_WINDOW * PACKET
    window.on_ack(int(window.window), 0, is_full=True)
    assert window.window == 2 * FIRST_WINDOW * PACKET
    assert "slow start" in repr(window)
    window.on_ack(PACKET, TARGET * 3 // 4, is_full=True)
    assert not window.slow_start


def test_below_the_target_it_grows_above_it_shrinks() -> None:
    window = Ledbat(PACKET)
    window.on_loss()
    for queue, grows in ((0, True), (TARGET // 2, True), (TARGET * 2, False)):
        before = window.window
        window.on_ack(int(before), queue, is_full=True)
        assert (window.window > before) is grows
        assert abs(window.window - before) <= 3000


def test_an_idle_window_does_not_grow() -> None:
    window = Ledbat(PACKET)
    window.on_ack(100_000, 0, is_full=False)
    assert window.window == FIRST_WINDOW * PACKET


def test_loss_halves_and_a_timeout_begins_anew() -> None:
    window = Ledbat(PACKET)
    window.on_ack(100_000, 0, is_full=True)
    before = window.window
    window.on_loss()
    assert window.window == pytest.approx(before / 2)
    window.on_timeout()
    assert window.window == PACKET
    assert window.slow_start
    while window.slow_start:
        window.on_ack(int(window.window), 0, is_full=True)
    assert before / 4 <= window.window <= before


def test_it_stays_within_bounds_whatever_happens() -> None:
    rng, window = Random(1), Ledbat(PACKET)
    for _ in range(5000):
        match rng.randrange(20):
            case 0:
                window.on_loss()
            case 1:
                window.on_timeout()
            case _:
                window.on_ack(rng.randrange(1 << 20), rng.randrange(1 << 20), is_full=True)
        assert PACKET <= window.window <= MAX_WINDOW
