"""Found by re-fetch and compare."""

from __future__ import annotations

from torrentfs.scheduling.blame import MAX_PIECES, Blame


def test_the_only_giver_is_guilty_at_once() -> None:
    blame = Blame()
    assert blame.on_failed(0, [1, 1], [b"a", b"b"]) == {1}
    assert not blame.needs_digests(0)
    assert blame.on_failed(0, [None, None], [b"a", b"b"]) == set()


def test_the_differing_block_tells() -> None:
    blame = Blame()
    assert blame.on_failed(0, [1, 2, 3], [b"a", b"X", b"c"]) == set()
    assert blame.on_failed(0, [1, 2, 4], [b"a", b"b", b"Y"]) == set()
    assert blame.needs_digests(0)
    assert blame.on_verified(0, [2, 2, 2], [b"a", b"b", b"c"]) == {2, 4}
    assert blame.on_verified(0, [2, 2, 2], [b"a", b"b", b"c"]) == set()


def test_unknown_blocks_accuse_nobody_and_memory_is_bounded() -> None:
    blame = Blame()
    blame.on_failed(0, [1, None, 3], [None, b"X", b"c"])
    assert blame.on_verified(0, [2, 2, 2], [b"a", b"b", b"c"]) == set()
    for piece in range(3 * MAX_PIECES):
        blame.on_failed(piece, [1, 2], [b"a", b"b"])
    assert sum(blame.needs_digests(piece) for piece in range(3 * MAX_PIECES)) == MAX_PIECES
    assert repr(blame)
