"""Following watch directories: the first look before the mount appears, and then live.

Each directory has a task. It waits for an event or a timer, lets what is going on settle for a
moment, looks (`watch_directory`) and tells the library. The first look of all of them is bounded: a
file system that hangs holds up nothing, and what its directory had the last time is mounted.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from torrentfs.daemon.publications import watched_paths
from torrentfs.daemon.watch_directory import Look, WatchDirectory
from torrentfs.daemon.watch_events import Events

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torrentfs.daemon.items import WatchedFile
    from torrentfs.daemon.library import Library
    from torrentfs.storage.records import Records

log = logging.getLogger(__name__)

FIRST_LOOK_SECONDS = 30.0
"""Longest that the mount waits for the first look at a watch directory."""
SETTLE_SECONDS = 0.25
"""What happens within so long of each other is one change."""
SETTLE_MOST = 2.0
"""But a look comes after so long, whatever goes on."""
AGAIN_SECONDS = 1.0
"""Until another look at what was not whole."""
POLL_SECONDS = 3.0
"""Between looks where there are no events, or the directory cannot be read."""
CARE_SECONDS = 60.0
"""Between looks where there are: links lead out of what is watched, and nothing is perfect."""
SHARE = 30
"""Looks take at most about this part of the time."""

IDENTITIES = "watch directories"


class Watching:
    """All watch directories of a mount."""

    def __init__(
        self,
        roots: Sequence[Path],
        records: Records,
        make_events: Callable[[], Events] = Events,
    ) -> None:
        self._records = records
        self._make_events = make_events
        seen = {path for record in records.records.values() for path, _ in record.watched}
        seen |= watched_paths(records.facts)
        kept = records.facts.get(IDENTITIES, {})
        self._directories = []
        for root in dict.fromkeys(roots):
            below = f"{root}{os.sep}"
            identities = {p: (i[0], i[1]) for p, i in kept.items() if f"{p}/".startswith(below)}
            held = [path for path in seen if path.startswith(below)]
            self._directories.append(
                _Watched(WatchDirectory(root, held=held, identities=identities))
            )

    async def first_look(self) -> tuple[list[WatchedFile], list[str]]:
        """What the files of all directories name, and the paths of those that cannot be seen."""
        async with trio.open_nursery() as nursery:
            for one in self._directories:
                nursery.start_soon(one.first_look)
        found = [file for one in self._directories for file in one.last.found]
        held = [path for one in self._directories for path in one.last.held]
        self._remember()
        return found, held

    @property
    def troubles(self) -> list[str]:
        """What cannot be seen of the watch directories, in words."""
        return [one.last.trouble for one in self._directories if one.last.trouble]

    async def run(self, library: Library) -> None:
        """Follow all of them, until cancelled."""

        async def tell(look: Look) -> None:
            self._remember()
            await library.on_files(look.found, look.gone)

        async with trio.open_nursery() as nursery:
            for one in self._directories:
                nursery.start_soon(partial(one.run, tell, self._make_events()))

    def _remember(self) -> None:
        """Where files were seen, for the next start; written down with the next change."""
        identities: dict[str, list[int]] = {}
        for one in self._directories:
            identities |= {path: list(i) for path, i in one.directory.identities.items()}
        self._records.set_fact(IDENTITIES, identities)


class _Watched:
    """One directory, and how it was at the last look."""

    def __init__(self, directory: WatchDirectory) -> None:
        self.directory = directory
        self.last = Look()
        self._seconds = 0.0

    async def _look(self) -> Look:
        started = trio.current_time()
        look = await trio.to_thread.run_sync(self.directory.look, abandon_on_cancel=True)
        self._seconds = trio.current_time() - started
        if look.trouble != self.last.trouble:
            if look.trouble:
                log.warning("%s", look.trouble)
            else:
                log.info("%s is as it should be again", self.directory.root)
        self.last = look
        return look

    async def first_look(self) -> None:
        """Look for the first time, or give up."""
        root = self.directory.root
        with trio.move_on_after(FIRST_LOOK_SECONDS):
            await self._look()
            return
        held = self.directory.known
        trouble = f"the watch directory {root} does not answer"
        log.warning("%s; %d torrents of it stay as they were", trouble, len(held))
        self.last = Look(held=tuple(held), trouble=trouble)
        # the thread that hangs there has the old one
        identities = self.directory.identities
        self.directory = WatchDirectory(root, held=held, identities=identities)

    async def run(self, tell: Callable[[Look], Any], events: Events) -> None:
        """Look whenever it is time, and `tell` what came of it."""
        in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
        try:
            await in_thread(events.open, self.directory.root)
            is_new = await in_thread(events.watch, self.last.directories)
            if events.reason:
                log.info("%s is looked at now and then: %s", self.directory.root, events.reason)
            while True:
                if not is_new:
                    await self._until_time(events)
                look = await self._look()
                is_new = await in_thread(events.watch, look.directories)
                if look.found or look.gone:
                    await tell(look)
        finally:
            events.close()

    async def _until_time(self, events: Events) -> None:
        pause = POLL_SECONDS if events.reason or self.last.trouble else CARE_SECONDS
        if self.last.unsettled:
            pause = AGAIN_SECONDS
        with trio.move_on_after(max(pause, SHARE * self._seconds)):
            await events.wait()
            with trio.move_on_after(SETTLE_MOST):
                while True:
                    with trio.move_on_after(SETTLE_SECONDS) as quiet:
                        await events.wait()
                    if quiet.cancelled_caught:
                        break
