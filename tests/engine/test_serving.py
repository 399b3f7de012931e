"""Whom we serve, and how often we think about it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.engine.kit import rig
from torrentfs.engine.serving import Serving
from torrentfs.errors import StorageError
from torrentfs.scheduling.picker import Request
from torrentfs.storage.base import PieceLost
from torrentfs.wire import messages as m


async def test_more_want_than_we_serve_and_each_has_its_turn(autojump_clock: MockClock) -> None:
    async with rig(have=None) as r:
        peers = [await r.connect(have=[]) for _ in range(8)]
        for peer in peers:
            await peer.say(m.Interested())
        await trio.sleep(12)
        open_now = [p for p in r.torrent.peers() if not p.sender.uploads.choking]
        assert len(open_now) == 5  # four and the optimistic one
        served = {peer.address for peer in open_now}
        for _ in range(30):
            await trio.sleep(10)
            for peer in peers:
                await peer.say(m.KeepAlive())
            served |= {p.address for p in r.torrent.peers() if not p.sender.uploads.choking}
        assert len(served) > 5


async def test_a_slot_that_becomes_free_is_used_within_a_second(autojump_clock: MockClock) -> None:
    async with rig(have=None) as r:
        peers = [await r.connect(have=[]) for _ in range(6)]
        for peer in peers:
            await peer.say(m.Interested())
        await trio.sleep(15)
        for ours in r.torrent.peers():
            if not ours.sender.uploads.choking:
                ours.close("goes")
                break
        await trio.sleep(2)
        assert len(r.torrent.peers()) == 5
        assert all(not ours.sender.uploads.choking for ours in r.torrent.peers())


async def test_a_peer_that_changes_its_mind_a_million_times_costs_little(
    autojump_clock: MockClock,
) -> None:
    async with rig(have=None) as r:
        peer = await r.connect(have=[])
        rounds: list[float] = []
        right = Serving._rechoke

        def counted(self: Serving, now: float) -> None:
            rounds.append(now)
            right(self, now)

        Serving._rechoke = counted  # type: ignore[method-assign]
        try:
            for _ in range(2000):
                await peer.say(m.Interested())
                await peer.say(m.NotInterested())
            await trio.sleep(1.5)
        finally:
            Serving._rechoke = right  # type: ignore[method-assign]
        assert len(rounds) <= 4


@pytest.mark.parametrize(
    ("error", "told"), [(PieceLost, [[3]]), (StorageError, [])], ids=["lost", "trouble"]
)
async def test_a_piece_that_cannot_be_read_just_now_is_not_lost(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    error: type[StorageError],
    told: list[list[int]],
) -> None:
    async with rig(have=None) as r:
        evicted: list[list[int]] = []

        async def read(piece: int, begin: int, length: int) -> memoryview:
            await trio.lowlevel.checkpoint()
            if error is PieceLost:
                r.store.have.discard(piece)
            raise error("no")

        monkeypatch.setattr(r.store, "read", read)
        monkeypatch.setattr(r.torrent.holdings, "on_lost", evicted.append)
        r.store.slow.add(3)
        assert await r.torrent.serving.read(Request(3, 0, 100)) is None
        assert evicted == told
