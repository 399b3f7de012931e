"""A swarm of 1,000 peers in virtual time: who comes and goes, who cannot be reached, who lies.

The engine's own torrent, swarm, peer book and tracker tiers; the hosts, the network between and the
tracker are played. 30 % of the hosts can never be reached, 5 % are hostile, the others stay some
minutes and are away as long. A reader wants a random place every two seconds, for some minutes.
"""

from __future__ import annotations

import contextlib
import gc
import tracemalloc
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
import trio
from trio.testing import MockClock

from tests.engine.kit import OUR_ID, PIECE, FakePeer, Rig, rig
from tests.streams import MemoryStream, memory_stream_pair
from torrentfs.discovery.trackers import Totals, TrackerTiers
from torrentfs.engine import dialling
from torrentfs.errors import TransportError
from torrentfs.scheduling.peerbook import MAX_ADDRESSES
from torrentfs.wire import messages as m
from torrentfs.wire.announce import AnnounceReply, AnnounceRequest

PEERS = 1000
MINUTES = 9
ROUND_TRIP = 0.05
TOLD = 200
"""Peers in an answer of the tracker."""
INTERVAL, MIN_INTERVAL = 900, 60


class Host:
    """One of the crowd."""

    def __init__(self, number: int, rng: Random) -> None:
        self.address = (f"93.{184 + number // 250}.{number % 250}.{rng.randrange(1, 255)}", 6881)
        self.peer_id = b"-XX0000-%012d" % number
        self.kind = "unreachable" if number < 300 else "hostile" if number < 350 else "good"
        self.manner = number % 4
        self.away_until = 0.0
        self.dials: list[float] = []
        self.lies = 0


class Crowd:
    """The network, as `open_tcp` sees it, and the tracker that knows all."""

    def __init__(self, r: Rig, rng: Random) -> None:
        self.r = r
        self.rng = rng
        self.hosts = [Host(number, rng) for number in range(PEERS)]
        self.by_address = {host.address: host for host in self.hosts}
        self.half_open = 0
        self.most = Counter[str]()
        self.announces: list[float] = []

    async def open_tcp(self, host: str, port: int, *, bind: str | None) -> MemoryStream:
        it = self.by_address[host, port]
        it.dials.append(trio.current_time())
        self.half_open += 1
        self.see()
        try:
            await trio.sleep(ROUND_TRIP)
            if it.kind == "unreachable":
                if it.manner % 2:
                    await trio.sleep(10)
                raise TransportError("connection refused")
            if trio.current_time() < it.away_until:
                raise TransportError("connection refused")
        finally:
            self.half_open -= 1
        ours, theirs = memory_stream_pair(other=it.address)
        peer = FakePeer(theirs, self.r.sample.metainfo, self.r.sample.space)
        self.r.nursery.start_soon(self.live, it, peer)
        return ours

    async def live(self, host: Host, peer: FakePeer) -> None:
        """The other end of a connection."""
        with contextlib.suppress(TransportError), trio.move_on_after(self.rng.expovariate(1 / 240)):
            await (self.harm if host.kind == "hostile" else self.help)(host, peer)
        peer.stream.abort()
        host.away_until = trio.current_time() + self.rng.expovariate(1 / 240)

    async def help(self, host: Host, peer: FakePeer) -> None:
        await peer.hello(peer_id=host.peer_id)
        await peer.meet()
        pieces = self.r.sample.metainfo.geometry.num_pieces
        await peer.have(self.rng.sample(range(pieces), self.rng.randrange(pieces // 4, pieces + 1)))
        await peer.serve(delay=self.rng.uniform(0.02, 0.2))

    async def harm(self, host: Host, peer: FakePeer) -> None:
        if host.manner == 0:
            await peer.stream.send_all(b"\x13BitTorrent protocol" + bytes(10_000))
            await trio.sleep_forever()
        await peer.hello(peer_id=host.peer_id)
        await peer.meet()
        if host.manner == 1:
            await peer.stream.send_all(b"\xff" * 100)
            await trio.sleep_forever()
        if host.manner == 2:
            while True:
                await peer.say(*[m.Have(0) for _ in range(100)])
                await trio.sleep(1)
        await peer.have()

        def lie(request: m.Request) -> bool:
            host.lies += 1
            return True

        await peer.serve(lie=lie)

    async def announce(
        self, url: str, request: AnnounceRequest, on_reply: Callable[[AnnounceReply], None]
    ) -> None:
        self.announces.append(trio.current_time())
        await trio.sleep(ROUND_TRIP)
        told = tuple(host.address for host in self.rng.sample(self.hosts, TOLD))
        on_reply(AnnounceReply(interval=INTERVAL, min_interval=MIN_INTERVAL, peers=told))

    def see(self) -> None:
        self.most["half open"] = max(self.most["half open"], self.half_open)
        self.most["connected"] = max(self.most["connected"], len(self.r.swarm.connected))


@pytest.mark.timeout(180)  # some 17 seconds of pure computation, on a machine that does more
async def test_a_thousand_peers(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(1)
    async with rig(64 * PIECE, tcp=True, capacity=4, read_timeout=60.0) as r:
        crowd = Crowd(r, rng)
        monkeypatch.setattr(dialling, "open_tcp", crowd.open_tcp)
        r.swarm.trackers = tiers = TrackerTiers(
            [["fake:one"]],
            r.sample.metainfo.hashes.wire,
            OUR_ID,
            6881,
            client=None,  # type: ignore[arg-type]
            totals=lambda: Totals(0, 0, 1),
            rng=rng,
            on_peers=r.swarm.on_tracker_peers,
            announcers={"fake": crowd},
        )
        tiers.says_stopped = False
        r.nursery.start_soon(tiers.run)
        tracemalloc.start()
        try:
            memory = []
            for minute in range(MINUTES):
                for _ in range(30):
                    place = rng.randrange(64) * PIECE
                    assert await r.read(place, 100) == r.sample.space[place : place + 100]
                    await trio.sleep(2)
                    crowd.see()
                if minute in (MINUTES // 3, MINUTES - 1):
                    gc.collect()
                    memory.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
        for _ in range(3000):  # by chance none of those that lie was asked for anything yet
            if any(host.lies for host in crowd.hosts):
                break
            await r.read(rng.randrange(64) * PIECE, 100)
            await trio.sleep(2)
        config, now = r.torrent.config, trio.current_time()
        assert crowd.most["connected"] <= config.max_peers
        assert crowd.most["half open"] <= config.max_half_open
        assert crowd.most["connected"] >= config.max_peers // 2  # and the places are used
        assert memory[1] - memory[0] < 2 << 20
        assert len(r.swarm.book._peers) <= MAX_ADDRESSES
        assert len(crowd.announces) <= (now - crowd.announces[0]) / MIN_INTERVAL + 1
        assert any(host.lies for host in crowd.hosts)
        for host in crowd.hosts:
            gaps = [b - a for a, b in zip(host.dials, host.dials[1:], strict=False)]
            assert all(gap >= 5 for gap in gaps)
            if host.kind == "unreachable":
                assert len(host.dials) <= 7  # 15 s, doubled with each failure
            if host.lies:
                assert any(address[0] == host.address[0] for address in r.swarm.book.banned)
