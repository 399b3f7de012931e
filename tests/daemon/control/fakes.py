"""A mount without engine or FUSE, and a client that asks its application in the same process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import trio

from tests.storage.torrents import Sample, make
from torrentfs.daemon.control.access import Endpoint
from torrentfs.daemon.control.app import make_app
from torrentfs.daemon.control.contract import Subject
from torrentfs.daemon.sources import MagnetSource, shorten
from torrentfs.discovery.websocket_statistics import SignallingStatistics
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.errands import Errands, Pin, Prefetch
from torrentfs.engine.limits import Limits, RateLimit
from torrentfs.engine.meters import Histogram, ReadMeters
from torrentfs.engine.stats import (
    PeerStatistics,
    SessionStatistics,
    TorrentStatistics,
    WebRtcStatistics,
)
from torrentfs.engine.why import Holder, Why
from torrentfs.errors import ConfigError, DataUnavailable
from torrentfs.metainfo.torrent_file import Metainfo, parse_torrent
from torrentfs.storage.base import CacheConfig, CacheStatistics
from torrentfs.transports.webrtc.bridge import RtcStatistics
from torrentfs.vfs.admission import Admission
from torrentfs.vfs.tree import Tree, TreeOptions
from torrentfs.vfs.views import View

MAGNET = "magnet:?xt=urn:btih:" + "b" * 40 + "&dn=wanted"
MIB = 1024 * 1024


class FakeVolume:
    """Bytes of a sample; reads can be held, or failed from an offset on."""

    def __init__(self, sample: Sample, added: float = 1_700_000_000.0) -> None:
        self.metainfo = sample.metainfo
        self.added = added
        self.state = "asleep"
        self.torrent: Any = None
        self.opens = 0
        self.reads: list[tuple[int, int, int]] = []
        self.waiting = 0
        self.held: trio.Event | None = None
        self.fails_from: int | None = None
        self.peers: tuple[PeerStatistics, ...] = ()
        self.downloaded = 0
        self.errands = Errands(sample.metainfo.geometry)
        self._space = b"".join(
            piece.ljust(sample.metainfo.geometry.piece_length, b"\0") for piece in sample.pieces
        )

    def content(self, file: int) -> bytes:
        geometry = self.metainfo.geometry
        start = geometry.file_starts[file]
        return self._space[start : start + geometry.file_lengths[file]]

    async def read(self, file: int, offset: int, size: int) -> bytes:
        self.reads.append((file, offset, size))
        self.waiting += 1
        try:
            await trio.lowlevel.checkpoint()
            if self.held is not None:
                await self.held.wait()
        finally:
            self.waiting -= 1
        if self.fails_from is not None and offset + size > self.fails_from:
            raise DataUnavailable("no peers connected")
        return self.content(file)[offset : offset + size]

    def on_open(self, file: int) -> None:
        self.opens += 1

    def on_release(self, file: int) -> None:
        self.opens -= 1

    async def wake(self) -> Any:
        await trio.lowlevel.checkpoint()
        return self.torrent

    @asynccontextmanager
    async def awake(self) -> AsyncIterator[Any]:
        yield await self.wake()

    def fail_reads(self, reason: str) -> None:
        raise NotImplementedError

    @property
    def pins(self) -> tuple[Pin, ...]:
        return self.errands.pins

    def prefetch_all(self, pins: Sequence[Pin], path: str = "") -> Prefetch:
        return self.errands.prefetch(pins, path)

    async def why(self, file: int, offset: int) -> Why:
        await trio.lowlevel.checkpoint()
        if offset >= self.metainfo.files[file].length:
            raise ConfigError("the file is not that long")
        holder = Holder(
            name="10.0.0.1:7", kind="tcp", client="x", choked=False, interested=True,
            asked=3, since=4.2, rate=5000.0, failure="",
        )  # fmt: skip
        return Why(
            file=file, offset=offset, piece=2, block=1, state="asked", words="asked in vain",
            size=32768, received=16384, waits=4.5, deadline=115.5, peers=2, holders=(holder,),
        )  # fmt: skip

    def xattrs(self) -> dict[str, str]:
        return {}

    def statistics(self) -> TorrentStatistics:
        geometry = self.metainfo.geometry
        return TorrentStatistics(
            name=self.metainfo.name,
            key=self.metainfo.hashes.key,
            state=self.state,
            size=sum(geometry.file_lengths),
            pieces_have=0,
            pieces_total=geometry.num_pieces,
            download_rate=0.0,
            upload_rate=0.0,
            downloaded=self.downloaded,
            uploaded=0,
            wasted=0,
            hash_failures=0,
            waiting_reads=self.waiting,
            peers=self.peers,
            bytes_by_kind={"tcp": self.downloaded},
        )


@dataclass
class FakeItem:
    key: str
    name: str
    source: str
    origin: str = "added"
    folder: tuple[str, ...] = ()
    added: float = 1_700_000_000.0
    metainfo: Metainfo | None = None
    volume: FakeVolume | None = None
    path: tuple[str, ...] | None = None
    trouble: str = ""
    state: str = "asleep"
    published: list[Any] = field(default_factory=list)


@dataclass
class FakeLibrary:
    tree: Tree
    items: dict[str, FakeItem] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def put(self, sample: Sample, added: float = 1_700_000_000.0) -> FakeItem:
        volume = FakeVolume(sample, added)
        key = sample.metainfo.hashes.key
        path = self.tree.add(volume)
        item = FakeItem(
            key,
            sample.metainfo.name,
            "sample.torrent",
            added=added,
            metainfo=sample.metainfo,
            volume=volume,
            path=path,
        )
        self.items[key] = item
        return item

    async def add(
        self,
        source: Any,
        *,
        folder: Sequence[str] = (),
        origin: str = "added",
        paused: bool = False,
    ) -> FakeItem:
        await trio.lowlevel.checkpoint()
        self.calls.append(("add", source, tuple(folder), paused))
        if not isinstance(source, MagnetSource):
            raise ConfigError(f"cannot fetch {shorten(source.text)}: no such server")
        key = source.magnet.hashes.key
        item = FakeItem(key, source.magnet.name or key, source.text, folder=tuple(folder))
        item.state = "metadata"
        self.items[key] = item
        return item

    async def add_torrent(self, data: bytes, *, folder: Sequence[str] = ()) -> FakeItem:
        metainfo = parse_torrent(data)
        await trio.lowlevel.checkpoint()
        self.calls.append(("add_torrent", len(data), tuple(folder)))
        item = FakeItem(metainfo.hashes.key, metainfo.name, "", metainfo=metainfo)
        item = replace(item, path=(metainfo.name,), folder=tuple(folder))
        self.items[item.key] = item
        return item

    async def remove(self, key: str, *, evict: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        self.calls.append(("remove", key, evict))
        del self.items[key]

    async def pin(self, key: str, pins: Sequence[Pin]) -> None:
        volume = self.items[key].volume
        assert volume is not None
        kept = volume.errands.with_pins(pins)
        if sum(map(len, kept)) > 200_000:
            raise ConfigError("no room to pin 1.0 MiB")
        volume.errands.keep(kept)

    async def unpin(self, key: str, pins: Sequence[Pin]) -> None:
        volume = self.items[key].volume
        assert volume is not None
        volume.errands.keep(volume.errands.without_pins(pins))

    async def evict(self, key: str, file: int | None = None, *, pinned: bool = False) -> int:
        self.calls.append(("evict", key, file, pinned))
        return 1024

    async def pause(self, key: str) -> None:
        self.items[key].state = "paused"

    async def resume(self, key: str) -> None:
        self.items[key].state = "asleep"

    def by_hash(self, text: str) -> FakeItem | None:
        for item in self.items.values():
            assert item.metainfo is not None
            hashes = item.metainfo.hashes
            if text in [form.hex() for form in (hashes.v1, hashes.v2) if form is not None]:
                return item
        return None

    def find(self, text: str) -> FakeItem:
        for item in self.items.values():
            if text in (item.key, item.name) or (len(text) >= 6 and item.key.startswith(text)):
                return item
        raise ConfigError(f"no torrent is called {text[:50]!r}")

    def locate(self, path: tuple[str, ...]) -> tuple[FakeItem, int | None]:
        for item in self.items.values():
            if item.path and path[: len(item.path)] == item.path:
                rest = path[len(item.path) :]
                assert item.metainfo is not None
                for number, file in enumerate(item.metainfo.files):
                    if file.path == rest:
                        return item, number
                if any(file.path[: len(rest)] == rest for file in item.metainfo.files):
                    return item, None
        raise ConfigError(f"there is nothing at {'/'.join(path)}")


class FakeSession:
    port = 6881
    trouble = ""

    def __init__(self) -> None:
        self.config = SessionConfig(port=self.port)
        self.meters = ReadMeters()
        self.webrtc: WebRtcStatistics | None = None
        self.signalling = SimpleNamespace(statistics=lambda: self.webrtc)
        self.limits = Limits(RateLimit(None), RateLimit(MIB))
        self.dormitory = SimpleNamespace(turns=SimpleNamespace(places=32))
        self.cache = SimpleNamespace(
            config=CacheConfig(Path("/cache"), 100 * MIB, 10 * MIB, 0),
            statistics=lambda: CacheStatistics(1, 2, 3, 4, 5, 6, 7, None),
        )

    def set_limits(self, **limits: int | None) -> None:
        if "download" in limits:
            self.limits.download.rate = limits["download"]
        if "upload" in limits:
            self.limits.upload.rate = limits["upload"]
        if "max_active" in limits:
            self.dormitory.turns.places = limits["max_active"]

    def statistics(self) -> SessionStatistics:
        return SessionStatistics(port=self.port, webrtc=self.webrtc)


BROWSERS = WebRtcStatistics(
    RtcStatistics(
        workers=(42,),
        restarts=1,
        connections=9,
        offers=5,
        open=3,
        trouble="turn:relay refuses the credentials (401)",
    ),
    SignallingStatistics(20, 4, 6, 5, 1),
)
"""What a session says of browsers that it met."""


@dataclass
class FakeMount:
    """`subject` for the application, and its parts for the test."""

    library: FakeLibrary
    session: FakeSession
    subject: Subject
    app: Any
    item: FakeItem

    @property
    def volume(self) -> FakeVolume:
        assert self.item.volume is not None
        return self.item.volume


def fake_mount(view: View | None = None) -> FakeMount:
    """A mount of one torrent, `sample`."""
    tree = Tree(TreeOptions(view=view or View()))
    library = FakeLibrary(tree)
    item = library.put(make())
    session = FakeSession()
    subject = Subject(
        Path("/m"), library, session, tree, Admission(), Histogram(), "", 5.0, 1_700_000_000.0
    )
    return FakeMount(library, session, subject, make_app(subject), item)


def with_state(app: Any, endpoint: Endpoint | None = None, abort: Any = None) -> Any:
    """The application as the server calls it for connections of `endpoint`."""
    state = {"endpoint": endpoint or Endpoint(), "abort": abort}

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return call


@asynccontextmanager
async def client_of(
    app: Any, endpoint: Endpoint | None = None, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests reach `app` without a socket."""
    transport = httpx.ASGITransport(with_state(app, endpoint), raise_app_exceptions=False)
    settings = {"base_url": "http://localhost", **settings}
    async with httpx.AsyncClient(transport=transport, **settings) as client:
        yield client
