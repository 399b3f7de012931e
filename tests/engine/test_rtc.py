"""WebRTC peers in a swarm: offers and answers, places, duplicates, bans; memory for a bridge."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.discovery.websockets import FakeTracker
from tests.engine.kit import OUR_ID, PIECE, FakePeer, Rig, rig
from tests.streams import MemoryStream, memory_stream_pair
from torrentfs.discovery.trackers import Totals
from torrentfs.discovery.websocket import open_websocket_trackers
from torrentfs.engine.rtc import MAX_OPENING, Rtc, RtcPeers
from torrentfs.errors import DataUnavailable, TransportError
from torrentfs.scheduling.ip_filter import parse_ip_filter
from torrentfs.scheduling.offers import FEWEST, MOST
from torrentfs.scheduling.turns import PLACES
from torrentfs.transports.webrtc.bridge import Offer as MadeOffer
from torrentfs.transports.webrtc.bridge import OnLost
from torrentfs.transports.webrtc.sdp import Candidate, Description, parse, render
from torrentfs.wire import messages as m
from torrentfs.wire.announce import AnnounceReply
from torrentfs.wire.ws_tracker import Announce, Offer, PeerAnswer, PeerOffer

URL = "wss://tracker.example"
BROWSER = b"-WW0303-a browser id"
PLACE = ("198.51.100.7", 50_007)


class FakeAnswer:
    """Our answer to a peer; its stream is there at once."""

    def __init__(self, bridge: FakeBridge) -> None:
        self.connection = 0
        self.sdp = "our answer"
        self._bridge = bridge

    async def stream(self) -> MemoryStream:
        return await self._bridge.open()


class FakeBridge:
    """Channels are memory streams; the other ends arrive in `arrived`."""

    def __init__(self) -> None:
        self.living: set[int] = set()
        self.opened: list[tuple[int, str]] = []
        self.answered: list[str] = []
        self.failures = 0
        """So many requests fail from now on."""
        self.ports = count(PLACE[1])
        self.gate: trio.Event | None = None
        """While set, no channel opens."""
        self.made = 0
        self.limit = 1000
        """Offers at a time; more fail, as with a `WebRtc`."""
        self.on_lost: OnLost = lambda connections, pause: None
        self._arrived, self.arrived = trio.open_memory_channel[MemoryStream](100)

    def _check(self) -> None:
        if self.failures:
            self.failures -= 1
            raise TransportError("WebRTC: the worker is gone")

    async def offer(self) -> MadeOffer:
        await trio.sleep(0.1)
        self._check()
        if len(self.living) >= self.limit:
            raise TransportError("WebRTC: too many offers wait for an answer")
        self.made += 1
        self.living.add(self.made)
        return MadeOffer(self.made, f"offer {self.made}")

    async def accept(self, connection: int, answer_sdp: str) -> MemoryStream:
        self.living.discard(connection)
        self.opened.append((connection, answer_sdp))
        return await self.open()

    async def answer(self, offer_sdp: str) -> FakeAnswer:
        await trio.sleep(0.1)
        self._check()
        self.answered.append(offer_sdp)
        return FakeAnswer(self)

    async def open(self) -> MemoryStream:
        if self.gate is not None:
            await self.gate.wait()
        await trio.sleep(0.1)
        self._check()
        mine, theirs = memory_stream_pair(other=(PLACE[0], next(self.ports)))
        mine.kind = "webrtc"  # type: ignore[misc]
        self._arrived.send_nowait(theirs)
        return mine

    def forget(self, connection: int) -> None:
        self.living.discard(connection)

    def die(self, pause: float = 0.5) -> None:
        """The worker of all connections dies."""
        lost = sorted(self.living)
        self.living.clear()
        self.on_lost(lost, pause)


class Page:
    """RtcPeers of a rig, and the browser at the other end."""

    def __init__(self, r: Rig, bridge: FakeBridge | None = None) -> None:
        self.rig = r
        self.bridge = bridge or FakeBridge()
        self.info_hash = r.sample.metainfo.hashes.wire[0]
        swarms = {self.info_hash: r.swarm}
        bridge_to = cast("Any", self.bridge)
        self.rtc = Rtc(bridge_to, cast("Any", None), r.nursery, Random(1), swarms, 100)
        self.peers = RtcPeers(self.rtc, r.swarm)

    def offers(
        self,
        peer_id: bytes = BROWSER,
        info_hash: bytes = b"",
        url: str = URL,
        sdp: str = "their offer",
    ) -> tuple[bool, list[str]]:
        """The page makes us an offer: whether we take it, and our replies to come."""
        replies: list[str] = []
        offer = PeerOffer(info_hash or self.info_hash, peer_id, bytes(20), sdp)
        return self.peers.on_offer(url, offer, replies.append), replies

    def answers(self, offer_id: bytes, peer_id: bytes = BROWSER, sdp: str = "their answer") -> None:
        """The page takes an offer of ours."""
        answer = PeerAnswer(self.info_hash, peer_id, offer_id, sdp)
        self.peers.on_answer(URL, answer)

    async def peer(self) -> FakePeer:
        """The page's end of the next channel."""
        stream = await self.bridge.arrived.receive()
        return FakePeer(stream, self.rig.sample.metainfo, self.rig.sample.space)

    async def seeds(self, peer: FakePeer, peer_id: bytes = BROWSER, **serving: Any) -> None:
        """It says hello and serves everything."""
        await peer.hello(peer_id=peer_id)
        await peer.meet()
        await peer.have()

        async def serve() -> None:
            await peer.serve(**serving)

        self.rig.nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    return autojump_clock


