"""A torrent at its WebSocket trackers, in virtual time."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.discovery.websockets import FakeSignaller, FakeTracker
from torrentfs.discovery.tracker import SCRAPE_GAP
from torrentfs.discovery.trackers import Totals
from torrentfs.discovery.websocket import LINGER, WebSocketTrackers, open_websocket_trackers
from torrentfs.discovery.websocket_announcer import (
    MAX_OFFERS,
    MAX_TRACKERS,
    MIN_GAP,
    RtcAnnouncer,
)
from torrentfs.discovery.websocket_offers import ANSWER_TIME, BURST, MAX_UNANSWERED, OFFER_TIME
from torrentfs.discovery.websocket_statistics import SignallingStatistics
from torrentfs.errors import TransportError
from torrentfs.wire.announce import AnnounceReply, TrackerFailure
from torrentfs.wire.ws_tracker import (
    Announce,
    Announced,
    Answer,
    PeerAnswer,
    PeerOffer,
    Refused,
    Scrape,
)

HASH = b"1" * 20
URL = "wss://t.example/"
OTHERS = AnnounceReply(interval=60, seeders=3, leechers=7)


class Peer(NamedTuple):
    announcer: RtcAnnouncer
    signaller: FakeSignaller
    scope: trio.CancelScope


@asynccontextmanager
async def peer(
    tracker: FakeTracker,
    name: str = "a",
    tiers: tuple[tuple[str, ...], ...] = ((URL,),),
    hashes: tuple[bytes, ...] = (HASH,),
    sockets: WebSocketTrackers | None = None,
) -> AsyncIterator[Peer]:
    """An announcer with sockets of its own (a process of its own, so to say)."""
    if sockets is None:
        async with (
            open_websocket_trackers(None, rng=random.Random(1), connect=tracker.connect) as own,
            peer(tracker, name, tiers, hashes, own) as made,
        ):
            yield made
        return
    signaller = FakeSignaller(name)
    announcer = RtcAnnouncer(
        tiers,
        hashes,
        name.encode().ljust(20, b"-"),
        sockets=sockets,
        signaller=signaller,
        totals=lambda: Totals(1, 2, 3),
        rng=random.Random(2),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(announcer.run)
        yield Peer(announcer, signaller, nursery.cancel_scope)
        nursery.cancel_scope.cancel()
    if announcer.says_stopped:  # else its offers live on
        signaller.check()


async def test_started_again_and_stopped(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        await trio.sleep(130)
        (row,) = a.announcer.statistics()
        assert (row.url, row.announces, row.last_error) == (URL, 3, None)
        assert (row.seeders, row.leechers) == (3, 7)
        assert row.next_announce == pytest.approx(50, abs=1)
    assert tracker.announces() == [
        (0.2, "started", MAX_OFFERS),
        (60.2, "", 2),
        (120.3, "", 1),
        (130.0, "stopped", 0),
    ]
    request = tracker.seen[0][2]
    assert isinstance(request, Announce)
    told = request.request
    assert (told.info_hash, told.peer_id) == (HASH, b"a".ljust(20, b"-"))
    assert (told.uploaded, told.downloaded, told.left) == (1, 2, 3)


async def test_two_peers_exchange_descriptions(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker, "a") as a:
        await trio.sleep(1)
        async with peer(tracker, "b") as b:
            await trio.sleep(1)
            # the newcomer's first offer went to the one who was there
            ((url, offer),) = a.signaller.offered
            assert (url, offer.sdp, offer.peer_id) == (URL, "offer of b", b"b".ljust(20, b"-"))
            (answer,) = b.signaller.answered
            assert answer.sdp == "answer of a to offer of b"
            assert answer.offer_id == offer.offer_id
            assert (answer.info_hash, answer.peer_id) == (HASH, b"a".ljust(20, b"-"))
            assert a.announcer.signalling() == SignallingStatistics(5, 0, 1, 1, 0)
            assert b.announcer.signalling() == SignallingStatistics(5, 1, 0, 0, 0)
            assert a.announcer.statistics()[0].peers == 1


async def test_each_offer_ends(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        await trio.sleep(OFFER_TIME)
        assert a.signaller.forgotten == []
        await trio.sleep(1)
        assert len(a.signaller.forgotten) == MAX_OFFERS
        await trio.sleep(20)  # the next five are sent
        assert len(a.signaller.forgotten) == MAX_OFFERS
    assert len(a.signaller.forgotten) == MAX_OFFERS + 2


async def test_few_offers_where_there_are_few_peers(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=AnnounceReply(interval=60, seeders=1, leechers=2))
    async with peer(tracker) as a:
        for leechers in (1, 1, 9):
            await trio.sleep(55)
            a.announcer.announce_soon()
            tracker.reply = AnnounceReply(interval=60, seeders=0, leechers=leechers)
        await trio.sleep(1)
    assert [offers for _, _, offers in tracker.announces()] == [5, 2, 1, 1, 0]


async def test_fewer_offers_while_nobody_answers_them(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker, "a") as a:
        await trio.sleep(250)
        tracker.open[0].say(PeerAnswer(HASH, b"p" * 20, a.signaller.made[-1], "v=0"))
        await trio.sleep(60)
        a.announcer.announce_soon()
        await trio.sleep(60)
    counts = [offers for _, event, offers in tracker.announces() if event != "stopped"]
    assert counts[:5] == [5, 2, 1, 1, 1]
    assert counts[5] == 5


async def test_earlier_offers_count(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        a.signaller.wanted = 2
        await trio.sleep(1)
        a.signaller.wanted = 100
        a.announcer.announce_soon()
        await trio.sleep(20)
    assert [offers for _, _, offers in tracker.announces()] == [2, 3, 0]


async def test_announced_without_offers_when_there_are_none(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        a.signaller.trouble = TransportError("the helper is gone")
        await trio.sleep(61)
        a.signaller.trouble = None
        a.signaller.make_time = 1000.0  # cancelled
        await trio.sleep(120)
    assert [offers for _, _, offers in tracker.announces()] == [0, 0, 0, 0]


async def test_more_peers_are_wanted(autojump_clock: MockClock) -> None:
    """At once, but not more often than every `MIN_GAP`."""
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        await trio.sleep(30)
        for _ in range(60):
            a.announcer.announce_soon()
            await trio.sleep(0.5)
    times = [at for at, event, _ in tracker.announces() if event != "stopped"]
    assert times[1] == pytest.approx(30, abs=0.2)
    gaps = [after - before for before, after in itertools.pairwise(times[1:])]
    assert gaps
    assert all(gap >= MIN_GAP - 0.2 for gap in gaps)


async def test_a_minimum_is_kept(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=AnnounceReply(interval=30, min_interval=200))
    async with peer(tracker) as a:
        for _ in range(100):
            a.announcer.announce_soon()
            await trio.sleep(3)
    assert [at for at, _, _ in tracker.announces()] == [0.2, 200.2, 300.0]


@pytest.mark.parametrize(("interval", "gap"), [(1, 20), (45, 45), (120, 60), (10**9, 60)])
async def test_intervals_are_within_bounds(
    autojump_clock: MockClock, interval: int, gap: float
) -> None:
    tracker = FakeTracker(reply=AnnounceReply(interval=interval))
    async with peer(tracker):
        await trio.sleep(200)
    times = [at for at, event, _ in tracker.announces() if event != "stopped"]
    assert times[2] - times[1] == pytest.approx(gap, abs=0.3)


async def test_completed_is_said_to_who_knows_us(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        await trio.sleep(10)
        a.announcer.announce_completed()
        await trio.sleep(10)
    assert [event for _, event, _ in tracker.announces()] == ["started", "completed", "stopped"]


async def test_completed_waits_for_started(autojump_clock: MockClock) -> None:
    """A small torrent is whole before the first offers are made."""
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        a.announcer.announce_completed()
        await trio.sleep(10)
    assert [event for _, event, _ in tracker.announces()] == ["started", "completed", "stopped"]


async def test_both_hashes_of_a_hybrid_torrent(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    hashes = (b"1" * 20, b"2" * 20)
    async with peer(tracker, "a", hashes=hashes) as a:
        await trio.sleep(1)
        async with peer(tracker, "b", hashes=(b"2" * 20,)) as b:
            await trio.sleep(1)
            assert [answer.info_hash for answer in b.signaller.answered] == [b"2" * 20]
        assert len(a.announcer.statistics()) == 1
        assert a.announcer.statistics()[0].announces == 2
    assert len(tracker.connections) == 2  # one for each of a and b


async def test_all_trackers_at_once_and_each_url_once(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    names = [f"wss://{n}.example/" for n in range(MAX_TRACKERS + 2)]
    tiers = (("http://t/", names[0]), ("udp://t:1/", *names, names[0]))
    async with peer(tracker, tiers=tiers) as a:
        await trio.sleep(1)
        rows = {row.url: row for row in a.announcer.statistics()}
    assert sorted(url for _, url in tracker.attempts) == names[:MAX_TRACKERS]
    assert list(rows) == names
    assert [rows[names[0]].tier, rows[names[1]].tier] == [0, 1]
    assert "only 10 WebSocket trackers" in str(rows[names[-1]].last_error)
    assert rows[names[-1]].next_announce is None


async def test_a_refusal_is_shown_and_backs_off(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(refusal="not registered here")
    async with peer(tracker) as a:
        await trio.sleep(1)
        (row,) = a.announcer.statistics()
        assert row.last_error == "not registered here"
        assert row.failures == 1
        await trio.sleep(1000)
        tracker.refusal = None
        await trio.sleep(2000)
        (row,) = a.announcer.statistics()
        assert (row.last_error, row.failures) == (None, 0)
    events = [event for _, event, _ in tracker.announces()]
    assert events[:6] == ["started"] * 6  # until one is answered
    times = [at for at, _, _ in tracker.announces()][:6]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    for n, gap in enumerate(gaps[:4]):
        assert 0.75 <= (gap - 0.3) / (30 * 2**n) <= 1.27


async def test_a_refusal_of_nothing_in_particular(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(silent=True)
    async with peer(tracker) as a:
        await trio.sleep(1)
        tracker.open[0].say(Refused(None, TrackerFailure(b"invalid info_hash")))
        await trio.sleep(1)
        assert a.announcer.statistics()[0].last_error == "invalid info_hash"


async def test_a_tracker_that_does_not_answer(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(silent=True)
    async with peer(tracker) as a:
        await trio.sleep(35)
        (row,) = a.announcer.statistics()
        assert row.last_error == "no answer within 30 s"
        assert row.failures == 1
        tracker.silent = False
        await trio.sleep(60)
        assert a.announcer.statistics()[0].last_error is None


async def test_a_tracker_that_is_down(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(down="cannot connect: connection refused")
    async with peer(tracker) as a:
        assert a.announcer.statistics()[0].last_error is None
        await trio.sleep(1)
        (row,) = a.announcer.statistics()
        assert row.last_error == "cannot connect: connection refused"
        assert row.failures == 1
        assert row.next_announce is not None
        a.announcer.announce_soon()
        await trio.sleep(3600)
    assert 5 < len(tracker.attempts) < 20
    assert tracker.announces() == []  # and no `stopped` to nobody


async def test_peers_wanted_cut_a_long_back_off_short(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(down="cannot connect: network is unreachable")
    async with peer(tracker) as a:
        await trio.sleep(3600)
        before = len(tracker.attempts)
        for _ in range(120):
            a.announcer.announce_soon()
            await trio.sleep(1)
        assert 3 <= len(tracker.attempts) - before <= 5
        tracker.down = None
        a.announcer.announce_soon()
        await trio.sleep(31)
        assert a.announcer.statistics()[0].last_error is None


async def test_a_lost_connection_is_made_again_and_starts_anew(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        await trio.sleep(10)
        tracker.open[0].hang_up()
        await trio.sleep(1)
        assert a.announcer.statistics()[0].last_error == "closed by the tracker"
        await trio.sleep(9)
        assert a.announcer.statistics()[0].last_error is None
    assert [event for _, event, _ in tracker.announces()] == ["started", "started", "stopped"]


async def test_stopped_takes_two_seconds_at_most(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with open_websocket_trackers(
        None, rng=random.Random(1), connect=tracker.connect
    ) as sockets:
        async with peer(tracker, sockets=sockets) as a:
            await trio.sleep(10)
            tracker.send_time = 1000
            start = trio.current_time()
            a.scope.cancel()
        assert trio.current_time() - start == pytest.approx(2.0)


async def test_nothing_is_said_when_another_goes_on(autojump_clock: MockClock) -> None:
    """A magnet's metadata search hands over to its torrent, over the same socket."""
    tracker = FakeTracker(reply=OTHERS)
    async with open_websocket_trackers(
        None, rng=random.Random(1), connect=tracker.connect
    ) as sockets:
        async with peer(tracker, sockets=sockets) as a:
            await trio.sleep(10)
            a.announcer.says_stopped = False
        await trio.sleep(1)
        async with peer(tracker, sockets=sockets):
            await trio.sleep(10)
    assert [event for _, event, _ in tracker.announces()] == ["started", "started", "stopped"]
    assert len(tracker.connections) == 1
    a.signaller.check()


