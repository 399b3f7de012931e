"""`/metrics`: the mount in the text format of Prometheus.

Nothing is counted for this alone: at a scrape the counters that the mount has anyway are looked at
and put into words. The registry is the application's own.

A counter may never go down, but a torrent that is removed takes its numbers along: what was last
seen of it stays in the sums.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from torrentfs import __version__
from torrentfs.daemon.control import describe
from torrentfs.daemon.control.contract import Subject
from torrentfs.daemon.control.errors import responses
from torrentfs.daemon.control.models import Torrent
from torrentfs.engine.meters import BOUNDS, MEMORY, NOBODY, Histogram

TEXT = "text/plain; version=0.0.4; charset=utf-8"
STATES = (
    "metadata", "failed", "asleep", "queued", "ready", "fetching", "stalled", "complete", "paused",
)  # fmt: skip


def label(text: str) -> str:
    """`web seed` as a label's value."""
    return text.replace(" ", "_")


class Sums:
    """Counters over all torrents, those that are gone included."""

    _FIELDS = ("downloaded", "uploaded", "wasted", "hash_failures")

    def __init__(self) -> None:
        self._gone: dict[str, int] = {}
        self._seen: dict[str, dict[str, int]] = {}

    def update(self, torrents: Iterable[Torrent]) -> Mapping[str, int]:
        """The sums now: by field, and by `received KIND`."""
        seen = {torrent.key: self._of(torrent) for torrent in torrents}
        for key, last in self._seen.items():
            now = seen.get(key, {})  # less than before: it went, and came again
            _add(self._gone, {name: n for name, n in last.items() if n > now.get(name, 0)})
        self._seen = seen
        total = dict(self._gone)
        for one in seen.values():
            _add(total, one)
        return total

    def _of(self, torrent: Torrent) -> dict[str, int]:
        values = {name: int(getattr(torrent, name)) for name in self._FIELDS}
        return values | {f"received {kind}": n for kind, n in torrent.received.items()}


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


