"""Hole punching: who asks whom, who is told of whom, and what strangers cannot make us do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.kit import FakePeer, Rig, rig
from torrentfs.engine import dialling
from torrentfs.engine.dialling import Dialler
from torrentfs.engine.holepunch import AGAIN
from torrentfs.engine.privacy import ways
from torrentfs.errors import TransportError
from torrentfs.scheduling.ip_filter import parse_ip_filter
from torrentfs.transports.base import Address
from torrentfs.wire import messages as m
from torrentfs.wire.extension import OUR_EXTENSIONS
from torrentfs.wire.holepunch import (
    NO_SELF,
    NO_SUCH_PEER,
    NO_SUPPORT,
    NOT_CONNECTED,
    write_holepunch,
)
from torrentfs.wire.pex import HOLEPUNCH

AWAY = ("9.9.9.9", 6881)
"""A peer that cannot be dialled."""


class Net:
    """Nobody can be reached: TCP is refused, or never answered; uTP never."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.silent = False
        self.punched: list[Address] = []
        monkeypatch.setattr(dialling, "open_tcp", self.open_tcp)

    async def open_tcp(self, host: str, port: int, *, bind: str | None) -> Any:
        if self.silent:
            await trio.sleep(10)
        raise TransportError("connection refused")

    async def connect(self, address: Address) -> Any:
        self.punched.append(address)
        await trio.sleep(7)
        raise TransportError("timed out")


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    return Net(monkeypatch)


@asynccontextmanager
async def punching(net: Net | None = None, **settings: Any) -> AsyncIterator[Rig]:
    """A torrent in which peers are introduced and, with `net`, dialled."""
    async with rig(utp=True, tcp=net is not None, **settings) as r:
        if net is not None:
            r.swarm.dialler = Dialler(r.torrent.config, cast("Any", net), 6880)
        yield r


async def join(r: Rig, host: str = "8.8.8.8", *, kind: str = "utp", port: int = 0) -> FakePeer:
    """A peer that speaks BEP 55; `port` is where it says that it listens."""
    peer = await r.connect(extensions=True, kind=kind, host=host)
    await peer.settle()
    await peer.say(m.ExtensionHandshake(extensions=OUR_EXTENSIONS, port=port or None))
    await wait_all_tasks_blocked()
    return peer


def address_of(r: Rig, number: int) -> Address:
    """Where the peer of that number calls from."""
    return r.torrent.peers()[number].remote


async def said(peer: FakePeer) -> list[m.Message]:
    """What is of hole punching among what it was told since it was last asked."""
    kinds = (m.Rendezvous, m.Connect, m.RendezvousFailed)
    return [event for event in await peer.settle() if isinstance(event, kinds)]


# -- relay -------------------------------------------------------------------------------------


async def test_two_peers_are_introduced(autojump_clock: MockClock) -> None:
    async with punching() as r:
        one, two = await join(r), await join(r, "7.7.7.7")
        await one.say(m.Rendezvous(address_of(r, 1)))
        assert await said(one) == [m.Connect(address_of(r, 1))]
        assert await said(two) == [m.Connect(address_of(r, 0))]


async def test_of_who_is_connected_over_tcp_we_know_where_it_listens(
    autojump_clock: MockClock,
) -> None:
    async with punching() as r:
        one = await join(r, kind="tcp", port=5000)
        two = await join(r, "7.7.7.7", kind="tcp", port=7000)
        await one.say(m.Rendezvous(("7.7.7.7", 7000)))
        assert await said(one) == [m.Connect(("7.7.7.7", 7000))]
        assert await said(two) == [m.Connect(("8.8.8.8", 5000))]


async def test_where_utp_comes_from_is_what_counts(autojump_clock: MockClock) -> None:
    """It was told by where it listens; its NAT has made another port of that."""
    async with punching() as r:
        one, two = await join(r), await join(r, "7.7.7.7", port=7000)
        await one.say(m.Rendezvous(("7.7.7.7", 7000)))
        assert await said(one) == [m.Connect(address_of(r, 1))]
        assert await said(two) == [m.Connect(address_of(r, 0))]