async def test_an_offer_is_answered_and_read_from(clock: MockClock) -> None:
    async with rig() as r:
        page = Page(r)
        taken, replies = page.offers()
        peer = await page.peer()
        assert taken
        assert replies == ["our answer"]
        await page.seeds(peer)
        assert await r.read(0, PIECE) == r.sample.space[:PIECE]
        (ours,) = r.torrent.peers()
        assert (ours.kind, ours.address) == ("webrtc", PLACE)
        assert r.torrent.bytes_by_kind() == {"webrtc": PIECE}
        assert not r.swarm.book.addresses()
        peer.stream.abort()
        await trio.testing.wait_all_tasks_blocked()
        assert not r.swarm.book.addresses()
        assert r.torrent.bytes_by_kind() == {"webrtc": PIECE}


async def test_our_offer_is_answered_and_we_say_hello_first(clock: MockClock) -> None:
    async with rig() as r:
        page = Page(r)
        offers = await page.peers.make_offers(3)
        assert trio.current_time() == pytest.approx(0.1)  # all at the same time
        assert sorted(offer.sdp for offer in offers) == ["offer 1", "offer 2", "offer 3"]
        assert len({offer.offer_id for offer in offers}) == 3
        page.answers(offers[1].offer_id)
        page.answers(offers[1].offer_id)  # once is enough
        page.answers(bytes(20))
        peer = await page.peer()
        await peer.meet()  # before it has said anything
        assert peer.connection.theirs is not None
        assert peer.connection.theirs.peer_id == OUR_ID
        await page.seeds(peer)
        assert await r.read(0, 10) == r.sample.space[:10]
        assert len(page.bridge.opened) == 1
        page.peers.forget_offers([offer.offer_id for offer in offers])
        assert not page.bridge.living


async def test_a_channel_to_a_peer_of_another_torrent(clock: MockClock) -> None:
    async with rig() as r:
        page = Page(r)
        page.offers()
        peer = await page.peer()
        await peer.hello(peer_id=BROWSER, info_hash=b"x" * 20)
        await peer.closed()
        assert not r.torrent.peers()
        assert "another torrent" in (r.swarm.last_failure or "")


async def test_who_is_connected_already_gets_no_second_channel(clock: MockClock) -> None:
    async with rig() as r:
        page = Page(r)
        offers = await page.peers.make_offers(2)
        page.offers()
        await page.seeds(await page.peer())
        assert page.offers() == (False, [])
        page.answers(offers[0].offer_id)
        await trio.testing.wait_all_tasks_blocked()
        assert len(r.torrent.peers()) == 1
        assert page.bridge.opened == []
        assert len(page.bridge.living) == 1  # the one that was answered is forgotten


async def test_two_channels_that_cross_leave_one(clock: MockClock) -> None:
    """Both sides made an offer at the same time: the greater peer id's stays, as for TCP."""
    async with rig() as r:
        page = Page(r)
        (offer,) = await page.peers.make_offers(1)
        page.offers()
        page.answers(offer.offer_id)
        first, second = await page.peer(), await page.peer()
        await first.hello(peer_id=BROWSER)
        await second.hello(peer_id=BROWSER)
        await trio.testing.wait_all_tasks_blocked()
        (ours,) = r.torrent.peers()
        assert r.swarm.connected == {ours.address: ours._stream}