class MountCollector:
    """Looks at the mount when it is asked."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._sums = Sums()

    def collect(self) -> Iterator[Metric]:
        """All metrics, now."""
        subject = self._subject
        torrents = describe.torrents(subject)
        info = {"version": __version__, "mountpoint": describe.clean(str(subject.mountpoint))}
        yield InfoMetricFamily("torrentfs", "The mount", info)
        yield from self._of_torrents(torrents)
        yield from self._of_reads(torrents)
        yield from self._of_webrtc()
        yield from self._of_cache()
        yield from self._of_limits()

    def _of_torrents(self, torrents: list[Torrent]) -> Iterator[Metric]:
        states = GaugeMetricFamily("torrentfs_torrents", "Torrents by state", labels=["state"])
        counts = dict.fromkeys(STATES, 0)
        peers: dict[str, int] = {}
        for torrent in torrents:
            counts[torrent.state] = counts.get(torrent.state, 0) + 1
        for item in self._subject.library.items.values():
            if item.volume is not None and item.volume.torrent is not None:
                for peer in item.volume.statistics().peers:
                    peers[peer.kind] = peers.get(peer.kind, 0) + 1
        for state, count in counts.items():
            states.add_metric([state], count)
        yield states
        connected = GaugeMetricFamily(
            "torrentfs_peers", "Connected peers and web seeds", labels=["source"]
        )
        for kind, count in sorted(peers.items()):
            connected.add_metric([label(kind)], count)
        yield connected
        sums = self._sums.update(torrents)
        received = CounterMetricFamily(
            "torrentfs_received_bytes", "Payload received, by source", labels=["source"]
        )
        for name, value in sorted(sums.items()):
            kind = name.removeprefix("received ")
            if kind != name:
                received.add_metric([label(kind)], value)
        yield received
        for name, field, text in (
            ("torrentfs_useful_bytes", "downloaded", "Payload received that was wanted"),
            ("torrentfs_wasted_bytes", "wasted", "Payload received in vain: late, twice, wrong"),
            ("torrentfs_sent_bytes", "uploaded", "Payload sent to peers"),
            ("torrentfs_hash_failures", "hash_failures", "Pieces and blocks that failed a check"),
        ):
            yield CounterMetricFamily(name, text, value=sums.get(field, 0))

    def _of_reads(self, torrents: list[Torrent]) -> Iterator[Metric]:
        meters = self._subject.session.meters
        reads = HistogramMetricFamily(
            "torrentfs_read_seconds",
            "Time that reads took, by who gave the last of the bytes",
            labels=["source", "result"],
        )
        size = CounterMetricFamily(
            "torrentfs_read_bytes", "Bytes read, by source", labels=["source"]
        )
        at_once = Histogram()
        at_once.counts[0] = meters.memory_reads
        reads.add_metric([MEMORY, "answered"], buckets_of(at_once), at_once.sum)
        size.add_metric([MEMORY], meters.memory_bytes)
        for who, histogram in sorted(meters.answered.items()):
            reads.add_metric([label(who), "answered"], buckets_of(histogram), histogram.sum)
            size.add_metric([label(who)], meters.sizes[who])
        reads.add_metric([NOBODY, "failed"], buckets_of(meters.failed), meters.failed.sum)
        yield reads
        yield size
        first = HistogramMetricFamily(
            "torrentfs_first_byte_seconds", "Time of the first read of each opening of a file"
        )
        histogram = self._subject.first_bytes
        first.add_metric([], buckets_of(histogram), histogram.sum)
        yield first
        yield CounterMetricFamily(
            "torrentfs_cache_hits", "Reads that the cache answered", value=meters.hits
        )
        yield CounterMetricFamily(
            "torrentfs_cache_misses", "Reads that waited for the swarm", value=meters.misses
        )
        blocked = sum(torrent.blocked_reads for torrent in torrents)
        yield GaugeMetricFamily("torrentfs_reads_blocked", "Reads that wait for bytes", blocked)
        line = getattr(self._subject.admission, "waiting", 0)
        yield GaugeMetricFamily("torrentfs_reads_in_line", "Reads that wait for a slot", line)

    def _of_webrtc(self) -> Iterator[Metric]:
        now = describe.webrtc(self._subject.session)
        if now is None:
            return
        yield GaugeMetricFamily(
            "torrentfs_webrtc_workers", "Processes that speak WebRTC", len(now.workers)
        )
        yield CounterMetricFamily(
            "torrentfs_webrtc_worker_deaths", "Times that one died", value=now.restarts
        )
        connections = GaugeMetricFamily(
            "torrentfs_webrtc_connections", "WebRTC connections", labels=["state"]
        )
        connections.add_metric(["offered"], now.offers)
        connections.add_metric(["open"], now.open)
        connections.add_metric(["other"], now.connections - now.offers - now.open)
        yield connections
        said = now.signalling
        for name, text, sent, received in (
            ("offers", "Offers by WebSocket trackers", said.offers_sent, said.offers_received),
            ("answers", "Answers to them", said.answers_sent, said.answers_received),
        ):
            family = CounterMetricFamily(f"torrentfs_webrtc_{name}", text, labels=["direction"])
            family.add_metric(["sent"], sent)
            family.add_metric(["received"], received)
            yield family
        yield CounterMetricFamily(
            "torrentfs_webrtc_dropped",
            "Offers beyond the limits, and answers to nothing",
            value=said.dropped,
        )

    def _of_cache(self) -> Iterator[Metric]:
        cache = self._subject.session.cache
        now, config = cache.statistics(), cache.config
        used = GaugeMetricFamily("torrentfs_cache_bytes", "Bytes kept", labels=["place"])
        used.add_metric(["disk"], now.disk_bytes + now.idle_bytes + now.others_bytes)
        used.add_metric(["memory"], now.memory_bytes)
        used.add_metric(["unwritten"], now.unwritten_bytes)
        yield used
        most = GaugeMetricFamily("torrentfs_cache_limit_bytes", "Most to keep", labels=["place"])
        most.add_metric(["disk"], config.size)
        most.add_metric(["memory"], config.memory_limit)
        yield most
        yield CounterMetricFamily(
            "torrentfs_cache_written_bytes", "Bytes written to disk", value=now.written_bytes
        )
        yield CounterMetricFamily(
            "torrentfs_cache_evicted_pieces",
            "Pieces given up to make room",
            value=now.evicted_pieces,
        )
        trouble = now.disk_trouble is not None
        yield GaugeMetricFamily("torrentfs_cache_trouble", "1: the disk cannot be used", trouble)

    def _of_limits(self) -> Iterator[Metric]:
        now = describe.limits(self._subject.session)
        rates = GaugeMetricFamily(
            "torrentfs_rate_limit_bytes", "Bytes a second; +Inf: no limit", labels=["direction"]
        )
        for direction, rate in (("down", now.download_limit), ("up", now.upload_limit)):
            rates.add_metric([direction], float("inf") if rate is None else rate)
        yield rates
        yield GaugeMetricFamily(
            "torrentfs_active_limit", "Torrents with traffic at once", now.max_active
        )


def buckets_of(histogram: Histogram) -> list[tuple[str, float]]:
    """As Prometheus counts them: each bucket includes those below."""
    found: list[tuple[str, float]] = []
    below = 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), histogram.counts, strict=True):
        below += count
        found.append((bound, below))
    return found


def make_router(subject: Subject) -> APIRouter:
    """The route, for one mount."""
    router = APIRouter(tags=["mount"])
    registry = CollectorRegistry(auto_describe=False)
    collector: Any = MountCollector(subject)
    registry.register(collector)
    ProcessCollector(registry=registry)

    @router.get(
        "/metrics",
        response_class=Response,
        responses={
            **responses(),
            200: {"description": "See docs/metrics.md", "content": {"text/plain": {}}},
        },
    )
    async def show_metrics() -> Response:
        """The metrics, for Prometheus."""
        return Response(generate_latest(registry), media_type=TEXT)

    return router
