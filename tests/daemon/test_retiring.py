"""What another took the place of ends with its last reader."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from tests.daemon.libraries import FakeMount, FakeVolume, metainfo
from torrentfs.daemon.retiring import Retired
from torrentfs.storage.records import Pin
from torrentfs.vfs.tree import Tree


class FakeSession:
    def __init__(self) -> None:
        self.forgotten: list[str] = []

    async def forget(self, key: str) -> None:
        self.forgotten.append(key)


def parts(nursery: trio.Nursery) -> tuple[Retired, FakeSession, Any, Any]:
    session, mount = FakeSession(), FakeMount(Tree())
    volume = FakeVolume(metainfo("old"), 1.0, pins=(Pin(),))
    mount.closed = trio.Event()
    return Retired(session, nursery, trio.Lock()), session, mount, volume


async def test_it_ends_with_its_last_reader(nursery: trio.Nursery) -> None:
    retired, session, mount, volume = parts(nursery)
    await retired.add("k", volume, mount)
    await wait_all_tasks_blocked()
    assert retired.volumes == [volume]
    assert volume.pins == ()
    assert session.forgotten == mount.expelled == []
    mount.closed.set()
    await wait_all_tasks_blocked()
    assert (retired.volumes, session.forgotten, mount.expelled) == ([], ["k"], [volume])
    await retired.take_back("k", (Pin(),))  # too late
    assert volume.pins == ()


async def test_it_may_be_shown_again(nursery: trio.Nursery) -> None:
    retired, session, mount, volume = parts(nursery)
    await retired.add("k", volume, mount)
    volume.is_full = True
    await retired.take_back("k", (Pin(0),))
    assert volume.pins == (Pin(0),)
    mount.closed.set()
    await wait_all_tasks_blocked()
    assert session.forgotten == mount.expelled == []


async def test_nothing_ends_in_the_middle_of_a_change(nursery: trio.Nursery) -> None:
    retired, session, mount, volume = parts(nursery)
    await retired.add("k", volume, mount)
    async with retired._turn:
        mount.closed.set()
        await wait_all_tasks_blocked()
        await retired.take_back("k", ())
    await wait_all_tasks_blocked()
    assert not session.forgotten
