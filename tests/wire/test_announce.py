"""Compact peers, both families; counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire.announce import (
    SwarmCounts,
    is_websocket,
    literal_address,
    pack_peers,
    unpack_peers,
)

peers = st.lists(
    st.tuples(st.ip_addresses().filter(int).map(str), st.integers(1, 65535)), max_size=20
)


@given(peers)
def test_each_family_goes_round(addresses: list[tuple[str, int]]) -> None:
    for ipv6 in (False, True):
        expected = [address for address in addresses if (":" in address[0]) == ipv6]
        assert unpack_peers(pack_peers(tuple(addresses), ipv6=ipv6), ipv6=ipv6) == expected


@pytest.mark.parametrize("size", [1, 5, 7, 17])
def test_ragged_lists_are_refused(size: int) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack_peers(bytes(size), ipv6=size > 7)


@pytest.mark.parametrize("raw", [None, 5, b"", b"example.com", b"0.0.0.0", b"::", b"1" * 99])
def test_what_is_no_address(raw: object) -> None:
    assert literal_address(raw) is None


def test_counts_of_two_times_and_of_two_swarms() -> None:
    older, newer = SwarmCounts(5, None, 9), SwarmCounts(3, 4)
    assert newer.over(older) == SwarmCounts(3, 4, 9)
    assert newer.or_more(older) == SwarmCounts(5, 4, 9)
    assert SwarmCounts().or_more(SwarmCounts()) == SwarmCounts()


def test_which_urls_are_those_of_websocket_trackers() -> None:
    assert is_websocket("wss://t.example/")
    assert is_websocket("WS://127.0.0.1:8000")
    assert not is_websocket("https://t.example/ws://")
    assert not is_websocket("ws:t.example")