async def test_ourselves(clock: MockClock) -> None:
    async with rig() as r:
        page = Page(r)
        assert page.offers(OUR_ID) == (False, [])
        page.offers()
        peer = await page.peer()
        await peer.hello(peer_id=OUR_ID)  # and the tracker did not say so
        await peer.closed()
        assert not r.torrent.peers()


async def test_no_place_no_offer_and_no_answer(clock: MockClock) -> None:
    async with rig(max_peers=2) as r:
        page = Page(r)
        offers = await page.peers.make_offers(5)
        assert len(offers) == 2
        assert len(await page.peers.make_offers(5)) == 0  # those that live take the places
        page.offers(b"-WW0303-the first---")
        page.offers(b"-WW0303-the second--")
        assert page.offers(b"-WW0303-the third---") == (False, [])
        page.answers(offers[0].offer_id)
        await trio.testing.wait_all_tasks_blocked()
        assert page.bridge.opened == []
        for peer_id in (b"-WW0303-the first---", b"-WW0303-the second--"):
            await page.seeds(await page.peer(), peer_id)
        assert len(r.torrent.peers()) == 2
        assert page.offers(b"-WW0303-the third---") == (False, [])


async def test_not_too_many_are_on_their_way(clock: MockClock) -> None:
    async with rig(max_half_open=3) as r:
        page = Page(r)
        page.bridge.gate = trio.Event()
        taken = [page.offers(b"-WW0303-%012d" % number)[0] for number in range(10)]
        assert taken == [True] * 3 + [False] * 7
        page.bridge.gate.set()
        for number in range(3):
            await page.seeds(await page.peer(), b"-WW0303-%012d" % number)
        assert r.swarm.free_places == 3


async def test_a_tracker_that_makes_up_peers_leaves_places_to_others(clock: MockClock) -> None:
    async with rig() as r:
        page = Page(r)
        page.bridge.gate = trio.Event()
        taken = [page.offers(b"-WW0303-%012d" % number)[0] for number in range(10)]
        assert taken == [True] * MAX_OPENING + [False] * 2
        assert page.offers(url="wss://another.example")[0]


async def test_a_channel_that_does_not_open_gives_its_place_back(clock: MockClock) -> None:
    async with rig() as r:
        page = Page(r)
        (offer,) = await page.peers.make_offers(1)
        page.bridge.failures = 2
        page.answers(offer.offer_id)
        page.offers()
        assert repr(page.peers) == "<RtcPeers 0 offers, 2 opening>"
        await trio.sleep(1)
        assert repr(page.peers) == "<RtcPeers 0 offers, 0 opening>"
        assert r.swarm.last_failure == "WebRTC: the worker is gone"


async def test_a_peer_that_says_nothing_gives_its_place_back(clock: MockClock) -> None:
    async with rig() as r:
        page = Page(r)
        page.offers()
        peer = await page.peer()
        await peer.closed()
        assert 9 < trio.current_time() < 12
        assert r.swarm.free_places == 16


async def test_an_offer_is_tried_once_more_after_the_worker_died(clock: MockClock) -> None:
    async with rig() as r:
        page = Page(r)
        page.bridge.failures = 3
        assert len(await page.peers.make_offers(2)) == 1
        page.bridge.failures = 10
        assert len(await page.peers.make_offers(2)) == 0
        assert r.swarm.last_failure == "WebRTC: the worker is gone"


async def test_offers_that_end_while_others_are_made_are_not_sent(clock: MockClock) -> None:
    """A peer that took one would wait in vain, and nobody else be offered that place."""
    async with rig() as r, trio.open_nursery() as nursery:
        page = Page(r)
        page.bridge.failures = 1
        offers: list[Offer] = []

        async def make() -> None:
            offers.extend(await page.peers.make_offers(3))

        nursery.start_soon(make)
        await trio.sleep(0.2)  # two are made, the third is tried once more
        page.bridge.die()
        await trio.sleep(2)
        assert [offer.sdp for offer in offers] == ["offer 3"]
        assert page.bridge.living == {3}
        assert page.rtc.shares.used == 1


