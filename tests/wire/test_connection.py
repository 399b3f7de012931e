"""Connection: what comes in, what may go out, and what neither may do."""

from __future__ import annotations

import pytest

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.wire import limits
from torrentfs.wire import messages as m
from torrentfs.wire.connection import Connection
from torrentfs.wire.extension import OUR_EXTENSIONS

from .cases import EVERY_MESSAGE, FIRST_MESSAGES, HOSTILE, METADATA, extended, raw
from .pair import ConnectionPair, handshake, opened, outcome, received


def name(message: m.Message) -> str:
    return type(message).__name__


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=name)
def test_every_message_arrives_as_it_was_sent(message: m.Message) -> None:
    """Whole, byte by byte, and with more behind it."""
    pair = ConnectionPair()
    data = pair.say(message)
    assert received(opened(), data, step=1) == [message]
    assert received(opened(), data + data[:-1]) == [message]
    assert received(opened(), data + bytes(4)) == [message, m.KeepAlive()]


@pytest.mark.parametrize("message", FIRST_MESSAGES, ids=name)
def test_what_we_have_is_said_first_and_believed_late(message: m.Message) -> None:
    pair = ConnectionPair(num_pieces=9)
    data = pair.say(message)
    late = opened(num_pieces=9)
    assert received(late, raw(1) + data, step=1) == [m.Unchoke(), message]
    pair.say(m.Unchoke())
    with pytest.raises(LocalProtocolError, match="first"):
        pair.ours.send(message)


def test_a_peer_cannot_tell_what_it_has_without_end() -> None:
    connection = opened(num_pieces=9)
    events, error = outcome(connection, raw(14) * (limits.MAX_WHOLE_SETS + 1))
    assert events == [m.HaveAll()] * limits.MAX_WHOLE_SETS
    assert error is not None
    assert "too often" in error


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("step", [None, 1, 1000])
def test_hostile_bytes_end_the_connection_for_good(case: str, step: int | None) -> None:
    connection = opened(num_pieces=9)
    good = raw(1)
    events, error = outcome(connection, good + HOSTILE[case] + good, step)
    assert events == [m.Unchoke()]
    assert error is not None
    for call in (connection.events, connection.next_event, connection.get_buffer):
        with pytest.raises(RemoteProtocolError):
            call()
    with pytest.raises(RemoteProtocolError):
        connection.receive_data(good)
    assert "failed" in repr(connection)


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n", b"\x13BitTorrent protocox" + bytes(48), b"\x00" * 68, b"\x14"],
)
def test_what_is_no_handshake_is_refused_at_the_first_wrong_byte(data: bytes) -> None:
    for step in (None, 1):
        events, error = outcome(Connection(), data, step)
        assert events == []
        assert error is not None


def test_messages_wait_for_our_handshake() -> None:
    connection = Connection()
    assert received(connection, handshake().encode() + raw(14) + raw(1)) == [handshake()]
    assert connection.next_event() is None
    assert not connection.fast
    connection.send(handshake())
    assert connection.fast
    assert connection.extensions
    assert connection.events() == [m.HaveAll(), m.Unchoke()]


def test_what_waits_for_our_handshake_is_bounded() -> None:
    connection = Connection()
    events, error = outcome(connection, handshake().encode() + bytes(3 << 20), step=1 << 16)
    assert events == [handshake()]
    assert error is not None
    assert "before our handshake" in error


@pytest.mark.parametrize("number", [13, 14, 15, 16, 17, 20])
def test_features_that_were_not_negotiated_are_refused(number: int) -> None:
    payload = {13: bytes(4), 16: bytes(12), 17: bytes(4), 20: b"\0de"}.get(number, b"")
    connection = opened(fast=False, extensions=False)
    events, error = outcome(connection, raw(number, payload))
    assert events == []
    assert error is not None
    assert "without" in error


@pytest.mark.parametrize(
    "message",
    [m.HaveAll(), m.SuggestPiece(1), m.RejectRequest(0, 0, 1), m.AllowedFast(0)],
    ids=name,
)
def test_fast_messages_are_not_sent_to_who_does_not_speak_them(message: m.Message) -> None:
    with pytest.raises(LocalProtocolError):
        opened(fast=False).send(message)


@pytest.mark.parametrize("message", [m.DontHave(0), m.MetadataRequest(0), m.MetadataReject(0)])
def test_extensions_are_not_sent_to_who_does_not_speak_them(message: m.Message) -> None:
    with pytest.raises(LocalProtocolError):
        opened(extensions=False).send(message)
    with pytest.raises(LocalProtocolError):
        opened(extended=False).send(message)


@pytest.mark.parametrize(
    "message",
    [
        m.Have(9),
        m.Have(-1),
        m.Request(1 << 32, 0, 1),
        m.Request(0, -1, 1),
        m.Port(65536),
        m.BitfieldMessage(b"\0"),
        m.HashRequest(b"short", 0, 0, 2, 1),
        m.UnknownExtension(256, b""),
        m.ExtensionHandshake(your_ip="not an address"),
        m.DontHave(1 << 32),
        "not a message",
    ],
)
def test_what_does_not_fit_is_our_own_mistake(message: m.Message) -> None:
    with pytest.raises(LocalProtocolError):
        opened(num_pieces=9).send(message)


