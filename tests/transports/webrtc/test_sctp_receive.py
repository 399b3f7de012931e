"""Chunks in any order give the messages in theirs."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import RemoteProtocolError
from torrentfs.transports.webrtc import sctp_receive
from torrentfs.transports.webrtc.sctp import DATA_HEADER, WRAP, read_sack
from torrentfs.transports.webrtc.sctp_receive import (
    CAPACITY,
    MAX_CHUNKS,
    MAX_MESSAGE,
    SILLY,
    SLACK,
    Inbound,
)
from torrentfs.transports.webrtc.sctp_send import Outbound

BINARY = 53


def chunks_of(messages: list[bytes], initial: int) -> list[bytes]:
    """The DATA chunks of these messages."""
    outbound = Outbound(initial, 1 << 30)
    outbound.congestion_window = 1 << 30
    for message in messages:
        outbound.push(0, BINARY, message)
    packed = []
    while packets := outbound.take(0.0):
        packed += packets
    found = []
    for packet in packed:
        at = 0
        while at < len(packet):
            length = DATA_HEADER.unpack_from(packet, at)[2]
            found.append(packet[at : at + length])
            at += length + 3 & ~3
    return found


def give(inbound: Inbound, chunk: bytes) -> None:
    _, flags, _, tsn, stream, _, ppid = DATA_HEADER.unpack_from(chunk)
    inbound.on_data(flags, tsn, stream, ppid, chunk[16:])


def tsn_of(chunk: bytes) -> int:
    return int(DATA_HEADER.unpack_from(chunk)[3])


def message_of(size: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size)


MESSAGES = st.lists(st.integers(1, 5000), min_size=1, max_size=12)


@given(MESSAGES, st.sampled_from([0, 5, WRAP - 3, WRAP - 20]), st.randoms(use_true_random=False))
def test_any_order_and_copies(sizes: list[int], initial: int, random: Random) -> None:
    messages = [message_of(size, number) for number, size in enumerate(sizes)]
    chunks = chunks_of(messages, initial)
    sent = chunks + random.choices(chunks, k=len(chunks) // 2)
    random.shuffle(sent)
    inbound = Inbound(initial)
    came: set[int] = set()
    for chunk in sent:
        give(inbound, chunk)
        came.add((tsn_of(chunk) - initial) % WRAP)
        inbound.on_packet()
        # Against brute force: all that came, and nothing else, is acknowledged.
        sack = read_sack(inbound.sack(), inbound.cumulative)
        assert sack is not None
        cumulative, _, gaps = sack
        said = set(range(cumulative - initial + 1))
        for first, last in gaps:
            said |= set(range(first - initial, last - initial + 1))
        assert said == came
    assert inbound.take_messages() == [(0, BINARY, message) for message in messages]
    assert inbound.window == CAPACITY


@given(MESSAGES, st.randoms(use_true_random=False))
def test_what_is_given_up_is_skipped(sizes: list[int], random: Random) -> None:
    """FORWARD TSN over losses: each message is whole or absent, and order is kept."""
    messages = [message_of(size, number) for number, size in enumerate(sizes)]
    chunks = chunks_of(messages, 0)
    inbound = Inbound(0)
    for chunk in chunks:
        if random.random() < 0.7:
            give(inbound, chunk)
    inbound.on_forward(random.randrange(len(chunks)))
    inbound.on_forward(len(chunks) - 1)
    got = [messages.index(data) for _, _, data in inbound.take_messages()]
    assert got == sorted(got)
    assert inbound.window == CAPACITY
    assert inbound.cumulative == len(chunks) - 1
    inbound.on_forward(3)  # what is old changes nothing
    assert inbound.cumulative == max(3, len(chunks) - 1)


def test_when_to_acknowledge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sctp_receive, "EARLY", 0)
    chunks = chunks_of([message_of(20_000)], 0)
    inbound = Inbound(0)
    give(inbound, chunks[0])
    inbound.on_packet()
    assert inbound.sack_due_at_rest  # the first at once
    inbound.sack()
    assert not inbound.sack_wanted
    give(inbound, chunks[1])
    inbound.on_packet()
    assert inbound.sack_wanted
    assert not inbound.sack_due_at_rest  # one alone may wait
    for chunk in chunks[2:5]:
        assert not inbound.sack_due
        give(inbound, chunk)
        inbound.on_packet()
    assert inbound.sack_due
    inbound.sack()
    give(inbound, chunks[6])  # the fifth is missing
    inbound.on_packet()
    assert inbound.sack_due_at_rest
    inbound.sack()
    give(inbound, chunks[6])  # a copy
    assert inbound.sack_due_at_rest
    inbound.sack()
    give(inbound, chunks[5])  # the gap is filled
    assert inbound.sack_due_at_rest


def test_a_young_association_acknowledges_each_second_packet() -> None:
    inbound = Inbound(0)
    said = []
    for tsn in range(sctp_receive.EARLY + 100):
        inbound.on_data(3, tsn, 0, BINARY, b"x")
        inbound.on_packet()
        if inbound.sack_due:
            inbound.sack()
            said.append(tsn)
    steps = [later - sooner for sooner, later in pairwise(said)]
    assert steps[0] == 2
    assert steps[-1] == 4
    assert set(steps) == {2, 4}


def test_a_peer_may_ask_for_a_sack() -> None:
    inbound = Inbound(0)
    inbound.sack()
    inbound.on_data(3 | 8, 0, 0, BINARY, b"x")
    assert inbound.sack_due_at_rest


def test_the_window_closes_and_opens() -> None:
    inbound = Inbound(0)
    tsn = 0
    while inbound.window:
        inbound.on_data(3, tsn, 0, BINARY, bytes(1000))
        tsn += 1
        inbound.held += sum(len(data) for _, _, data in inbound.take_messages())
        inbound.sack()
    assert CAPACITY - inbound.held < SILLY
    assert not inbound.release(CAPACITY // 8)
    assert inbound.window >= CAPACITY // 8
    assert inbound.release(CAPACITY // 8)  # a quarter is free: the peer must hear of it
    inbound.sack()
    assert not inbound.release(1000)


def test_a_peer_that_ignores_the_window() -> None:
    inbound = Inbound(0)
    for tsn in range(3000):
        inbound.on_data(3, tsn, 0, BINARY, bytes(1000))
        inbound.held += sum(len(data) for _, _, data in inbound.take_messages())
    assert inbound.held <= CAPACITY + SLACK
    assert inbound.cumulative == inbound.held // 1000 - 1  # the rest was not acknowledged
    for tsn in range(5000, 9000):
        inbound.on_data(3, tsn, 0, BINARY, bytes(1000))
    assert not inbound.take_messages()
    assert "ahead 0" in repr(inbound)


def test_what_is_early_is_bounded() -> None:
    inbound = Inbound(0)
    for tsn in range(1, 3 * MAX_CHUNKS):
        inbound.on_data(3, tsn, 0, BINARY, b"x")
    assert f"ahead {MAX_CHUNKS}" in repr(inbound)
    inbound.on_data(3, 70_000, 0, BINARY, b"x")  # farther than a gap block reaches
    assert f"ahead {MAX_CHUNKS}" in repr(inbound)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param([2, 2], id="a beginning in the middle"),
        pytest.param([2, 3], id="a whole one in the middle"),
    ],
)
def test_fragments_out_of_rule(flags: list[int]) -> None:
    inbound = Inbound(0)
    for tsn, flag in enumerate(flags[:-1]):
        inbound.on_data(flag, tsn, 0, BINARY, b"x")
    with pytest.raises(RemoteProtocolError):
        inbound.on_data(flags[-1], len(flags) - 1, 0, BINARY, b"x")


def test_no_data() -> None:
    with pytest.raises(RemoteProtocolError):
        Inbound(0).on_data(3, 0, 0, BINARY, b"")


@pytest.mark.parametrize(("size", "count"), [(1000, MAX_MESSAGE // 1000), (1, MAX_CHUNKS)])
def test_a_message_without_end(size: int, count: int) -> None:
    inbound = Inbound(0)
    inbound.on_data(2, 0, 0, BINARY, bytes(size))
    for tsn in range(1, count):
        inbound.on_data(0, tsn, 0, BINARY, bytes(size))
    with pytest.raises(RemoteProtocolError):
        inbound.on_data(0, count, 0, BINARY, bytes(size))


@given(
    st.lists(
        st.tuples(st.integers(0, 15), st.integers(0, 40) | st.integers(0, WRAP - 1)), max_size=60
    ),
    st.integers(0, WRAP - 1),
)
def test_any_chunks(chunks: list[tuple[int, int]], forward: int) -> None:
    inbound = Inbound(0)
    try:
        for flags, tsn in chunks:
            inbound.on_data(flags, tsn, 0, BINARY, b"abc")
            inbound.sack()
        inbound.on_forward(forward)
    except RemoteProtocolError:
        return
    assert 0 <= inbound.window <= CAPACITY
    assert len(inbound.sack()) <= 16 + 4 * (sctp_receive.MAX_GAPS + sctp_receive.MAX_DUPLICATES)