async def test_offers_given_up_while_they_are_made(clock: MockClock) -> None:
    async with rig() as r:
        page = Page(r)
        page.bridge.failures = 1
        with trio.move_on_after(0.5):
            await page.peers.make_offers(3)
        assert page.bridge.made == 2
        assert not page.bridge.living


async def test_a_liar_is_banned_by_its_id_and_its_neighbours_are_not(clock: MockClock) -> None:
    """Its address may be that of a relay, and has another port each time."""
    async with rig() as r:
        page = Page(r)
        page.offers()
        await page.seeds(await page.peer(), lie=lambda request: True)
        with pytest.raises(DataUnavailable, match="sent wrong bytes"):
            await r.read(0, 10)
        assert not r.torrent.peers()
        page.offers()
        again = await page.peer()
        await again.hello(peer_id=BROWSER)
        await again.closed()
        assert not r.torrent.peers()
        page.offers(b"-WW0303-a neighbour-")
        await page.seeds(await page.peer(), b"-WW0303-a neighbour-")
        assert await r.read(0, 10) == r.sample.space[:10]


FILTER = parse_ip_filter([b"198.51.100.0 - 198.51.100.255"])


async def test_no_word_to_a_filtered_address(clock: MockClock) -> None:
    async with rig(ip_filter=FILTER) as r:
        page = Page(r)
        (offer,) = await page.peers.make_offers(1)
        page.answers(offer.offer_id)
        peer = await page.peer()
        with pytest.raises(TransportError):
            await peer.meet()  # we, who made the offer, would say hello first
        assert not r.torrent.peers()
        assert r.swarm.last_failure == "over WebRTC: is banned"


def description(*hosts: str) -> str:
    places = tuple(Candidate("1", 1, host, 4000, "host") for host in hosts)
    prints = (("sha-256", ":".join(["00"] * 32)),)
    return render(Description("abcd", "x" * 22, prints, "active", places))


async def test_filtered_addresses_never_reach_the_worker(clock: MockClock) -> None:
    async with rig(ip_filter=FILTER) as r:
        page = Page(r)
        both = description("198.51.100.9", "203.0.113.9")
        bad = description("198.51.100.9", "198.51.100.10")
        offers = await page.peers.make_offers(2)
        page.answers(offers[0].offer_id, sdp=both)
        page.answers(offers[1].offer_id, sdp=bad)
        await trio.testing.wait_all_tasks_blocked()
        ((_, seen),) = page.bridge.opened
        assert [each.host for each in parse(seen).candidates] == ["203.0.113.9"]
        assert not page.bridge.living  # the other one is forgotten
        assert page.offers(sdp=bad) == (False, [])
        assert page.offers(sdp=both)[0]
        await trio.sleep(1)
        (seen,) = page.bridge.answered
        assert [each.host for each in parse(seen).candidates] == ["203.0.113.9"]


async def test_a_channel_that_opens_late_is_for_the_torrent_that_follows(
    clock: MockClock,
) -> None:
    """A metadata search is over while channels are opened: the peers would not be told."""
    async with trio.open_nursery() as nursery, rig() as r:
        page = Page(r)
        page.rtc.nursery = nursery
        page.rtc.swarms = swarms = {}
        page.offers()
        peer = await page.peer()
        await trio.sleep(1)
        swarms[page.info_hash] = r.swarm
        await page.seeds(peer)
        assert await r.read(0, 10) == r.sample.space[:10]