def test_a_handshake_comes_first_and_once() -> None:
    connection = Connection()
    for send in (
        lambda: connection.send(m.Choke()),
        lambda: connection.send_requests([]),
        lambda: connection.piece_header(0, 0, 1),
    ):
        with pytest.raises(LocalProtocolError):
            send()
    connection.send(handshake())
    with pytest.raises(LocalProtocolError):
        connection.send(handshake())


def test_many_requests_in_one_buffer() -> None:
    connection = opened()
    requests = [m.Request(piece, 16384 * piece, 16384) for piece in range(5)]
    assert received(opened(), connection.send_requests(requests)) == requests
    with pytest.raises(LocalProtocolError):
        connection.send_requests([(-1, 0, 1)])


def test_a_block_goes_out_without_a_copy() -> None:
    connection = opened()
    data = b"block" * 100
    header = connection.piece_header(3, 16384, len(data))
    assert header + data == connection.send(m.Piece(3, 16384, data))
    with pytest.raises(LocalProtocolError):
        connection.piece_header(-1, 0, 1)


def test_blocks_are_views_of_the_receive_buffer() -> None:
    connection = opened()
    connection.receive_data(connection.send(m.Piece(0, 0, b"abc")))
    (event,) = connection.events()
    assert isinstance(event, m.Piece)
    assert isinstance(event.data, memoryview)
    assert event.data == b"abc"


def test_next_event_gives_one_at_a_time() -> None:
    connection = opened()
    connection.receive_data(raw(1) + raw(0))
    assert [connection.next_event() for _ in range(3)] == [m.Unchoke(), m.Choke(), None]


def test_a_bitfield_of_millions_of_pieces_fits() -> None:
    connection = opened(num_pieces=1 << 24)
    message = m.BitfieldMessage(b"\xff" * (1 << 21))
    assert received(connection, raw(5, message.data), step=100_000) == [message]


def test_later_extension_handshakes_add_and_withdraw() -> None:
    connection = opened()
    assert connection.their_extensions == OUR_EXTENSIONS
    received(connection, extended(0, b"d1:md11:ut_metadatai0e6:ut_pexi1eee"))
    assert connection.their_extensions == {
        "lt_donthave": 7,
        "ut_holepunch": 4,
        "ut_pex": 1,
    }
    # what it asked before is still answered
    assert connection.send(m.MetadataReject(0))[5] == METADATA


def test_extension_names_are_bounded_over_many_handshakes() -> None:
    connection = opened()
    hellos = []
    for number in range(5):
        names = b"".join(b"4:%d%03di1e" % (number, at) for at in range(100))
        hellos.append(extended(0, b"d1:md" + names + b"ee"))
    events, error = outcome(connection, b"".join(hellos))
    assert len(events) == 2
    assert error is not None


def test_metadata_is_not_asked_by_who_cannot_be_answered() -> None:
    connection = opened(extended=False)
    _, error = outcome(connection, extended(METADATA, b"d8:msg_typei0e5:piecei0ee"))
    assert error is not None
    assert "how to answer" in error


def test_unknown_kinds_of_metadata_messages_are_ignored() -> None:
    payload = b"d8:msg_typei7e5:piecei0ee"
    assert received(opened(), extended(METADATA, payload)) == [
        m.UnknownExtension(METADATA, payload)
    ]


def test_indexes_are_only_numbers_until_the_metadata_is_known() -> None:
    connection = opened()
    assert received(connection, raw(4, b"\0\xff\0\0")) == [m.Have(0xFF0000)]
    with pytest.raises(LocalProtocolError):
        connection.set_num_pieces(-1)


def test_what_is_given_back_comes_first_and_is_checked_by_what_is_known_then() -> None:
    connection = opened()
    connection.receive_data(raw(1))
    known = [m.HaveAll(), m.Have(8), m.BitfieldMessage(b"\xff\x80")]
    connection.give_back(known)
    connection.set_num_pieces(9)
    assert connection.events(2) == known[:2]
    assert connection.events() == [known[2], m.Unchoke()]
    assert connection.events() == []
    for wrong in (m.Have(9), m.BitfieldMessage(b"\xff")):
        connection = opened()
        connection.give_back([m.HaveAll(), wrong])
        connection.set_num_pieces(9)
        assert connection.events() == [m.HaveAll()]
        with pytest.raises(RemoteProtocolError):
            connection.events()


def test_whether_pieces_were_said_is_known() -> None:
    pair = ConnectionPair()
    assert not pair.ours.said_pieces
    pair.say(m.ExtensionHandshake(extensions=OUR_EXTENSIONS))
    assert not pair.ours.said_pieces
    pair.say(m.HaveNone())
    assert pair.ours.said_pieces
