"""ReceiveBuffer: it grows with a fast peer, moves little, and lets go when the peer falls idle."""

from __future__ import annotations

from torrentfs.wire import limits
from torrentfs.wire import messages as m

from .cases import raw
from .pair import opened


def capacity(connection: object) -> int:
    return len(connection._buffer.data)


def fill(connection: object, data: bytes) -> None:
    room = connection.get_buffer()
    room[: len(data)] = data
    connection.buffer_updated(len(data))


def test_an_idle_peer_holds_little() -> None:
    connection = opened()
    assert capacity(connection) <= limits.INITIAL_BUFFER_BYTES
    assert len(connection.get_buffer()) >= limits.MIN_ROOM_BYTES


def test_it_grows_while_receives_fill_it_and_shrinks_after_a_small_one() -> None:
    connection = opened()
    sizes = []
    for _ in range(5):
        room = connection.get_buffer()
        sizes.append(len(room))
        room[:] = bytes(len(room))  # keep-alives
        connection.buffer_updated(len(room))
        connection.events()
    assert sizes[0] == limits.INITIAL_BUFFER_BYTES
    assert sizes[-1] == limits.MAX_BUFFER_BYTES
    fill(connection, bytes(4))
    connection.events()
    assert len(connection.get_buffer()) == limits.INITIAL_BUFFER_BYTES


def test_a_declared_length_costs_nothing_until_its_bytes_come() -> None:
    connection = opened(num_pieces=1 << 24)
    fill(connection, raw(5, bytes(1 << 21))[:1000])
    assert connection.events() == []
    connection.get_buffer()
    assert capacity(connection) == limits.INITIAL_BUFFER_BYTES


def test_a_huge_buffer_is_let_go_after_the_message_that_needed_it() -> None:
    connection = opened(num_pieces=1 << 24)
    connection.receive_data(raw(5, bytes(1 << 21)))
    assert len(connection.events()) == 1
    connection.get_buffer()
    assert capacity(connection) <= limits.MAX_BUFFER_BYTES


def test_a_cut_message_stays_where_it_is_while_there_is_room() -> None:
    connection = opened()
    block = connection.send(m.Piece(0, 0, bytes(16384)))
    connection._buffer.get_room()
    fill(connection, block + block[:100])
    assert len(connection.events()) == 1
    start = connection._buffer.start
    assert start
    fill(connection, block[100:] + block)
    assert connection._buffer.start == start
    assert len(connection.events()) == 2
    assert len(connection.get_buffer()) >= limits.MIN_ROOM_BYTES


def test_repr_tells_what_is_there() -> None:
    connection = opened()
    fill(connection, b"\0")
    assert "1 unread" in repr(connection._buffer)
