"""One mount from start to end: session, sources, FUSE, signals.

Lifetimes, outermost first: signals > session > mount > status. Everything that the mount needs
is added to the session before FUSE starts, so a mount that appears is complete; whatever fails
before that leaves nothing mounted.

Shutdown has one order (SIGTERM, SIGINT; SIGHUP too in the foreground, where it means that the
terminal is gone): reads that wait are failed, so that nobody holds the mount busy; then FUSE
unmounts; then torrents and session stop. It may take `GRACE` seconds; after that, or at a second
signal, the mount is detached lazily and the process exits at once, which costs no more than the
re-check of the pieces written last. An unmount from outside (`fusermount3 -u`) ends the session
in the same way.

SIGUSR1 comes from `torrentfs umount`, which the kernel told that the mount is busy: for a moment,
reads for which nothing comes fail (`LET_GO_SECONDS`), so that who is stuck in one can go away.
Everything else goes on, and so does the mount if it is still busy then.

Engine and FUSE are reached through `Parts` only; `parts.py` makes the real ones.
"""

from __future__ import annotations

import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import trio

from torrentfs.daemon import opening
from torrentfs.daemon.config import Beside
from torrentfs.daemon.opening import find
from torrentfs.daemon.outcome import Interrupted, cause_of
from torrentfs.daemon.report import Mounted, MountStatus
from torrentfs.daemon.sources import shorten
from torrentfs.errors import ConfigError
from torrentfs.vfs.mountpoint import LET_GO, LET_GO_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from torrentfs.daemon.config import MountConfig
    from torrentfs.daemon.opening import Found
    from torrentfs.daemon.report import Report
    from torrentfs.daemon.sources import Source
    from torrentfs.metainfo.torrent_file import Metainfo

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds that a clean shutdown may take: `stopped` to trackers (2 s) and the cache's last
writes. The mount itself is gone in the first."""

SHUTTING_DOWN = "torrentfs is shutting down"
LETTING_GO = "torrentfs umount wants the mount to be free"


class Torrent(Protocol):
    """What the service needs of a torrent (engine.dormant)."""

    @property
    def metainfo(self) -> Metainfo: ...
    def fail_reads(self, reason: str) -> None: ...
    def hurry_reads(self, reason: str, seconds: float) -> None: ...


class Session(opening.Session, Protocol):
    """What the service needs of a session (engine.session)."""

    @property
    def port(self) -> int: ...
    @property
    def trouble(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts a service is put together from."""

    open_session: Callable[[MountConfig], AbstractAsyncContextManager[Session]]
    check_mountpoint: Callable[[MountConfig], Awaitable[None]]
    """Fails early (MountError) when mounting is bound to fail: nobody waits a minute for that."""
    serve_mount: Callable[..., Awaitable[None]]
    """`(config, torrents, *, task_status)`: mounts, calls `started()`, serves until cancelled or
    unmounted from outside; unmounted when it returns."""
    detach: Callable[[Path], None]
    """Unmount lazily, now, without waiting for anything."""
    status: Callable[[Session, Sequence[Any]], MountStatus]
    exit: Callable[[int], NoReturn]
    """End the process without any clean-up (os._exit)."""


async def run_mount(config: MountConfig, report: Report, parts: Parts) -> None:
    """Mount, serve and unmount; returns when it is unmounted, or raises one declared error.

    MountError, MetadataTimeout, ConfigError, InvalidTorrent: nothing is mounted.
    `Interrupted`: a signal came before the mount was there.
    """
    service = _MountService(config, report, parts)
    try:
        await service.run()
    except BaseExceptionGroup as group:
        raise cause_of(group) from group


class _MountService:
    def __init__(self, config: MountConfig, report: Report, parts: Parts) -> None:
        self._config = config
        self._report = report
        self._parts = parts
        self._scope = trio.CancelScope()
        self._torrents: list[Any] = []
        self._mounted = False
        self._stopped_by: int | None = None

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._handle_signals, nursery)
            with self._scope:
                await self._parts.check_mountpoint(self._config)
                self._check_cache()
                async with self._parts.open_session(self._config) as session:
                    await self._add_sources(session)
                    await self._serve(session)
            nursery.cancel_scope.cancel()
        if self._stopped_by is not None and not self._mounted:
            raise Interrupted(self._stopped_by)

    def _check_cache(self) -> None:
        """Not before the mount point is known to be empty, which says more to the user."""
        cache = self._config.session.cache_dir
        if cache.is_relative_to(self._config.mountpoint):
            raise ConfigError(f"the cache must not be in the mount point: {cache} (--cache-dir)")

    async def _handle_signals(
        self, nursery: trio.Nursery, *, task_status: trio.TaskStatus[None]
    ) -> None:
        received = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, LET_GO]
        with trio.open_signal_receiver(*received) as signals:
            task_status.started()
            async for signum in signals:
                if signum == signal.SIGHUP and not self._config.foreground:
                    log.info("SIGHUP ignored: there is nothing to reload")
                    continue
                if signum == LET_GO:
                    for torrent in self._torrents:
                        torrent.hurry_reads(LETTING_GO, LET_GO_SECONDS)
                    continue
                name = signal.Signals(signum).name
                if self._stopped_by is not None:
                    log.warning("%s again: leaving without waiting", name)
                    self._leave_now(signum)
                log.info("%s: unmounting %s", name, self._config.mountpoint)
                self._stopped_by = signum
                nursery.start_soon(self._leave_late, signum)
                self._stop()

    def _stop(self) -> None:
        for torrent in self._torrents:
            torrent.fail_reads(SHUTTING_DOWN)
        self._scope.cancel()

    async def _leave_late(self, signum: int) -> None:
        await trio.sleep(GRACE)
        log.warning("shutdown took longer than %g s: leaving", GRACE)
        self._leave_now(signum)

    def _leave_now(self, signum: int) -> NoReturn:
        if self._mounted:
            self._parts.detach(self._config.mountpoint)
        self._parts.exit(128 + signum)

    async def _add_sources(self, session: Session) -> None:
        """Add every source in the order given; metadata is looked for at the same time."""
        config = self._config
        beside = Beside(config.trackers, config.web_seeds, config.peers)
        found: list[Found | None] = [None] * len(config.sources)

        async def look(index: int, source: Source) -> None:
            found[index] = await find(
                session,
                source,
                beside,
                timeout=config.metadata_timeout,
                private=config.session.private,
                on_progress=self._report.on_progress,
            )

        async with trio.open_nursery() as nursery:
            for index, source in enumerate(config.sources):
                nursery.start_soon(look, index, source)
        keys: set[str] = set()
        for one in found:
            assert one is not None
            if one.metainfo.hashes.key in keys:
                log.info("%s is given twice: shown once", shorten(one.metainfo.name))
                continue
            keys.add(one.metainfo.hashes.key)
            self._torrents.append(await one.shelve(session, eager=True))

    async def _serve(self, session: Session) -> None:
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: trio.TaskStatus[None]) -> None:
                await self._parts.serve_mount(self._config, self._torrents, task_status=task_status)
                log.info("%s is unmounted", self._config.mountpoint)
                nursery.cancel_scope.cancel()

            self._report.on_progress("mounting")
            await nursery.start(serve)
            self._mounted = True
            names = tuple(torrent.metainfo.name for torrent in self._torrents)
            mounted = Mounted(self._config.mountpoint, names, session.port, session.trouble)
            log.info("%s", mounted)
            self._report.on_ready(mounted)
            nursery.start_soon(
                self._report.follow, lambda: self._parts.status(session, self._torrents)
            )
