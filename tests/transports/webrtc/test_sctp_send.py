"""Whatever the network does, the peer gets all of it, within its window."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transports.webrtc.test_sctp_receive import message_of
from torrentfs.transports.webrtc.sctp import DATA_HEADER, MAX_PAYLOAD, WRAP, read_sack
from torrentfs.transports.webrtc.sctp_receive import Inbound
from torrentfs.transports.webrtc.sctp_send import (
    BURST,
    INITIAL_PACKETS,
    RTO_MAX,
    RTO_MIN,
    SLOW_START_LEAST,
    Outbound,
)

WIDE = 1 << 30


def deliver(inbound: Inbound, packet: bytes) -> None:
    at = 0
    while at < len(packet):
        _, flags, length, tsn, stream, _, ppid = DATA_HEADER.unpack_from(packet, at)
        inbound.on_data(flags, tsn, stream, ppid, packet[at + 16 : at + length])
        at += length + 3 & ~3
    inbound.on_packet()


def answer(outbound: Outbound, inbound: Inbound, now: float) -> None:
    sack = read_sack(inbound.sack(), outbound.cumulative)
    assert sack is not None
    outbound.on_sack(*sack, now)


def tsns(packets: list[bytes]) -> list[int]:
    found = []
    for packet in packets:
        at = 0
        while at < len(packet):
            _, _, length, tsn, *_ = DATA_HEADER.unpack_from(packet, at)
            found.append(tsn)
            at += length + 3 & ~3
    return found


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=12),
    initial=st.sampled_from([0, WRAP - 7]),
    loss=st.sampled_from([0.0, 0.05, 0.3]),
    copies=st.sampled_from([0.0, 0.2]),
    reorder=st.booleans(),
    capacity=st.sampled_from([20_000, 1 << 20]),
    seed=st.integers(0, 1 << 16),
)
def test_all_arrives(
    sizes: list[int],
    initial: int,
    loss: float,
    copies: float,
    reorder: bool,
    capacity: int,
    seed: int,
) -> None:
    random = Random(seed)
    messages = [message_of(size, number) for number, size in enumerate(sizes)]
    outbound, inbound = Outbound(initial, capacity), Inbound(initial, capacity)
    for message in messages:
        outbound.push(1, 53, message)
    now = 0.0
    flying: list[bytes] = []
    for _ in range(20_000):
        before = outbound.in_flight
        allowed = min(outbound.congestion_window, outbound.window) + 2 * MAX_PAYLOAD
        packets = outbound.take(now)
        assert len(packets) <= BURST
        assert outbound.in_flight <= max(before + MAX_PAYLOAD, allowed)
        flying += [packet for packet in packets if random.random() >= loss]
        flying += [packet for packet in packets if random.random() < copies]
        if outbound.is_idle:
            break
        if not flying:
            assert outbound.deadline is not None, outbound
            now = max(now, outbound.deadline)
            outbound.on_deadline(now)
            continue
        now += 0.005
        if reorder:
            random.shuffle(flying)
        come, flying = flying[:4], flying[4:]
        for packet in come:
            deliver(inbound, packet)
        if random.random() >= loss:
            answer(outbound, inbound, now)
    assert outbound.is_idle, outbound
    assert [data for _, _, data in inbound.take_messages()] == messages
    assert outbound.in_flight == 0
    assert outbound.deadline is None


def test_slow_start_and_bursts() -> None:
    outbound, inbound = Outbound(0, WIDE), Inbound(0)
    outbound.push(1, 53, bytes(200 * MAX_PAYLOAD))
    packets = outbound.take(0.0)
    assert len(packets) == INITIAL_PACKETS
    assert outbound.take(0.0) == []
    for round_trip in range(1, 5):
        sent: list[bytes] = []
        for number, packet in enumerate(packets):
            deliver(inbound, packet)
            if number % 2:
                answer(outbound, inbound, round_trip * 0.01)
                sent += outbound.take(round_trip * 0.01)
        packets = sent
    assert outbound.congestion_window > 20 * MAX_PAYLOAD
    assert outbound.smoothed_round_trip == pytest.approx(0.01)


def test_more_than_a_burst_goes_out_in_pieces() -> None:
    outbound, inbound = Outbound(0, WIDE), Inbound(0)
    outbound.push(1, 53, bytes(200 * MAX_PAYLOAD))
    for packet in outbound.take(0.0):
        deliver(inbound, packet)
    assert outbound.pause is None
    answer(outbound, inbound, 0.1)
    outbound.congestion_window = 4 * BURST * MAX_PAYLOAD
    assert len(outbound.take(0.1)) == BURST
    assert outbound.pause == pytest.approx(0.1 / 4 / 2)
    for _ in range(3):
        assert len(outbound.take(0.1)) == BURST
    assert outbound.take(0.1) == []
    assert outbound.pause is None


def test_acknowledgements_in_a_clump_grow_the_window_like_single_ones() -> None:
    outbound, inbound = Outbound(0, WIDE), Inbound(0)
    outbound.push(1, 53, bytes(100 * MAX_PAYLOAD))
    packets = outbound.take(0.0)
    assert outbound.take(0.0) == []
    for packet in packets:
        deliver(inbound, packet)
        answer(outbound, inbound, 0.1)
    assert outbound.congestion_window == 2 * INITIAL_PACKETS * MAX_PAYLOAD


def test_slow_start_ends_where_nothing_is_gained() -> None:
    """Over a short line early, over a long one late."""
    reached = []
    for round_trip in (0.001, 0.1):
        outbound, inbound = Outbound(0, WIDE), Inbound(0)
        now = 0.0
        for _ in range(9):
            for _ in range(4):
                outbound.push(1, 53, bytes(100 * MAX_PAYLOAD))
            packets: list[bytes] = []
            while more := outbound.take(now):
                packets += more
            now += round_trip
            for packet in packets:
                deliver(inbound, packet)
                answer(outbound, inbound, now)
        reached.append(outbound.congestion_window)
    assert SLOW_START_LEAST < reached[0] < SLOW_START_LEAST + 12 * MAX_PAYLOAD
    assert reached[1] > 10 * reached[0]


def test_a_window_that_is_not_used_does_not_grow() -> None:
    outbound, inbound = Outbound(0, WIDE), Inbound(0)
    for number in range(30):
        outbound.push(1, 53, bytes(3 * MAX_PAYLOAD))
        for packet in outbound.take(number * 0.1):
            deliver(inbound, packet)
            answer(outbound, inbound, number * 0.1)
    assert outbound.congestion_window == INITIAL_PACKETS * MAX_PAYLOAD


def test_one_loss_halves_once_and_is_mended_at_once() -> None:
    outbound, inbound = Outbound(0, WIDE), Inbound(0)
    outbound.congestion_window = 20 * MAX_PAYLOAD
    outbound.threshold = 10 * MAX_PAYLOAD  # no slow start
    outbound.push(1, 53, bytes(40 * MAX_PAYLOAD))
    packets = outbound.take(0.0) + outbound.take(0.0)
    assert len(packets) == 20
    again: list[int] = []
    for number, packet in enumerate(packets):
        if number in (3, 7):
            continue
        deliver(inbound, packet)
        answer(outbound, inbound, 0.01)
        again += [tsn for tsn in tsns(outbound.take(0.01)) if tsn in (3, 7)]
        if number == 5:
            assert again == []  # two later ones may just have been faster
        if number == 6:
            assert again == [3]
    assert again == [3, 7]
    assert outbound.retransmitted == 2
    assert outbound.congestion_window == 10 * MAX_PAYLOAD


def test_a_chunk_lost_twice_needs_no_timer() -> None:
    outbound, inbound = Outbound(0, WIDE), Inbound(0)
    outbound.congestion_window = 50 * MAX_PAYLOAD
    outbound.push(1, 53, bytes(100 * MAX_PAYLOAD))
    lost = 2
    now = 0.0
    while not outbound.is_idle and now < 0.3:
        now += 0.01
        for packet in outbound.take(now):
            if 0 in tsns([packet]) and lost:
                lost -= 1
                continue
            deliver(inbound, packet)
        answer(outbound, inbound, now)
    assert outbound.is_idle
    assert now < RTO_MIN


def test_silence_doubles_the_timeout() -> None:
    outbound = Outbound(0, WIDE)
    outbound.push(1, 53, bytes(30 * MAX_PAYLOAD))
    now = 0.0
    assert len(outbound.take(now)) == 10
    waits = []
    for _ in range(5):
        assert outbound.deadline is not None
        waits.append(outbound.deadline - now)
        now = outbound.deadline
        outbound.on_deadline(now)
        assert tsns(outbound.take(now)) == [0]
    assert waits == [1.0, 2.0, RTO_MAX, RTO_MAX, RTO_MAX]
    assert outbound.congestion_window == MAX_PAYLOAD


def test_a_shut_window_is_probed() -> None:
    outbound, inbound = Outbound(0, 0), Inbound(0)
    outbound.push(1, 53, bytes(3000))
    assert outbound.take(0.0) == []
    assert outbound.deadline is not None
    outbound.on_deadline(outbound.deadline)
    (probe,) = outbound.take(1.0)
    deliver(inbound, probe)
    answer(outbound, inbound, 1.1)
    assert len(outbound.take(1.1)) == 2


def test_the_peer_s_window_is_kept() -> None:
    outbound = Outbound(0, 5 * MAX_PAYLOAD)
    outbound.push(1, 53, bytes(30 * MAX_PAYLOAD))
    assert len(outbound.take(0.0)) == 5
    outbound.on_sack(4, 2 * MAX_PAYLOAD, [], 0.1)
    assert len(outbound.take(0.1)) == 2


def test_small_messages_share_a_packet() -> None:
    outbound = Outbound(0, WIDE)
    for _ in range(10):
        outbound.push(1, 53, bytes(13))
    (packet,) = outbound.take(0.0)
    assert tsns([packet]) == list(range(10))


def test_nonsense_is_ignored() -> None:
    outbound = Outbound(100, WIDE)
    outbound.push(1, 53, bytes(30 * MAX_PAYLOAD))
    outbound.take(0.0)
    before = repr(outbound)
    outbound.on_sack(110, WIDE, [], 0.1)  # of what was never sent
    outbound.on_sack(98, WIDE, [], 0.1)  # of long ago
    assert repr(outbound) == before
    outbound.on_sack(99, WIDE, [(101, 60_000)], 0.1)  # a gap that reaches beyond
    assert outbound.in_flight <= MAX_PAYLOAD


def test_streams_are_numbered_apart() -> None:
    numbers: dict[int, int] = {}
    outbound = Outbound(0, WIDE, numbers)
    for stream in (1, 1, 2):
        outbound.push(stream, 53, b"x")
    assert numbers == {1: 2, 2: 1}
    (packet,) = outbound.take(0.0)
    sequences = [DATA_HEADER.unpack_from(packet, at)[5] for at in (0, 20, 40)]
    assert sequences == [0, 1, 0]
