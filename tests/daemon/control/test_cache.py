"""The cache over the API, with a real one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import trio

from tests.daemon.control.fakes import FakeMount, client_of, fake_mount
from tests.daemon.control.test_guard import Request
from tests.storage.caches import MIB, config, ignore, put_all, tree_of
from tests.storage.torrents import make
from torrentfs.errors import DataUnavailable
from torrentfs.storage import Cache, TorrentStore, open_cache


@asynccontextmanager
async def cached(tmp_path: Path) -> AsyncIterator[tuple[FakeMount, Cache, TorrentStore]]:
    """A mount of `sample`, whose cache has another torrent, too."""
    mount = fake_mount()
    async with open_cache(config(tmp_path)) as cache:
        other = make(MIB, name="other")
        store = await cache.open_torrent(other.metainfo, ignore)
        await put_all(store, other)
        await cache.close_torrent(store)
        sample = make()
        store = await cache.open_torrent(sample.metainfo, ignore)
        await put_all(store, sample)
        await cache.flush()
        mount.session.cache = cache  # type: ignore[assignment]
        mount.volume.torrent = SimpleNamespace(store=store, metainfo=sample.metainfo)
        yield mount, cache, store


async def test_who_takes_how_much(tmp_path: Path) -> None:
    async with cached(tmp_path) as (mount, _, _), client_of(mount.app) as client:
        found = (await client.get("/api/v1/cache")).json()
    rows = [(t["name"], t["listed"], t["open"]) for t in found["torrents"]]
    assert rows == [("other", False, False), ("sample", True, True)]
    assert found["torrents"][0]["used"] >= MIB


async def test_it_is_shrunk(tmp_path: Path) -> None:
    async with cached(tmp_path) as (mount, _, _), client_of(mount.app) as client:
        reply = await client.post("/api/v1/cache/prune", json={"size": 300_000})
        assert reply.json()["freed"] >= MIB
        found = (await client.get("/api/v1/cache")).json()
        assert [torrent["name"] for torrent in found["torrents"]] == ["sample"]
        for wrong in ({}, {"size": -1}, {"size": "0"}):
            assert (await client.post("/api/v1/cache/prune", json=wrong)).status_code == 422


async def test_what_is_damaged_is_found(tmp_path: Path) -> None:
    async with cached(tmp_path) as (mount, _, _), client_of(mount.app) as client:
        reply = await client.post("/api/v1/cache/verify", json={})
        assert reply.json() == {"pieces": 7, "bytes": 209_842, "bad": 0}
        place = tree_of(tmp_path, make()) / "sample" / "two.bin"
        before = place.stat()
        place.write_bytes(bytes(16_384))
        os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
        reply = await client.post("/api/v1/cache/verify", json={"torrent": "sample"})
        assert reply.json()["bad"] in (1, 2)
        reply = await client.post("/api/v1/cache/verify", json={"torrent": "nothing"})
        assert reply.status_code == 404


async def test_one_verifies_at_a_time_and_no_longer_than_it_is_wanted(tmp_path: Path) -> None:
    async with cached(tmp_path) as (mount, _, store):
        begun = trio.Event()

        async def verify(piece: int) -> bool:
            begun.set()
            await trio.sleep_forever()
            return True

        store.verify = verify  # type: ignore[method-assign]
        headers = [(b"content-type", b"application/json")]
        path = "/api/v1/cache/verify"
        request = Request(b"{}", path=path, raw_path=path.encode(), headers=headers)
        gone = trio.Event()
        request.when_read = gone
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request.ask, mount.app)
            await begun.wait()
            async with client_of(mount.app) as client:
                assert (await client.post(path, json={})).status_code == 409
            gone.set()
        del store.verify  # type: ignore[method-assign]
        async with client_of(mount.app) as client:
            assert (await client.post(path, json={})).status_code == 200


async def test_a_torrent_that_cannot_be_opened_is_told() -> None:
    mount = fake_mount()

    async def wake() -> None:
        raise DataUnavailable("the cache did not open it in 120 s")

    mount.volume.wake = wake  # type: ignore[method-assign]
    async with client_of(mount.app) as client:
        reply = await client.post("/api/v1/cache/verify", json={})
    assert reply.status_code == 503
    assert "did not open" in reply.json()["error"]


async def test_a_cache_without_a_disk_is_told(tmp_path: Path) -> None:
    mount = fake_mount()
    mount.session.cache = Cache(config(tmp_path))  # type: ignore[assignment]
    async with client_of(mount.app) as client:
        reply = await client.get("/api/v1/cache")
    assert reply.status_code == 503
    assert "in memory only" in reply.json()["error"]
