"""One mount from start to end: session, sources, FUSE, signals.

Lifetimes, outermost first: signals > control's sockets > session > library > mount > control,
status. Everything that is known is in the library before FUSE starts (`gathering`), so a mount
that appears is complete; whatever fails before that leaves nothing mounted.

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
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Protocol

import trio

from torrentfs.daemon import library, opening
from torrentfs.daemon.announcing import Batches
from torrentfs.daemon.config import library_file
from torrentfs.daemon.gathering import gather
from torrentfs.daemon.library import open_library
from torrentfs.daemon.outcome import Interrupted, cause_of
from torrentfs.daemon.report import Mounted, MountStatus
from torrentfs.daemon.watching import Watching
from torrentfs.errors import ConfigError
from torrentfs.vfs.mountpoint import LET_GO, LET_GO_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    from torrentfs.daemon.config import MountConfig
    from torrentfs.daemon.library import Library
    from torrentfs.daemon.places import Mount
    from torrentfs.daemon.report import Report
    from torrentfs.engine.dormant import Dormant

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds that a clean shutdown may take: `stopped` to trackers (2 s) and the cache's last
writes. The mount itself is gone in the first."""

SHUTTING_DOWN = "torrentfs is shutting down"
LETTING_GO = "torrentfs umount wants the mount to be free"


class Session(library.Session, opening.Session, Protocol):
    """What the service needs of a session (engine.session)."""

    @property
    def port(self) -> int: ...
    @property
    def trouble(self) -> str: ...


class Control(Protocol):
    """Who answers commands (daemon.control.start.Control)."""

    async def serve_mount(self, library: Library, session: Session, mount: Mount) -> None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts a service is put together from."""

    open_session: Callable[[MountConfig], AbstractAsyncContextManager[Session]]
    check_mountpoint: Callable[[MountConfig], Awaitable[str]]
    """Fails early (MountError) when mounting is bound to fail: nobody waits a minute for that.
    Returns the real path, by which library and socket are found, however the user spells it."""
    open_control: Callable[[MountConfig, str], AbstractContextManager[Control]]
    """`(config, real path of the mount point)`: listens, until it is left; ConfigError."""
    serve_mount: Callable[..., Awaitable[None]]
    """`(config, shown, folder_times, *, task_status)`: mounts that, calls `started(mount)`, serves
    until cancelled or unmounted from outside; unmounted when it returns."""
    detach: Callable[[Path], None]
    """Unmount lazily, now, without waiting for anything."""
    status: Callable[[Session], MountStatus]
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
        self._library: Library | None = None
        self._mounted = False
        self._stopped_by: int | None = None

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self._handle_signals, nursery)
            with self._scope:
                place = await self._parts.check_mountpoint(self._config)
                self._check_directories()
                with self._parts.open_control(self._config, place) as control:
                    await self._run_at(place, control)
            nursery.cancel_scope.cancel()
        if self._stopped_by is not None and not self._mounted:
            raise Interrupted(self._stopped_by)

    async def _run_at(self, place: str, control: Control) -> None:
        state = self._config.state_dir
        path = library_file(state, place) if state is not None else None
        async with (
            self._parts.open_session(self._config) as session,
            open_library(session, path) as library,
        ):
            self._library = library
            watching = Watching(self._config.watch, library.records)
            files, held = await watching.first_look()
            told = self._report.on_progress
            await gather(library, session, self._config, told, files, held)
            await self._serve(session, library, watching, control)

    def _check_directories(self) -> None:
        """Not before the mount point is known to be empty, which says more to the user."""
        cache = self._config.session.cache_dir
        if cache.is_relative_to(self._config.mountpoint):
            raise ConfigError(f"the cache must not be in the mount point: {cache} (--cache-dir)")
        state = self._config.state_dir
        if state is not None and state.is_relative_to(self._config.mountpoint):
            raise ConfigError(f"the library must not be in the mount point: {state} (--state-dir)")

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
                    for torrent in self._volumes():
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

    def _volumes(self) -> Sequence[Dormant]:
        return self._library.volumes if self._library is not None else ()

    def _stop(self) -> None:
        for torrent in self._volumes():
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

    async def _serve(
        self, session: Session, library: Library, watching: Watching, control: Control
    ) -> None:
        async with trio.open_nursery() as nursery:
            shown = library.places.shown()
            times = library.places.folder_times()
            serve_mount = self._parts.serve_mount

            async def serve(*, task_status: trio.TaskStatus[Mount]) -> None:
                await serve_mount(self._config, shown, times, task_status=task_status)
                log.info("%s is unmounted", self._config.mountpoint)
                nursery.cancel_scope.cancel()

            self._report.on_progress("mounting")
            mount: Mount = await nursery.start(serve)
            self._mounted = True
            for hook in self._hooks(library):  # before anything is told
                nursery.start_soon(hook)
            await library.on_mounted(mount)
            nursery.start_soon(watching.run, library)
            nursery.start_soon(control.serve_mount, library, session, mount)
            mounted = self._describe(session, library, watching)
            log.info("%s", mounted)
            self._report.on_ready(mounted)
            nursery.start_soon(self._report.follow, lambda: self._parts.status(session))

    def _hooks(self, library: Library) -> Iterator[Callable[[], Awaitable[None]]]:
        """Who is told, outside, of what comes to the mount and goes from it."""
        config = self._config
        if config.on_change:
            # imported where it is used: start-up time counts
            from torrentfs.daemon.on_change import run_on_changes

            batches = Batches(library)
            yield partial(run_on_changes, config.on_change, config.mountpoint, batches)
        for server in config.refresh:
            from torrentfs.daemon.refreshing import refresh

            yield partial(refresh, server, library, Batches(library))

    def _describe(self, session: Session, library: Library, watching: Watching) -> Mounted:
        listed = [item.name for item in library.items.values() if item.volume is not None]
        missing = sum(item.volume is None for item in library.items.values())
        troubles = [session.trouble, library.trouble, *watching.troubles]
        warning = "; ".join(trouble for trouble in troubles if trouble)
        return Mounted(self._config.mountpoint, tuple(listed), session.port, warning, missing)
