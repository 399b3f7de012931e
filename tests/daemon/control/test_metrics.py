"""The metrics: well-formed, complete, and never going down."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.daemon.control.fakes import BROWSERS, FakeMount, client_of, fake_mount
from tests.storage.torrents import make
from torrentfs.engine.stats import PeerStatistics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(mount: FakeMount) -> Samples:
    async with client_of(mount.app) as client:
        reply = await client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


async def test_reads_are_counted_by_who_answered() -> None:
    mount = fake_mount()
    meters = mount.session.meters
    meters.memory_reads, meters.memory_bytes = 7, 700
    meters.on_answer("disk", 100, 0.002)
    meters.on_answer("web seed", 50, 0.2)
    meters.failed.add(5.0)
    mount.subject.first_bytes.add(0.3)
    found = await scrape(mount)
    count = "torrentfs_read_seconds_count"
    assert found[count, (("result", "answered"), ("source", "memory"))] == 7
    assert found[count, (("result", "answered"), ("source", "disk"))] == 1
    assert found[count, (("result", "failed"), ("source", "nobody"))] == 1
    bucket = "torrentfs_read_seconds_bucket"
    seed = (("result", "answered"), ("source", "web_seed"))
    assert found[bucket, (("le", "0.1"), *seed)] == 0
    assert found[bucket, (("le", "0.25"), *seed)] == 1
    assert found[bucket, (("le", "+Inf"), *seed)] == 1
    assert found["torrentfs_read_bytes_total", (("source", "disk"),)] == 100
    assert found["torrentfs_cache_hits_total", ()] == 8
    assert found["torrentfs_cache_misses_total", ()] == 2
    assert found["torrentfs_first_byte_seconds_sum", ()] == 0.3


async def test_torrents_peers_cache_and_limits() -> None:
    mount = fake_mount()
    mount.volume.torrent = object()
    mount.volume.peers = (PeerStatistics("192.0.2.1:1", "utp", "", 1.0, 0, 0, 0.0, 0.0, ""),)
    found = await scrape(mount)
    assert found["torrentfs_torrents", (("state", "asleep"),)] == 1
    assert found["torrentfs_torrents", (("state", "stalled"),)] == 0
    assert found["torrentfs_peers", (("source", "utp"),)] == 1
    assert found["torrentfs_cache_bytes", (("place", "disk"),)] == 12
    assert found["torrentfs_rate_limit_bytes", (("direction", "down"),)] == float("inf")
    assert found["torrentfs_rate_limit_bytes", (("direction", "up"),)] == 1024 * 1024
    assert found["torrentfs_active_limit", ()] == 32
    assert found["process_resident_memory_bytes", ()] > 0


async def test_browsers_once_there_are_any() -> None:
    mount = fake_mount()
    assert not [name for name, _ in await scrape(mount) if "webrtc" in name]
    mount.session.webrtc = BROWSERS
    found = await scrape(mount)
    name = "torrentfs_webrtc_"
    states = [found[name + "connections", (("state", s),)] for s in ("offered", "open", "other")]
    assert states == [5, 3, 1]
    assert found[name + "workers", ()] == found[name + "worker_deaths_total", ()] == 1
    for what, sent, received in (("offers", 20, 6), ("answers", 5, 4)):
        assert found[f"{name}{what}_total", (("direction", "sent"),)] == sent
        assert found[f"{name}{what}_total", (("direction", "received"),)] == received
    assert found[name + "dropped_total", ()] == 1


async def test_counters_do_not_go_down_when_a_torrent_goes() -> None:
    mount = fake_mount()
    gone = mount.library.put(make(5, name="gone.bin"))
    assert gone.volume is not None
    gone.volume.downloaded, mount.volume.downloaded = 100, 10
    name = ("torrentfs_received_bytes_total", (("source", "tcp"),))
    assert (await scrape(mount))[name] == 110
    del mount.library.items[gone.key]
    assert (await scrape(mount))[name] == 110
    mount.volume.downloaded = 11
    mount.library.put(make(5, name="gone.bin", seed=2))
    assert (await scrape(mount))[name] == 111


async def test_the_dashboard_shows_metrics_that_there_are() -> None:
    root = Path(__file__).parents[3]
    dashboard = (root / "docs/grafana/torrentfs.json").read_text()
    asked = set(re.findall(r"\b(?:torrentfs|process)_[a-z_]+", dashboard))
    mount = fake_mount()
    mount.volume.downloaded = 1
    mount.volume.torrent = object()
    mount.volume.peers = (PeerStatistics("192.0.2.1:1", "utp", "", 1.0, 0, 0, 0.0, 0.0, ""),)
    mount.session.webrtc = BROWSERS
    there = {name for name, _ in await scrape(mount)}
    assert len(asked) > 15
    assert asked <= there
    documented = (root / "docs/metrics.md").read_text()
    of_ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in there if "process" not in name}
    assert not {name for name in of_ours if f"`{name}" not in documented}


async def test_a_torrent_that_went_and_came_again_takes_nothing_from_the_sums() -> None:
    mount = fake_mount()
    found = []
    for downloaded in (100, 7, 9):  # between the first two scrapes it was removed, and added
        mount.volume.downloaded = downloaded
        found.append((await scrape(mount))["torrentfs_useful_bytes_total", ()])
    assert found == [100, 107, 109]
