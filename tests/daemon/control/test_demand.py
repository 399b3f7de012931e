"""Pins, prefetches, evicting and `why` over the API."""

from __future__ import annotations

import pytest

from tests.daemon.control.fakes import client_of, fake_mount
from tests.storage.torrents import make
from torrentfs.engine.errands import Pin
from torrentfs.metainfo.intervals import groups, joined
from torrentfs.vfs.views import View


async def test_why_says_all_that_is_known() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        reply = await client.get("/api/v1/why", params={"path": "sample/two.bin", "offset": 9})
        found = reply.json()
        assert (found["state"], found["piece"], found["received"]) == ("asked", 2, 16384)
        assert found["sources"][0]["asked"] == 3
        for path, offset, status in (
            ("sample", 0, 400),
            ("sample/nothing", 0, 404),
            ("sample/two.bin", 99_999_999, 400),
            ("sample/two.bin", -1, 422),
        ):
            query = {"path": path, "offset": offset}
            assert (await client.get("/api/v1/why", params=query)).status_code == status


@pytest.mark.parametrize("form", ["v1", "v2"])
async def test_all_of_a_torrent_is_meant_by_its_info_hash(form: str) -> None:
    """Where it lies flat, its path is the folder, in which others lie too."""
    mount = fake_mount()
    item = mount.library.put(make((("a", 10), ("b", 20)), name="small", version="hybrid"))
    item.path = ()
    assert item.metainfo is not None
    assert item.volume is not None
    text = getattr(item.metainfo.hashes, form).hex()
    async with client_of(mount.app) as client:
        reply = await client.post("/api/v1/pins", json={"path": text})
        assert [pin["path"] for pin in reply.json()["pins"]] == ["small"]
        await client.post("/api/v1/pins/remove", json={"path": text})
        assert item.volume.pins == ()
        await client.post("/api/v1/evict", json={"path": text})
        assert mount.library.calls == [("evict", item.key, None, False)]


async def test_pins_come_and_go() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        reply = await client.post("/api/v1/pins", json={"path": "sample/two.bin"})
        assert reply.status_code == 200
        (pin,) = reply.json()["pins"]
        assert (pin["path"], pin["offset"], pin["length"]) == ("sample/two.bin", 0, None)
        assert 0 < pin["missing"] == pin["pieces"]
        reply = await client.post("/api/v1/pins", json={"path": "sample"})
        assert reply.status_code == 400
        assert "no room" in reply.json()["error"]
        await client.post("/api/v1/pins", json={"path": "sample/a", "offset": 5, "length": 10})
        found = (await client.get("/api/v1/pins")).json()["pins"]
        assert [(each["path"], each["length"]) for each in found] == [
            ("sample/a/one.bin", 10),
            ("sample/two.bin", None),
        ]
        await client.post("/api/v1/pins/remove", json={"path": "sample"})
        assert (await client.get("/api/v1/pins")).json()["pins"] == []


async def test_prefetches_are_listed_and_cancelled() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        reply = await client.post("/api/v1/prefetches", json={"path": "sample"})
        assert reply.status_code == 201
        assert [each["path"] for each in reply.json()["prefetches"]] == ["sample"]
        body = {"path": "sample/two.bin", "offset": 0, "length": 5}
        (second,) = (await client.post("/api/v1/prefetches", json=body)).json()["prefetches"]
        assert (second["pieces"], second["missing"]) == (1, 1)
        place = f"/api/v1/prefetches/{second['key']}/{second['number']}"
        assert (await client.delete(place)).status_code == 204
        assert (await client.delete(place)).status_code == 404
        left = (await client.get("/api/v1/prefetches")).json()["prefetches"]
        assert [each["path"] for each in left] == ["sample"]


@pytest.mark.parametrize(
    ("path", "files"), [("sample", [None]), ("sample/two.bin", [2]), ("sample/a", [0, 1])]
)
async def test_what_is_evicted(path: str, files: list[int | None]) -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        reply = await client.post("/api/v1/evict", json={"path": path, "pinned": True})
    assert reply.json() == {"freed": 1024 * len(files)}
    assert mount.library.calls == [("evict", mount.item.key, file, True) for file in files]


async def test_of_a_torrent_without_metadata_there_is_nothing_to_pin() -> None:
    mount = fake_mount()
    mount.item.volume = None
    async with client_of(mount.app) as client:
        reply = await client.post("/api/v1/pins", json={"path": "sample"})
        assert reply.status_code == 409
        assert (await client.get("/api/v1/pins")).json()["pins"] == []


async def test_what_the_mount_does_not_show_is_not_fetched() -> None:
    mount = fake_mount(view=View(exclude=("empty", "two.bin")))
    async with client_of(mount.app) as client:
        for place in ("pins", "prefetches"):
            await client.post(f"/api/v1/{place}", json={"path": "sample"})
            await client.post(f"/api/v1/{place}", json={"path": "sample/a"})
        geometry = mount.volume.metainfo.geometry
        shown = [file for file, _ in mount.library.tree.files_of(mount.item.key)]
        assert 0 < len(shown) < len(geometry.file_starts)
        spans = [
            range(geometry.file_starts[n], geometry.file_starts[n] + geometry.file_lengths[n])
            for n in shown
        ]
        errands = mount.volume.errands
        assert errands.kept == joined(spans)
        pieces = groups(spans, geometry.piece_length)
        first, second = errands.prefetches.values()
        assert (first.pieces, first.path, second.path) == (pieces, "sample", "sample/a")
        assert second.pieces == groups(spans[:1], geometry.piece_length)
        place = f"/api/v1/pins?torrent={mount.item.key}"
        assert (await client.get(place)).json()["whole"]
        await client.post("/api/v1/pins/remove", json={"path": "sample/a/one.bin", "length": 1})
        assert not (await client.get(place)).json()["whole"]
        await client.post("/api/v1/pins/remove", json={"path": "sample"})
        assert not errands.kept


@pytest.mark.parametrize("is_placed", [True, False])
async def test_what_is_not_listed_is_let_go_of_but_not_fetched(is_placed: bool) -> None:
    mount = fake_mount(view=View(exclude=("*",)))
    key = mount.item.key
    mount.item.path = None
    mount.item.trouble = "the mount shows none of its files"
    if not is_placed:
        mount.subject.tree.remove(key, 1.0)
    await mount.library.pin(key, [Pin(1)])
    async with client_of(mount.app) as client:
        for place in ("pins", "prefetches"):
            reply = await client.post(f"/api/v1/{place}", json={"path": key})
            assert reply.status_code == 409
            said = reply.json()["error"]
            assert said == "sample is not listed: the mount shows none of its files"
        assert not mount.volume.errands.prefetches
        assert (await client.post("/api/v1/pins/remove", json={"path": key})).status_code == 200
        assert mount.volume.pins == ()
        assert (await client.post("/api/v1/evict", json={"path": key})).status_code == 200
    assert mount.library.calls == [("evict", key, None, False)]
