"""One reader in one file."""

from __future__ import annotations

from torrentfs.scheduling.cursor import MIB, Cursor, FileState, ReadAheadConfig


def test_each_byte_counts_once_and_a_step_back_moves_nothing() -> None:
    cursor = Cursor(0, 0.0)
    cursor.advance(0, 1000, 0.0)
    cursor.advance(500, 1000, 0.0)
    cursor.advance(0, 100, 0.0)
    assert (cursor.frontier, cursor.consumed) == (1500, 1500)


def test_no_window_before_it_streams() -> None:
    cursor = Cursor(0, 0.0)
    cursor.advance(0, 65536, 0.0)
    assert cursor.window(ReadAheadConfig()) == 0
    cursor.advance(65536, 65536, 0.0)
    assert cursor.window(ReadAheadConfig()) == 131072


def test_the_nearest_cursor_continues_and_the_oldest_goes() -> None:
    state = FileState(0, 100 * MIB)
    first = state.jump(0, 0.0, 2)
    second = state.jump(10 * MIB, 0.0, 2)
    assert state.find(MIB // 2, MIB) is first
    assert state.find(5 * MIB, MIB) is None
    state.jump(20 * MIB, 0.0, 2)
    assert second not in state.cursors


def test_windows_follow_what_the_user_allows_and_half_of_the_cache() -> None:
    ample = ReadAheadConfig.within(10_000 * MIB, 32 * MIB)
    assert (ample.readahead, ample.total) == (32 * MIB, 64 * MIB)
    far = ReadAheadConfig.within(10_000 * MIB, 256 * MIB)
    assert (far.readahead, far.total) == (256 * MIB, 256 * MIB)
    small = ReadAheadConfig.within(40 * MIB, 32 * MIB)
    assert (small.readahead, small.total) == (20 * MIB, 20 * MIB)
    assert ReadAheadConfig.within(10_000 * MIB, 0).readahead == 0
