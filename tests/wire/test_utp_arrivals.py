"""What arrived over uTP, against a model: in any order, doubled, beyond the window."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from torrentfs.wire.utp_arrivals import MAX_AHEAD, RECEIVE_CAPACITY, Arrivals


def read(arrivals: Arrivals) -> bytes:
    room = bytearray(arrivals.readable + 1)
    count = arrivals.read_into(memoryview(room))
    assert count == len(room) - 1
    return bytes(room[:count])


@given(st.lists(st.binary(max_size=40), max_size=40), st.integers(0, 1 << 30), st.booleans())
def test_any_order_gives_the_same_bytes(payloads: list[bytes], seed: int, doubled: bool) -> None:
    rng, arrivals = Random(seed), Arrivals()
    arrivals.ack = 65_530
    order = list(enumerate(payloads, 65_531)) * (1 + doubled)
    rng.shuffle(order)
    got = bytearray()
    for seq, payload in order:
        arrivals.on_data(seq, memoryview(payload))
        if rng.random() < 0.5:
            got += read(arrivals)
    got += read(arrivals)
    assert got == b"".join(payloads)
    assert arrivals.ahead == 0
    assert arrivals.window == RECEIVE_CAPACITY
    assert arrivals.mask() == b""


def test_what_is_ahead_is_named_and_takes_room() -> None:
    arrivals = Arrivals()
    arrivals.on_data(2, memoryview(bytes(100)))
    arrivals.on_data(4, memoryview(bytes(100)))
    assert arrivals.mask() == b"\x05\0\0\0"
    assert arrivals.window == RECEIVE_CAPACITY - 200
    assert (arrivals.readable, arrivals.ahead) == (0, 2)
    assert repr(arrivals) == "<Arrivals 0 unread, 2 ahead>"


def test_what_is_beyond_the_window_is_dropped() -> None:
    arrivals = Arrivals()
    arrivals.on_data(1, memoryview(bytes(RECEIVE_CAPACITY)))
    arrivals.on_data(2, memoryview(b"x"))
    arrivals.on_data(3, memoryview(b"x"))
    arrivals.on_data(MAX_AHEAD + 2, memoryview(b""))
    assert (arrivals.ack, arrivals.window, arrivals.ahead) == (1, 0, 0)


def test_nothing_comes_after_the_end() -> None:
    arrivals = Arrivals()
    arrivals.on_end(2)
    arrivals.on_end(9)  # the first one counts
    arrivals.on_data(3, memoryview(b"late"))
    assert not arrivals.ended
    arrivals.on_data(1, memoryview(b"x"))
    assert (arrivals.ack, arrivals.last, arrivals.ended) == (2, 2, False)
    assert read(arrivals) == b"x"
    assert arrivals.ended
    arrivals.discard()
    assert arrivals.ended
