"""A library without engine and kernel: real torrents and records, a session and mount that note."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import trio

from tests.storage.torrents import make
from torrentfs.daemon.library import Library, open_library
from torrentfs.errors import ConfigError, MetadataTimeout
from torrentfs.storage.base import StoredMetadata
from torrentfs.storage.records import Pin
from torrentfs.vfs.tree import Placement, Tree, TreeOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path

    from torrentfs.engine.dormant import Shelving
    from torrentfs.metainfo.hashes import InfoHashes
    from torrentfs.metainfo.magnet import Magnet
    from torrentfs.metainfo.torrent_file import Metainfo


@cache
def metainfo(name: str, seed: int = 1) -> Metainfo:
    """A small torrent; one of the same name and seed is the same one."""
    return make((("a/b", 100), ("c", 5)), name=name, seed=seed).metainfo


@dataclass
class FakeVolume:
    metainfo: Metainfo
    added: float
    select: tuple[range, ...] = ()
    state: str = "asleep"
    events: list[str] = field(default_factory=list)
    pins: tuple[Pin, ...] = ()
    asked: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    renewed: list[Shelving] = field(default_factory=list)
    is_full: bool = False
    """Whether there is no room for pins."""

    def fail_reads(self, reason: str) -> None:
        self.events.append("fail_reads")

    def hurry_reads(self, reason: str, seconds: float) -> None:
        self.events.append(f"hurry_reads {seconds:g}")

    async def renew(self, shelving: Shelving) -> bool:
        before, self.metainfo = self.metainfo, self.metainfo.renewed(shelving.metainfo)
        asked = (tuple(shelving.trackers), tuple(shelving.web_seeds))
        is_same = self.metainfo is before and asked == self.asked
        self.asked = asked
        if not is_same:
            self.renewed.append(shelving)
        return not is_same

    async def pause(self) -> None:
        self.state = "paused"

    def resume(self) -> None:
        self.state = "asleep"

    def __hash__(self) -> int:
        return id(self)

    async def pin_all(self, pins: Sequence[Pin], *, even_without_room: bool = False) -> None:
        if self.is_full and not even_without_room:
            raise ConfigError("there is no room for pins")
        self.pins = (*self.pins, *pins)

    async def unpin_all(self, pins: Sequence[Pin]) -> None:
        self.pins = tuple(pin for pin in self.pins if pin not in pins)

    async def evict(self, file: int | None = None, *, pinned: bool = False) -> int:
        self.events.append(f"evict {file}")
        if pinned:
            self.pins = ()
        return 1000


class FakeSession:
    """Knows the metadata of `swarm` after `delay` seconds, and `cached` at once."""

    client: Any = None
    dht: Any = None
    port = 6881
    trouble = ""

    def __init__(self, swarm: Iterable[Metainfo] = (), delay: float = 1.0) -> None:
        self.swarm = {one.hashes.key: one for one in swarm}
        self.delay = delay
        self.cached: dict[str, tuple[Metainfo, float]] = {}
        self.volumes: dict[str, FakeVolume] = {}
        self.resolved: list[Magnet] = []
        self.asked: dict[str, Shelving] = {}
        self.cache = SimpleNamespace(metadata=self._metadata, dates=self._dates)

    async def _dates(self, torrents: Iterable[InfoHashes]) -> list[float | None]:
        return [self.cached[one.key][1] if one.key in self.cached else None for one in torrents]

    async def _metadata(self, hashes: Any) -> StoredMetadata | None:
        found = self.cached.get(hashes.key)
        return None if found is None else StoredMetadata(found[0].to_torrent(), found[1])

    async def resolve(
        self,
        magnet: Magnet,
        *,
        timeout: float,
        on_progress: Callable[[str], None] | None = None,
    ) -> Metainfo:
        self.resolved.append(magnet)
        if on_progress is not None:
            on_progress("asking 3 peers")
        with trio.move_on_after(timeout):
            await trio.sleep(self.delay)
            for one in self.swarm.values():
                if set(magnet.hashes.wire) <= set(one.hashes.wire):
                    return one
            await trio.sleep_forever()
        raise MetadataTimeout(f"no peer gave the metadata of {magnet.hashes}")

    async def shelve_many(self, shelvings: Iterable[Shelving]) -> list[FakeVolume]:
        return [self._shelve(shelving) for shelving in shelvings]

    def _shelve(self, shelving: Shelving) -> FakeVolume:
        key = shelving.metainfo.hashes.key
        assert shelving.added
        if key in self.volumes:  # somebody still reads it
            return self.volumes[key]
        self.asked[key] = shelving
        volume = FakeVolume(shelving.metainfo, shelving.added, tuple(shelving.select))
        volume.asked = (tuple(shelving.trackers), tuple(shelving.web_seeds))
        self.volumes[key] = volume
        return volume

    async def forget(self, key: str) -> None:
        del self.volumes[key]


class FakeMount:
    """The real tree, and no kernel."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.expelled: list[Any] = []
        self.closed = trio.Event()
        self.closed.set()
        """Not set: somebody has files open."""

    async def add(
        self,
        volume: Any,
        select: Iterable[int] = (),
        folder: tuple[str, ...] = (),
        name: str | None = None,
        *,
        now: float | None = None,
    ) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return self.tree.add(volume, select, folder, name, now=now)

    async def remove(self, key: str, now: float | None = None) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        assert now is not None
        return self.tree.remove(key, now).path

    async def replace(
        self, key: str, placement: Placement, *, now: float | None = None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        await trio.lowlevel.checkpoint()
        assert now is not None
        held = self.tree.hold(placement.folder)
        went = self.tree.remove(key, now)
        came = self.tree.insert(placement, now)
        self.tree.let_go(held)
        return went.path, came.path

    async def wait_closed(self, volume: Any) -> None:
        await self.closed.wait()

    def expel(self, volume: Any) -> None:
        self.expelled.append(volume)

    def list(self) -> dict[tuple[str, ...], tuple[int, int]]:
        """Inode and time of everything."""
        found: dict[tuple[str, ...], tuple[int, int]] = {}

        def walk(path: tuple[str, ...], inode: int) -> None:
            about = self.tree.attributes(inode)
            found[path] = (inode, about.time_ns)
            if about.mode & 0o40000:
                for entry in self.tree.listing(inode).entries(2):
                    walk((*path, entry.name.decode()), entry.attributes.inode)

        walk((), 1)
        return found


class Clock:
    """A wall clock that a test sets."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


async def begin(library: Library, options: TreeOptions | None = None) -> FakeMount:
    """What the service does: the mount as it appears."""
    shown = library.places.shown()
    tree = Tree(options, folder_times=library.places.folder_times())
    tree.add_many(Placement(s.volume, s.select, s.folder, s.name) for s in shown if s.name)
    tree.add_many(Placement(s.volume, s.select, s.folder, s.name) for s in shown if not s.name)
    mount = FakeMount(tree)
    await library.on_mounted(mount)
    return mount


@asynccontextmanager
async def opened(
    path: Path | None = None, session: FakeSession | None = None, clock: Clock | None = None
) -> AsyncIterator[tuple[Library, FakeSession]]:
    """An empty library."""
    session = session or FakeSession()
    async with open_library(session, path, clock or Clock()) as library:
        yield library, session
