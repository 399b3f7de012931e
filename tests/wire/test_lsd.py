"""Local announces: round trips, and what is no announce."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire.lsd import MAX_BYTES, MOST, LocalAnnounce, parse_announce, write_announce

hashes = st.lists(st.binary(min_size=20, max_size=20), min_size=1, max_size=MOST, unique=True)


@given(st.integers(1, 65535), hashes, st.sampled_from(["", "abc123"]), st.booleans())
def test_round_trip(port: int, found: list[bytes], cookie: str, ipv6: bool) -> None:
    announce = LocalAnnounce(port, tuple(found), cookie)
    data = write_announce(announce, ipv6=ipv6)
    assert len(data) <= MAX_BYTES
    assert parse_announce(data) == announce


def test_as_the_bep_has_it() -> None:
    data = write_announce(LocalAnnounce(6881, (b"\xab" * 20,), "c"))
    assert data == (
        b"BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n"
        b"Infohash: " + b"ab" * 20 + b"\r\ncookie: c\r\n\r\n\r\n"
    )
    assert b"Host: [ff15::efc0:988f]:6771\r\n" in write_announce(
        LocalAnnounce(1, (bytes(20),)), ipv6=True
    )


def test_others_write_it_differently() -> None:
    data = (
        b"BT-SEARCH * HTTP/1.1\r\nhost: x\r\nPORT:  7 \r\nX: y\r\nnonsense\r\nInfohash: zz\r\n"
        b"INFOHASH: " + b"AB" * 20
    )
    assert parse_announce(data) == LocalAnnounce(7, (b"\xab" * 20,))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"M-SEARCH * HTTP/1.1\r\n\r\n",
        b"BT-SEARCH * HTTP/1.1\r\nPort: 5\r\n\r\n",
        b"BT-SEARCH * HTTP/1.1\r\nInfohash: " + b"ab" * 20,
        b"BT-SEARCH * HTTP/1.1\r\nPort: 0\r\nInfohash: " + b"ab" * 20,
        b"BT-SEARCH * HTTP/1.1\r\nPort: 70000\r\nInfohash: " + b"ab" * 20,
        b"BT-SEARCH * HTTP/1.1\r\nPort: \xb2\r\nInfohash: " + b"ab" * 20,
        b"BT-SEARCH * HTTP/1.1\r\nPort: 5\r\nInfohash: " + b"ab" * 20 + bytes(MAX_BYTES),
    ],
)
def test_what_is_no_announce(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_announce(data)
