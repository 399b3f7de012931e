"""What users feel, in virtual time: seeks, copies, slow and silent sources, many readers.

Numbers in the asserts are the project's speed goals where it has one, and otherwise a little above
what was seen when the test was written. A run is deterministic.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.simulation.swarm import MIB, SimSource, Swarm, copy, play
from torrentfs.scheduling.picker import SourceKind

if TYPE_CHECKING:
    from collections.abc import Generator

KIB = 1024
CLIENTS = json.loads((Path(__file__).parent / "traces" / "clients.json").read_text())
RTT, LINE = 0.050, 12.5e6
PIECE_TIME = RTT + MIB / LINE
PEER, WEB_SEED = SourceKind.PEER, SourceKind.WEB_SEED


def home(**more: object) -> SimSource:
    """A peer behind 50 ms and 100 Mbit/s."""
    return SimSource(rtt=RTT, rate=LINE, **more)  # type: ignore[arg-type]


def run(
    steps: Generator,
    *sources: SimSource,
    opens: int = 1,
    until: float = 600.0,
    prefetch: bool = False,
    **more: object,
) -> Swarm:
    """One reader of file 0 over these sources; `prefetch`: while all of it is prefetched."""
    swarm = Swarm(rng=Random(1), **more)  # type: ignore[arg-type]
    for source in sources:
        swarm.add(source)
    if prefetch:
        swarm.background.begin("all", [range(swarm.geometry.num_pieces)])
    for _ in range(opens):
        swarm.heads.on_open(0, 0.0)
    swarm.read_with("reader", steps)
    swarm.run(until)
    assert "reader" in swarm.finished
    return swarm


def waits(swarm: Swarm) -> list[float]:
    return sorted(wait for _, wait in swarm.latencies["reader"])


def speed(swarm: Swarm) -> float:
    return swarm.consumed["reader"] / swarm.now


def wasted(swarm: Swarm) -> float:
    return swarm.picker.wasted / swarm.picker.received


def seeks(count: int, read: int, pause: float, *, aligned: bool = True) -> Generator:
    rng = Random(3)
    for _ in range(count):
        place = rng.randrange(1, 1000) * MIB
        if not aligned:
            place += rng.randrange(0, MIB // 131072 - 1) * 131072
        for offset in range(place, place + read, 131072):
            yield ("read", 0, offset, 131072)
        yield ("sleep", pause)


# --- latency ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("read", "pause"), [(128 * KIB, 0.3), (2 * MIB, 0.0), (6 * MIB, 0.1)])
def test_a_seek_takes_one_round_trip_and_one_piece(read: int, pause: float) -> None:
    swarm = run(seeks(24, read, pause), home())
    per = read // 131072
    first = sorted(wait for _, wait in swarm.latencies["reader"][4 * per :: per])
    assert first[len(first) // 2] < 1.15 * PIECE_TIME
    assert first[int(len(first) * 0.95)] < 1.5 * PIECE_TIME
    assert swarm.picker.wasted == 0


@pytest.mark.parametrize("run_length", [1, 8])
def test_a_seek_out_of_a_full_path_waits_for_no_more_than_is_on_its_way(run_length: int) -> None:
    # a real seeder puts what it is asked for into its socket at once: CANCEL comes too late
    swarm = run(seeks(24, run_length * MIB, 0.0), home(eager=True))
    per = run_length * 8
    first = sorted(wait for _, wait in swarm.latencies["reader"][2 * per :: per])
    assert first[len(first) // 2] < 1.15 * PIECE_TIME
    assert first[int(len(first) * 0.95)] < 1.25 * PIECE_TIME


def test_a_seek_right_after_the_window_opened_meets_only_the_first_blocks_of_it() -> None:
    steps = list(seeks(24, MIB, 0.001))
    swarm = run(iter(steps), home(eager=True))
    first = sorted(wait for _, wait in swarm.latencies["reader"][16::8])
    assert first[len(first) // 2] < 1.15 * PIECE_TIME


@pytest.mark.parametrize("eager", [False, True])
def test_a_seek_beside_a_prefetch_waits_for_no_more_than_is_on_its_way(eager: bool) -> None:
    swarm = run(seeks(24, 128 * KIB, 0.3), home(eager=eager), prefetch=True)
    first = waits(swarm)
    assert first[len(first) // 2] < 1.12 * PIECE_TIME
    assert first[int(len(first) * 0.95)] < 1.15 * PIECE_TIME
    assert swarm.picker.received > 0.95 * LINE * (swarm.now - PIECE_TIME)  # all that was free


def test_a_prefetch_takes_nothing_from_a_copy_and_stalls_no_player() -> None:
    copied = run(copy(100 * MIB), home(), prefetch=True)
    assert len(copied.stored) == 100
    played = run(play(6.25e6, 12.0), home(), prefetch=True)
    assert not [wait for since, wait in played.latencies["reader"] if since > 0.5 and wait > 0.0]
    assert len(played.stored) > 130


def test_the_path_is_full_within_three_round_trips() -> None:
    swarm = run(copy(4 * MIB), home(), home(), piece_length=16 * MIB)
    # shared by two new sources, so both grow; full is bandwidth x delay, 39 blocks each
    assert all(source.rate > 0.9 * LINE for source in swarm.picker.statistics().sources.values())
    swarm = Swarm(rng=Random(1), piece_length=16 * MIB)
    names = [swarm.add(home()), swarm.add(home())]
    swarm.read_with("reader", copy(MIB))
    swarm.run(3.3 * RTT)
    for name in names:
        assert len(swarm.picker.ledger.sources[name].in_flight) * 16384 >= RTT * LINE


def test_first_byte_of_an_idle_mount_needs_one_request_round() -> None:
    swarm = run(copy(131072), home())
    assert waits(swarm)[0] < 1.05 * PIECE_TIME


def test_an_urgent_piece_arrives_at_the_aggregate_rate() -> None:
    warm = [("read", 0, n * MIB, 131072) for n in range(0, 64, 2)]
    cold = [("read", 0, n * MIB, 131072) for n in range(300, 500, 10)]
    swarm = run(iter(warm + cold), *[SimSource(rtt=RTT, rate=2e6) for _ in range(4)])
    late = sorted(wait for _, wait in swarm.latencies["reader"][len(warm) :])
    assert late[len(late) // 2] < 1.15 * (RTT + MIB / 8e6)


def test_playback_at_half_the_line_never_stalls_after_the_start() -> None:
    swarm = run(play(6.25e6, 12.0), home())
    late = [wait for since, wait in swarm.latencies["reader"] if since > 0.5 and wait > 0.0]
    assert not late


# --- blocks that can be proved (BEP 52) -------------------------------------------------------


@pytest.mark.parametrize("piece_length", [MIB, 16 * MIB])
def test_by_block_a_seek_takes_one_round_trip_and_its_blocks(piece_length: int) -> None:
    steps = seeks(24, 128 * KIB, 0.3, aligned=False)
    swarm = run(steps, home(eager=True), by_block=True, piece_length=piece_length)
    assert waits(swarm)[12] < 1.05 * (RTT + 128 * KIB / LINE)
    assert waits(swarm)[22] < 1.2 * (RTT + 128 * KIB / LINE)
    assert swarm.picker.wasted == 0


@pytest.mark.parametrize("piece_length", [MIB, 16 * MIB])
def test_by_block_random_reads_cost_little_more_than_they_read(piece_length: int) -> None:
    rng = Random(5)
    steps = [("read", 0, rng.randrange(1, 16383) * 65536, 65536) for _ in range(300)]
    source = SimSource(rtt=0.001, rate=100e6)
    swarm = run(iter(steps), source, by_block=True, piece_length=piece_length)
    assert swarm.picker.received <= 1.1 * 300 * 65536


@pytest.mark.parametrize("piece_length", [MIB, 16 * MIB])
def test_by_block_a_copy_fetches_all_of_it_once(piece_length: int) -> None:
    size = 96 * MIB
    swarm = run(copy(size), home(), home(), by_block=True, lengths=(size,),
                piece_length=piece_length)  # fmt: skip
    assert speed(swarm) > 0.9 * 2 * LINE
    assert swarm.picker.received == size
    assert len(swarm.stored) == size // piece_length


def test_by_block_large_pieces_play_without_a_stall_over_a_line_that_is_just_fast_enough() -> None:
    source = SimSource(rtt=RTT, rate=1e6)
    swarm = run(play(0.8e6, 20.0), source, by_block=True, piece_length=16 * MIB)
    late = [wait for since, wait in swarm.latencies["reader"] if since > 1.0 and wait > 0.05]
    assert not late


# --- throughput ------------------------------------------------------------------------------


@pytest.mark.parametrize("jitter", [0.0, 0.3])
@pytest.mark.parametrize("rtt", [0.001, 0.050])
def test_eight_capped_seeders_add_up(rtt: float, jitter: float) -> None:
    seeders = [SimSource(rtt=rtt, rate=4e6, jitter=jitter) for _ in range(8)]
    swarm = run(copy(64 * MIB), *seeders)
    rates = swarm.picker.statistics().sources.values()
    assert speed(swarm) > 0.9 * 32e6
    assert sum(source.rate for source in rates) > 0.9 * 32e6
    assert wasted(swarm) < 0.01


def limited(rtt: float, limits: list[float], seed: int) -> float:
    """The rate of a copy, of what the upload limits of its seeders allow, from two seconds on."""
    swarm = Swarm(rng=Random(seed))
    for limit in limits:
        swarm.add(SimSource(rtt=rtt, rate=300e6, limit=limit, eager=True, reqq=2000))
    swarm.heads.on_open(0, 0.0)
    size = int(6.0 * sum(limits)) // MIB * MIB
    swarm.read_with("reader", copy(size))
    swarm.run(2.0)
    before = swarm.consumed["reader"]
    swarm.run()
    assert wasted(swarm) < 0.05
    return (size - before) / sum(limits) / (swarm.now - 2.0)


@pytest.mark.parametrize(
    ("limits", "least", "mean"),
    [([4e6] * 8, 0.88, 0.93), ([1e6] * 8, 0.85, 0.94), ([1e6, 2e6, 4e6, 8e6], 0.85, 0.9)],
)
@pytest.mark.parametrize("rtt", [0.001, 0.050])
def test_seeders_with_an_upload_limit_add_up_within_two_seconds(
    rtt: float, limits: list[float], least: float, mean: float
) -> None:
    found = [limited(rtt, limits, seed) for seed in (1, 2, 3)]
    assert min(found) > least
    assert sum(found) / len(found) > mean


def test_a_seek_does_not_wait_for_the_bursts_of_limited_seeders() -> None:
    worst = []
    for seed in range(1, 7):
        swarm = Swarm(rng=Random(seed))
        for _ in range(4):
            swarm.add(SimSource(rtt=RTT, rate=300e6, limit=2e6, eager=True, reqq=2000))
        swarm.add(home(eager=True))
        swarm.heads.on_open(0, 0.0)
        swarm.read_with("reader", seeks(16, 8 * MIB, 0.0))
        swarm.run()
        first = sorted(wait for _, wait in swarm.latencies["reader"][4 * 64 :: 64])
        assert first[len(first) // 2] < 1.25 * PIECE_TIME
        worst.append(first[-2])
    assert sum(worst) / len(worst) < 1.6 * PIECE_TIME


def test_a_silence_is_no_habit() -> None:
    """A line that stood still once, or we did, must not have more queued ahead of the next seek."""
    still = SimSource(rtt=RTT, rate=LINE, eager=True, stalls=((2.0, 2.4),))
    swarm = run(copy(40 * MIB), still)
    assert swarm.picker.statistics().sources[1].depth < 1.5 * (RTT + 0.01) * LINE / 16384


def test_a_loopback_seeder_is_never_starved() -> None:
    swarm = run(copy(128 * MIB), SimSource(rtt=0.0005, rate=600e6))
    assert speed(swarm) > 0.9 * 600e6
    assert swarm.picker.statistics().sources[1].depth >= 300


def test_slow_sources_do_not_hold_up_a_fast_one() -> None:
    swarm = run(
        copy(32 * MIB),
        SimSource(rtt=0.02, rate=10e6),
        SimSource(rtt=0.1, rate=0.1e6),
        SimSource(rtt=0.3, rate=0.03e6, jitter=0.5),
    )
    assert speed(swarm) > 0.85 * 10e6
    assert waits(swarm)[-1] < 1.0
    assert wasted(swarm) < 0.05


@pytest.mark.parametrize("seed", [9, 10, 11])
def test_a_mixed_swarm_stays_within_the_waste_budget(seed: int) -> None:
    rng = Random(seed)
    rates = [2e4, 1e5, 5e5, 2e6]
    swarm = run(
        copy(32 * MIB),
        *[SimSource(rtt=rng.uniform(0.01, 0.3), rate=rng.choice(rates), jitter=0.4)
          for _ in range(20)],
    )  # fmt: skip
    assert wasted(swarm) < 0.05
    assert waits(swarm)[-1] < 2.5


@pytest.mark.parametrize("pieces", [16 * KIB, 256 * KIB, 16 * MIB])
def test_any_piece_length_fills_the_line(pieces: int) -> None:
    swarm = run(copy(32 * MIB), *[SimSource(rtt=RTT, rate=5e6) for _ in range(4)],
                piece_length=pieces)  # fmt: skip
    assert speed(swarm) > 0.85 * 20e6


# --- trouble ---------------------------------------------------------------------------------


def kind_of(value: object) -> str | None:
    return value.value if isinstance(value, SourceKind) else None


@pytest.mark.parametrize("kind", [PEER, WEB_SEED], ids=kind_of)
def test_a_stalled_source_delays_a_reader_by_no_more_than_hedging(kind: SourceKind) -> None:
    stalls = SimSource(rtt=RTT, rate=5e6, stalls=((1.0, 300.0),))
    swarm = run(copy(24 * MIB), SimSource(rtt=RTT, rate=5e6, kind=kind), stalls)
    assert waits(swarm)[-1] < 0.5
    assert wasted(swarm) < 0.05
    assert swarm.now < 24 * MIB / 5e6 + 0.5


@pytest.mark.parametrize("stalled", [1, 4])
@pytest.mark.parametrize("rate", [20e6, 100e6])
@pytest.mark.parametrize("kind", [PEER, WEB_SEED], ids=kind_of)
def test_peers_that_fall_silent_early_cost_a_fast_source_little(
    kind: SourceKind, rate: float, stalled: int
) -> None:
    size = 96 * MIB
    silent = [SimSource(rtt=RTT, rate=5e6, stalls=((0.3, 300.0),)) for _ in range(stalled)]
    swarm = run(copy(size), SimSource(rtt=0.02, rate=rate, kind=kind), *silent, lengths=(size,))
    assert waits(swarm)[-1] < 0.35
    assert swarm.now < size / rate + 0.6
    assert wasted(swarm) < 0.01


@pytest.mark.parametrize("kind", [PEER, WEB_SEED], ids=kind_of)
def test_peers_that_fall_silent_one_after_the_other_are_not_asked_in_place_of_each_other(
    kind: SourceKind,
) -> None:
    size = 171 * MIB
    silent = [
        SimSource(rtt=RTT, rate=5e6, stalls=((0.2 + 0.01 * number, 300.0),)) for number in range(4)
    ]
    swarm = run(copy(size), SimSource(rtt=RTT, rate=60e6, kind=kind), *silent, lengths=(size,))
    assert waits(swarm)[-1] < 0.7


def test_a_web_seed_that_falls_silent_costs_a_peer_little() -> None:
    size = 96 * MIB
    silent = SimSource(rtt=0.02, rate=20e6, kind=WEB_SEED, stalls=((1.0, 300.0),))
    swarm = run(copy(size), SimSource(rtt=0.02, rate=20e6), silent, lengths=(size,))
    assert waits(swarm)[-1] < 1.0
    assert swarm.now < size / 20e6 + 0.6


@pytest.mark.parametrize("kind", [PEER, WEB_SEED], ids=kind_of)
def test_who_was_silent_and_is_back_has_its_part_again(kind: SourceKind) -> None:
    size = 96 * MIB
    back = SimSource(rtt=RTT, rate=10e6, stalls=((0.3, 4.0),))
    swarm = run(copy(size), SimSource(rtt=0.02, rate=10e6, kind=kind), back, lengths=(size,))
    assert waits(swarm)[-1] < 0.35
    assert back.sent > 16 * MIB
    assert swarm.now < 8.0


def test_a_dead_source_costs_its_blocks_and_nothing_else() -> None:
    swarm = run(
        copy(24 * MIB), SimSource(rtt=RTT, rate=5e6), SimSource(rtt=RTT, rate=5e6, dies_at=1.0)
    )
    assert waits(swarm)[-1] < 0.5
    assert swarm.picker.wasted == 0


def test_the_liar_is_found_and_nobody_else() -> None:
    swarm = run(
        copy(16 * MIB),
        SimSource(rtt=RTT, rate=5e6),
        SimSource(rtt=RTT, rate=5e6, lies=True),
        SimSource(rtt=RTT, rate=5e6),
    )
    assert swarm.hash_failures >= 1
    assert set(swarm.banned) <= {2}
    assert waits(swarm)[-1] < 2.0


def test_a_source_with_a_part_is_asked_for_its_part() -> None:
    some = SimSource(rtt=RTT, rate=5e6, pieces=range(8))
    swarm = run(copy(16 * MIB), SimSource(rtt=RTT, rate=5e6), some)
    assert 0 < swarm.picker.statistics().sources[2].received <= 8 * MIB


# --- web seeds -------------------------------------------------------------------------------


def test_a_web_seed_alone_carries_a_copy() -> None:
    size = 32 * MIB
    seed = SimSource(rtt=0.02, rate=20e6, kind=WEB_SEED)
    swarm = run(copy(size), seed, lengths=(size,))
    assert speed(swarm) > 0.9 * 20e6
    assert swarm.picker.wasted == 0


def test_a_web_seed_and_a_peer_share_without_duplicates() -> None:
    swarm = run(
        copy(48 * MIB),
        SimSource(rtt=0.02, rate=20e6, kind=WEB_SEED),
        SimSource(rtt=0.02, rate=20e6),
    )
    assert speed(swarm) > 0.75 * 40e6
    assert wasted(swarm) < 0.02


# --- readers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("readers", [4, 16])
def test_readers_are_served_fairly_and_lose_nothing(readers: int) -> None:
    swarm = Swarm(rng=Random(1), lengths=(16 * MIB,) * readers)
    swarm.add(SimSource(rtt=0.002, rate=100e6))
    for file in range(readers):
        swarm.heads.on_open(file, 0.0)
        swarm.read_with(f"reader {file}", copy(8 * MIB, file=file))
    swarm.run()
    ends = list(swarm.finished.values())
    assert len(ends) == readers
    assert min(ends) / max(ends) > 0.85
    assert readers * 8 * MIB / swarm.now > 0.9 * 100e6


def test_a_copy_does_not_starve_a_player() -> None:
    swarm = Swarm(rng=Random(1), lengths=(256 * MIB, 256 * MIB))
    swarm.add(home())
    for file in (0, 1):
        swarm.heads.on_open(file, 0.0)
    swarm.read_with("copy", copy(48 * MIB, file=1))
    swarm.read_with("player", play(2e6, 4.0))
    swarm.run()
    late = [wait for since, wait in swarm.latencies["player"] if since > 1.0]
    assert max(late) < 0.25
    assert sum(late) < 0.5


def test_random_reads_cost_their_pieces_only() -> None:
    rng = Random(5)
    steps = [("read", 0, rng.randrange(1, 16383) * 65536, 65536) for _ in range(200)]
    swarm = run(iter(steps), SimSource(rtt=0.001, rate=100e6))
    assert swarm.picker.received <= 16.5 * 200 * 65536


def test_nothing_is_fetched_after_the_last_close() -> None:
    swarm = run(copy(4 * MIB), home())
    swarm.heads.on_release(0, swarm.now)
    swarm.run(swarm.now + 6.0, while_readers=False)
    before = swarm.picker.received
    swarm.heads.agenda(swarm.now + 6.0)
    swarm.run(swarm.now + 10.0, while_readers=False)
    assert swarm.picker.received == before
    assert before < 4 * MIB + 2 * 4 * MIB + 3 * MIB  # what was read, its window, the hints


def recorded(client: str, *, paced: bool) -> Generator:
    """The reads that reached the file system, with the pauses that the program made, or without."""
    for offset, size, pause in CLIENTS[client]["reads"]:
        if paced and pause:
            yield ("sleep", pause)
        yield ("read", 0, offset, size)


@pytest.mark.parametrize(
    ("client", "most_pieces"),
    [
        ("file-mkv", 17),
        ("jf-image-mkv-cuesend", 8),
        ("jf-image-mp4-moovend", 6),
        ("jf-probe-mkv-mkvmerge", 4),
        ("jf-probe-mkv-pgs-late", 25),
        ("jf-probe-mp4-faststart", 2),
        ("jf-probe-mp4-frag", 129),
        ("jf-probe-mp4-moovend", 3),
        ("jf-scan-item-mkv", 8),
        ("mediainfo-mkv-01", 10),
        ("mpv-play-mkv-16mbps-cacheno", 88),
        ("mpv-play-seek-mkv-bw1M", 38),
        ("pyarrow-parquet-2cols", 42),
        ("unzip-one", 2),
        ("vlc-play-mkv", 6),
    ],
)
def test_real_clients_get_what_they_read_and_little_more(client: str, most_pieces: int) -> None:
    swarm = run(recorded(client, paced=False), home(), lengths=(CLIENTS[client]["size"],))
    assert len(swarm.stored) <= most_pieces
    assert waits(swarm)[-1] < 2.0 * PIECE_TIME
    assert swarm.picker.wasted == 0


PACED = [name for name, trace in CLIENTS.items() if any(pause for _, _, pause in trace["reads"])]


@pytest.mark.parametrize("client", PACED)
def test_real_clients_that_pause_find_what_comes_next(client: str) -> None:
    """A player reads at its own pace once its buffer is full: the window is always ahead of it."""
    swarm = run(recorded(client, paced=True), home(), lengths=(CLIENTS[client]["size"],))
    assert waits(swarm)[-1] < 2.0 * PIECE_TIME
    end = None
    for (offset, size, pause), (_, wait) in zip(
        CLIENTS[client]["reads"], swarm.latencies["reader"], strict=True
    ):
        if pause and offset == end:
            assert wait < 0.02
        end = offset + size
