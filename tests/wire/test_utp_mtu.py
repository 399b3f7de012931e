"""The search for the largest packet of a path, against paths of every size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torrentfs.wire.utp_mtu import (
    AGAIN,
    LARGEST_IPV4,
    LARGEST_IPV6,
    LEAST,
    NEAR,
    TRIES,
    USUAL,
    PathMtu,
)

T = 1000.0


def search(path: PathMtu, fits: int, now: float = T, *, refused: bool = False) -> list[int]:
    """Try until there is nothing to try; the sizes that were tried."""
    tried = []
    while size := path.next_probe(now):
        tried.append(size)
        assert path.size < size
        path.on_sent(size)
        assert path.next_probe(now) == 0  # one at a time
        if size <= fits:
            path.on_arrived(now)
        elif refused:
            path.on_refused(now)
        else:
            path.on_lost(now)
        assert len(tried) < 30
    return tried


@pytest.mark.parametrize(("ipv6", "largest"), [(False, LARGEST_IPV4), (True, LARGEST_IPV6)])
def test_ethernet_takes_one_probe(ipv6: bool, largest: int) -> None:
    path = PathMtu(ipv6=ipv6)
    assert path.size == USUAL
    assert search(path, 1 << 16) == [largest]
    assert path.size == largest
    assert search(path, 1 << 16, T + 10 * AGAIN) == []  # there is nothing more to find


@given(st.integers(USUAL, LARGEST_IPV4), st.booleans(), st.booleans())
def test_any_path_is_found_within_a_few_bytes(fits: int, ipv6: bool, refused: bool) -> None:
    path = PathMtu(ipv6=ipv6)
    largest = LARGEST_IPV6 if ipv6 else LARGEST_IPV4
    tried = search(path, fits, refused=refused)
    assert path.size <= max(fits, USUAL)
    assert path.size > min(fits, largest) - NEAR
    assert len(tried) <= (6 if refused else 6 * TRIES)


def test_one_loss_may_be_chance() -> None:
    path = PathMtu()
    for _ in range(TRIES - 1):
        path.on_sent(LARGEST_IPV4)
        path.on_lost(T)
        assert path.next_probe(T) == LARGEST_IPV4
    path.on_sent(LARGEST_IPV4)
    path.on_arrived(T)
    assert path.size == LARGEST_IPV4


def test_a_narrow_path_is_tried_again_but_seldom() -> None:
    path = PathMtu()
    search(path, 1300)
    narrow = path.size
    assert narrow <= 1300
    assert search(path, 1472, T + AGAIN - 1) == []
    assert search(path, narrow, T + AGAIN)  # still narrow
    assert path.size == narrow
    assert search(path, 1472, T + AGAIN + 1) == []
    assert search(path, 1472, T + 2 * AGAIN) == [LARGEST_IPV4]
    assert path.size == LARGEST_IPV4


def test_silence_makes_packets_small_and_the_search_begins_again() -> None:
    path = PathMtu()
    search(path, 1472)
    path.on_silence()
    assert path.size == USUAL
    assert search(path, 1400) != []
    path.on_silence()
    path.on_silence()
    assert path.size == LEAST
    search(path, 1000)
    assert 1000 - NEAR < path.size <= 1000
    path = PathMtu(ipv6=True)
    path.on_silence()
    assert path.size == USUAL  # every IPv6 path carries that
    assert repr(path) == "<PathMtu 1232, at most 1452>"