async def test_why_not(autojump_clock: MockClock) -> None:
    async with punching() as r:
        one = await join(r)
        await r.connect(extensions=False, kind="utp", host="7.7.7.7")
        await join(r, "6.6.6.6", kind="webrtc")
        await join(r, "5.5.5.5", kind="tcp")
        r.swarm.book.on_ourselves(("4.4.4.4", 4))
        own, deaf, browser, unknown_port = (peer.remote for peer in r.torrent.peers())
        for address, code in [
            (("7.7.7.7", 0), NO_SUCH_PEER),
            (("224.0.0.1", 5), NO_SUCH_PEER),
            (("::ffff:707:707", 5), NO_SUCH_PEER),
            (own, NO_SELF),
            (("4.4.4.4", 4), NO_SELF),
            (AWAY, NOT_CONNECTED),
            (deaf, NO_SUPPORT),
            (browser, NOT_CONNECTED),
            (unknown_port, NOT_CONNECTED),
            (("2a00::1", 5), NOT_CONNECTED),
        ]:
            await one.say(m.Rendezvous(address))
            assert await said(one) == [m.RendezvousFailed(address, code)]


async def test_what_is_local_stays_local(autojump_clock: MockClock) -> None:
    async with punching() as r:
        public, local = await join(r), await join(r, "192.168.0.5")
        for asks, number in ((public, 1), (local, 0)):
            address = address_of(r, number)
            await asks.say(m.Rendezvous(address))
            assert await said(asks) == [m.RendezvousFailed(address, NOT_CONNECTED)]
        assert await said(public) == []
        neighbour = await join(r, "192.168.0.6")
        await local.say(m.Rendezvous(address_of(r, 2)))
        assert await said(neighbour) == [m.Connect(address_of(r, 1))]


async def test_who_asks_too_much_gets_no_answer(autojump_clock: MockClock) -> None:
    async with punching() as r:
        one, two, target = await join(r), await join(r, "7.7.7.7"), await join(r, "6.6.6.6")
        for asks in (one, two):
            await asks.say(*[m.Rendezvous(address_of(r, 2))] * 30)
        answers = [len(await said(peer)) for peer in (one, two, target)]
        assert answers == [20, 0, 20]  # whom all ask for is not flooded either
        await trio.sleep(10)
        await two.say(*[m.Rendezvous(AWAY)] * 30)
        assert len(await said(two)) == 10


@pytest.mark.parametrize("why", ["private", "no uTP", "no PEX", "WebRTC"])
async def test_where_it_is_off_it_is_not_offered_nor_answered(
    why: str, autojump_clock: MockClock
) -> None:
    async with rig(utp=why != "no uTP", pex=why != "no PEX") as r:
        r.torrent.ways = ways(r.torrent.config, why == "private")
        kind = "webrtc" if why == "WebRTC" else "utp"
        one, two = await join(r, kind=kind), await join(r, "7.7.7.7", kind=kind)
        theirs = one.connection.their_extension_handshake
        assert theirs is not None
        assert "ut_holepunch" not in theirs.extensions
        for message in (m.Rendezvous(address_of(r, 1)), m.Connect(AWAY)):
            forged = m.UnknownExtension(4, write_holepunch(message))
            await one.say(forged)
        assert await said(one) == await said(two) == []


async def test_who_does_not_say_that_it_speaks_it_is_not_answered(
    net: Net, autojump_clock: MockClock
) -> None:
    """BEP 55: silently. It may also think better of it (BEP 10)."""
    async with punching(net) as r:
        one, two = await join(r), await join(r, "7.7.7.7")
        await one.say(m.ExtensionHandshake(withdrawn=frozenset({"ut_holepunch"})))
        await one.say(m.Rendezvous(address_of(r, 1)), m.Rendezvous(AWAY), m.Connect(AWAY))
        assert await said(one) == await said(two) == []
        assert net.punched == []
        await two.say(m.Rendezvous(address_of(r, 0)))
        assert await said(two) == [m.RendezvousFailed(address_of(r, 0), NO_SUPPORT)]


# -- either end --------------------------------------------------------------------------------


async def test_who_is_brought_to_us_is_dialled(net: Net, autojump_clock: MockClock) -> None:
    async with punching(net) as r:
        relay = await join(r)
        await relay.say(m.Connect(AWAY))
        await wait_all_tasks_blocked()
        assert net.punched == [AWAY]
        await relay.say(m.Connect(AWAY))
        await wait_all_tasks_blocked()
        assert net.punched == [AWAY]  # under way
        await trio.sleep(8)
        await relay.say(m.Connect(AWAY))
        await wait_all_tasks_blocked()
        assert net.punched == [AWAY, AWAY]
        assert await said(relay) == []  # BEP 55: of what fails the relay hears nothing


