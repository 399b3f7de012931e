"""Hole punching messages: as they are on the wire, and what others send instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.wire import messages as m
from torrentfs.wire.holepunch import (
    EXTENSION_ID,
    MAX_BYTES,
    NO_SELF,
    NO_SUPPORT,
    failure_words,
    read_holepunch,
    write_holepunch,
)

addresses = st.tuples(st.ip_addresses().map(str), st.integers(0, 65535))
messages = (
    st.builds(m.Rendezvous, addresses)
    | st.builds(m.Connect, addresses)
    | st.builds(m.RendezvousFailed, addresses, st.integers(0, 0xFFFFFFFF))
)
FOUR = b"\xc0\x00\x02\x01\x1a\xe1"
SIX = b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x1a\xe1"


def read(payload: bytes) -> m.ExtensionMessage:
    return read_holepunch(memoryview(payload))


@given(messages)
def test_round_trip(message: m.Rendezvous | m.Connect | m.RendezvousFailed) -> None:
    assert read(write_holepunch(message)) == message


def test_as_it_is_on_the_wire() -> None:
    address = ("192.0.2.1", 6881)
    assert write_holepunch(m.Rendezvous(address)) == b"\0\0" + FOUR + bytes(4)
    assert write_holepunch(m.Connect(("2001:db8::1", 6881))) == b"\1\1" + SIX + bytes(4)
    failed = m.RendezvousFailed(address, NO_SUPPORT)
    assert write_holepunch(failed) == b"\2\0" + FOUR + b"\0\0\0\3"


def test_libtorrent_leaves_the_code_out_where_nothing_failed() -> None:
    assert read(b"\0\0" + FOUR) == m.Rendezvous(("192.0.2.1", 6881))
    assert read(b"\1\1" + SIX) == m.Connect(("2001:db8::1", 6881))


def test_what_may_come_one_day_is_passed_over() -> None:
    assert read(b"\3\0" + FOUR) == m.UnknownExtension(EXTENSION_ID, b"\3\0" + FOUR)
    assert read(b"\0\2" + FOUR) == m.UnknownExtension(EXTENSION_ID, b"\0\2" + FOUR)
    assert read(b"\0\0" + FOUR + b"more") == m.Rendezvous(("192.0.2.1", 6881))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        b"\0\0" + FOUR[:5],
        b"\1\1" + SIX[:17],
        b"\2\0" + FOUR + b"\0\0\0",
        bytes(MAX_BYTES + 1),
    ],
    ids=["empty", "no family", "cut", "cut IPv6", "no code", "too long"],
)
def test_nonsense_is_refused(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="hole punching"):
        read(payload)


@pytest.mark.parametrize("address", [("seedbox.example", 1), ("192.0.2.1", 65536)])
def test_what_cannot_be_written(address: tuple[str, int]) -> None:
    with pytest.raises(LocalProtocolError):
        write_holepunch(m.Connect(address))


def test_words() -> None:
    assert failure_words(NO_SELF) == "that is one of us two"
    assert failure_words(77) == "error 77"
