"""Web seeds as sources of the scheduler: *lanes* ask the picker for spans and fetch them.

A web seed (BEP 19, BEP 17) has every piece and answers byte ranges, so it is asked for coalesced
spans rather than blocks, from the first read on. A lane is one request at a time. Read-ahead takes
all but one of them, so that what a read waits for is asked for while long spans are still coming,
over a connection that is open, and without ending any of them. Blocks are told to the torrent
one by one as they arrive, so a hedge or a seek sees progress at the same grain as with peers.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TYPE_CHECKING

import trio

from torrentfs.engine.wakeup import Wakeup
from torrentfs.metainfo.geometry import BLOCK_LENGTH
from torrentfs.scheduling.rates import Rate

if TYPE_CHECKING:
    from torrentfs.engine.torrent import Torrent
    from torrentfs.scheduling.picker import Request, SourceId
    from torrentfs.transports.webseed import WebSeed, WebSeedError

log = logging.getLogger(__name__)

LANES = 3
"""Requests to one web seed at once; the last one is for reads that wait (see `spans`)."""

FIRST_RETRY = 1.0
LAST_RETRY = 120.0
"""Seconds to the next try after a failure: doubled from the first to the last."""


class Lane:
    """One request at a time: the span under way, and how to abort it."""

    __slots__ = ("scope", "span", "wakeup")

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.span: tuple[int, int] | None = None
        self.scope = trio.CancelScope()


class WebSeedSource:
    """A web seed of `torrent`, as a source of blocks."""

    kind = "http"

    def __init__(self, torrent: Torrent, seed: WebSeed, source: SourceId) -> None:
        self.torrent = torrent
        self.seed = seed
        self.source = source
        self.downloaded = 0
        self.down_rate = Rate()
        self.failure: str | None = None
        self._dead = False
        self._retry = FIRST_RETRY
        self._not_before = float("-inf")
        self._lanes = [Lane() for _ in range(LANES)]

    async def run(self) -> None:
        """Fetch spans until cancelled or the seed proves useless."""
        try:
            async with trio.open_nursery() as nursery:
                for lane in self._lanes:
                    nursery.start_soon(self._run_lane, lane)
        except Exception:  # a bug of ours must cost this seed, not the mount
            self.failure = "failed by a bug"
            log.exception("a bug while reading from %s", self.seed.url)
        finally:
            self.torrent.detach(self)

    def wake(self) -> None:
        """The picker has something for this seed."""
        for lane in self._lanes:
            if lane.span is None:
                lane.wakeup.set()

    def cancel(self, request: Request) -> None:
        """A block is not wanted from here any more; abort requests with nothing else in them."""
        for lane in self._lanes:
            if lane.span is None or lane.scope.cancel_called:
                continue
            if not self.torrent.picker.wants_span(self.source, *lane.span):
                lane.scope.cancel()

    def retry_soon(self) -> None:
        """It was our own network that failed: no pause any more."""
        self._retry = FIRST_RETRY
        self._not_before = float("-inf")
        self.wake()

    def close(self, reason: str) -> None:
        """Never ask this seed again."""
        self.failure = reason
        self._dead = True
        for lane in self._lanes:
            lane.scope.cancel()
            lane.wakeup.set()

    async def _run_lane(self, lane: Lane) -> None:
        from torrentfs.transports.webseed import WebSeedError  # most torrents have no web seed

        picker = self.torrent.picker
        while not self._dead:
            if trio.current_time() < self._not_before:
                await self._sit_out_pause(lane)
                continue
            lane.span = picker.pick_span(self.source, trio.current_time())
            if lane.span is None:
                await lane.wakeup.wait()
                continue
            try:
                with trio.CancelScope() as lane.scope:
                    await self._fetch(*lane.span)
                    self._retry = FIRST_RETRY
                    self.failure = None
            except WebSeedError as error:
                lane.span = None
                self._on_error(error)
            finally:
                lane.span = None

    async def _fetch(self, start: int, length: int) -> None:
        """Fetch one span, telling the torrent each block as it is whole."""
        torrent = self.torrent
        limit = torrent.limits.download
        blocks = BlockCutter(torrent, self.source, start)
        try:
            async with aclosing(self.seed.fetch(start, length)) as chunks:
                async for chunk in chunks:
                    now = trio.current_time()
                    self.downloaded += len(chunk)
                    self.down_rate.add(len(chunk), now)
                    blocks.feed(chunk, now)
                    torrent.dispatch(now)
                    if limit.rate is not None:
                        await limit.take(len(chunk))
        finally:
            now = trio.current_time()
            torrent.picker.on_span_done(self.source, start, length, now)
            torrent.schedule(now)

    def _on_error(self, error: WebSeedError) -> None:
        """Give up the missing pieces, pause, or end, as the error says."""
        self.failure = str(error)
        log.debug("web seed %s: %s", self.seed.url, error)
        now = trio.current_time()
        if error.permanent:
            self.close(str(error))
        elif error.missing:
            for piece in error.missing:
                self.torrent.picker.on_dont_have(self.source, piece)
        else:
            self._pause(now, error.retry_after)
        self.torrent.schedule(now)

    def _pause(self, now: float, retry_after: float | None) -> None:
        """Ask nothing for a while; what another lane is still receiving goes on."""
        if retry_after is None:
            retry_after = self._retry
            self._retry = min(LAST_RETRY, self._retry * 2)
        self._not_before = max(self._not_before, now + retry_after)
        self.torrent.picker.on_choke(self.source, now, keeps_requests=True)

    async def _sit_out_pause(self, lane: Lane) -> None:
        """Sleep while paused; then the seed may be asked again."""
        while trio.current_time() < self._not_before and not self._dead:
            with trio.move_on_at(self._not_before):
                await lane.wakeup.wait()
        now = trio.current_time()
        self.torrent.picker.on_unchoke(self.source, now)
        self.torrent.schedule(now)

    def __repr__(self) -> str:
        return f"<WebSeedSource {self.seed.url} {self.failure or 'ok'}>"


class BlockCutter:
    """Cuts the chunks of a span, whatever their sizes, into the torrent's blocks.

    A block that lies inside one chunk is passed on without a copy; one that straddles chunks is
    joined in a 16 KiB scratch buffer first, because another source may own its place in the
    piece buffer by now.
    """

    def __init__(self, torrent: Torrent, source: SourceId, start: int) -> None:
        self._torrent = torrent
        self._source = source
        self._place = start
        self._scratch = bytearray(BLOCK_LENGTH)
        self._held = 0

    def feed(self, chunk: bytes | memoryview, now: float) -> None:
        """Take the next bytes of the span."""
        view = memoryview(chunk)
        geometry = self._torrent.metainfo.geometry
        while len(view):
            piece, place = divmod(self._place, geometry.piece_length)
            size = geometry.piece_size(piece)
            if place >= size:  # the gap behind a file of a v2 torrent has no bytes
                self._place += geometry.piece_length - place
                continue
            begin = place - place % BLOCK_LENGTH
            need = min(BLOCK_LENGTH, size - begin) - self._held
            take = min(need, len(view))
            part, view = view[:take], view[take:]
            self._place += take
            if take == need and not self._held:
                self._torrent.on_block(self._source, piece, begin, part, now)
                continue
            self._scratch[self._held : self._held + take] = part
            self._held += take
            if take == need:
                whole = memoryview(self._scratch)[: self._held]
                self._held = 0
                self._torrent.on_block(self._source, piece, begin, whole, now)
