"""Windows, hints, seeks and waiting reads."""

from __future__ import annotations

import pytest

from torrentfs.metainfo.geometry import Geometry
from torrentfs.scheduling.agenda import ALL, Want
from torrentfs.scheduling.cursor import ReadAheadConfig
from torrentfs.scheduling.readheads import Level, ReadHeads

KIB = 1024
MIB = 1024 * KIB
SIZE = 512 * MIB
READ = 128 * KIB


def make(piece: int = 256 * KIB, files: int = 1, **config: int) -> ReadHeads:
    geometry = Geometry(piece, [SIZE] * files)
    return ReadHeads(geometry, ReadAheadConfig(**config))  # type: ignore[arg-type]


def pieces(heads: ReadHeads, level: Level, now: float = 0.0) -> list[int]:
    return [want.piece for want in heads.agenda(now) if want.level == level]


def stream(heads: ReadHeads, start: int, size: int, now: float = 0.0, file: int = 0) -> None:
    for offset in range(start, start + size, READ):
        heads.on_read(file, offset, READ, now)


def test_opening_fetches_nothing() -> None:
    heads = make()
    heads.on_open(0, 0.0)
    assert list(heads.agenda(0.0)) == []


def test_a_lone_probe_has_no_window() -> None:
    heads = make()
    heads.on_read(0, 100 * MIB, 64 * KIB, 0.0)
    assert list(heads.agenda(0.0)) == []


def test_the_window_doubles_and_never_exceeds_what_was_consumed() -> None:
    heads = make(piece=16 * KIB)
    start = 100 * MIB
    for read in range(1, 400):
        heads.on_read(0, start + (read - 1) * READ, READ, 0.0)
        consumed = read * READ
        window = len(heads.cursors(0)[0].units) * 16 * KIB
        assert window <= (consumed if read > 1 else 0)
        assert window <= 32 * MIB
        if read >= 2:
            end = heads.cursors(0)[0].units.stop * 16 * KIB
            assert end - (start + consumed) >= min(consumed / 2, 32 * MIB) * 0.8


def test_readahead_bounds_the_window_and_zero_turns_it_off() -> None:
    heads = make(readahead=2 * MIB)
    stream(heads, 0, 64 * MIB)
    assert len(pieces(heads, Level.WINDOW)) * 256 * KIB <= 2 * MIB + 256 * KIB
    heads = make(readahead=0)
    stream(heads, 0, 8 * MIB)
    assert list(heads.agenda(0.0)) == []


def test_all_windows_together_are_bounded() -> None:
    heads = make(files=8, total=16 * MIB)
    for file in range(8):
        stream(heads, 0, 32 * MIB, file=file)
    for file in range(8):
        stream(heads, 32 * MIB, 4 * MIB, file=file)
    assert heads.statistics().window_bytes <= 16 * MIB + 8 * 512 * KIB


def test_a_slow_drain_bounds_the_window_to_thirty_seconds() -> None:
    heads = make()
    now = 0.0
    for n in range(400):
        heads.on_read(0, n * READ, READ, now)
        now += 1.0  # 128 KiB/s
    window = len(heads.cursors(0)[0].units) * 256 * KIB
    assert 2 * MIB < window <= 5 * MIB


def test_windows_move_in_steps_not_with_every_read() -> None:
    heads = make(piece=16 * KIB)
    stream(heads, 0, 64 * MIB)
    before = heads.version
    stream(heads, 64 * MIB, 64 * MIB)
    assert heads.version - before <= 17
    first = heads.agenda(0.0)
    token = heads.park(0, 0, READ, 9.0, 0.0)
    assert heads.agenda(0.0).rest is first.rest
    heads.unpark(token, 0.0)
    assert heads.agenda(0.0).urgent == ()