async def test_a_late_answer_is_for_who_goes_on(autojump_clock: MockClock) -> None:
    """The search is over, by another peer, before this one has answered the search's offer."""
    tracker = FakeTracker(reply=OTHERS)
    async with open_websocket_trackers(
        None, rng=random.Random(1), connect=tracker.connect
    ) as sockets:
        async with peer(tracker, sockets=sockets) as a:
            await trio.sleep(1)
            a.announcer.says_stopped = False
        first, second, *rest = filter(None, a.signaller.made)
        line = tracker.open[0]
        line.say(PeerAnswer(HASH, b"p" * 20, first, "v=0"))  # nobody goes on yet
        await trio.sleep(1)
        assert [answer.offer_id for answer in a.signaller.answered] == [first]
        async with peer(tracker, "b", sockets=sockets) as b:
            await trio.sleep(1)
            for offer_id in (second, second, next(filter(None, b.signaller.made))):
                line.say(PeerAnswer(HASH, b"q" * 20, offer_id, "v=0"))
            await trio.sleep(1)
            assert [answer.offer_id for answer in a.signaller.answered] == [first, second]
            assert len(b.signaller.answered) == 1
            assert b.announcer.signalling().dropped == 1
            assert a.signaller.forgotten == []
            await trio.sleep(OFFER_TIME)
            assert a.signaller.forgotten == rest
    a.signaller.check()


