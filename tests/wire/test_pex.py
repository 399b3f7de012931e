"""Peer exchange: messages, what may be passed on, and how often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import RemoteProtocolError
from torrentfs.metainfo.bencoding import encode
from torrentfs.wire.messages import PeerExchange
from torrentfs.wire.pex import (
    HOLEPUNCH,
    INTERVAL,
    MAX_BYTES,
    MAX_PUNCHABLE,
    MAX_TAKEN,
    MOST,
    Gossip,
    may_be_told,
    read_pex,
    write_pex,
)

FOUR, SIX = ("192.0.2.1", 6881), ("2001:db8::1", 51413)
addresses = st.tuples(
    st.ip_addresses().filter(lambda ip: not ip.is_unspecified).map(str), st.integers(1, 65535)
)


@given(
    st.dictionaries(addresses, st.integers(0, 255), max_size=MOST),
    st.lists(addresses, max_size=MOST, unique=True),
)
def test_round_trip(added: dict[tuple[str, int], int], dropped: list[tuple[str, int]]) -> None:
    again = read_pex(memoryview(write_pex(PeerExchange(added, tuple(dropped)))))
    assert again.added == added
    assert set(again.dropped) == set(dropped)


def test_as_it_is_on_the_wire() -> None:
    data = write_pex(PeerExchange({FOUR: 2, SIX: 16}, (("192.0.2.9", 1),)))
    assert data.startswith(b"d5:added6:\xc0\x00\x02\x01\x1a\xe1")
    assert b"7:added.f1:\x02" in data
    assert b"7:dropped6:\xc0\x00\x02\x09\x00\x01" in data


def test_flags_stay_with_their_peers() -> None:
    """An address that cannot be is left out; flags of a wrong number count for nothing."""
    packed = bytes(4) + b"\0\1" + b"\xc0\0\2\1\x1a\xe1"
    assert read_pex(memoryview(encode({"added": packed, "added.f": b"\1\2"}))).added == {FOUR: 2}
    assert read_pex(memoryview(encode({"added": packed, "added.f": b"\1"}))).added == {FOUR: 0}
    assert read_pex(memoryview(encode({"added": packed, "added.f": 5}))).added == {FOUR: 0}
    assert read_pex(memoryview(encode({"added": 5, "dropped": 6}))) == PeerExchange()


def test_too_much_is_cut_and_nonsense_refused() -> None:
    many = b"".join(b"\xc0\0\2\1" + port.to_bytes(2) for port in range(1, 1000))
    message = read_pex(memoryview(encode({"added": many, "dropped": many[:1200]})))
    assert len(message.added) == len(message.dropped) == MAX_TAKEN
    for payload in (b"le", b"de"[:1], encode({"added": b"12345"}), encode({"dropped6": b"1"})):
        with pytest.raises((RemoteProtocolError, ValueError)):
            read_pex(memoryview(payload))
    with pytest.raises(RemoteProtocolError, match="a peer exchange of"):
        read_pex(memoryview(bytes(MAX_BYTES + 1)))


@pytest.mark.parametrize(
    ("address", "other", "told"),
    [
        ("8.8.8.8", "9.9.9.9", True),
        ("8.8.8.8", "192.168.0.2", True),
        ("192.168.0.3", "192.168.0.2", True),
        ("192.168.0.3", "9.9.9.9", False),
        ("127.0.0.1", "9.9.9.9", False),
        ("127.0.0.1", "192.168.0.2", False),
        ("127.0.0.1", "127.0.0.2", True),
        ("192.168.0.3", "127.0.0.1", True),
        ("2a00::1", "::1", True),
        ("::1", "2a00::1", False),
        ("seedbox.example", "9.9.9.9", False),
        ("9.9.9.9", "seedbox.example", False),
    ],
)
def test_what_is_local_stays_local(address: str, other: str, told: bool) -> None:
    assert may_be_told((address, 1), (other, 2)) is told


def test_one_message_a_minute_with_what_changed() -> None:
    gossip = Gossip()
    assert gossip.next_message({}, 0) is None
    assert gossip.next_message({FOUR: 1}, 5) == PeerExchange({FOUR: 1}, ())
    assert not gossip.is_due(5 + INTERVAL - 1)
    assert gossip.next_message({SIX: 2}, 5 + INTERVAL - 1) is None
    assert gossip.next_message({SIX: 2}, 5 + INTERVAL) == PeerExchange({SIX: 2}, (FOUR,))
    assert gossip.next_message({SIX: 2}, 500) is None  # no news
    many = {("192.0.2.1", port): 0 for port in range(1, 131)}
    told = [gossip.next_message(many, 1000 + INTERVAL * number) for number in range(4)]
    assert [len(message.added) if message else 0 for message in told] == [MOST, MOST, 30, 0]


def test_who_talks_too_often_is_not_listened_to() -> None:
    gossip = Gossip()
    heard = [gossip.is_welcome(now) for now in (0, 1, 2, 60, 61, 119, 180)]
    assert heard == [True, False, False, True, False, True, True]


def test_who_can_introduce_whom() -> None:
    gossip = Gossip()
    gossip.on_told(PeerExchange({FOUR: HOLEPUNCH | 2, SIX: 0xFF & ~HOLEPUNCH}))
    assert gossip.can_introduce(FOUR)
    assert not gossip.can_introduce(SIX)
    gossip.on_told(PeerExchange({SIX: HOLEPUNCH}, (FOUR,)))
    assert not gossip.can_introduce(FOUR)
    assert gossip.can_introduce(SIX)
    gossip.on_cannot_introduce(SIX)
    gossip.on_cannot_introduce(SIX)
    assert not gossip.can_introduce(SIX)


def test_of_too_many_the_oldest_is_forgotten() -> None:
    gossip = Gossip()
    many = [("192.0.2.1", port) for port in range(1, MAX_PUNCHABLE + 11)]
    for address in many:
        gossip.on_told(PeerExchange({address: HOLEPUNCH}))
    known = [gossip.can_introduce(address) for address in many]
    assert known == [False] * 10 + [True] * MAX_PUNCHABLE