def test_reordered_reads_are_one_stream() -> None:
    heads = make()
    order = [0, 2, 1, 4, 3, 6, 5, 7]
    for n in order:
        heads.on_read(0, 50 * MIB + n * READ, READ, 0.0)
    assert len(heads.cursors(0)) == 1
    assert heads.cursors(0)[0].frontier == 50 * MIB + 8 * READ
    assert heads.statistics().jumps == 1


def test_a_seek_takes_the_old_window_at_once() -> None:
    heads = make()
    heads.on_open(0, 0.0)
    stream(heads, 10 * MIB, 8 * MIB)
    assert pieces(heads, Level.WINDOW)
    heads.on_read(0, 300 * MIB, READ, 0.1)
    assert pieces(heads, Level.WINDOW) == []
    heads.on_read(0, 300 * MIB + READ, READ, 0.1)
    assert set(pieces(heads, Level.WINDOW)) == {1201}


def test_a_second_handle_keeps_its_own_window() -> None:
    heads = make()
    heads.on_open(0, 0.0)
    heads.on_open(0, 0.0)
    stream(heads, 10 * MIB, 4 * MIB)
    stream(heads, 200 * MIB, 4 * MIB)
    window = pieces(heads, Level.WINDOW)
    assert min(window) < 100
    assert max(window) > 800
    assert abs(window[0] - window[1]) > 500, "windows are interleaved"
    heads.on_release(0, 1.0)
    assert min(pieces(heads, Level.WINDOW, 1.0)) > 800


def test_two_streams_through_one_handle_are_both_spared() -> None:
    heads = make()
    heads.on_open(0, 0.0)
    for n in range(32):
        heads.on_read(0, 10 * MIB + n * READ, READ, n * 0.01)
        heads.on_read(0, 200 * MIB + n * READ, READ, n * 0.01)
    window = pieces(heads, Level.WINDOW)
    assert min(window) < 100
    assert max(window) > 800


def test_random_probes_never_move_another_cursor() -> None:
    heads = make()
    heads.on_open(0, 0.0)
    heads.on_open(0, 0.0)
    stream(heads, 10 * MIB, 4 * MIB)
    cursor = heads.cursors(0)[0]
    place = cursor.frontier, cursor.consumed
    for n in range(7):
        heads.on_read(0, (50 + 40 * n) * MIB, 4096, 0.0)
    assert (cursor.frontier, cursor.consumed) == place
    assert len(heads.cursors(0)) <= 8


def test_the_first_read_near_zero_hints_head_and_tail() -> None:
    heads = make()
    heads.on_read(0, 0, 64 * KIB, 0.0)
    assert pieces(heads, Level.HINT) == [0, 1, 2, 3, 2044, 2045, 2046, 2047]
    small = ReadHeads(Geometry(256 * KIB, [3 * MIB]))
    small.on_read(0, 0, 4096, 0.0)
    assert [want.piece for want in small.agenda(0.0)] == list(range(12))


def test_a_jump_to_the_index_hints_to_the_end() -> None:
    heads = make()
    heads.on_read(0, 0, 64 * KIB, 0.0)
    heads.on_read(0, SIZE - 4 * MIB, 64 * KIB, 0.1)
    assert pieces(heads, Level.HINT)[-1] == 2043
    assert 2032 in pieces(heads, Level.HINT)
    fresh = make()
    fresh.on_read(0, SIZE - 4 * MIB, 64 * KIB, 0.0)
    assert pieces(fresh, Level.HINT) == []


def test_waiting_reads_are_urgent_counted_and_oldest_first() -> None:
    heads = make()
    late = heads.park(0, 10 * MIB, READ, 9.0, 0.0)
    early = heads.park(0, 20 * MIB - 1, 2, 5.0, 0.0)
    twin = heads.park(0, 10 * MIB, READ, 9.0, 0.0)
    assert pieces(heads, Level.URGENT) == [79, 80, 40]
    heads.unpark(late, 0.0)
    assert pieces(heads, Level.URGENT) == [79, 80, 40]
    heads.unpark(twin, 0.0)
    heads.unpark(twin, 0.0)
    assert pieces(heads, Level.URGENT) == [79, 80]
    heads.unpark(early, 0.0)
    assert pieces(heads, Level.URGENT) == []


