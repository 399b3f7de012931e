"""Tiers in virtual time: who is asked when, and what is said at the end."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock

from tests.discovery.websockets import FakeSignaller, FakeTracker
from torrentfs.discovery.trackers import HEDGE, PATIENCE, Totals, TrackerTiers
from torrentfs.discovery.websocket import open_websocket_trackers
from torrentfs.discovery.websocket_announcer import RtcAnnouncer
from torrentfs.errors import TransportError
from torrentfs.transports.http import HttpClient
from torrentfs.transports.proxy import Proxy
from torrentfs.wire.announce import AnnounceReply, AnnounceRequest, SwarmCounts, TrackerFailure

HASHES = (b"1" * 20,)
PEER = ("192.0.2.9", 6881)


class Announce(NamedTuple):
    at: float
    url: str
    event: str


class FakeTrackers:
    """Behaviour by URL: a reply, an error, or None for silence; notes every announce."""

    def __init__(self, **behaviour: AnnounceReply | Exception | None) -> None:
        self.behaviour = {f"fake:{name}": what for name, what in behaviour.items()}
        self.delay: dict[str, float] = {}
        self.seen: list[Announce] = []
        self.requests: list[AnnounceRequest] = []
        self.counts: dict[str, SwarmCounts | Exception] = {}
        self.scraped: list[tuple[float, str, tuple[bytes, ...]]] = []

    async def announce(
        self, url: str, request: AnnounceRequest, on_reply: Callable[[AnnounceReply], None]
    ) -> None:
        self.seen.append(Announce(round(trio.current_time(), 3), url[5:], request.event))
        self.requests.append(request)
        await trio.sleep(self.delay.get(url[5:], 0.1))
        what = self.behaviour[url]
        if what is None:
            await trio.sleep(105)
            raise TransportError("no answer within 105 s")
        if isinstance(what, Exception):
            raise what
        on_reply(what)

    async def scrape(self, url: str, info_hashes: Sequence[bytes]) -> dict[bytes, SwarmCounts]:
        self.scraped.append((round(trio.current_time(), 3), url[5:], tuple(info_hashes)))
        await trio.sleep(self.delay.get(url[5:], 0.1))
        counts = self.counts.get(url[5:], SwarmCounts(1, 2, 3))
        if isinstance(counts, Exception):
            raise counts
        return dict.fromkeys(info_hashes, counts)


def with_peers(*peers: tuple[str, int], **more: int) -> AnnounceReply:
    return AnnounceReply(peers=peers or (PEER,), **more)  # type: ignore[arg-type]


class Running(NamedTuple):
    tiers: TrackerTiers
    peers: list[tuple[Sequence[tuple[str, int]], str]]
    scope: trio.CancelScope


@asynccontextmanager
async def running(
    tiers: list[list[str]],
    fake: FakeTrackers,
    hashes: tuple[bytes, ...] = HASHES,
    port: int = 6881,
    single: bool = False,
) -> AsyncIterator[Running]:
    peers: list[tuple[Sequence[tuple[str, int]], str]] = []
    trackers = TrackerTiers(
        [[f"fake:{name}" for name in tier] for tier in tiers],
        hashes,
        b"-TF0100-abcdefghijkl",
        port,
        client=None,  # type: ignore[arg-type]
        totals=lambda: Totals(1, 2, 3),
        rng=random.Random(0),
        on_peers=lambda found, url: peers.append((found, url[5:])),
        announcers={"fake": fake},
        single=single,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trackers.run)
        yield Running(trackers, peers, nursery.cancel_scope)
        nursery.cancel_scope.cancel()


async def test_one_tracker_started_again_and_stopped(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=with_peers(interval=1800))
    async with running([["a"]], fake) as run:
        await trio.sleep(3700)
        assert run.peers == [([PEER], "a")] * 3
    assert fake.seen[:3] == [(0, "a", "started"), (1800.1, "a", ""), (3600.2, "a", "")]
    assert fake.seen[3:] == [(3700, "a", "stopped")]
    request = fake.requests[0]
    assert (request.uploaded, request.downloaded, request.left) == (1, 2, 3)
    assert request.port == 6881
    assert fake.requests[-1].num_want == 0


async def test_the_next_is_asked_at_once_after_a_failure(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(
        a=TrackerFailure(b"torrent not registered"),
        b=TransportError("connection refused"),
        c=with_peers(),
        d=with_peers(),
    )
    async with running([["a"], ["b"], ["c"], ["d"]], fake) as run:
        await trio.sleep(1)
        assert [name for _, name, _ in fake.seen] == ["a", "b", "c"]
        assert fake.seen[2].at == pytest.approx(0.2)
        shown = {s.url[5:]: s for s in run.tiers.statistics()}
        assert shown["a"].last_error == "torrent not registered"
        assert shown["b"].last_error == "connection refused"
        assert shown["c"].peers == 1
    # only the one that may know us hears of our end
    assert [(name, event) for _, name, event in fake.seen[3:]] == [("c", "stopped")]


async def test_a_private_torrent_uses_one_tracker_until_that_fails(
    autojump_clock: MockClock,
) -> None:
    """BEP 27; neither silence, nor an answer without peers, nor want of more asks a second one."""
    fake = FakeTrackers(a=None, b=AnnounceReply(), c=with_peers(interval=1800))
    async with running([["a"], ["b"], ["c"]], fake, single=True) as run:
        await trio.sleep(PATIENCE - 1)
        assert fake.seen == [(0, "a", "started")]
        await trio.sleep(2)
        assert fake.seen[1:] == [(PATIENCE, "b", "started")]
        fake.behaviour["fake:a"] = with_peers()
        run.tiers.announce_soon()
        await trio.sleep(200)
        assert {name for _, name, _ in fake.seen[2:]} == {"b"}
        assert len(fake.seen) == 4  # 1 and 2 minutes apart
        fake.behaviour["fake:b"] = TransportError("connection refused")
        run.tiers.announce_soon()
        await trio.sleep(100)
        assert [name for _, name, _ in fake.seen[4:]] == ["b", "a"]
        assert run.peers == [([PEER], "a")]
        run.tiers.announce_completed()
        await trio.sleep(1)
        assert [(name, event) for _, name, event in fake.seen[6:]] == [("a", "completed")]
    left = {(name, event) for _, name, event in fake.seen[7:]}
    assert left == {("a", "stopped"), ("b", "stopped")}


@pytest.mark.parametrize("retry_in", [None, float("inf")], ids=["refuses", "for ever"])
async def test_a_private_torrent_whose_tracker_fails_between_rounds_uses_another(
    autojump_clock: MockClock, retry_in: float | None
) -> None:
    """What is said between rounds is `completed`."""
    fake = FakeTrackers(a=with_peers(interval=1800), b=with_peers(interval=1800))
    async with running([["a"], ["b"]], fake, single=True) as run:
        await trio.sleep(10)
        fake.behaviour["fake:a"] = TrackerFailure(b"no such torrent", retry_in)
        run.tiers.announce_completed()
        await trio.sleep(60)
        assert [(name, event) for _, name, event in fake.seen] == [
            ("a", "started"), ("a", "completed"), ("b", "started"),
        ]  # fmt: skip


async def test_a_private_torrent_asks_all_again_when_none_answers(
    autojump_clock: MockClock,
) -> None:
    fake = FakeTrackers(a=TransportError("no"), b=TransportError("no"))
    async with running([["a"], ["b"]], fake, single=True):
        await trio.sleep(600)
        assert 8 <= len(fake.seen) <= 20
        assert {name for _, name, _ in fake.seen} == {"a", "b"}


async def test_a_silent_tracker_delays_the_next_by_the_hedge_only(
    autojump_clock: MockClock,
) -> None:
    fake = FakeTrackers(silent=None, good=with_peers())
    async with running([["silent"], ["good"]], fake) as run:
        await trio.sleep(HEDGE + 0.5)
        assert run.peers == [([PEER], "good")]
        await trio.sleep(60)
        silent, good = run.tiers.statistics()
        assert silent.last_error == "no answer yet"
        assert good.failures == 0
    assert fake.seen[1] == (HEDGE, "good", "started")
    # the silent one may have heard us: it is told of our end too
    assert {(name, event) for _, name, event in fake.seen[2:]} == {
        ("silent", "stopped"),
        ("good", "stopped"),
    }


async def test_a_slow_tracker_keeps_its_chance(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(slow=with_peers(("192.0.2.1", 1)), good=with_peers())
    fake.delay["slow"] = HEDGE + 2
    async with running([["slow"], ["good"]], fake) as run:
        await trio.sleep(20)
        assert [name for _, name in run.peers] == ["good", "slow"]


async def test_an_answer_without_peers_does_not_end_the_round(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(empty=AnnounceReply(), own=with_peers(("127.0.0.1", 6881)), c=with_peers())
    async with running([["empty"], ["own"], ["c"]], fake) as run:
        await trio.sleep(5)
        assert [name for _, name, _ in fake.seen] == ["empty", "own", "c"]
        assert run.peers == [([PEER], "c")]


async def test_without_any_peer_it_asks_again_soon_then_rarely(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=AnnounceReply(interval=1800))
    async with running([["a"]], fake):
        await trio.sleep(6000)
    times = [at for at, _, event in fake.seen if event != "stopped"]
    gaps = [round(b - a) for a, b in itertools.pairwise(times)]
    assert gaps == [60, 120, 240, 480, 960, 1800, 1800]


async def test_promotion_within_its_tier(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(
        a=TransportError("down"), b=TransportError("down"), c=with_peers(interval=100)
    )
    async with running([["a", "b", "c"]], fake) as run:
        await trio.sleep(1)
        assert run.tiers.statistics()[0].url == "fake:c"
        before = len(fake.seen)
        await trio.sleep(101)
        assert [name for _, name, _ in fake.seen[before:]] == ["c"]


async def test_tiers_are_shuffled_and_repetitions_dropped(autojump_clock: MockClock) -> None:
    names = [chr(n) for n in range(97, 117)]
    fake = FakeTrackers(**dict.fromkeys(names, with_peers()))
    async with running([names, names[:3]], fake) as run:
        order = [s.url[5:] for s in run.tiers.statistics()]
    assert sorted(order) == names
    assert order != names


async def test_failures_back_off(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=TransportError("down"))
    async with running([["a"]], fake):
        await trio.sleep(3600)
    gaps = [b.at - a.at for a, b in itertools.pairwise(fake.seen)]
    assert all(event == "started" for _, _, event in fake.seen)
    for n, gap in enumerate(gaps):
        assert 0.75 <= (gap - 0.1) / (10 * 2**n) <= 1.25


async def test_announce_soon_keeps_the_minimum(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=with_peers(interval=1800, min_interval=300))
    async with running([["a"]], fake) as run:
        await trio.sleep(10)
        run.tiers.announce_soon()
        await trio.sleep(280)
        assert len(fake.seen) == 1
        await trio.sleep(20)
        assert fake.seen[1:] == [(300.1, "a", "")]
        await trio.sleep(1000)
        run.tiers.announce_soon()
        await trio.sleep(1)
        assert len(fake.seen) == 3


async def test_completed_is_said_once_to_those_who_know_us(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=with_peers(), b=with_peers())
    async with running([["a"], ["b"]], fake) as run:
        await trio.sleep(5)
        run.tiers.announce_completed()
        await trio.sleep(5)
    assert [(n, e) for _, n, e in fake.seen] == [
        ("a", "started"),
        ("a", "completed"),
        ("a", "stopped"),
    ]


async def test_completed_is_said_right_after_a_round_that_it_fell_into(
    autojump_clock: MockClock,
) -> None:
    fake = FakeTrackers(a=with_peers(interval=1800))
    fake.delay["a"] = 2.0
    async with running([["a"]], fake) as run:
        await trio.sleep(1)
        run.tiers.announce_completed()
        await trio.sleep(3)
        assert [(n, e) for _, n, e in fake.seen] == [("a", "started"), ("a", "completed")]


async def test_both_hashes_of_a_hybrid_torrent(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=with_peers())
    async with running([["a"]], fake, hashes=(b"1" * 20, b"2" * 20)):
        await trio.sleep(1)
    assert {(r.info_hash[:1], r.event) for r in fake.requests} == {
        (form, event) for form in (b"1", b"2") for event in ("started", "stopped")
    }


async def test_stopped_takes_two_seconds_at_most_even_when_cancelled(
    autojump_clock: MockClock,
) -> None:
    fake = FakeTrackers(a=with_peers())
    async with running([["a"]], fake) as run:
        await trio.sleep(10)
        fake.behaviour["fake:a"] = None
        start = trio.current_time()
        run.scope.cancel()
    assert trio.current_time() - start == pytest.approx(2.0)
    assert fake.seen[-1].event == "stopped"


async def test_the_tracker_id_is_given_back(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=AnnounceReply(interval=60, peers=(PEER,), tracker_id=b"xyz"))
    async with running([["a"]], fake):
        await trio.sleep(70)
    assert [r.tracker_id for r in fake.requests] == [None, b"xyz", b"xyz"]
    assert len({r.key for r in fake.requests}) == 1


async def test_unsupported_schemes_and_no_trackers_are_no_trouble(
    autojump_clock: MockClock,
) -> None:
    fake = FakeTrackers()
    trackers = TrackerTiers(
        [["wss://t.example/", "nonsense"]],
        HASHES,
        bytes(20),
        0,
        client=None,  # type: ignore[arg-type]
        totals=lambda: Totals(0, 0, 0),
        rng=random.Random(0),
        announcers={"fake": fake},
    )
    with trio.move_on_after(1000):
        await trackers.run()
    assert {s.last_error for s in trackers.statistics()} == {
        "needs WebRTC",
        "malformed URLs are not supported",
    }
    assert fake.seen == []
    assert "wss://t.example/" in repr(trackers)
    async with running([], fake):
        await trio.sleep(10)


async def test_without_a_port_a_harmless_one_is_announced(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=with_peers())
    async with running([["a"]], fake, port=0):
        await trio.sleep(1)
    assert fake.requests[0].port == 1


async def test_websocket_trackers_are_announced_to_beside_the_tiers(
    autojump_clock: MockClock,
) -> None:
    url, fake, browsers = "wss://t.example/", FakeTrackers(a=with_peers()), FakeTracker()
    signaller = FakeSignaller("x")
    tiers = [["fake:a"], [url]]
    async with open_websocket_trackers(
        None, rng=random.Random(0), connect=browsers.connect
    ) as sockets:
        announcer = RtcAnnouncer(
            tiers,
            HASHES,
            b"-TF0100-abcdefghijkl",
            sockets=sockets,
            signaller=signaller,
            totals=lambda: Totals(1, 2, 3),
            rng=random.Random(0),
        )
        trackers = TrackerTiers(
            tiers,
            HASHES,
            b"-TF0100-abcdefghijkl",
            6881,
            client=None,  # type: ignore[arg-type]
            totals=lambda: Totals(1, 2, 3),
            rng=random.Random(0),
            beside=announcer,
            announcers={"fake": fake},
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trackers.run)
            await trio.sleep(20)
            trackers.announce_completed()
            await trio.sleep(1)
            trackers.announce_soon()
            await trio.sleep(1)
            rows = trackers.statistics()
            signalling = trackers.signalling()
            nursery.cancel_scope.cancel()
    assert signalling == announcer.signalling()
    assert signalling is not None
    assert signalling.offers_sent == 5
    assert [(row.url, row.tier, row.last_error) for row in rows] == [
        ("fake:a", 0, None),
        (url, 1, None),
    ]
    assert rows[1].announces == 3
    assert [event for _, event, _ in browsers.announces()] == [
        "started",
        "completed",
        "",
        "stopped",
    ]
    assert [event for _, _, event in fake.seen] == ["started", "completed", "stopped"]
    signaller.check()
    trackers.says_stopped = False
    assert not announcer.says_stopped


async def test_behind_a_proxy_udp_trackers_say_that_they_are_off() -> None:
    """And no name is looked up, nor any packet sent: the proxy is not even there."""
    proxied = HttpClient(proxy=Proxy("socks5", "127.0.0.1", 1))
    trackers = TrackerTiers(
        [["udp://tracker.example:6969/announce"], ["ws://tracker.example"]],
        [bytes(20)],
        bytes(20),
        1,
        client=proxied,
        totals=lambda: Totals(0, 0, 1),
        rng=random.Random(1),
    )
    with trio.move_on_after(0.05):
        await trackers.run()
    assert [row.last_error for row in trackers.statistics()] == [
        "UDP cannot go through the proxy",
        "WebRTC cannot go through the proxy",
    ]


async def test_never_means_never_for_that_hash(autojump_clock: MockClock) -> None:
    """BEP 31: also when peers are wanted at once; the other form of a hybrid is announced."""

    class Picky(FakeTrackers):
        async def announce(
            self, url: str, request: AnnounceRequest, on_reply: Callable[[AnnounceReply], None]
        ) -> None:
            refused = request.info_hash == b"2" * 20 or url == "fake:b"
            self.seen.append(Announce(trio.current_time(), url[5:], request.event))
            self.requests.append(request)
            await trio.sleep(0.2 if refused else 0.1)
            if refused:
                raise TrackerFailure(b"unknown", float("inf"))
            on_reply(with_peers(interval=600))

    fake = Picky()
    async with running([["b"], ["a"]], fake, (b"1" * 20, b"2" * 20)) as run:
        for _ in range(20):
            await trio.sleep(100)
            run.tiers.announce_soon()
        b = next(s for s in run.tiers.statistics() if s.url == "fake:b")
        assert (b.last_error, b.next_announce, b.announces) == ("unknown", None, 2)
    asked = [
        (url, r.info_hash[:1]) for (_, url, _), r in zip(fake.seen, fake.requests, strict=True)
    ]
    assert asked.count(("b", b"1")) == asked.count(("b", b"2")) == asked.count(("a", b"2")) == 1
    assert asked.count(("a", b"1")) > 5


async def test_a_tracker_says_when_to_come_again(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=TrackerFailure(b"busy", 1200.0))
    async with running([["a"]], fake) as run:
        for _ in range(13):
            await trio.sleep(100)
            run.tiers.announce_soon()
    assert [at for at, _, _ in fake.seen] == [0, 1200.1]


async def test_where_trackers_see_us_is_told(autojump_clock: MockClock) -> None:
    fake = FakeTrackers()
    fake.behaviour = {"fake://t.example/a": AnnounceReply(external_ip="192.0.2.7")}
    told = []
    async with running([["//t.example/a"]], fake) as run:
        run.tiers.announced_port = 7000
        run.tiers.on_own_address = lambda own, host: told.append((own, host))
        await trio.sleep(1)
    assert told[0] == (("192.0.2.7", 7000), "t.example")


async def test_run_again_it_starts_anew_and_keeps_to_the_intervals(
    autojump_clock: MockClock,
) -> None:
    fake = FakeTrackers(a=with_peers(interval=1800, min_interval=600))
    async with running([["a"]], fake) as run:
        await trio.sleep(1)
    for _ in range(5):  # a torrent that takes turns with others
        with trio.move_on_after(10):
            await run.tiers.run()
    assert [event for _, _, event in fake.seen] == ["started", "stopped"]
    with trio.move_on_after(1000):
        await run.tiers.run()
    assert [event for _, _, event in fake.seen] == ["started", "stopped"] * 2


async def test_another_port_is_announced_soon_but_not_at_once(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=with_peers(interval=1800, min_interval=1800))
    async with running([["a"]], fake) as run:
        await trio.sleep(1)
        for port in (7000, 7001, 7002):  # a gateway that changes its mind
            run.tiers.announced_port = port
            run.tiers.announce_anew()
            await trio.sleep(1)
        await trio.sleep(60)
        assert [(round(at), event) for at, _, event in fake.seen] == [(0, "started"), (15, "")]
        assert fake.requests[-1].port == 7002
        run.tiers.announced_port = 6881
        run.tiers.announce_anew()
        await trio.sleep(1)
        assert len(fake.seen) == 3  # long after the last answer it is told at once


async def test_a_back_off_and_a_silence_of_ours_end_when_we_are_back(
    autojump_clock: MockClock,
) -> None:
    fake = FakeTrackers(a=TransportError("the interface vpn0 is gone"), b=None)
    async with running([["a"], ["b"]], fake) as run:
        await trio.sleep(60)  # `b` is still waited for
        seen = len(fake.seen)
        fake.behaviour = dict.fromkeys(fake.behaviour, with_peers(interval=1800))
        run.tiers.announce_anew()
        await trio.sleep(1)
        assert [name for _, name, _ in fake.seen[seen:]] == ["a"]
        assert run.peers == [([PEER], "a")]
