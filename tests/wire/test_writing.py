"""The table of what can go out, against the bytes of the BEPs."""

from __future__ import annotations

import pytest

from torrentfs.wire import messages as m
from torrentfs.wire.reading import READERS
from torrentfs.wire.writing import WRITERS, framed, write_piece_header, write_requests

from .cases import EVERY_MESSAGE, FIRST_MESSAGES

PLAIN = [message for message in EVERY_MESSAGE + FIRST_MESSAGES if type(message) in WRITERS]


def test_the_bytes_of_bep_3() -> None:
    assert framed(WRITERS[m.Have].write(m.Have(7))).hex() == "000000050400000007"
    assert write_requests([(1, 16384, 16384)]).hex() == "0000000d06000000010000400000004000"
    assert write_piece_header(1, 2, 16384).hex() == "00004009070000000100000002"


@pytest.mark.parametrize("message", PLAIN, ids=lambda message: type(message).__name__)
def test_needs_and_lengths_are_those_of_reading(message: m.Message) -> None:
    writer = WRITERS[type(message)]
    body = writer.write(message)
    reader = READERS[body[0]]
    assert reader.needs is writer.needs
    assert reader.shortest <= len(body) - 1 <= reader.longest
    assert reader.read(memoryview(body)[1:]) == message
