"""A torrent in words and numbers."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.engine.kit import PIECE, rig
from torrentfs.engine.report import why_missing
from torrentfs.wire import messages as m


async def test_why_a_piece_is_missing(autojump_clock: MockClock) -> None:
    async with rig() as r:
        assert why_missing(r.torrent, 0) == "no peers connected"
        peer = await r.connect(have=[1])
        assert why_missing(r.torrent, 0) == "none of 1 peers has it"
        assert why_missing(r.torrent, 1) == "choked by all 1 peers that have it"
        await peer.say(m.Unchoke())
        await trio.sleep(1)
        assert why_missing(r.torrent, 1) == "asked 1 peers, none delivered"
        r.swarm.last_failure = "192.0.2.1:1 connection refused"
        peer.stream.abort()
        await trio.sleep(1)
        assert "last peer " in why_missing(r.torrent, 1)


async def test_statistics(autojump_clock: MockClock) -> None:
    async with rig() as r:
        assert r.torrent.statistics().state == "ready"
        peer = await r.connect(unchoke=True)
        reading = r.reading(0, 10)
        first = await peer.expect(m.Request)
        now = r.torrent.statistics()
        assert (now.state, now.waiting_reads, now.pieces_total) == ("fetching", 1, 10)
        assert now.peers[0].flags == "D"
        await peer.say(peer.block(first), peer.block(await peer.expect(m.Request)))
        await reading.wait()
        now = r.torrent.statistics()
        assert (now.downloaded, now.wasted, now.pieces_have) == (PIECE, 0, 1)
        assert now.progress == 0.1
        assert now.bytes_by_kind == {"memory": PIECE}
        peer.stream.abort()
        await trio.sleep(1)
        assert r.torrent.statistics().bytes_by_kind == {"memory": PIECE}  # those that left count
        assert r.torrent.xattrs()["progress"] == "0.1000"
    async with rig(have=None) as r:
        assert r.torrent.statistics().state == "complete"
