"""Handles: numbers for open files; torrents hear of each open and release once."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.vfs.fakes import volume
from torrentfs.vfs.admission import Admission
from torrentfs.vfs.handles import FileHandle, Handles
from torrentfs.vfs.tree import ROOT, Tree


def test_files_are_numbered_and_released_once() -> None:
    one = volume("t", [("a", 1), ("b", 1)])
    handles = Handles()
    gate = Admission().gate("t")
    first = handles.open_file(FileHandle(one, 0, 1, gate, "t"))
    second = handles.open_file(FileHandle(one, 1, 1, gate, "t"))
    assert first != second
    assert one.opened == [0, 1]
    handles.release_file(first)
    handles.release_file(first)
    assert one.released == [0]
    third = handles.open_file(FileHandle(one, 0, 1, gate, "t"))
    assert third not in (first, second)
    handles.release_all()
    assert sorted(one.released) == [0, 0, 1]
    assert not handles.files


def test_a_torrent_that_refuses_an_open_leaves_no_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    one = volume("t")

    def refuse(file: int) -> None:
        raise OSError("refused")

    monkeypatch.setattr(one, "on_open", refuse)
    handles = Handles()
    with pytest.raises(OSError, match="refused"):
        handles.open_file(FileHandle(one, 0, 1, Admission().gate("t"), "t"))
    assert not handles.files


def test_directories_are_numbered() -> None:
    handles = Handles()
    listing = Tree().listing(ROOT)
    number = handles.open_listing(listing)
    assert handles.listings[number] is listing
    assert repr(handles) == "<Handles 0 files, 1 directories>"
    handles.release_listing(number)
    handles.release_listing(number)
    assert not handles.listings


async def test_the_last_close_of_a_torrent_can_be_waited_for(nursery: trio.Nursery) -> None:
    one, other = volume("t"), volume("t")
    handles = Handles()
    gate = Admission().gate("t")
    numbers = [handles.open_file(FileHandle(one, 0, 1, gate, "t")) for _ in range(2)]
    handles.open_file(FileHandle(other, 0, 1, gate, "t"))
    done: list[str] = []

    async def wait(name: str) -> None:
        await handles.wait_closed(one)
        done.append(name)

    nursery.start_soon(wait, "a")
    nursery.start_soon(wait, "b")
    await wait_all_tasks_blocked()
    handles.release_file(numbers[0])
    await wait_all_tasks_blocked()
    assert not done
    handles.release_file(numbers[1])
    await wait_all_tasks_blocked()
    assert sorted(done) == ["a", "b"]
    with trio.fail_after(1):
        await handles.wait_closed(one)
