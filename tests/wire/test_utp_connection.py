"""One uTP connection against another, packet by packet, and against nonsense."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.wire.utp import (
    DATA,
    FIN,
    HEADER_BYTES,
    RESET,
    STATE,
    SYN,
    Packet,
    parse_packet,
    refusal,
    write_header,
)
from torrentfs.wire.utp_arrivals import MAX_AHEAD, RECEIVE_CAPACITY
from torrentfs.wire.utp_connection import (
    KEEP_ALIVE,
    SEND_CAPACITY,
    UtpConnection,
)
from torrentfs.wire.utp_mtu import LARGEST_IPV4, LARGEST_IPV6, LEAST, TRIES, USUAL

T = 1000.0


def parsed(datagram: bytes) -> Packet:
    return parse_packet(memoryview(datagram))


def give(connection: UtpConnection, datagrams: list[bytes], now: float = T) -> None:
    for datagram in datagrams:
        connection.receive(parsed(datagram), now)


def opened(first: int = 65_000, second: int = 65_530) -> tuple[UtpConnection, UtpConnection]:
    """Two connected ends, whose numbers will soon wrap around."""
    one = UtpConnection.dial(65_535, first, T)
    (syn,) = one.datagrams(T)
    other = UtpConnection.answer(parsed(syn), second, T)
    give(one, other.datagrams(T))
    assert one.connected
    assert other.connected
    return one, other


def read(connection: UtpConnection) -> bytes:
    room = bytearray(connection.readable)
    assert connection.read_into(memoryview(room)) == len(room)
    return bytes(room)


def settle(one: UtpConnection, other: UtpConnection, now: float = T) -> None:
    """Exchange packets until neither has any."""
    while (there := one.datagrams(now)) + (back := other.datagrams(now)):
        give(other, there, now)
        give(one, back, now)


def test_opening_as_the_bep_has_it() -> None:
    one = UtpConnection.dial(65_535, 77, T)
    (syn,) = map(parsed, one.datagrams(T))
    assert (syn.kind, syn.connection, syn.seq) == (SYN, 65_535, 77)
    other = UtpConnection.answer(syn, 500, T)
    (state,) = map(parsed, other.datagrams(T))
    assert (state.kind, state.connection, state.seq, state.ack) == (STATE, 65_535, 500, 77)
    one.receive(state, T)
    one.queue(b"hello")
    (data,) = map(parsed, one.datagrams(T))
    # who dialled sends under the next number, which wraps around here
    assert (data.kind, data.connection, data.seq, data.ack) == (DATA, 0, 78, 499)
    other.receive(data, T)
    assert read(other) == b"hello"
    other.queue(b"hi")
    (answer,) = map(parsed, other.datagrams(T))
    assert (answer.kind, answer.seq, answer.ack) == (DATA, 500, 78)


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 300_000), st.integers(0, 9))
def test_bytes_arrive_both_ways(first: int, second: int, size: int, seed: int) -> None:
    one, other = opened(first, second)
    data = Random(seed).randbytes(size)
    assert one.queue(data) == other.queue(data[::-1]) == size
    got, back = bytearray(), bytearray()
    for _ in range(100):
        settle(one, other)
        got += read(other)
        back += read(one)
    assert got == data
    assert back == data[::-1]
    assert one.resends == other.resends == 0


def test_an_answer_that_was_lost_is_given_again_and_says_where_data_begins() -> None:
    one = UtpConnection.dial(9, 1, T)
    (syn,) = one.datagrams(T)
    other = UtpConnection.answer(parsed(syn), 100, T)
    other.queue(b"early")
    state, data = other.datagrams(T)  # the first is lost
    give(one, [data])
    assert not one.connected
    one.on_timeout(T + 1)
    give(other, one.datagrams(T + 1), T + 1)
    give(one, other.datagrams(T + 1), T + 1)
    assert one.connected
    other.on_timeout(T + 2)
    give(one, other.datagrams(T + 2), T + 2)
    assert read(one) == b"early"
    assert parsed(state).seq == 100


def test_one_acknowledgement_for_many_packets() -> None:
    one, other = opened()
    one.queue(bytes(10 * (USUAL - HEADER_BYTES)))
    packets = one.datagrams(T)
    assert [len(packet) for packet in packets] == [USUAL] * 10
    give(other, packets)
    assert other.wants_to_send
    (state,) = map(parsed, other.datagrams(T))
    assert state.kind == STATE
    assert state.ack == parsed(packets[-1]).seq
    assert not other.datagrams(T)


def test_three_later_packets_make_one_lost_and_it_is_sent_again_at_once() -> None:
    one, other = opened()
    one.queue(bytes(6 * (USUAL - HEADER_BYTES)))
    packets = one.datagrams(T)
    give(other, packets[:1] + packets[2:4])
    give(one, other.datagrams(T + 0.01), T + 0.01)
    assert not one.datagrams(T + 0.01)  # two later ones may be a matter of order
    give(other, packets[4:])
    give(one, other.datagrams(T + 0.02), T + 0.02)
    (again,) = one.datagrams(T + 0.02)
    assert parsed(again).seq == parsed(packets[1]).seq
    assert again[HEADER_BYTES:] == packets[1][HEADER_BYTES:]
    give(other, [again], T + 0.03)
    assert len(read(other)) == 6 * (USUAL - HEADER_BYTES)
    assert one.resends == 1


def test_silence_makes_everything_lost_and_packets_small_the_second_time() -> None:
    one, _ = opened()
    one.queue(bytes(20_000))
    sent, now = one.datagrams(T), T
    for _ in range(2):
        now = one.next_timeout()
        one.on_timeout(now)
        assert len(one.datagrams(now)) == 1  # the window is one packet
    assert len(sent) == 10
    one.queue(bytes(5000))
    assert one.mtu.size == one._packet == LEAST
    while one.error is None:
        now = one.next_timeout()
        one.on_timeout(now)
        one.datagrams(now)
    assert one.error == "timed out"
    assert now - T < 120
    assert one.next_timeout() == float("inf")
    assert not one.datagrams(now)


def test_nobody_answers_a_syn() -> None:
    one = UtpConnection.dial(1, 1, T)
    times = []
    while one.error is None:
        times += [now := one.next_timeout() if times else T]
        one.on_timeout(now)
        one.datagrams(now)
        assert len(times) < 10
    assert one.error == "timed out"
    assert times[-1] - T < 10


def test_a_window_that_is_closed_is_asked_about_and_opens() -> None:
    one, other = opened()
    sent = 0
    while one.room and sent < 2 * RECEIVE_CAPACITY:
        sent += one.queue(bytes(SEND_CAPACITY))
        settle(one, other)
    assert RECEIVE_CAPACITY - USUAL < other.readable <= RECEIVE_CAPACITY
    now = T
    for _ in range(20):  # far longer than a dead peer is given
        now = one.next_timeout()
        one.on_timeout(now)
        settle(one, other, now)
        assert one.error is None
    assert other.readable <= RECEIVE_CAPACITY
    got = len(read(other))
    assert other.wants_to_send  # there is room again, and it says so by itself
    for _ in range(100):
        settle(one, other, now)
        got += len(read(other))
        now += 0.3
        one.on_timeout(now)
    assert got == sent


def test_the_end_comes_after_the_last_byte() -> None:
    one, other = opened()
    one.queue(bytes(3000))
    one.close()
    packets = one.datagrams(T)
    assert parsed(packets[-1]).kind == FIN
    give(other, packets[::-1])
    assert not other.ended
    assert len(read(other)) == 3000
    assert other.ended
    assert not one.finished
    give(one, other.datagrams(T))
    assert one.finished
    other.queue(b"back")  # one direction is still open
    give(one, other.datagrams(T))
    assert read(one) == b"back"


def test_resets() -> None:
    one, other = opened()
    farewell = one.reset(T)
    assert farewell is not None
    assert one.error == "closed by us"
    give(other, [farewell])
    assert other.error == "connection reset by peer"
    assert one.reset(T) is None
    fresh = UtpConnection.dial(5, 70, T)
    give(fresh, [refusal(parsed(fresh.datagrams(T)[0]), T)])
    assert fresh.error == "connection reset by peer"


def test_forged_packets_are_ignored() -> None:
    one, other = opened()
    one.queue(b"x")
    one.datagrams(T)
    nothing_sent = parsed(write_header(RESET, 0, 0, 0, 0, 0, 12_345))
    one.receive(nothing_sent, T)
    assert one.error is None
    for kind in (DATA, FIN, STATE, RESET):
        other.receive(parsed(write_header(kind, 0, 0, 0, 0, 1, 40_000)), T)
    assert other.error is None
    assert not other.readable


def test_a_keep_alive_after_half_a_minute() -> None:
    one, other = opened()
    settle(one, other)
    assert one.next_timeout() == T + KEEP_ALIVE
    one.on_timeout(T + KEEP_ALIVE)
    (packet,) = one.datagrams(T + KEEP_ALIVE)
    assert parsed(packet).kind == STATE
    assert one.next_timeout() == T + 2 * KEEP_ALIVE


def test_packets_ahead_are_bounded_by_number_and_size() -> None:
    one, other = opened()
    seq = other.arrivals.ack
    for ahead in range(2, 3 * MAX_AHEAD):
        head = write_header(DATA, other.receive_id, 0, 0, 1 << 20, seq + ahead, one.arrivals.ack)
        other.receive(parsed(head + b"x"), T)
    assert len(other.arrivals._ahead) == MAX_AHEAD - 1
    other.datagrams(T)
    one, other = opened()
    for ahead in range(2, 2000):
        head = write_header(
            DATA, other.receive_id, 0, 0, 1 << 20, other.arrivals.ack + ahead, one.arrivals.ack
        )
        other.receive(parsed(head + bytes(1400)), T)
    assert other.arrivals._ahead_bytes <= RECEIVE_CAPACITY


packets = st.builds(
    write_header,
    st.integers(DATA, SYN),
    st.integers(0, 3),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from([0, 1, 5000, 0xFFFFFFFF]),
    st.integers(0, 30) | st.integers(0, 0xFFFF),
    st.integers(0, 30) | st.integers(0, 0xFFFF),
    st.sampled_from([b"", b"\xff\xff\xff\xff", b"\x01\0\0\0"]),
)


@given(st.lists(st.tuples(packets, st.binary(max_size=20), st.floats(0, 3))))
def test_any_packets_at_any_time_keep_the_books_right(
    given_packets: list[tuple[bytes, bytes, float]],
) -> None:
    one = UtpConnection.dial(1, 5, T)
    one.datagrams(T)
    one.queue(bytes(20_000))
    now = T
    for head, payload, later in given_packets:
        now += later
        if one.next_timeout() <= now:
            one.on_timeout(now)
        one.receive(parsed(head + payload), now)
        if one.probe(now) is not None and len(payload) == 7:
            one.on_probe_refused(now)
        one.datagrams(now)
        flight = list(one._flight.items())
        assert [seq for seq, _ in flight] == sorted(seq for seq, _ in flight)
        assert one._lost == sum(sent.lost for _, sent in flight)
        assert one._in_flight == sum(len(sent.datagram) for _, sent in flight if not sent.lost)
        assert one.arrivals._ahead_bytes == sum(map(len, one.arrivals._ahead.values()))
        assert 0 <= one.room <= SEND_CAPACITY
        assert repr(one)


def test_what_is_discarded_takes_no_room() -> None:
    one, other = opened()
    other.discard()
    for _ in range(6):
        one.queue(bytes(SEND_CAPACITY))
        for _ in range(20):
            settle(one, other)
    assert other.readable == 0
    assert one.room == SEND_CAPACITY
    one.fail("the owner gave up")
    assert one.error == "the owner gave up"


@pytest.mark.parametrize("count", [1, 5])
def test_doubled_packets_are_taken_once(count: int) -> None:
    one, other = opened()
    one.queue(bytes(range(100)) * 100)
    for packet in one.datagrams(T):
        give(other, [packet] * (count + 1))
    assert read(other) == (bytes(range(100)) * 100)[:10_000]


def probing(*, ipv6: bool = False) -> tuple[UtpConnection, UtpConnection, bytes]:
    """Two connected ends, and a probe of the first of Ethernet's size."""
    one = UtpConnection.dial(7, 100, T, ipv6=ipv6)
    other = UtpConnection.answer(parsed(one.datagrams(T)[0]), 200, T, ipv6=ipv6)
    give(one, other.datagrams(T))
    one.queue(bytes(range(256)) * 80)
    probe = one.probe(T)
    assert probe is not None
    assert one.probe(T) is None  # one at a time
    return one, other, probe


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_a_probe_that_arrives_makes_packets_large(ipv6: bool) -> None:
    one, other, probe = probing(ipv6=ipv6)
    largest = LARGEST_IPV6 if ipv6 else LARGEST_IPV4
    assert len(probe) == largest
    assert len(parsed(probe).payload) == USUAL - HEADER_BYTES  # real data, filled up
    give(other, [probe, *one.datagrams(T)])
    window = one._congestion.window
    give(one, other.datagrams(T + 0.1), T + 0.1)
    assert one.mtu.size == largest
    assert one._congestion.window > window
    assert {len(packet) for packet in one.datagrams(T + 0.1)[:-1]} == {largest}
    assert one.probe(T + 0.1) is None  # there is nothing more to find
    assert bytes(range(256)).startswith(read(other)[:256])