def test_a_read_left_behind_by_a_seek_yields_but_does_not_starve() -> None:
    heads = make()
    heads.on_open(0, 0.0)
    stream(heads, 10 * MIB, 4 * MIB)
    heads.park(0, 14 * MIB - READ, READ, 120.0, 0.0)
    heads.on_read(0, 300 * MIB, READ, 0.1)
    heads.park(0, 300 * MIB, READ, 120.1, 0.1)
    assert pieces(heads, Level.URGENT) == [1200, 55]
    heads.park(0, 300 * MIB + 2 * READ, READ, 122.5, 2.5)
    assert pieces(heads, Level.URGENT) == [1200, 55, 1201]


def test_released_files_linger_five_seconds_and_idle_cursors_thirty() -> None:
    heads = make()
    heads.on_open(0, 0.0)
    stream(heads, 10 * MIB, 4 * MIB)
    token = heads.park(0, 14 * MIB, READ, 120.0, 0.0)
    heads.on_release(0, 1.0)
    heads.agenda(1.0)
    assert heads.next_change(1.0) == 6.0
    assert pieces(heads, Level.WINDOW, 5.9)
    version = heads.version
    assert pieces(heads, Level.WINDOW, 6.0) == []
    assert heads.version > version
    assert pieces(heads, Level.URGENT, 6.0) == [56]
    heads.unpark(token, 6.0)
    heads.on_open(0, 7.0)
    stream(heads, 10 * MIB, 4 * MIB, 7.0)
    heads.agenda(7.0)
    assert heads.next_change(7.0) == 37.0
    assert list(heads.agenda(37.0)) == []
    assert heads.next_change(37.0) is None


def test_a_reopened_file_keeps_its_cursor() -> None:
    heads = make()
    heads.on_open(0, 0.0)
    stream(heads, 10 * MIB, 4 * MIB)
    heads.on_release(0, 1.0)
    heads.on_open(0, 1.3)
    assert pieces(heads, Level.WINDOW, 10.0)


def test_reads_at_the_end_and_beyond_are_clamped() -> None:
    heads = make()
    heads.on_read(0, SIZE, READ, 0.0)
    heads.on_read(0, SIZE + MIB, READ, 0.0)
    assert heads.statistics().cursors == 0
    stream(heads, SIZE - 8 * MIB, 8 * MIB)
    assert max([*pieces(heads, Level.WINDOW), 0]) <= 2047
    assert "1 files" in repr(heads)


def test_files_with_state_are_bounded() -> None:
    heads = ReadHeads(Geometry(16 * KIB, [MIB] * 1000))
    for file in range(1000):
        heads.on_read(file, 0, 4096, 0.0)
    assert heads.statistics().files <= 256


def test_time_alone_changes_the_version_through_next_change() -> None:
    heads = make()
    heads.on_open(0, 0.0)
    stream(heads, 10 * MIB, 4 * MIB)
    heads.agenda(0.0)
    heads.on_release(0, 1.0)
    heads.agenda(1.0)
    version = heads.version
    assert heads.next_change(1.0) == 6.0
    assert heads.next_change(6.0) == 6.0, "an agenda is due"
    assert heads.version > version
    assert list(heads.agenda(6.0)) == []
    assert heads.next_change(6.0) is None


# --- blocks ----------------------------------------------------------------------------------


def by_block(piece_length: int = MIB, **config: int) -> ReadHeads:
    geometry = Geometry(piece_length, [SIZE])
    return ReadHeads(geometry, ReadAheadConfig(**config), lambda piece: True)


