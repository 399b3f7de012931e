"""Batches: what many changes come to."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from torrentfs.daemon.announcing import (
    MOST_CHANGES,
    MOST_SECONDS,
    QUIET_SECONDS,
    Batch,
    Batches,
    coalesced,
)
from torrentfs.daemon.items import Change, Kind


def change(kind: Kind, path: str, key: str = "ab") -> Change:
    return Change(kind, key, path.rpartition("/")[2], tuple(path.split("/")))


class FakeLibrary:
    def __init__(self, size: float = 1000) -> None:
        self._size = size
        self.send: trio.MemorySendChannel[Change]

    def changes(self) -> Any:
        self.send, receive = trio.open_memory_channel[Change](self._size)
        return receive


def test_what_came_and_went_was_nothing() -> None:
    told = [
        change("added", "a"),
        change("changed", "a"),
        change("added", "b"),
        change("removed", "a"),
        change("removed", "c"),
        change("added", "c"),
        Change("removed", "never shown"),
    ]
    assert coalesced(told) == (change("added", "b"), change("added", "c"))


def test_torrents_that_share_a_folder_do_not_cancel_each_other() -> None:
    """As with `--layout flat`, where a torrent has no directory of its own."""
    told = [Change("added", key, key, ()) for key in "abcd"]
    assert coalesced(told) == tuple(told)
    removed = Change("removed", "e", "e", ())
    assert coalesced([told[0], removed]) == (told[0], removed)


def test_batches_can_be_joined() -> None:
    one = Batch((change("added", "a"),))
    two = Batch((change("removed", "a"), change("added", "b")), is_everything=True)
    both = (change("removed", "a"), change("added", "b"))  # he may have been told that a came
    assert one.joined(two) == Batch(both, is_everything=True)


def test_of_very_many_only_that_they_are_is_kept() -> None:
    many = Batch(tuple(change("added", str(n)) for n in range(MOST_CHANGES)))
    assert many.joined(Batch()) == many
    assert many.joined(Batch((change("added", "b"),))) == Batch(is_everything=True)


@pytest.mark.parametrize(
    ("paths", "place"),
    [(["m/a/x", "m/a/y"], ("m", "a")), (["m/a/x", "m/ab/y"], ("m",)), (["x", "m/y"], ()), ([], ())],
)
def test_the_folder_that_all_are_in(paths: list[str], place: tuple[str, ...]) -> None:
    assert Batch(tuple(change("added", path) for path in paths)).place() == place
    assert Batch(tuple(change("added", path) for path in paths), is_everything=True).place() == ()


async def test_a_batch_ends_when_it_is_quiet(autojump_clock: object) -> None:
    library: Any = FakeLibrary()
    batches = Batches(library)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def happen() -> None:
            await trio.sleep(5)
            for name in "abc":
                library.send.send_nowait(change("added", name))
                await trio.sleep(QUIET_SECONDS - 0.5)
            library.send.send_nowait(change("changed", "a"))

        batch = await batches.next()
    assert len(batch.changes) == 3
    assert trio.current_time() == pytest.approx(5 + 2 * (QUIET_SECONDS - 0.5) + QUIET_SECONDS)


async def test_who_gives_up_waiting_loses_nothing(autojump_clock: object) -> None:
    library: Any = FakeLibrary()
    batches = Batches(library)
    library.send.send_nowait(change("added", "a"))
    with trio.move_on_after(QUIET_SECONDS / 2):
        await batches.next()
    library.send.send_nowait(change("added", "b"))
    assert (await batches.next()).changes == (change("added", "a"), change("added", "b"))


async def test_but_not_never(autojump_clock: object) -> None:
    library: Any = FakeLibrary()
    batches = Batches(library)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def happen() -> None:
            for number in range(100):
                library.send.send_nowait(change("added", str(number)))
                await trio.sleep(1)

        batch = await batches.next()
        assert MOST_SECONDS <= len(batch.changes) <= MOST_SECONDS + 1
        nursery.cancel_scope.cancel()


async def test_who_was_too_slow_is_told_that_it_was_much(autojump_clock: object) -> None:
    library: Any = FakeLibrary()
    batches = Batches(library)
    library.send.send_nowait(change("added", "a"))
    library.send.close()  # as the library does with those who are behind
    batch = await batches.next()
    assert batch.is_everything
    library.send.send_nowait(change("added", "b"))
    assert await batches.next() == Batch((change("added", "b"),))
