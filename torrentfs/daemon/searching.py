"""Looking for the metadata of magnets, in the background and for as long as it takes.

Nobody waits for this: a magnet without metadata is absent from the mount, and shown elsewhere with
the words of the last attempt. An attempt takes a minute; the next one follows after 1, 5, 15 and
then every 60 minutes, for a magnet that is dead today may have a peer tomorrow. Few are looked for
at a time, and first attempts have places of their own, of which those that a restart brings back
take not all: a hundred dead magnets do not hold up the one that was added just now.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import trio

from torrentfs.errors import InvalidTorrent, MetadataTimeout, TransportError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from torrentfs.daemon.items import Item
    from torrentfs.metainfo.magnet import Magnet
    from torrentfs.metainfo.torrent_file import Metainfo

log = logging.getLogger(__name__)

ATTEMPT_SECONDS = 60.0
PAUSES = (60.0, 300.0, 900.0, 3600.0)
"""Seconds between attempts; the last one again and again."""
FIRST_AT_ONCE = 4
RECALLED_AT_ONCE = 3
"""Of the first; they may be dead for months."""
LATER_AT_ONCE = 2


class Resolver(Protocol):
    """What is needed of a session."""

    async def resolve(
        self,
        magnet: Magnet,
        *,
        timeout: float,
        on_progress: Callable[[str], None] | None = None,
    ) -> Metainfo: ...


class Searches:
    """The searches of a library, one for each key; `found` and `failed` hear how they end."""

    def __init__(
        self,
        session: Resolver,
        nursery: trio.Nursery,
        found: Callable[[Item, Metainfo], Awaitable[None]],
        failed: Callable[[Item], None],
    ) -> None:
        self._session = session
        self._nursery = nursery
        self._found = found
        self._failed = failed
        self._running: dict[str, trio.CancelScope] = {}
        self._first = trio.Semaphore(FIRST_AT_ONCE)
        self._recalled = trio.Semaphore(RECALLED_AT_ONCE)
        self._later = trio.Semaphore(LATER_AT_ONCE)
        self.extend: Callable[[Magnet], Magnet] = lambda magnet: magnet
        """Adds to a magnet what the user told for all."""

    def begin(self, item: Item) -> None:
        """Look for the metadata of `item`, unless that goes on already or makes no sense."""
        if item.paused:
            self.end(item.key)
        elif item.hints is not None and item.key not in self._running:
            scope = self._running[item.key] = trio.CancelScope()
            self._nursery.start_soon(self._look_for, item, item.hints, scope)

    def end(self, key: str) -> None:
        """Look for it no more."""
        scope = self._running.pop(key, None)
        if scope is not None:
            scope.cancel()

    async def _look_for(self, item: Item, magnet: Magnet, scope: trio.CancelScope) -> None:
        def on_words(words: str) -> None:
            item.trouble = words

        with scope:
            try:
                metainfo = await self.find(self.extend(magnet), on_words, recalled=item.recalled)
            except InvalidTorrent as error:
                item.trouble = str(error)
                item.hints = None
                self._failed(item)
                return
            if self._running.get(item.key) is scope:
                del self._running[item.key]
            try:
                await self._found(item, metainfo)
            except Exception:  # the mount of the others goes on
                name = magnet.name or magnet.hashes.key
                log.exception("the metadata of %s was found, and showing it failed", name)
                item.trouble = "showing it failed: see the log"

    async def find(
        self, magnet: Magnet, on_words: Callable[[str], None], *, recalled: bool = False
    ) -> Metainfo:
        """The metadata, however long it takes; `on_words` hears how it goes.

        `InvalidTorrent` when what has this hash is no torrent: that will not change.
        """
        name = magnet.name or magnet.hashes.key
        on_words("in line to be looked for")
        attempt = 0
        while True:
            async with self._place(attempt, recalled):
                on_words("looked for")
                try:
                    found = await self._session.resolve(
                        magnet, timeout=ATTEMPT_SECONDS, on_progress=on_words
                    )
                    log.info("%s: its metadata was found", name)
                    return found
                except InvalidTorrent:
                    raise
                except (MetadataTimeout, TransportError) as error:
                    words = str(error)
                except Exception:  # whatever one magnet does, the mount of the others goes on
                    log.exception("looking for the metadata of %s failed", name)
                    words = "looking for it failed: see the log"
            pause = PAUSES[min(attempt, len(PAUSES) - 1)]
            attempt += 1
            log.info("%s; looked for again in %g minutes", words, pause / 60)
            on_words(f"{words}; looked for again in {pause / 60:g} min")
            await trio.sleep(pause)

    @asynccontextmanager
    async def _place(self, attempt: int, recalled: bool) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if attempt:
                await stack.enter_async_context(self._later)
            else:
                if recalled:
                    await stack.enter_async_context(self._recalled)
                await stack.enter_async_context(self._first)
            yield
