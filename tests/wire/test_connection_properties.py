"""Connection: any cut of the same bytes gives the same events; garbage gives one error only."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire import messages as m
from torrentfs.wire.connection import Connection

from .cases import EVERY_MESSAGE, HOSTILE
from .pair import frozen, handshake, opened, outcome, received

u32 = st.integers(0, 0xFFFFFFFF)
blocks = st.builds(m.Piece, u32, u32, st.binary(max_size=40) | st.just(bytes(16384)))
hash_fields = (st.binary(min_size=32, max_size=32), u32, u32, st.integers(0, 8192), u32)
any_message = st.one_of(
    st.sampled_from(EVERY_MESSAGE),
    blocks,
    st.builds(m.Have, u32),
    st.builds(m.Request, u32, u32, u32),
    st.builds(m.Cancel, u32, u32, u32),
    st.builds(m.RejectRequest, u32, u32, u32),
    st.builds(m.Port, st.integers(0, 65535)),
    st.builds(m.AllowedFast, u32),
    st.builds(m.SuggestPiece, u32),
    st.builds(m.DontHave, u32),
    st.builds(m.MetadataRequest, u32),
    st.builds(m.MetadataData, u32, st.integers(1, 1 << 26), st.binary(max_size=100)),
    st.builds(m.HashRequest, *hash_fields),
    st.builds(m.Hashes, *hash_fields, st.integers(0, 5).map(lambda n: b"\7" * 32 * n)),
    st.builds(
        m.ExtensionHandshake,
        extensions=st.dictionaries(
            st.text("abcdefghijklmnop_", min_size=1, max_size=20), st.integers(1, 255), max_size=5
        ),
        port=st.none() | st.integers(1, 65535),
        request_queue=st.none() | st.integers(1, 0xFFFFFFFF),
        metadata_size=st.none() | st.integers(1, 1 << 26),
        upload_only=st.booleans(),
        your_ip=st.none() | st.ip_addresses().map(str),
    ),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(any_message, max_size=12), st.data())
def test_any_cut_gives_the_same_events(messages: list[m.Message], data: st.DataObject) -> None:
    sender, receiver = opened(), opened()
    stream = b"".join(sender.send(message) for message in messages)
    events = []
    at = 0
    while at < len(stream):
        room = receiver.get_buffer()
        size = data.draw(st.integers(1, min(len(room), 70_000)), label="chunk")
        part = stream[at : at + size]
        room[: len(part)] = part
        receiver.buffer_updated(len(part))
        at += len(part)
        if data.draw(st.booleans(), label="one by one"):
            while (event := receiver.next_event()) is not None:
                events.append(frozen(event))
        else:
            events += map(frozen, receiver.events())
    assert events == messages
    assert [type(event) for event in events] == [type(message) for message in messages]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(list(HOSTILE.values()))
        | st.binary(max_size=60)
        | any_message.map(lambda message: opened().send(message)),
        max_size=6,
    ),
    st.sampled_from([1, 3, 7, 100, 5000]),
)
def test_garbage_ends_in_the_same_way_however_it_is_cut(parts: list[bytes], step: int) -> None:
    stream = b"".join(parts)
    whole = outcome(opened(num_pieces=9), stream)
    assert outcome(opened(num_pieces=9), stream, step if len(stream) < 5000 else 5000) == whole


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_raise_nothing_else(data: bytes, after_handshake: bool) -> None:
    connection = Connection()
    connection.send(handshake())
    try:
        received(connection, (handshake().encode() if after_handshake else b"") + data)
    except RemoteProtocolError:
        assert "failed" in repr(connection)