def test_a_lost_probe_is_no_congestion_and_its_data_fits_the_second_time() -> None:
    one, other, probe = probing()
    for round_ in range(1, TRIES + 1):
        window, now = one._congestion.window, T + round_
        later = one.datagrams(now - 0.5)  # the probe is lost
        assert len(later) >= 4
        give(other, later, now - 0.5)
        give(one, other.datagrams(now - 0.4), now - 0.4)
        assert one._congestion.window >= window
        assert one.mtu.size == USUAL
        assert one.probe(now - 0.4) is None  # first what was lost
        again, *more = one.datagrams(now - 0.4)
        assert parsed(again).seq == parsed(probe).seq
        assert bytes(parsed(again).payload) == bytes(parsed(probe).payload)
        assert len(again) == USUAL
        give(other, [again, *more], now - 0.4)
        give(one, other.datagrams(now - 0.3), now - 0.3)
        one.queue(bytes(20_000))
        following = one.probe(now - 0.3)
        assert following is not None
        assert (len(following) < LARGEST_IPV4) == (round_ == TRIES)
        probe = following


def test_an_ordinary_loss_beside_a_probe_is_congestion() -> None:
    one, other, _ = probing()
    window = one._congestion.window
    packets = one.datagrams(T)  # the probe and the first of these are lost
    give(other, packets[1:])
    give(one, other.datagrams(T + 0.1), T + 0.1)
    assert one._congestion.window < window


