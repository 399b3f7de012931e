"""Pins are listed and counted each by itself, and in no time that a reader would notice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.daemon.control.fakes import client_of, fake_mount
from torrentfs.daemon.control import pinning
from torrentfs.daemon.control.pinning import kept_of, pin_list
from torrentfs.engine.errands import Errands, Pin
from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.metainfo.geometry import Geometry

PIECE = 16384


def torrent(files: int, *pins: Pin, have: Bitfield | None = None) -> Any:
    """An item of so many files of a piece and a half."""
    geometry = Geometry(PIECE, [PIECE + PIECE // 2] * files)
    errands = Errands(geometry, pins)
    errands._known = have
    metainfo = SimpleNamespace(
        geometry=geometry, files=[SimpleNamespace(path=(str(n),)) for n in range(files)]
    )
    volume = SimpleNamespace(metainfo=metainfo, errands=errands)
    return SimpleNamespace(key="k", name="t", volume=volume)


async def test_each_pin_is_counted_by_itself() -> None:
    item = torrent(4, Pin(0), Pin(2, 0, 10), have=Bitfield(6, [0]))
    found = await pin_list(kept_of([item]), 10)
    assert [(p.path, p.pieces, p.missing) for p in found.pins] == [("t/0", 2, 1), ("t/2", 1, 1)]
    assert (found.total, found.pieces, found.missing) == (2, 3, 2)


async def test_what_was_named_is_counted_by_itself() -> None:
    item = torrent(4, Pin(), have=Bitfield(6, [0, 1]))
    found = await pin_list(kept_of([item]), 10, [Pin(0), Pin(1)])
    assert [pin.path for pin in found.pins] == ["t"]
    assert (found.total, found.pieces, found.missing) == (1, 3, 1)


async def test_a_piece_under_two_pins_counts_once() -> None:
    found = await pin_list(kept_of([torrent(2, Pin(0, 0, 5), Pin(0, 9, 5))]), 10)
    assert (found.total, found.pieces, found.missing) == (2, 1, 1)


async def test_the_list_is_cut_and_many_are_counted_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    item = torrent(1000, *(Pin(n) for n in range(0, 1000, 2)))
    threads = []
    run_sync = pinning.trio.to_thread.run_sync

    async def counted(*args: Any, **settings: Any) -> Any:
        threads.append(args)
        return await run_sync(*args, **settings)

    monkeypatch.setattr(pinning.trio.to_thread, "run_sync", counted)
    found = await pin_list(kept_of([item]), 20)
    assert (len(found.pins), found.total, len(threads)) == (20, 500, 1)
    assert found.pieces == 1000
    assert len((await pin_list(kept_of([torrent(4, Pin())]), 20)).pins) == 1
    assert len(threads) == 1


async def test_all_but_one_of_a_hundred_thousand_files_are_few_pins() -> None:
    item = torrent(100_000, Pin())
    errands = item.volume.errands
    errands.keep(errands.without_pins([Pin(50_000)]))
    found = await pin_list(kept_of([item]), 1000)
    assert found.total == 2
    assert [(pin.path, pin.offset) for pin in found.pins] == [("t", 0), ("t", 50_001 * 24576)]
    assert Errands(errands._geometry, errands.pins).kept == errands.kept


async def test_the_pins_of_one_torrent() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        await client.post("/api/v1/pins", json={"path": "sample/two.bin"})
        place = f"/api/v1/pins?torrent={mount.item.key}"
        assert (await client.get(place)).json()["total"] == 1
        assert (await client.get(place + "&limit=0")).json()["pins"] == []
        assert (await client.get("/api/v1/pins?torrent=other")).status_code == 404
