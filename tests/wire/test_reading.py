"""The table of what may come in."""

from __future__ import annotations

import pytest

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire import limits
from torrentfs.wire import messages as m
from torrentfs.wire.reading import LONGEST_MESSAGE, READERS, Needs


def test_the_longest_message_is_a_bitfield_of_unknown_length() -> None:
    assert LONGEST_MESSAGE == 1 + limits.MAX_BITFIELD_BYTES
    assert all(reader.shortest <= reader.longest for reader in READERS.values())


@pytest.mark.parametrize(
    ("needs", "numbers"), [(Needs.FAST, {13, 14, 15, 16, 17}), (Needs.EXTENSIONS, {20})]
)
def test_what_must_be_negotiated(needs: Needs, numbers: set[int]) -> None:
    assert {number for number, reader in READERS.items() if reader.needs is needs} == numbers


def test_the_layout_of_bep_3() -> None:
    assert READERS[6].read(memoryview(bytes(3) + b"\1" + bytes(3) + b"\2" + bytes(3) + b"\3")) == (
        m.Request(1, 2, 3)
    )
    assert READERS[9].read(memoryview(b"\x1a\xe1")) == m.Port(6881)


def test_hashes_are_whole() -> None:
    head = bytes(32 + 8) + b"\0\0\0\2" + bytes(4)
    assert isinstance(READERS[22].read(memoryview(head + bytes(64))), m.Hashes)
    with pytest.raises(RemoteProtocolError):
        READERS[22].read(memoryview(head + bytes(63)))