def test_a_read_wants_its_blocks_and_not_its_pieces() -> None:
    heads = by_block()
    place = 5 * MIB - 20 * KIB
    heads.on_read(0, place, 64 * KIB, 0.0)
    token = heads.park(0, place, 64 * KIB, 60.0, 0.0)
    assert list(heads.agenda(0.0)) == [
        Want(4, Level.URGENT, 60.0, 0b11 << 62),
        Want(5, Level.URGENT, 60.0, 0b111),
    ]
    other = heads.park(0, 4 * MIB, MIB, 61.0, 0.0)  # all of a piece is no mask
    assert Want(4, Level.URGENT, 61.0, ALL) in heads.agenda(0.0)
    heads.unpark(token, 0.1)
    heads.unpark(other, 0.1)
    assert not heads.agenda(0.1)


def test_windows_and_hints_are_blocks_until_a_window_has_pieces() -> None:
    heads = by_block(4 * MIB)
    heads.on_read(0, 0, 64 * KIB, 0.0)
    masks = {want.piece: want.blocks for want in heads.agenda(0.0)}
    assert masks[0] == (1 << 64) - 1  # the first MiB
    assert bin(masks[SIZE // (4 * MIB) - 1]).count("1") == 64
    heads = by_block(4 * MIB, edge=16 * KIB)
    offset, place = 64 * MIB, 0
    for place in range(offset, offset + 2 * MIB, 128 * KIB):
        heads.on_read(0, place, 128 * KIB, place / MIB)
    wants = heads.agenda(place / MIB).rest
    blocks = sum(want.blocks.bit_count() for want in wants if want.blocks != ALL)
    assert 1.7 * MIB <= blocks * 16 * KIB <= 2 * MIB
    for place in range(offset + 2 * MIB, offset + 24 * MIB, 128 * KIB):
        heads.on_read(0, place, 128 * KIB, place / MIB)
    rest = heads.agenda(place / MIB).rest
    assert {want.blocks for want in rest} == {ALL}
    token = heads.park(0, place + 128 * KIB, 128 * KIB, 200.0, place / MIB)
    assert heads.agenda(place / MIB).urgent[0].blocks == ALL
    heads.unpark(token, place / MIB)


def test_what_cannot_be_proved_is_wanted_whole() -> None:
    bad = {4}
    heads = ReadHeads(Geometry(MIB, [SIZE]), provable=lambda piece: piece not in bad)
    heads.on_read(0, 4 * MIB, 64 * KIB, 0.0)
    heads.park(0, 4 * MIB, 64 * KIB, 60.0, 0.0)
    assert heads.agenda(0.0)[0].blocks == ALL
    bad.clear()
    version = heads.version
    heads.on_provable()
    assert heads.version > version
    assert heads.agenda(0.0)[0].blocks == 0b1111


def test_places_are_those_where_programs_read() -> None:
    heads = make(files=2)
    stream(heads, 0, 8 * MIB, file=1)
    heads.on_read(0, 100 * MIB, 64 * KIB, 0.0)
    (streaming, lone) = heads.places()
    assert (streaming.file, streaming.offset) == (1, 8 * MIB)
    assert streaming.window > 0
    assert lone == (0, 100 * MIB + 64 * KIB, 0)


@pytest.mark.parametrize(
    ("start", "step", "played"), [(0, 1, True), (40, 1, True), (500, 1, False), (0, 9000, False)]
)
def test_who_reads_on_from_the_start_plays(start: int, step: int, played: bool) -> None:
    heads = ReadHeads(Geometry(256 * KIB, [900 * MIB]))
    offset = start * KIB
    for _ in range(20):
        heads.on_read(0, offset, 64 * KIB, 0.0)
        offset += step * 64 * KIB
    assert heads.take_played() == ([0] if played else [])
    for _ in range(20):
        heads.on_read(0, offset, 64 * KIB, 0.0)
        offset += step * 64 * KIB
    assert heads.take_played() == []  # once
