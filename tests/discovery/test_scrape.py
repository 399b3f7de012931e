"""Asking for counts, in virtual time: of whom, how many at once, how often, and how long."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.discovery.test_trackers import FakeTrackers, running, with_peers
from torrentfs.discovery.scrape import SCRAPE_TIME, scrape
from torrentfs.discovery.tracker import SCRAPE_GAP
from torrentfs.errors import TransportError
from torrentfs.wire.announce import AnnounceReply, SwarmCounts


async def test_all_trackers_of_a_torrent_are_asked_and_seldom(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=with_peers(seeders=50, leechers=60), b=with_peers())
    fake.counts["b"] = TransportError("its URL has no place for counts")
    async with running([["a"], ["b"]], fake) as run:
        await trio.sleep(1)
        before = run.tiers.statistics()[0]  # what the announce told cost nothing
        assert (before.seeders, before.leechers, before.downloaded) == (50, 60, None)
        assert before.counted == pytest.approx(0.9)
        assert fake.scraped == []
        await scrape([run.tiers])
        await scrape([run.tiers])
        a, b = run.tiers.statistics()
        assert (a.seeders, a.leechers, a.downloaded, a.scrape_error) == (1, 2, 3, None)
        assert (b.seeders, b.scrape_error) == (None, "its URL has no place for counts")
        assert sorted(url for _, url, _ in fake.scraped) == ["a", "b"]
        await trio.sleep(SCRAPE_GAP)
        await scrape([run.tiers])
        assert len(fake.scraped) == 4
        assert run.tiers.statistics()[0].counted == 0


async def test_torrents_at_one_tracker_are_asked_for_together(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=with_peers())
    one, two = (b"1" * 20, b"2" * 20), (b"3" * 20,)
    async with running([["a"]], fake, one) as first, running([["a"]], fake, two) as second:
        await trio.sleep(1)
        await scrape([first.tiers, second.tiers])
        assert [hashes for _, _, hashes in fake.scraped] == [one + two]
        for run in (first, second):
            assert run.tiers.statistics()[0].downloaded == 3


async def test_many_are_asked_for_in_parts(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(a=with_peers())
    hashes = tuple(b"%020d" % n for n in range(100))
    async with running([["a"]], fake, hashes) as run:
        await trio.sleep(1)
        await scrape([run.tiers])
        assert [len(some) for _, _, some in fake.scraped] == [40, 40, 20]


async def test_nothing_is_asked_for_what_sleeps_or_is_down(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(up=with_peers(), down=TransportError("refused"))
    async with running([["down"], ["up"]], fake) as run:
        await trio.sleep(1)
        await scrape([run.tiers])
        assert [url for _, url, _ in fake.scraped] == ["up"]
        run.scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(2 * SCRAPE_GAP)
            assert not run.tiers.is_running
            await scrape([run.tiers])
    assert len(fake.scraped) == 1


async def test_whoever_looks_does_not_wait_for_long(autojump_clock: MockClock) -> None:
    fake = FakeTrackers(silent=with_peers(), good=with_peers())
    async with running([["silent"], ["good"]], fake) as run:
        await trio.sleep(1)
        fake.delay["silent"] = 1000.0
        started = trio.current_time()
        await scrape([run.tiers])
        assert trio.current_time() - started == SCRAPE_TIME
        shown = {row.url[5:]: row for row in run.tiers.statistics()}
        assert shown["silent"].scrape_error == "no answer yet"
        assert shown["good"].downloaded == 3


async def test_what_nobody_asked_for_is_ignored(autojump_clock: MockClock) -> None:
    class Liar(FakeTrackers):
        async def scrape(self, url: str, info_hashes: object) -> dict[bytes, SwarmCounts]:
            await trio.lowlevel.checkpoint()
            return {b"9" * 20: SwarmCounts(9, 9, 9)}

    fake = Liar(a=AnnounceReply())
    async with running([["a"]], fake) as run:
        await trio.sleep(1)
        await scrape([run.tiers])
        assert run.tiers.statistics()[0].seeders is None
