"""Peer exchange in a torrent: who is told of whom, what is believed, and silence if private."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.engine.kit import FakePeer, rig
from torrentfs.engine.exchange import extensions
from torrentfs.engine.privacy import ways
from torrentfs.wire import messages as m
from torrentfs.wire.extension import OUR_EXTENSIONS
from torrentfs.wire.pex import HOLEPUNCH, REACHABLE, SEED, UTP, write_pex


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("punching", [True, False])
def test_the_extension_is_not_even_offered(exchange: bool, punching: bool) -> None:
    offered = extensions(exchange=exchange, punching=punching)
    assert ("ut_pex" in offered) is exchange
    assert ("ut_holepunch" in offered) is punching
    silent = {"ut_pex", "ut_holepunch"} - set(offered)
    assert set(offered) == set(OUR_EXTENSIONS) - silent


LISTENS = m.ExtensionHandshake(extensions=OUR_EXTENSIONS, port=7000)


async def told(peer: FakePeer) -> list[m.PeerExchange]:
    """What a peer was told since it was last asked."""
    return [event for event in await peer.settle() if isinstance(event, m.PeerExchange)]


async def test_peers_are_told_of_each_other(autojump_clock: MockClock) -> None:
    async with rig() as r:
        first = await r.connect(extensions=True)
        second = await r.connect(extensions=True, host="10.0.0.9")
        await second.say(LISTENS)
        for peer in r.torrent.peers():
            peer.kind = "tcp"
        await trio.sleep(1.5)
        (message,) = await told(first)
        assert message == m.PeerExchange({("10.0.0.9", 7000): SEED}, ())
        assert await told(second) == []  # the first did not say where it listens
        second.stream.abort()
        await trio.sleep(61)
        (message,) = await told(first)
        assert message == m.PeerExchange({}, (("10.0.0.9", 7000),))


async def test_who_was_dialled_is_told_as_reachable_and_webrtc_is_not(
    autojump_clock: MockClock,
) -> None:
    async with rig() as r:
        first = await r.connect(extensions=True)
        await r.connect(extensions=True, have=[0], host="10.0.0.7")
        await (await r.connect(extensions=True, host="10.0.0.8")).say(LISTENS)
        _, dialled, rtc = r.torrent.peers()
        dialled.kind, dialled.outgoing = "utp", True
        rtc.kind = "webrtc"
        await trio.sleep(1.5)
        (message,) = await told(first)
        assert message.added == {dialled.remote: REACHABLE | UTP}


async def test_who_speaks_bep_55_is_told_so(autojump_clock: MockClock) -> None:
    async with rig(utp=True) as r:
        first = await r.connect(extensions=True)
        await r.connect(extensions=True, kind="utp", host="10.0.0.7")
        await (await r.connect(extensions=True, kind="tcp", have=[0], host="10.0.0.8")).say(LISTENS)
        _, over_utp, _ = r.torrent.peers()
        over_utp.outgoing = True
        await trio.sleep(1.5)
        (message,) = await told(first)
        assert message.added == {
            over_utp.remote: REACHABLE | SEED | UTP | HOLEPUNCH,
            ("10.0.0.8", 7000): UTP | HOLEPUNCH,
        }


async def test_what_is_heard_is_noted_but_not_everything(autojump_clock: MockClock) -> None:
    async with rig() as r:
        peer = await r.connect(extensions=True)
        await peer.settle()
        good = ("10.1.2.3", 4)
        await peer.say(m.PeerExchange({good: 0, ("127.0.0.1", 80): 0, ("224.0.0.1", 5): 0}))
        await trio.sleep(1)
        assert r.swarm.book.addresses() == [good]
        await peer.say(m.PeerExchange({("10.1.2.4", 4): 0}))  # too soon
        await trio.sleep(1)
        assert r.swarm.book.addresses() == [good]
        stranger = await r.connect(extensions=True, host="8.8.8.8")
        await stranger.settle()
        await stranger.say(m.PeerExchange({("10.6.6.6", 22): 0, ("9.9.9.9", 9): 0}))
        await trio.sleep(1)
        assert set(r.swarm.book.addresses()) == {good, ("9.9.9.9", 9)}


@pytest.mark.parametrize("private", [True, False])
async def test_a_private_torrent_says_and_hears_nothing(
    autojump_clock: MockClock, private: bool
) -> None:
    async with rig(pex=private) as r:  # switched off by the user, it is the same
        r.torrent.ways = ways(r.torrent.config, private)
        peers = [await r.connect(extensions=True) for _ in range(3)]
        for peer in peers:
            await peer.say(LISTENS)
            await peer.settle()
            forged = write_pex(m.PeerExchange({("10.1.2.3", 4): 0}))
            await peer.say(m.UnknownExtension(OUR_EXTENSIONS["ut_pex"], forged))
        for one in r.torrent.peers():
            one.kind = "tcp"
        await trio.sleep(130)
        for peer in peers:
            events = await peer.settle()
            assert not any(isinstance(event, m.PeerExchange) for event in events)
            theirs = peer.connection.their_extension_handshake
            assert theirs is not None
            assert "ut_pex" not in theirs.extensions
        assert r.swarm.book.addresses() == []
