"""uTP over bad lines, in virtual time: every byte right, and as fast as the line deserves."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.utp_line import End, Line, Wire

MB = 1_000_000


def transfer(size: int, there: Line, back: Line | None = None, seed: int = 0) -> Wire:
    """Send `size` bytes one way and some the other; all of it must arrive, and once."""
    rng = Random(seed)
    data, answer = rng.randbytes(size), rng.randbytes(5000)
    one, other = End(data), End(answer)
    wire = Wire(one, other, there, back or Line(delay=there.delay), seed)
    wire.run()
    assert [end.connection.error for end in wire.ends if end.connection] == [None, None]
    assert other.received == data
    assert one.received == answer
    return wire


def rate(wire: Wire) -> float:
    """Bytes per virtual second of what the first end sent."""
    other = wire.ends[1]
    assert other.ended_at is not None
    return len(other.received) / (other.ended_at - 1000.0)


def test_an_empty_line_is_filled() -> None:
    assert rate(transfer(5 * MB, Line(rate=1.25 * MB))) > 0.9 * 1.25 * MB
    assert rate(transfer(10 * MB, Line(rate=12.5 * MB))) > 0.7 * 12.5 * MB


def test_loss_reordering_and_duplication_at_once() -> None:
    bad = {"loss": 0.05, "reorder": 0.1, "double": 0.05}
    wire = transfer(2 * MB, Line(rate=12.5 * MB, **bad), Line(**bad), seed=1)
    # what TCP gets on such a line: packet / round trip * 1.2 / sqrt(loss) = 0.19 MB/s
    assert rate(wire) > 0.15 * MB
    sender = wire.ends[0].connection
    assert sender is not None
    # little is sent twice that was not lost
    assert sender.resends < 2 * wire.lines[0].lost


def test_reordering_alone_is_not_taken_for_loss_too_often() -> None:
    wire = transfer(2 * MB, Line(reorder=0.02), seed=2)
    sender = wire.ends[0].connection
    assert sender is not None
    assert sender.resends < 0.05 * wire.lines[0].carried


def test_it_yields_to_a_queue() -> None:
    """On a line whose buffer holds a second, uTP makes a queue of about a tenth."""
    line = Line(rate=1.25 * MB, queue=1.0)
    longest = 0.0
    arrivals = line.arrivals

    def noting(size: int, now: float, rng: Random) -> list[float]:
        nonlocal longest
        times = arrivals(size, now, rng)
        if now > 1005:  # slow start is over
            longest = max(longest, line.free_at - now)
        return times

    line.arrivals = noting  # type: ignore[method-assign]
    wire = transfer(15 * MB, line)
    assert line.lost == 0
    assert longest < 0.2
    assert rate(wire) > 0.9 * 1.25 * MB


def test_a_path_for_small_packets_only_for_a_while() -> None:
    """While large packets vanish, it makes its packets small; it goes on with them."""
    line = Line(limit=1300)
    wire = Wire(End(bytes(100_000)), End(), line, Line())
    with pytest.raises(AssertionError, match="not done"):
        wire.run(seconds=3)
    line.limit = 0
    wire.run()
    assert len(wire.ends[1].received) == 100_000


def test_a_peer_that_vanishes_is_noticed() -> None:
    line, back = Line(), Line()
    wire = Wire(End(bytes(10 * MB)), End(), line, back)
    with pytest.raises(AssertionError, match="not done"):
        wire.run(seconds=0.2)
    line.loss = back.loss = 1.0
    assert wire.run(seconds=100) > 20
    sender = wire.ends[0].connection
    assert sender is not None
    assert sender.error == "timed out"


@settings(max_examples=40)
@given(
    size=st.integers(0, 60_000),
    delay=st.sampled_from([0.0, 0.001, 0.05, 0.4]),
    loss=st.sampled_from([0.0, 0.02, 0.2]),
    reorder=st.sampled_from([0.0, 0.3, 1.0]),
    double=st.sampled_from([0.0, 0.5]),
    speed=st.sampled_from([0.0, 20_000.0, 1e7]),
    seed=st.integers(0, 1 << 30),
)
def test_whatever_the_line_does(
    size: int, delay: float, loss: float, reorder: float, double: float, speed: float, seed: int
) -> None:
    lines = [
        Line(delay=delay, rate=speed, loss=loss, reorder=reorder, double=double, queue=2.0)
        for _ in range(2)
    ]
    rng = Random(seed)
    data, answer = rng.randbytes(size), rng.randbytes(size // 3)
    one, other = End(data), End(answer)
    Wire(one, other, *lines, seed).run()
    ends = (one, other)
    errors = {end.connection.error for end in ends if end.connection}
    if errors == {None}:
        assert other.received == data
        assert one.received == answer
    else:  # with a fifth of everything lost it may give up, but never with wrong bytes
        assert loss == 0.2
        assert data.startswith(other.received)
        assert answer.startswith(one.received)
