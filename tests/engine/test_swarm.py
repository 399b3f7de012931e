"""Who is talked to: places, duplicates, ourselves, and what the peer book learns of an end."""

from __future__ import annotations

import contextlib
from random import Random
from typing import Any, cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.discovery.test_trackers import FakeTrackers
from tests.engine.kit import OUR_ID, FakePeer, Rig, rig
from tests.streams import MemoryStream, memory_stream_pair
from torrentfs.discovery.trackers import Totals, TrackerTiers
from torrentfs.engine import dialling
from torrentfs.engine.dialling import Dialler
from torrentfs.engine.swarm import MAX_PUNCHES, Ended, Places
from torrentfs.errors import TransportError
from torrentfs.scheduling.ip_filter import parse_ip_filter
from torrentfs.wire import messages as m
from torrentfs.wire.announce import AnnounceReply


class Net:
    """Answers dials with the ends of memory streams."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dialled: list[tuple[tuple[str, int], float]] = []
        self.refuse: set[tuple[str, int]] = set()
        self.remote: dict[tuple[str, int], tuple[str, int]] = {}
        self._arrived, self._arrivals = trio.open_memory_channel[MemoryStream](100)
        monkeypatch.setattr(dialling, "open_tcp", self.open_tcp)

    async def open_tcp(self, host: str, port: int, *, bind: str | None) -> MemoryStream:
        await trio.lowlevel.checkpoint()
        self.dialled.append(((host, port), trio.current_time()))
        if (host, port) in self.refuse:
            raise TransportError("connection refused")
        ours, theirs = memory_stream_pair(other=self.remote.get((host, port), (host, port)))
        self._arrived.send_nowait(theirs)
        return ours

    async def accept(
        self, r: Rig, peer_id: bytes = b"-XX0000-dialled-----", *, unchoke: bool = True
    ) -> FakePeer:
        peer = FakePeer(await self._arrivals.receive(), r.sample.metainfo, r.sample.space)
        await peer.hello(peer_id=peer_id)
        with contextlib.suppress(TransportError):  # it may not want us
            await peer.have()
            if unchoke:
                await peer.say(m.Unchoke())
        await trio.testing.wait_all_tasks_blocked()
        return peer


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    return Net(monkeypatch)


HOST = ("198.51.100.1", 6881)


async def test_a_known_peer_is_dialled_and_read_from(net: Net, autojump_clock: MockClock) -> None:
    async with rig(tcp=True) as r:
        r.swarm.add_peers([HOST], "user")
        peer = await net.accept(r)
        r.nursery.start_soon(peer.serve)
        assert await r.read(0, 10) == r.sample.space[:10]


async def test_a_peer_given_by_name_is_as_good(net: Net, autojump_clock: MockClock) -> None:
    async with rig(tcp=True, have=[0]) as r:
        net.remote["seedbox.example", 6881] = HOST
        r.swarm.add_peers([("seedbox.example", 6881)], "user")
        peer = await net.accept(r)
        await peer.expect(m.Interested)
        (ours,) = r.torrent.peers()
        assert ours.remote == HOST
        assert ours.address == ("seedbox.example", 6881)


async def test_a_peer_that_was_useful_is_dialled_again_soon(
    net: Net, autojump_clock: MockClock
) -> None:
    async with rig(tcp=True) as r:
        r.swarm.add_peers([HOST], "tracker")
        peer = await net.accept(r)
        reading = r.reading(0, 10)
        for _ in range(2):
            await peer.say(peer.block(await peer.expect(m.Request)))
        await reading.wait()
        left = trio.current_time()
        peer.stream.abort()
        await net.accept(r)
        assert net.dialled[1][1] - left == pytest.approx(5, abs=1)


async def test_a_peer_that_gave_nothing_rests(net: Net, autojump_clock: MockClock) -> None:
    async with rig(tcp=True) as r:
        net.refuse.add(HOST)
        r.swarm.add_peers([HOST], "tracker")
        await trio.sleep(100)
        times = [when for _, when in net.dialled]
        assert times == pytest.approx([times[0], times[0] + 15, times[0] + 45], abs=1)
        assert r.swarm.last_failure == "198.51.100.1:6881 connection refused"


async def test_an_address_that_called_us_is_not_dialled_too(
    net: Net, autojump_clock: MockClock
) -> None:
    async with rig(tcp=True) as r:
        await r.connect(host=HOST[0])
        (address,) = r.swarm.connected
        r.swarm.add_peers([address], "tracker")
        await trio.sleep(1)  # the loop that dials must not spin
        assert len(r.swarm.connected) == 1
        assert len(net.dialled) <= 1


async def test_we_do_not_talk_to_ourselves_but_to_our_neighbours(
    net: Net, autojump_clock: MockClock
) -> None:
    async with rig(tcp=True) as r:
        r.swarm.add_peers([HOST], "tracker")
        peer = await net.accept(r, OUR_ID)
        await peer.closed()
        assert not r.torrent.peers()
        r.swarm.add_peers([HOST], "tracker")
        await trio.sleep(100)
        assert len(net.dialled) == 1
        r.swarm.add_peers([(HOST[0], 7000)], "tracker")
        await net.accept(r)
        assert len(r.torrent.peers()) == 1


async def test_a_second_connection_of_a_peer_is_refused(autojump_clock: MockClock) -> None:
    async with rig() as r:
        first = await r.connect(peer_id=b"-XX0000-same-same---")
        second = await r.connect(peer_id=b"-XX0000-same-same---", have=False)
        await second.closed()
        assert len(r.torrent.peers()) == 1
        await first.say(m.Have(1))


@pytest.mark.parametrize("greater", [True, False])
async def test_when_both_dial_the_greater_id_keeps_its_own(
    greater: bool, net: Net, autojump_clock: MockClock
) -> None:
    theirs = b"-AA" + b"0" * 17 if greater else b"-ZZ" + b"0" * 17
    async with rig(tcp=True) as r:
        await r.connect(peer_id=theirs)
        r.swarm.add_peers([HOST], "user")
        await net.accept(r, theirs)
        (kept,) = r.torrent.peers()
        assert (kept.remote == HOST) == greater


async def test_one_that_was_replaced_may_end_after_the_one_that_replaced_it(
    net: Net, autojump_clock: MockClock
) -> None:
    theirs = b"-ZZ" + b"0" * 17
    ends = [trio.Event(), trio.Event()]
    waiting = iter(ends)

    async def talk(*_: object, **__: object) -> Ended:
        await next(waiting).wait()
        return Ended("", False)

    async with rig(tcp=True) as r:
        r.swarm.talk = talk
        r.swarm.add_peers([HOST], "user")
        await net.accept(r, theirs)
        await r.connect(peer_id=theirs, have=False)
        await trio.testing.wait_all_tasks_blocked()
        assert r.swarm._places.taken == 2
        for end in reversed(ends):
            end.set()
            await trio.testing.wait_all_tasks_blocked()
        assert not r.swarm.connected
        assert not r.swarm.is_connected(theirs)


class Utp:
    """Dials as `Net` does, over uTP and so from and to the ports where both are called."""

    def __init__(self, net: Net) -> None:
        self._net = net

    async def connect(self, address: tuple[str, int]) -> MemoryStream:
        stream = await self._net.open_tcp(*address, bind=None)
        stream.kind = "utp"
        return stream


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize(
    ("peer_id", "our_port", "ours_is_kept"),
    [
        (b"-TF0100-zz greater--", 6880, False),
        (b"-TF0100-aa lesser---", 6882, True),
        (b"-LT2110-zz----------", 6880, True),
        (b"-LT2110-aa----------", 6882, False),
        (b"-LT2110-mm----------", 6881, True),
    ],
    ids=["greater id", "lesser id", "higher port", "lower port", "same port"],
)
async def test_of_two_connections_through_nats_both_ends_keep_the_same(
    peer_id: bytes,
    our_port: int,
    ours_is_kept: bool,
    first: str,
    net: Net,
    autojump_clock: MockClock,
) -> None:
    """Others go by ports, as libtorrent; between two of us it is ids, which no NAT changes."""
    async with rig(utp=True) as r:
        r.swarm.peer_id = b"-TF0100-butter------"
        r.swarm.dialler = Dialler(r.torrent.config, cast("Any", Utp(net)), our_port)
        assert r.swarm.punch(HOST)
        assert not r.swarm.punch(HOST)  # once is enough
        await trio.testing.wait_all_tasks_blocked()
        if first == "ours":
            await net.accept(r, peer_id)
        await r.connect(peer_id=peer_id, host=HOST[0], port=HOST[1], kind="utp", have=False)
        await trio.testing.wait_all_tasks_blocked()
        if first == "theirs":
            await net.accept(r, peer_id)
        (kept,) = r.torrent.peers()
        assert kept.outgoing is ours_is_kept
        assert r.swarm.connected == {HOST: kept._stream}
        assert not r.swarm.punch(HOST)
        assert r.swarm.is_connected(peer_id)
        kept.close("enough")
        await trio.testing.wait_all_tasks_blocked()
        assert not r.swarm.connected
        assert not r.swarm.is_connected(peer_id)
        assert r.swarm._places.taken == 0


async def test_somebody_else_at_the_same_address_is_refused(
    net: Net, autojump_clock: MockClock
) -> None:
    async with rig(utp=True) as r:
        await r.connect(host=HOST[0], port=HOST[1], kind="utp")
        second = await r.connect(host=HOST[0], port=HOST[1], kind="utp", have=False)
        await second.closed()
        assert len(r.torrent.peers()) == 1


async def test_a_dial_in_vain_rests_but_not_who_called_us_meanwhile(
    net: Net, autojump_clock: MockClock
) -> None:
    """What ends an attempt is no news of a connection to the same address that lives."""
    theirs = b"-ZZ" + b"0" * 17
    async with rig(utp=True) as r:
        r.swarm.dialler = Dialler(r.torrent.config, cast("Any", Utp(net)), 6882)
        r.swarm.book.add(HOST, "pex", 0.0)
        assert r.swarm.punch(HOST)
        await r.connect(peer_id=theirs, host=HOST[0], port=HOST[1], kind="utp")
        await net.accept(r, theirs)
        assert len(r.swarm.connected) == 1
        assert r.swarm.book.next(trio.current_time() + 3600) is None  # it is busy


async def test_who_may_not_be_punched_to(net: Net, autojump_clock: MockClock) -> None:
    ip_filter = parse_ip_filter([b"198.51.100.0/24"])
    async with rig(utp=True, ip_filter=ip_filter, max_peers=MAX_PUNCHES + 5) as r:
        other = ("203.0.113.1", 5)
        assert not r.swarm.punch(other)  # no uTP
        r.swarm.dialler = Dialler(r.torrent.config, cast("Any", Utp(net)), 6882)
        assert not r.swarm.punch(HOST)  # the user does not want it
        r.swarm.book.on_ourselves(("203.0.113.9", 5))
        assert not r.swarm.punch(("203.0.113.9", 5))
        punched = [r.swarm.punch(("203.0.113.1", port)) for port in range(1, MAX_PUNCHES + 3)]
        assert punched == [True] * MAX_PUNCHES + [False] * 2


async def test_no_more_than_the_limit_are_connected(autojump_clock: MockClock) -> None:
    async with rig(max_peers=3) as r:
        for number in range(5):
            await r.connect(have=[] if number < 3 else False)
        assert len(r.torrent.peers()) == 3
        (leaver, *_) = r.torrent.peers()
        leaver.close("goes")
        await trio.testing.wait_all_tasks_blocked()
        await r.connect()
        assert len(r.torrent.peers()) == 3


async def test_who_has_no_place_looks_for_one_once_a_second(
    net: Net, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    async with rig(tcp=True, max_peers=1) as r:
        await r.connect()
        next_time = r.swarm.book.next_time

        def counted(now: float) -> float | None:
            nonlocal looks
            looks += 1
            return next_time(now)

        monkeypatch.setattr(r.swarm.book, "next_time", counted)
        r.swarm.add_peers([HOST], "user")
        await trio.sleep(10)
        assert 5 < looks < 15
        assert not net.dialled


async def test_places_are_shared_by_all_swarms(autojump_clock: MockClock) -> None:
    async with rig(max_connections=2) as r:
        for _ in range(2):
            await r.connect()
        refused = await r.connect(have=False)
        await refused.closed()
        assert r.swarm._places.taken == 2


async def test_a_banned_peer_may_not_come_in(autojump_clock: MockClock) -> None:
    async with rig() as r:
        r.swarm.ban(("93.184.216.34", 1), "lied")
        refused = await r.connect(host="93.184.216.34", have=False)
        await refused.closed()
        assert not r.swarm.connected


async def test_filtered_addresses_are_neither_dialled_nor_let_in(
    net: Net, autojump_clock: MockClock
) -> None:
    blocked = parse_ip_filter([b"198.51.100.0/24"])
    async with rig(tcp=True, ip_filter=blocked) as r:
        net.remote["seedbox.example", 6881] = HOST
        r.swarm.add_peers([HOST, ("seedbox.example", 6881)], "user")
        by_name = await net.accept(r)
        await by_name.closed()
        assert "is not wanted" in (r.swarm.last_failure or "")
        refused = await r.connect(host="198.51.100.9", have=False)
        await refused.closed()
        await r.connect(host="203.0.113.5")
        assert [host for host, _ in r.swarm.connected] == ["203.0.113.5"]
        assert HOST not in [address for address, _ in net.dialled]


async def test_another_torrent_is_not_served(net: Net, autojump_clock: MockClock) -> None:
    async with rig(tcp=True) as r:
        r.swarm.add_peers([HOST], "user")
        stream = await net._arrivals.receive()
        peer = FakePeer(stream, r.sample.metainfo, r.sample.space)
        await peer.hello(peer_id=b"-XX0000-other-------", info_hash=b"x" * 20)
        await peer.closed()
        assert r.swarm.last_failure is not None
        assert "another info-hash" in r.swarm.last_failure


async def test_a_stranger_that_says_nothing_is_closed(net: Net, autojump_clock: MockClock) -> None:
    async with rig(tcp=True) as r:
        r.swarm.add_peers([HOST], "user")
        stream = await net._arrivals.receive()
        before = trio.current_time()
        await FakePeer(stream, r.sample.metainfo, b"").closed()
        assert trio.current_time() - before == pytest.approx(dialling.HANDSHAKE_TIMEOUT, abs=1)


@pytest.mark.expect_log("a bug while talking to")
async def test_a_bug_costs_one_peer(autojump_clock: MockClock) -> None:
    async with rig() as r:
        await r.seeder()

        async def broken(*_: object, **__: object) -> None:
            raise RuntimeError("a bug")

        talk, r.swarm.talk = r.swarm.talk, broken  # type: ignore[assignment]
        await r.connect(have=False)
        r.swarm.talk = talk
        assert await r.read(0, 10) == r.sample.space[:10]


def test_places() -> None:
    places = Places(1)
    assert places.free
    places.taken += 1
    assert not places.free


async def test_where_two_trackers_see_us_is_believed(autojump_clock: MockClock) -> None:
    """BEP 24, for the order of BEP 40: one alone may lie, and two URLs of a host are one."""
    seen = ("203.0.113.5", 6881)
    for urls, believed in (
        (["fake://one.example/a", "fake://one.example/b"], None),
        (["fake://one.example/a", "fake://two.example/b"], seen),
    ):
        fake = FakeTrackers()
        fake.behaviour = dict.fromkeys(urls, AnnounceReply(external_ip=seen[0]))
        async with rig() as r:
            tiers = TrackerTiers(
                [[url] for url in urls],
                r.sample.metainfo.hashes.wire,
                OUR_ID,
                6881,
                client=None,  # type: ignore[arg-type]
                totals=lambda: Totals(0, 0, 1),
                rng=Random(1),
                announcers={"fake": fake},
            )
            r.nursery.start_soon(r.swarm._announce, tiers)
            await trio.sleep(2)
            assert len(fake.seen) == 2
            assert r.swarm.book._own == believed


async def test_what_fails_while_we_are_off_the_network_is_no_fault_of_the_peer(
    net: Net, autojump_clock: MockClock
) -> None:
    async with rig(tcp=True) as r:
        net.refuse.add(HOST)
        r.swarm.add_peers([HOST], "tracker")
        await trio.sleep(20)  # refused twice by now
        seen = len(net.dialled)
        net.refuse.clear()
        r.swarm.start_over()
        await trio.sleep(1)
        assert len(net.dialled) == seen + 1
