"""What changed in the mount, in batches: for those who are told about it outside.

Changes of one torrent within a batch are one; what came and went again was nothing. A batch ends
when nothing has happened for a moment. Who is told may take long: changes gather meanwhile, and of
more than can be kept only that there were many (`is_everything`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torrentfs.daemon.items import Change
    from torrentfs.daemon.library import Library

QUIET_SECONDS = 2.0
"""Without a change, after which a batch is complete."""
MOST_SECONDS = 30.0
"""But no change waits longer than this."""
MOST_CHANGES = 1000
"""Of several batches together; of more only that they were many."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that came to the mount or went from it; `path` of each is that of the entry."""

    changes: tuple[Change, ...] = ()
    is_everything: bool = False
    """There were more changes than are listed here."""

    def joined(self, later: Batch) -> Batch:
        """Both, as one, for somebody who was told of this one in vain.

        He may have heard a part of it, or all but our hearing his answer: what came in this one
        and goes in the later one has gone, for him.
        """
        changes = tuple(_last_of([*self.changes, *later.changes]).values())
        if len(changes) > MOST_CHANGES:
            return Batch(is_everything=True)
        return Batch(changes, self.is_everything or later.is_everything)

    def place(self) -> tuple[str, ...]:
        """The deepest folder of the mount that all of it is in."""
        if self.is_everything:
            return ()
        folders = [(change.path or ())[:-1] for change in self.changes]
        levels = takewhile(lambda names: len(set(names)) == 1, zip(*folders, strict=False))
        return tuple(names[0] for names in levels)


def coalesced(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The last change of each torrent at each place, without what came and went again.

    With `--layout flat` many torrents have one place, their folder.
    """
    changes = list(changes)
    first = _last_of(reversed(changes))
    return tuple(
        change
        for what, change in _last_of(changes).items()
        if (first[what].kind, change.kind) != ("added", "removed")
    )


def _last_of(changes: Iterable[Change]) -> dict[tuple[tuple[str, ...], str], Change]:
    """The last change of each torrent at each place, in their order."""
    last: dict[tuple[tuple[str, ...], str], Change] = {}
    for change in changes:
        if change.kind != "changed" and change.path is not None:
            what = change.path, change.key
            last.pop(what, None)
            last[what] = change
    return last


class Batches:
    """The changes of a library from now on."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._changes = library.changes()
        self._told: list[Change] = []
        self._is_everything = False

    async def next(self) -> Batch:
        """Wait for changes and for their end; who is cancelled gets them the next time."""
        while True:
            if not (self._told or self._is_everything):
                await self._take()
            with trio.move_on_after(MOST_SECONDS):
                while True:
                    with trio.move_on_after(QUIET_SECONDS) as quiet:
                        await self._take()
                    if quiet.cancelled_caught:
                        break
            batch = Batch(coalesced(self._told), self._is_everything)
            self._told.clear()
            self._is_everything = False
            if batch.changes or batch.is_everything:
                return batch

    async def _take(self) -> None:
        """Add the next change that shows, or note that some were lost."""
        while True:
            try:
                change = await self._changes.receive()
            except trio.EndOfChannel:  # we were too slow
                self._changes = self._library.changes()
                self._is_everything = True
                return
            if change.kind != "changed" and change.path is not None:
                self._told.append(change)
                return
