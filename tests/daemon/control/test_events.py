"""Server-sent events: a picture, then what differs from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from tests.daemon.control.fakes import fake_mount
from tests.daemon.control.test_files import Client
from tests.storage.torrents import make
from torrentfs.daemon.control import events
from torrentfs.daemon.control.events import Picture, changes


def test_a_change_has_what_differs() -> None:
    old = Picture({"rate": 1}, {"a": {"n": 1}, "b": {"n": 1}, "c": {"n": 1}})
    new = Picture({"rate": 1}, {"a": {"n": 1}, "b": {"n": 2}, "d": {"n": 1}})
    assert changes(old, new) == {
        "status": {"rate": 1},
        "torrents": [{"n": 2}, {"n": 1}],
        "removed": ["c"],
    }
    assert changes(old, old) is None
    assert changes(old, Picture({"rate": 2}, old.torrents)) == {
        "status": {"rate": 2},
        "torrents": [],
        "removed": [],
    }


class Listener(Client):
    """A client of the events."""

    def __init__(self, query: bytes = b"") -> None:
        super().__init__("/api/v1/events")
        self.scope["query_string"] = query

    @property
    def events(self) -> list[tuple[str, Any]]:
        text = b"".join(m.get("body", b"") for m in self.sent).decode()
        found: list[tuple[str, Any]] = []
        for block in text.split("\n\n"):
            name, _, data = block.partition("\ndata: ")
            found.append((name.removeprefix("event: "), json.loads(data) if data else None))
        return found[:-1]


async def test_a_picture_first_then_changes_then_a_sign_of_life(
    autojump_clock: trio.testing.MockClock,
) -> None:
    mount = fake_mount()
    listener = Listener()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.run, mount.app)
        await trio.sleep(5.5)
        mount.library.put(make(5, name="new.bin"))
        mount.item.state = "fetching"
        await trio.sleep(1.5)
        del mount.library.items[mount.item.key]
        await trio.sleep(40)
        listener.gone.set()
    names = [name for name, _ in listener.events]
    assert names == ["snapshot", "change", "change", ": nothing new", ": nothing new"]
    assert listener.sent[0]["status"] == 200
    assert (b"content-type", b"text/event-stream; charset=utf-8") in listener.sent[0]["headers"]
    first, second = listener.events[1][1], listener.events[2][1]
    assert {torrent["name"] for torrent in first["torrents"]} == {"sample", "new.bin"}
    assert second["removed"] == [mount.item.key]


async def test_one_torrent_is_told_in_detail(autojump_clock: trio.testing.MockClock) -> None:
    mount = fake_mount()
    listener = Listener(b"torrent=sample")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.run, mount.app)
        await trio.sleep(3)
        listener.gone.set()
    detail = [data for name, data in listener.events if name == "detail"]
    assert detail == [{"key": mount.item.key, "pieces": None, "peers": [], "reads": []}]


async def test_no_more_than_some_may_listen(autojump_clock: trio.testing.MockClock) -> None:
    mount = fake_mount()
    listeners = [Listener() for _ in range(events.MAX_SUBSCRIBERS + 1)]
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(listener.run, mount.app)
        await trio.sleep(1.5)
        for listener in listeners:
            listener.gone.set()
    answers = sorted(listener.sent[0]["status"] for listener in listeners)
    assert answers == [200] * events.MAX_SUBSCRIBERS + [503]
    late = Listener()
    late.gone.set()
    await late.run(mount.app)
    assert late.sent[0]["status"] == 200  # places come free


async def test_a_slow_client_is_told_less_often_and_nothing_piles_up(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = fake_mount()
    listener = Listener()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.run, mount.app)
        await trio.sleep(0.5)
        listener.takes = trio.Event()
        for number in range(100):
            mount.volume.downloaded = number
            await trio.sleep(1)
        assert len(listener.events) <= 3
        listener.takes.set()
        listener.takes = None
        await trio.sleep(3)
        listener.gone.set()
    assert listener.events[-1][1]["torrents"][0]["downloaded"] == 99
