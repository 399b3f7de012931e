"""The allowed-fast set."""

from __future__ import annotations

import pytest

from torrentfs.wire.fast import allowed_fast_set

HASH = b"\xaa" * 20


def test_the_vectors_of_bep_6() -> None:
    assert allowed_fast_set("80.4.4.200", HASH, 1313, 7) == (
        *(1059, 431, 808, 1217, 287, 376, 1188),
    )
    assert allowed_fast_set("80.4.4.200", HASH, 1313, 9) == (
        *(1059, 431, 808, 1217, 287, 376, 1188, 353, 508),
    )


def test_neighbours_share_a_set() -> None:
    assert allowed_fast_set("80.4.4.1", HASH, 1313) == allowed_fast_set("80.4.4.9", HASH, 1313)
    assert allowed_fast_set("80.4.5.1", HASH, 1313) != allowed_fast_set("80.4.4.9", HASH, 1313)
    first = allowed_fast_set("2001:db8::1", HASH, 1313)
    assert first == allowed_fast_set("2001:db8::2:1%eth0", HASH, 1313)
    assert first != allowed_fast_set("2001:db8:0:1::1", HASH, 1313)
    mapped = allowed_fast_set("::ffff:80.4.4.200", HASH, 1313)
    assert mapped == allowed_fast_set("80.4.4.200", HASH, 1313)


@pytest.mark.parametrize("pieces", [0, 1, 5, 10, 11])
def test_small_torrents_have_small_sets(pieces: int) -> None:
    allowed = allowed_fast_set("80.4.4.200", HASH, pieces)
    assert len(set(allowed)) == len(allowed) == min(10, pieces)
    assert all(0 <= piece < pieces for piece in allowed)
