"""Pieces that come and go: who hears of it, and what is lost and here again."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.engine.kit import PIECE, rig
from torrentfs.wire import messages as m


async def test_peers_learn_of_both(autojump_clock: MockClock) -> None:
    async with rig(4 * PIECE, have=None) as r:
        peer = await r.connect(have=False, extensions=True)
        kept = r.store.pieces[2]
        r.store.evict(2)
        await peer.expect(m.DontHave, piece=2)
        await trio.sleep(2)  # the picker knows by now
        r.store.pieces[2] = kept
        r.store.have.add(2)
        r.torrent.holdings.on_regained([2])
        assert (await peer.expect(m.Have)).piece == 2
        await trio.sleep(5)
        assert r.torrent.downloaded == 0  # nobody asks for what is here
        await peer.say(m.Interested())
        await peer.expect(m.Unchoke)
        await peer.say(m.Request(2, 0, 100))
        assert (await peer.expect(m.Piece)).data == r.sample.space[2 * PIECE : 2 * PIECE + 100]


async def test_lost_and_regained_at_once_changes_nothing(autojump_clock: MockClock) -> None:
    async with rig(4 * PIECE, have=None) as r:
        r.torrent.on_evicted([1])
        r.torrent.holdings.on_regained([1])
        await trio.sleep(5)
        assert await r.read(PIECE, 10) == r.sample.space[PIECE : PIECE + 10]


async def test_evicting_more_than_peers_are_told_one_by_one(autojump_clock: MockClock) -> None:
    async with rig(have=None) as r:
        peer = await r.connect(extensions=True)
        await peer.settle()
        for piece in range(10):
            r.store.evict(piece)
        gone = [e.piece for e in await peer.settle() if isinstance(e, m.DontHave)]
        assert gone == list(range(10))
        assert await peer.expect(m.Interested)  # within a second
