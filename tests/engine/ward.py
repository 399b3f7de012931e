"""Torrents that sleep, in memory and virtual time: a real `Dormitory` over a host without a cache.

`alive` torrents get a seeder `delay` seconds after they became active; the others stay alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, cast

import trio

from tests.engine.kit import OUR_ID, PIECE, FakeStore, Rig
from tests.transports.torrents import Sample, sample
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.dormant import Dormant, Outfit, Shelving
from torrentfs.engine.dormitory import Dormitory
from torrentfs.engine.limits import Limits
from torrentfs.engine.swarm import Places, Swarm
from torrentfs.engine.torrent import Torrent
from torrentfs.metainfo.torrent_file import Metainfo
from torrentfs.scheduling.turns import Turns


class WardCache:
    """What the dormitory asks of a `Cache`, over the stores of the ward."""

    def __init__(self, stores: dict[str, FakeStore]) -> None:
        self.trouble: str | None = None
        self.pins: dict[str, tuple[range, ...]] = {}
        self.kept: list[Metainfo] = []
        self._stores = stores

    async def lacks(self, key: str, pieces: Sequence[range]) -> bool:
        await trio.lowlevel.checkpoint()
        return any(piece not in self._stores[key].have for run in pieces for piece in run)

    async def keep_metadata(self, metainfo: Metainfo, added: float) -> float:
        await trio.lowlevel.checkpoint()
        self.kept.append(metainfo)
        return added

    async def keep_pins(self, pins: Mapping[str, Sequence[range]]) -> None:
        await trio.lowlevel.checkpoint()
        self.pins.update({key: tuple(pieces) for key, pieces in pins.items()})

    async def evict(self, store: FakeStore, pieces: Sequence[int]) -> int:
        await trio.lowlevel.checkpoint()
        key = next(key for key, each in self._stores.items() if each is store)
        kept = {piece for run in self.pins.get(key, ()) for piece in run}
        gone = [piece for piece in pieces if piece not in kept]
        for piece in gone:
            store.evict(piece)
        return len(gone) * PIECE


class Ward:
    """A `Host` and its `Dormitory`."""

    def __init__(self, nursery: trio.Nursery, places: int, idle: float, timeout: float) -> None:
        self.config = SessionConfig(
            cache_dir=Path("/nonexistent"), tcp=False, readahead=0, read_timeout=timeout
        )
        self.nursery = nursery
        self.stores: dict[str, FakeStore] = {}
        self.cache: Any = WardCache(self.stores)
        self.dormitory = Dormitory(self, Turns(places, idle), nursery)
        self.samples: dict[str, Sample] = {}
        self.alive: set[str] = set()
        self.delay = 0.0
        self.events: list[str] = []
        """`open a`, `run a`, `rest a`, `close a`."""
        self.gate: trio.Event | None = None
        """While set, opening waits for it: a slow disk."""
        self.error: Exception | None = None
        """What opening raises."""
        self.most_active = 0

    def shelve(
        self, name: str, *, alive: bool = True, have: bool = False, pieces: int = 4
    ) -> Dormant:
        content = sample(pieces * PIECE, name=name, piece_length=PIECE)
        key = content.metainfo.hashes.key
        self.samples[key] = content
        store = self.stores[key] = FakeStore(content.metainfo.geometry.num_pieces)
        if have:
            store.fill(content)
        if alive:
            self.alive.add(key)
        shelving = Shelving(metainfo=content.metainfo, peers=[("10.9.9.9", 9)])
        dormant = Dormant(
            shelving,
            self.dormitory,
            added=1.0,
            pieces=store.have.count,
            timeout=self.config.read_timeout,
        )
        self.dormitory.volumes[key] = dormant
        return dormant

    def space(self, dormant: Dormant) -> bytes:
        return self.samples[dormant.key].space

    async def open_dormant(self, dormant: Dormant) -> Torrent:
        self.events.append(f"open {dormant.metainfo.name}")
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        store = self.stores[dormant.key]
        torrent = Torrent(
            dormant.metainfo,
            cast("Any", store),
            config=self.config,
            limits=Limits(),
            added=dormant.added,
            rng=Random(1),
            client_version="torrentfs/test",
            listen_port=6881,
        )
        store.on_evicted = torrent.on_evicted
        if dormant.outfit is None:
            swarm = Swarm(
                dormant.metainfo.hashes,
                None,
                peer_id=OUR_ID,
                config=self.config,
                places=Places(100),
            )
            dormant.outfit = Outfit(swarm, [])
        dormant.outfit.swarm.talk = torrent.talk
        torrent.attach_swarm(*dormant.outfit)
        for address, origin in dormant.peers:
            torrent.swarm.add_peers([address], origin)
        dormant.peers.clear()
        return torrent

    async def run_torrent(
        self, torrent: Torrent, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        key, name = torrent.metainfo.hashes.key, torrent.metainfo.name
        self.events.append(f"run {name}")
        torrents = [volume.torrent for volume in self.dormitory.volumes.values()]
        active = sum(each is not None and each.inactive is None for each in torrents)
        self.most_active = max(self.most_active, active)
        try:
            if key in self.alive:
                self.nursery.start_soon(self._seed, torrent)
            await torrent.run(task_status)
        finally:
            self.events.append(f"rest {name}")

    async def _seed(self, torrent: Torrent) -> None:
        await trio.sleep(self.delay)
        if torrent.inactive is None:
            key = torrent.metainfo.hashes.key
            rig = Rig(self.samples[key], torrent, torrent.swarm, self.stores[key], self.nursery)
            await rig.seeder(host=f"10.0.0.{list(self.samples).index(key) + 1}")

    async def close_torrent(self, torrent: Torrent) -> None:
        await trio.lowlevel.checkpoint()
        self.stores[torrent.metainfo.hashes.key].on_evicted = lambda pieces: None
        self.events.append(f"close {torrent.metainfo.name}")

    def take(self) -> list[str]:
        """What happened since the last call."""
        events, self.events = self.events, []
        return events


@asynccontextmanager
async def ward(places: int = 2, idle: float = 300.0, timeout: float = 120.0) -> AsyncIterator[Ward]:
    async with trio.open_nursery() as nursery:
        made = Ward(nursery, places, idle, timeout)
        nursery.start_soon(made.dormitory.run)
        yield made
        nursery.cancel_scope.cancel()
