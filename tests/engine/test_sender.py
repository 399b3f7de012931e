"""What a peer asks of us: served, rejected, delayed, and never without bound."""

from __future__ import annotations

import contextlib

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.engine.kit import KIB, PIECE, rig
from torrentfs.engine import sender as sender_module
from torrentfs.engine.limits import Limits, RateLimit
from torrentfs.errors import TransportError
from torrentfs.wire import messages as m

BLOCK = 16384


async def test_an_interested_peer_is_unchoked_and_served(autojump_clock: MockClock) -> None:
    async with rig(have=None) as r:
        peer = await r.connect(have=[])
        await peer.say(m.Interested())
        await peer.expect(m.Unchoke)
        request = m.Request(2, BLOCK, BLOCK)
        await peer.say(request)
        assert await peer.expect(m.Piece) == peer.block(request)
        await peer.settle()
        assert r.torrent.uploaded == BLOCK


async def test_a_request_while_choked_is_rejected(autojump_clock: MockClock) -> None:
    async with rig(have=None, upload=False) as r:
        peer = await r.connect(have=[])
        plain = await r.connect(have=[], fast=False)
        for asker in peer, plain:
            await asker.say(m.Interested(), m.Request(0, 0, BLOCK))
        assert await peer.expect(m.RejectRequest) == m.RejectRequest(0, 0, BLOCK)
        assert not [e for e in await plain.settle() if isinstance(e, m.Piece | m.RejectRequest)]


async def test_allowed_fast_requests_are_served_while_choking(autojump_clock: MockClock) -> None:
    async with rig(have=None) as r:
        peer = await r.connect(have=[])
        allowed = await peer.expect(m.AllowedFast)
        request = m.Request(allowed.piece, 0, BLOCK)
        await peer.say(request)
        assert await peer.expect(m.Piece) == peer.block(request)


async def test_choking_rejects_what_is_queued_but_allowed_fast(autojump_clock: MockClock) -> None:
    async with rig(have=None, limits=Limits(upload=RateLimit(1))) as r:
        peer = await r.connect(have=[])
        await peer.say(m.Interested())
        await peer.expect(m.Unchoke)
        sender = r.torrent.peers()[0].sender
        sender.uploads.allowed = {0}
        await peer.say(*[m.Request(piece, 0, BLOCK) for piece in range(10)])
        for _ in range(20):  # more than one batch
            await peer.say(*[m.Request(piece, BLOCK, BLOCK) for piece in range(10)])
        await trio.testing.wait_all_tasks_blocked()
        sender.choke()
        rejected = [e for e in await peer.settle() if isinstance(e, m.RejectRequest)]
        assert rejected
        assert all(reject.piece != 0 for reject in rejected)
        assert all(request.piece == 0 for request in sender.uploads.take())


@pytest.mark.parametrize(
    "request_",
    [
        m.Request(5, 0, BLOCK),  # not here
        m.Request(0, 0, 0),
        m.Request(0, PIECE - 1, 2),
        m.Request(0, 0xFFFFFFFF, 0xFFFFFFFF),
        m.Request(0, 0, 129 * KIB),
    ],
)
async def test_what_cannot_be_served_is_rejected(
    request_: m.Request, autojump_clock: MockClock
) -> None:
    async with rig(have=[0]) as r:
        peer = await r.connect(have=[])
        await peer.say(m.Interested())
        await peer.expect(m.Unchoke)
        await peer.say(request_)
        assert await peer.expect(m.RejectRequest) == m.RejectRequest(*request_)


async def test_a_cancelled_request_is_not_answered(autojump_clock: MockClock) -> None:
    async with rig(have=None, limits=Limits(upload=RateLimit(BLOCK))) as r:
        peer = await r.connect(have=[])
        await peer.say(m.Interested())
        await peer.expect(m.Unchoke)
        last = m.Request(9, 0, BLOCK)
        for number in range(20):
            await peer.say(m.Request(number % 9, BLOCK * (number % 2), BLOCK))
        await peer.say(last, m.Cancel(*last))
        assert await peer.expect(m.RejectRequest) == m.RejectRequest(*last)


async def test_a_piece_evicted_while_queued_is_rejected(autojump_clock: MockClock) -> None:
    async with rig(have=None) as r:
        peer = await r.connect(have=[])
        await peer.say(m.Interested())
        await peer.expect(m.Unchoke)
        r.store.damaged.add(3)
        await peer.say(m.Request(3, 0, BLOCK))
        assert await peer.expect(m.RejectRequest, piece=3)
        assert 3 not in r.store.have


async def test_our_requests_do_not_wait_for_the_upload_limit(autojump_clock: MockClock) -> None:
    async with rig(have=range(5), limits=Limits(upload=RateLimit(4 * KIB))) as r:
        peer = await r.connect(unchoke=True)
        await peer.say(m.Interested())
        await peer.expect(m.Unchoke)
        await peer.say(*[m.Request(piece, 0, BLOCK) for piece in range(5)])
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        r.reading(7 * PIECE, 10)
        await peer.expect(m.Request, piece=7)
        assert trio.current_time() - before < 1
        await peer.expect(m.Piece)
        assert trio.current_time() - before > 10


async def test_the_upload_limit_holds(autojump_clock: MockClock) -> None:
    async with rig(have=None, limits=Limits(upload=RateLimit(BLOCK))) as r:
        peer = await r.connect(have=[])
        await peer.say(m.Interested())
        await peer.expect(m.Unchoke)
        before = trio.current_time()
        await peer.say(*[m.Request(piece, 0, BLOCK) for piece in range(10)])
        for _ in range(10):
            await peer.expect(m.Piece)
        assert trio.current_time() - before == pytest.approx(9, abs=1.1)


async def test_nothing_more_is_read_from_a_peer_that_does_not_read(
    autojump_clock: MockClock,
) -> None:
    async with rig(upload=False) as r:
        peer = await r.connect(have=[], capacity=64 * KIB)
        flood = b"".join(peer.connection.send(m.Request(0, 0, BLOCK)) for _ in range(1000))
        sent = most = 0
        with contextlib.suppress(TransportError):
            while True:
                await peer.stream.send_all(flood)
                sent += len(flood)
                most = max([most, *(ours.sender._unsent for ours in r.torrent.peers())])
        assert most < 2 * sender_module.MAX_UNSENT
        assert sent < 4 * sender_module.MAX_UNSENT
        await trio.testing.wait_all_tasks_blocked()
        assert not r.torrent.peers()  # it was silent to us for so long


async def test_metadata_is_answered_as_it_is_read(autojump_clock: MockClock) -> None:
    async with rig(have=None) as r:
        peer = await r.connect(have=[], extensions=True)
        await peer.expect(m.ExtensionHandshake)
        asked = sender_module.MAX_QUESTIONS + 100
        await peer.say(*[m.MetadataRequest(0)] * asked)
        await trio.testing.wait_all_tasks_blocked()
        answers = [
            e for e in await peer.settle() if isinstance(e, m.MetadataData | m.MetadataReject)
        ]
        assert len(answers) == asked
        assert sum(isinstance(e, m.MetadataReject) for e in answers) == 100
        assert answers[-1] == m.MetadataData(0, len(r.sample.metainfo.info), r.sample.metainfo.info)