async def test_a_channel_that_nobody_wants_any_more(clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with rig() as r:
            page = Page(r)
            page.rtc.nursery = nursery
            page.bridge.gate = trio.Event()
            page.offers()
            page.offers(b"-WW0303-another-----")
            await trio.sleep(1)
            r.nursery.cancel_scope.cancel()
        page.bridge.gate.set()
        for _ in range(2):
            await (await page.peer()).closed()


async def test_who_has_nothing_says_interested_to_a_channel_too(clock: MockClock) -> None:
    """The same code as for TCP: greeting, interest, requests."""
    async with rig(have=None) as r:
        page = Page(r)
        page.offers()
        peer = await page.peer()
        await peer.hello(peer_id=BROWSER)
        await peer.meet()
        await peer.say(m.Interested())
        await peer.expect(m.Unchoke)
        await peer.say(m.Request(1, 0, 16384))
        block = await peer.expect(m.Piece)
        assert block.data == r.sample.space[PIECE : PIECE + 16384]


TRACKERS = [["wss://a.example/", "wss://b.example/"], ["wss://c.example/"]]


class Crowd:
    """Torrents of one session at three trackers, which count three others each."""

    def __init__(self, limit: int = 100) -> None:
        self.bridge = FakeBridge()
        self.bridge.limit = limit
        others = AnnounceReply(interval=60, seeders=1, leechers=3)
        self.tracker = FakeTracker(reply=others)
        self.awaited: set[int] = set()
        self._rng = Random(1)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Crowd]:
        async with (
            open_websocket_trackers(None, rng=self._rng, connect=self.tracker.connect) as sockets,
            trio.open_nursery() as self.nursery,
        ):
            bridge = cast("Any", self.bridge)
            limit = self.bridge.limit
            self.rtc = Rtc(bridge, sockets, self.nursery, self._rng, {}, limit)
            yield self
            self.nursery.cancel_scope.cancel()
        assert not self.bridge.living
        assert self.rtc.shares.used == 0

    def add(self, number: int, hashes: tuple[bytes, ...] = ()) -> trio.CancelScope:
        """A torrent wakes; its scope puts it to sleep."""
        swarm: Any = SimpleNamespace(
            hashes=SimpleNamespace(wire=hashes or (b"%020d" % number,)),
            peer_id=OUR_ID,
            free_places=50,
            is_awaited=lambda: number in self.awaited,
        )
        announcer = self.rtc.announcer(TRACKERS, swarm, lambda: Totals(0, 0, 1))
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await announcer.run()

        self.nursery.start_soon(run)
        return scope

    def offers(self, since: float = 0.0) -> Counter[int]:
        """Offers sent so far, by torrent."""
        found: Counter[int] = Counter()
        for at, _, request in self.tracker.seen:
            if isinstance(request, Announce) and at >= since and request.request.event != "stopped":
                found[int(request.request.info_hash)] += len(request.offers)
        return found


@pytest.mark.parametrize("awaited", [False, True])
async def test_every_torrent_that_is_awake_has_offers(clock: MockClock, awaited: bool) -> None:
    """Each has three trackers, and as many are awake as may be."""
    async with Crowd().running() as crowd:
        for number in range(PLACES):
            if awaited:
                crowd.awaited.add(number)
            crowd.add(number)
            await trio.sleep(0.02)
        await trio.sleep(2)
        offers = crowd.offers()
        assert min(offers[number] for number in range(PLACES)) >= FEWEST
        assert max(offers.values()) <= MOST


async def test_a_read_takes_the_offers_of_who_rests(clock: MockClock) -> None:
    async with Crowd(limit=10).running() as crowd:
        for number in range(5):
            crowd.add(number)
        await trio.sleep(10)
        crowd.awaited.add(5)
        crowd.add(5)
        await trio.sleep(1)
        assert crowd.offers()[5] == FEWEST
        assert len(crowd.bridge.living) == 10


async def test_who_got_none_announces_again_when_there_are_some(clock: MockClock) -> None:
    """It does not wait for its next turn, a minute later."""
    async with Crowd(limit=2).running() as crowd:
        first = crowd.add(1)
        await trio.sleep(1)
        crowd.add(2)
        await trio.sleep(20)
        assert crowd.offers() == {1: 2, 2: 0}
        first.cancel()
        await trio.sleep(1)
        assert crowd.offers() == {1: 2, 2: 2}


async def test_offers_of_a_worker_that_died_are_made_again_at_once(clock: MockClock) -> None:
    """As early as trackers allow, not when the old ones would have been over."""
    async with Crowd().running() as crowd:
        crowd.add(1)
        await trio.sleep(20)
        before = crowd.offers()[1]
        crowd.bridge.die()
        assert crowd.rtc.shares.used == 0
        await trio.sleep(0.4)
        assert crowd.offers()[1] == before  # no other worker can be started yet
        await trio.sleep(0.6)
        assert crowd.offers()[1] - before == before == 9


async def test_the_second_form_of_a_hybrid_needs_few(clock: MockClock) -> None:
    one, two = b"%020d" % 1, b"%020d" % 2
    async with Crowd().running() as crowd:
        crowd.add(1, (one, two))
        await trio.sleep(1)
        assert crowd.offers() == {1: 9, 2: 0}
        await trio.sleep(60)
        assert crowd.offers()[2] == 3  # somebody is there, under that name alone perhaps
