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

    def noting(size: int, now: float, rng: Random, *, whole: bool = False) -> list[float]:
        nonlocal longest
        times = arrivals(size, now, rng, whole=whole)
        if now > 1005:  # slow start is over
            longest = max(longest, line.free_at - now)
        return times

    line.arrivals = noting  # type: ignore[method-assign]
    wire = transfer(15 * MB, line)
    assert line.lost == 0
    assert longest < 0.2
    assert rate(wire) > 0.9 * 1.25 * MB


def size_found(wire: Wire) -> int:
    """What the first end takes for the path's size."""
    connection = wire.ends[0].connection
    assert connection is not None
    return connection.mtu.size


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("limit", [1232, 1260, 1300, 1392, 1464])
@pytest.mark.parametrize("refused", [False, True], ids=["black hole", "interface"])
def test_the_size_of_a_path_is_found(ipv6: bool, limit: int, refused: bool) -> None:
    """Whatever drops large packets, in silence or the kernel: no byte is lost, nor much time."""
    line = Line(rate=12.5 * MB, limit=limit, interface=limit if refused else 0)
    wire = Wire(End(bytes(3 * MB)), End(), line, Line(), ipv6=ipv6)
    took = wire.run()
    assert len(wire.ends[1].received) == 3 * MB
    most = min(limit, 1452 if ipv6 else 1472)
    assert most - 16 < size_found(wire) <= most
    assert line.lost == (0 if refused else sum(size > limit for size in line.probes))
    assert len(line.probes) <= (7 if refused else 12)
    plain = transfer(3 * MB, Line(rate=12.5 * MB))
    assert plain.ends[1].ended_at is not None
    assert took < 1.5 * (plain.ends[1].ended_at - 1000) + 0.2


def test_an_empty_path_of_ethernet_takes_one_probe() -> None:
    wire = transfer(MB, Line())
    assert wire.lines[0].probes == [1472]
    assert size_found(wire) == 1472


def test_loss_by_chance_does_not_make_packets_small() -> None:
    wire = transfer(2 * MB, Line(loss=0.05), seed=5)
    assert size_found(wire) > 1400


def test_a_path_for_small_packets_only_for_a_while() -> None:
    """While larger packets than any IPv4 path must carry vanish, it makes its packets small; when
    the path is wider again, it goes back."""
    line = Line(limit=600)
    wire = Wire(End(bytes(3 * MB)), End(), line, Line())
    with pytest.raises(AssertionError, match="not done"):
        wire.run(seconds=4)
    line.limit = 0
    wire.run()
    assert len(wire.ends[1].received) == 3 * MB
    assert size_found(wire) == 1472


def test_a_path_that_becomes_narrow() -> None:
    """Packets in flight keep their size, so the path must cut them (IPv4); later ones fit."""
    line = Line(rate=1.25 * MB)
    wire = Wire(End(bytes(9 * MB)), End(), line, Line())
    with pytest.raises(AssertionError, match="not done"):
        wire.run(seconds=2)
    assert size_found(wire) == 1472
    line.loss = 1.0
    with pytest.raises(AssertionError, match="not done"):
        wire.run(seconds=3)
    line.loss, line.cut, line.limit = 0.0, True, 1300
    wire.run()
    assert len(wire.ends[1].received) == 9 * MB
    assert 1284 < size_found(wire) <= 1300


def test_a_narrow_path_is_tried_again_after_ten_minutes() -> None:
    line = Line(rate=100_000.0, limit=1300)
    wire = Wire(End(bytes(90 * MB)), End(), line, Line())
    with pytest.raises(AssertionError, match="not done"):
        wire.run(seconds=60)
    before = len(line.probes)
    with pytest.raises(AssertionError, match="not done"):
        wire.run(seconds=500)
    assert len(line.probes) == before
    line.limit = 0
    wire.run(seconds=2000)
    assert line.probes[before:] == [1472]
    assert size_found(wire) == 1472


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