def test_a_probe_alone_in_flight_that_is_lost_costs_no_window() -> None:
    one, _, _ = probing()
    window = one._congestion.window
    one._queue.clear()  # what was to follow it
    assert not one.datagrams(T)
    now = one.next_timeout()
    one.on_timeout(now)
    assert one._congestion.window == window
    assert [len(packet) for packet in one.datagrams(now)] == [USUAL]


def test_a_probe_that_the_kernel_refuses_goes_out_small_at_once() -> None:
    one, other, probe = probing()
    one.on_probe_refused(T)
    first, *more = one.datagrams(T)
    assert len(first) == USUAL
    assert parsed(first).seq == parsed(probe).seq
    give(other, [first, *more])
    give(one, other.datagrams(T + 0.1), T + 0.1)
    assert one.resends == 0
    assert one.round_trip.mean == pytest.approx(0.1 / 8)  # of a first sample of 0: the handshake
    one.queue(bytes(20_000))
    smaller = one.probe(T + 0.1)  # no second try of what cannot be
    assert smaller is not None
    assert USUAL < len(smaller) < LARGEST_IPV4
    one.on_probe_refused(T)
    one.on_probe_refused(T)  # there is none
    assert one._lost == 1


def test_no_probe_without_packets_to_follow_it() -> None:
    one, _ = opened()
    assert one.probe(T) is None
    one.queue(bytes(4 * USUAL))
    assert one.probe(T) is None
    one.queue(bytes(USUAL))
    assert one.probe(T) is not None
    fresh = UtpConnection.dial(1, 1, T)
    fresh.queue(bytes(20_000))
    assert fresh.probe(T) is None
