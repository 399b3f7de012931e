"""The memory tier: two tenants under one limit."""

from __future__ import annotations

from torrentfs.storage.memory import Key, MemoryTier


def tier(limit: int) -> tuple[MemoryTier, list[Key]]:
    dropped: list[Key] = []
    return MemoryTier(limit, dropped.append), dropped


def test_the_least_recently_used_piece_goes_first() -> None:
    memory, dropped = tier(30)
    for piece in range(3):
        memory.keep((1, piece), bytes(10))
    assert memory.get((1, 0)) == bytes(10)
    memory.keep((2, 7), bytes(10))
    assert dropped == [(1, 1)]
    assert memory.size == 30


def test_unwritten_pieces_push_recent_ones_out_and_stay() -> None:
    memory, dropped = tier(30)
    memory.keep((1, 0), bytes(20))
    memory.hold((1, 1), bytearray(25))
    memory.hold((1, 2), bytearray(25))
    assert dropped == [(1, 0)]
    assert memory.unwritten_bytes == 50
    memory.settle((1, 1), written=False)
    memory.settle((1, 2), written=False)
    assert memory.unwritten_bytes == 0
    assert memory.get((1, 2)) is not None
    assert memory.size <= 30


def test_copies_of_what_is_on_disk_take_a_quarter_and_go_first() -> None:
    memory, dropped = tier(40)
    for piece in range(3):
        memory.hold((1, piece), bytearray(5))
    for piece in range(3):
        memory.settle((1, piece), written=True)
    assert dropped == [(1, 0)]
    assert memory.size == 10
    memory.keep((2, 0), bytes(30))
    assert memory.get((1, 1)) is not None
    memory.keep((2, 1), bytes(5))
    assert dropped == [(1, 0), (1, 2)]
    assert memory.get((2, 0)) is not None
    memory.keep_copy((1, 1), bytes(50))
    assert memory.get((1, 1)) == bytes(50)


def test_a_piece_larger_than_the_limit_is_kept_alone() -> None:
    memory, dropped = tier(30)
    memory.keep((1, 0), bytes(10))
    memory.keep((1, 1), bytes(100))
    assert dropped == [(1, 0)]
    assert memory.get((1, 1)) == bytes(100)


def test_a_piece_that_is_put_again_is_counted_once() -> None:
    memory, dropped = tier(30)
    memory.keep((1, 0), bytes(10))
    memory.hold((1, 0), bytearray(10))
    memory.hold((1, 0), bytearray(12))
    assert memory.size == 12
    memory.forget_store(1)
    assert memory.size == 0
    assert not dropped