async def test_offers_end_with_the_socket_when_nobody_goes_on(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with open_websocket_trackers(
        None, rng=random.Random(1), connect=tracker.connect
    ) as sockets:
        async with peer(tracker, sockets=sockets) as a:
            await trio.sleep(1)
            a.announcer.says_stopped = False
        assert a.signaller.forgotten == []
        await trio.sleep(LINGER + 1)
        assert not tracker.open
        a.signaller.check()
        # and where there is no socket any more
        async with peer(tracker, "b", sockets=sockets) as b:
            await trio.sleep(1)
            b.announcer.says_stopped = False
            sockets.close()
            await trio.sleep(1)
        b.signaller.check()


async def test_a_flood_of_offers(autojump_clock: MockClock) -> None:
    """10,000 offers: few are in work at a time, and few in a minute; the rest is dropped."""
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        await trio.sleep(1)
        a.signaller.answers_at_once = False
        for n in range(10_000):
            tracker.open[0].say(PeerOffer(HASH, b"p" * 20, n.to_bytes(20), "v=0"))
        await trio.sleep(1)
        assert len(a.signaller.offered) == MAX_UNANSWERED
        for reply in a.signaller.replies:
            reply("v=0 answer")
            reply("v=0 answer")  # once is enough
        await trio.sleep(1)
        a.signaller.answers_at_once = True
        for n in range(10_000):
            tracker.open[0].say(PeerOffer(HASH, b"p" * 20, n.to_bytes(20), "v=0"))
        await trio.sleep(1)
        assert len(a.signaller.offered) <= BURST + 4
        counts = a.announcer.signalling()
        assert counts.dropped + counts.offers_received == 20_000
        assert counts.answers_sent == counts.offers_received
    answers = [request for _, _, request in tracker.seen if isinstance(request, Answer)]
    assert len(answers) == counts.answers_sent


async def test_what_is_declined_makes_room_and_what_is_late_is_dropped(
    autojump_clock: MockClock,
) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        await trio.sleep(1)
        a.signaller.answers_at_once = a.signaller.takes = False
        for n in range(MAX_UNANSWERED + 3):
            tracker.open[0].say(PeerOffer(HASH, b"p" * 20, n.to_bytes(20), "v=0"))
        await trio.sleep(1)
        assert len(a.signaller.offered) == MAX_UNANSWERED + 3
        a.signaller.takes = True
        tracker.open[0].say(PeerOffer(HASH, b"p" * 20, b"late", "v=0"))
        await trio.sleep(ANSWER_TIME + 1)
        a.signaller.replies[-1]("v=0")
        a.signaller.replies[0]("v=0")  # a promise that was not made
        await trio.sleep(1)
        assert a.announcer.signalling().answers_sent == 0


async def test_answers_to_nothing(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        await trio.sleep(1)
        mine = next(offer_id for offer_id in a.signaller.made if offer_id)
        line = tracker.open[0]
        for offer_id in (b"x" * 20, b"x", mine, mine):
            line.say(PeerAnswer(HASH, b"p" * 20, offer_id, "v=0"))
        line.say(PeerAnswer(b"9" * 20, b"p" * 20, mine, "v=0"))  # a torrent that is not here
        await trio.sleep(1)
        assert [answer.offer_id for answer in a.signaller.answered] == [mine]
        assert a.announcer.signalling().dropped == 3


async def test_our_own_words_come_back(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        await trio.sleep(1)
        line = tracker.open[0]
        own = b"a".ljust(20, b"-")
        line.say(PeerOffer(HASH, own, b"o" * 20, "v=0"))
        line.say(PeerAnswer(HASH, own, next(filter(None, a.signaller.made)), "v=0"))
        await trio.sleep(1)
        assert a.signaller.offered == []
        assert a.signaller.answered == []


async def test_replies_to_nothing_put_nothing_off(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        for _ in range(200):
            await trio.sleep(1)
            if tracker.open:
                reply = AnnounceReply(interval=3600, min_interval=3600, seeders=9)
                tracker.open[0].say(Announced(HASH, reply))
        assert a.announcer.statistics()[0].seeders == 9
    assert len(tracker.announces()) == 5


async def test_a_tracker_id_is_given_back_and_a_warning_shown(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(
        reply=AnnounceReply(interval=30, tracker_id=b"\xff", warning="old client")
    )
    async with peer(tracker) as a:
        await trio.sleep(40)
        assert a.announcer.statistics()[0].warning == "old client"
    ids = [r.request.tracker_id for _, _, r in tracker.seen if isinstance(r, Announce)]
    assert ids == [None, b"\xff", b"\xff"]


async def test_without_websocket_trackers_there_is_nothing_to_do(
    autojump_clock: MockClock,
) -> None:
    tracker = FakeTracker()
    async with peer(tracker, tiers=(("http://t/a", "udp://t:1"),)) as a:
        await trio.sleep(10)
        assert a.announcer.statistics() == ()
        assert repr(a.announcer) == "<RtcAnnouncer []>"
    assert tracker.attempts == []


def say(tracker: FakeTracker, signaller: FakeSignaller, kind: int, n: int) -> None:
    """The tracker says something, sensible or not, over each connection."""
    ids = [offer_id for offer_id in signaller.made if offer_id] or [b"x" * 20]
    info_hash = HASH if n % 5 else b"9" * 20
    said = (
        PeerAnswer(info_hash, b"p" * 20, ids[-1 - n % len(ids)], "v=0"),
        PeerOffer(info_hash, bytes([n % 7]) * 20, bytes([n]), "v=0"),
        Announced(info_hash, AnnounceReply(interval=n, min_interval=n * 9, seeders=n)),
        Refused(info_hash if n % 3 else None, TrackerFailure(b"no")),
        "garbage",
    )
    for line in tracker.open:
        line.say(said[kind])


steps = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 5, 16, 49, 61, 700])),
    st.tuples(st.integers(0, 4), st.integers(0, 255)),
    st.tuples(
        st.sampled_from(["hang up", "down", "up", "silent", "loud", "soon", "completed", "takes"]),
        st.just(0),
    ),
)


@given(st.lists(steps, max_size=40))
def test_whatever_a_tracker_does(script: list[tuple[str | int, int]]) -> None:
    """Each offer ends once, few live and wait at a time, and nothing is raised."""

    async def play() -> None:
        tracker = FakeTracker(reply=OTHERS)
        async with peer(tracker) as a:
            signaller = a.signaller
            for what, n in script:
                if isinstance(what, int):
                    say(tracker, signaller, what, n)
                elif what == "wait":
                    await trio.sleep(n)
                elif what == "hang up":
                    for line in tracker.open:
                        line.hang_up()
                elif what in ("down", "up"):
                    tracker.down = "cannot connect" if what == "down" else None
                elif what in ("silent", "loud"):
                    tracker.silent = what == "silent"
                elif what == "soon":
                    a.announcer.announce_soon()
                elif what == "completed":
                    a.announcer.announce_completed()
                else:
                    signaller.answers_at_once = signaller.takes = not signaller.takes
                await trio.sleep(0.01)
                made = [offer_id for offer_id in signaller.made if offer_id]
                ended = len(signaller.forgotten) + len(signaller.answered)
                assert len(made) - ended <= MAX_OFFERS
                assert a.announcer.unanswered <= MAX_UNANSWERED
                assert len(a.announcer.statistics()) == 1
            await trio.sleep(1)
        assert tracker.open == []

    trio.run(play, clock=MockClock(autojump_threshold=0))


async def test_counts_are_asked_of_open_sockets_and_seldom(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=AnnounceReply(interval=60, seeders=9, leechers=8))
    async with peer(tracker, hashes=(HASH, b"2" * 20)) as a:
        await a.announcer.scrape()  # not connected yet: there is nobody to ask
        await trio.sleep(1)
        (before,) = a.announcer.statistics()
        assert (before.seeders, before.leechers, before.downloaded) == (9, 8, None)
        await a.announcer.scrape()
        await a.announcer.scrape()
        (row,) = a.announcer.statistics()
        assert (row.seeders, row.leechers, row.downloaded) == (1, 2, 3)
        assert row.counted is not None
        assert row.counted < 0.1
        asked = [each.info_hashes for _, _, each in tracker.seen if isinstance(each, Scrape)]
        assert asked == [(HASH, b"2" * 20)]
        await trio.sleep(SCRAPE_GAP)
        tracker.counts = (4, 5, 6)
        await a.announcer.scrape()
        assert a.announcer.statistics()[0].downloaded == 6


async def test_a_lost_socket_ends_the_wait_for_counts(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        await trio.sleep(1)
        tracker.silent = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.announcer.scrape)
            await trio.sleep(1)
            tracker.connections[0].hang_up()
        assert a.announcer.statistics()[0].downloaded is None


@pytest.mark.parametrize(("trackers", "each"), [(1, 5), (2, 5), (3, 3), (4, 2), (10, 1)])
async def test_many_trackers_share_the_offers_of_a_torrent(
    autojump_clock: MockClock, trackers: int, each: int
) -> None:
    tracker = FakeTracker(reply=OTHERS)
    urls = tuple(f"wss://{number}.example/" for number in range(trackers))
    async with peer(tracker, tiers=(urls,)):
        await trio.sleep(1)
    started = [offers for _, event, offers in tracker.announces() if event == "started"]
    assert started == [each] * trackers


async def test_the_second_hash_of_a_hybrid_gets_few_offers(autojump_clock: MockClock) -> None:
    """None at first, and one where the tracker counts others: most of them know the first, too."""
    tracker = FakeTracker(reply=AnnounceReply(interval=60, seeders=1, leechers=0))
    second = b"2" * 20
    async with peer(tracker, hashes=(HASH, second)):
        await trio.sleep(50)
        tracker.reply = OTHERS
        await trio.sleep(90)
    found: dict[bytes, list[int]] = {HASH: [], second: []}
    for _, _, request in tracker.seen:
        if isinstance(request, Announce) and request.request.event != "stopped":
            found[request.request.info_hash].append(len(request.offers))
    assert found == {HASH: [5, 1, 1], second: [0, 0, 1]}


async def test_fewer_offers_than_wanted_are_made_up_for(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        a.announcer.on_room()  # nothing is lacking yet
        a.signaller.wanted = 1
        await trio.sleep(1)
        assert a.signaller.begun == 1
        a.signaller.wanted = 100
        a.announcer.on_room()
        await trio.sleep(20)
        a.announcer.on_room()  # nothing is lacking any more
        await trio.sleep(20)
    assert a.signaller.begun == 0
    announces = [told for told in tracker.announces() if told[1] != "stopped"]
    assert announces == [(0.2, "started", 1), (15.2, "", 1)]


async def test_offers_that_were_lost_are_not_counted(autojump_clock: MockClock) -> None:
    tracker = FakeTracker(reply=OTHERS)
    async with peer(tracker) as a:
        await trio.sleep(1)
        lost = [offer_id for offer_id in a.signaller.made if offer_id]
        a.announcer.on_offers_lost(lost)
        a.announcer.announce_soon()
        await trio.sleep(20)
        tracker.open[0].say(PeerAnswer(HASH, b"p" * 20, lost[0], "v=0"))
        await trio.sleep(1)
        assert a.signaller.answered == []
        assert a.announcer.signalling().dropped == 1
        a.signaller.forgotten += lost  # by the signaller, who lost them
    assert [offers for _, _, offers in tracker.announces()] == [5, 5, 0]
