"""`read()` equals the reference bytes, whatever sources, cache and readers do."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from random import Random

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.kit import PIECE, FakePeer, Rig, rig
from tests.transports.torrents import sample
from torrentfs.errors import DataUnavailable
from torrentfs.wire import messages as m

FILES = [(("a",), 3 * PIECE + 7), (("b",), 0), (("c",), 10), (("d",), 5 * PIECE - 17)]
SAMPLE = sample(FILES, piece_length=PIECE)
STARTS = [0, 3 * PIECE + 7, 3 * PIECE + 7, 3 * PIECE + 17]

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.sampled_from([0, 2, 3]), st.integers(0, 5 * PIECE),
                  st.integers(1, 3 * PIECE)),
        st.tuples(st.just("give up"), st.integers(0, 50)),
        st.tuples(st.just("drop"), st.integers(0, 5)),
        st.tuples(st.just("join"), st.sampled_from(["honest", "liar", "flaky", "slow", "refuser"])),
        st.tuples(st.just("evict"), st.integers(0, 8)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 0.3, 3.0])),
    ),
    min_size=3, max_size=25,
)  # fmt: skip


async def play(peer: FakePeer, kind: str, rng: Random) -> None:
    """A seeder with a habit."""
    if kind == "liar":
        await peer.serve(lie=lambda request: rng.random() < 0.3)
    elif kind == "slow":
        await peer.serve(delay=0.5)
    elif kind == "flaky":
        await peer.serve(most=rng.randrange(1, 6))
    elif kind == "refuser":
        while True:
            event = await peer.next()
            if isinstance(event, m.Interested):
                await peer.say(m.Unchoke())
            elif isinstance(event, m.Request):
                await peer.say(m.RejectRequest(*event))
    else:
        await peer.serve()


async def life(actions: list[tuple[object, ...]], capacity: int | None, seed: int) -> None:
    rng = Random(seed)
    async with rig(SAMPLE, capacity=capacity, read_timeout=20, readahead=4 * PIECE) as r:
        peers: list[FakePeer] = []
        readings = []
        await join(r, peers, "honest", rng)
        for action, *values in actions:
            match action, values:
                case "read", [int(file), int(offset), int(size)]:
                    readings.append((file, offset, size, r.reading(offset, size, file)))
                case "give up", [int(number)] if readings:
                    readings[number % len(readings)][3].scope.cancel()
                case "drop", [int(number)] if peers:
                    peers.pop(number % len(peers)).stream.abort()
                case "join", [str(kind)]:
                    await join(r, peers, kind, rng)
                case "evict", [int(piece)]:
                    r.store.evict(piece)
                case "wait", [float(seconds)]:
                    await trio.sleep(seconds)
        await join(r, peers, "honest", rng)
        for file, offset, size, reading in readings:
            if reading.scope.cancel_called:
                continue
            start, length = STARTS[file], FILES[file][1]
            expected = SAMPLE.space[start : start + length][offset : offset + size]
            with contextlib.suppress(DataUnavailable):  # allowed while sources come and go
                assert await reading.wait() == expected  # wrong bytes never are
        await trio.sleep(60)  # breaker and rests over
        await join(r, peers, "honest", rng)
        assert await r.read(0, FILES[0][1]) == SAMPLE.space[: FILES[0][1]]
        assert r.torrent.reader.waiting == 0
        assert r.torrent.heads.statistics().parked == 0


async def join(r: Rig, peers: list[FakePeer], kind: str, rng: Random) -> None:
    peer = await r.connect()
    peers.append(peer)

    async def run() -> None:
        try:
            await play(peer, kind, rng)
        except Exception:
            peer.stream.abort()

    r.nursery.start_soon(run)


def in_virtual_time(function: Callable[..., Awaitable[None]], *values: object) -> None:
    trio.run(function, *values, clock=trio.testing.MockClock(autojump_threshold=0))


@given(actions=ACTIONS, capacity=st.sampled_from([None, 0, 1, 3]), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_reads_equal_the_reference(
    actions: list[tuple[object, ...]], capacity: int | None, seed: int
) -> None:
    in_virtual_time(life, actions, capacity, seed)