async def test_whom_nobody_brings_us_to(net: Net, autojump_clock: MockClock) -> None:
    """Not where peer exchange could not lead us, and not to who is here."""
    async with punching(net, ip_filter=parse_ip_filter([b"9.9.9.0/24"])) as r:
        relay, other = await join(r), await join(r, "7.7.7.7", port=7000)
        wrong = [
            AWAY,
            ("192.168.0.5", 80),
            ("127.0.0.1", 80),
            ("6.6.6.6", 0),
            ("255.255.255.255", 5),
            address_of(r, 1),
            ("7.7.7.7", 7000),
        ]
        for address in wrong:
            await relay.say(m.Connect(address))
        await wait_all_tasks_blocked()
        assert net.punched == []
        assert await said(other) == []


async def test_a_relay_cannot_make_us_dial_many(net: Net, autojump_clock: MockClock) -> None:
    async with punching(net) as r:
        relay = await join(r)
        for second in range(60):
            await relay.say(*[m.Connect(("9.9.9.9", 100 * second + n + 1)) for n in range(30)])
            await trio.sleep(1)
        assert 8 <= len(net.punched) <= 20 + 60


# -- initiator ---------------------------------------------------------------------------------


async def named(r: Rig, *peers: FakePeer, flags: int = HOLEPUNCH) -> None:
    """Each of these peers tells us of the one that is away."""
    for peer in peers:
        await peer.say(m.PeerExchange({AWAY: flags}))
    await wait_all_tasks_blocked()


async def test_who_cannot_be_dialled_is_asked_for(net: Net, autojump_clock: MockClock) -> None:
    async with punching(net) as r:
        bystander, relay = await join(r), await join(r, "7.7.7.7")
        await named(r, relay)
        await trio.sleep(3)
        assert await said(relay) == [m.Rendezvous(AWAY)]
        assert net.punched == [AWAY]  # that was the dial
        await relay.say(m.Connect(AWAY))
        await wait_all_tasks_blocked()
        assert net.punched == [AWAY, AWAY]
        assert await said(bystander) == []


async def test_who_does_not_answer_is_asked_for_while_it_is_dialled(
    net: Net, autojump_clock: MockClock
) -> None:
    net.silent = True
    async with punching(net) as r:
        relay = await join(r)
        await named(r, relay)
        await trio.sleep(1.5)
        assert await said(relay) == []
        await trio.sleep(2)
        assert await said(relay) == [m.Rendezvous(AWAY)]
        await relay.say(m.Connect(AWAY))
        await wait_all_tasks_blocked()
        assert net.punched == [AWAY]  # it is dialled, which opens our NAT
        await trio.sleep(10)
        assert await said(relay) == []  # not again, for the same dial


async def test_if_one_cannot_the_next_is_asked(net: Net, autojump_clock: MockClock) -> None:
    async with punching(net) as r:
        one, two = await join(r), await join(r, "7.7.7.7")
        await named(r, one, two)
        await trio.sleep(3)
        assert await said(one) == [m.Rendezvous(AWAY)]
        assert await said(two) == []
        await one.say(m.RendezvousFailed(AWAY, NOT_CONNECTED))
        assert await said(two) == [m.Rendezvous(AWAY)]
        await two.say(m.RendezvousFailed(AWAY, NO_SUPPORT))
        await two.say(m.RendezvousFailed(AWAY, NO_SUPPORT))
        await one.say(m.RendezvousFailed(("1.1.1.1", 1), 77))
        assert await said(one) == await said(two) == []


@pytest.mark.parametrize("flags", [0, 0xFF & ~HOLEPUNCH])
async def test_who_does_not_speak_it_is_not_asked_for(
    net: Net, autojump_clock: MockClock, flags: int
) -> None:
    async with punching(net) as r:
        relay = await join(r)
        await named(r, relay, flags=flags)
        await trio.sleep(5)
        assert net.punched
        assert await said(relay) == []


async def test_each_failure_asks_again_but_not_too_often(
    net: Net, autojump_clock: MockClock
) -> None:
    async with punching(net) as r:
        relay = await join(r)
        await named(r, relay)
        await trio.sleep(3)
        assert len(await said(relay)) == 1
        for _ in range(30):  # as somebody who reads makes it
            r.swarm.book.shorten_rests(float("-inf"))
            await trio.sleep(1)
        assert len(await said(relay)) <= 1
        await trio.sleep(2 * AGAIN)
        assert len(await said(relay)) >= 1
        assert len(r.torrent.punching._asked) == 1


async def test_we_do_not_ask_for_ourselves(net: Net, autojump_clock: MockClock) -> None:
    async with punching(net) as r:
        relay = await join(r)
        r.swarm.book.set_own_address(AWAY)
        await named(r, relay)
        await trio.sleep(5)
        assert await said(relay) == []
