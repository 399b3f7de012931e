"""`torrentfs share` as a process: a session that seeds torrents from the user's own files.

Lifetimes, outermost first: signals > status socket > session > {watching of the files, answers on
the socket, report}. Everything is
added before the report hears that peers may come. SIGINT and SIGTERM (SIGHUP too in the
foreground, where it means that the terminal is gone) stop it: trackers are told, which takes
`GRACE` seconds at most; a second signal ends the process at once. Nothing needs to be cleaned up,
because nothing was ever written.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import signal
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Protocol

import trio

from torrentfs.daemon.interfaces import addresses_of
from torrentfs.daemon.outcome import cause_of
from torrentfs.engine.config import SessionConfig
from torrentfs.errors import ConfigError
from torrentfs.storage.descriptors import Descriptors
from torrentfs.storage.originals import MAX_OPEN, Originals
from torrentfs.transports.binding import look

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torrentfs.engine.stats import SessionStatistics
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.storage.originals import Original

log = logging.getLogger(__name__)

GRACE = 4.0
"""Seconds that stopping may take: `stopped` to trackers has 2."""

MAX_ADDRESSES = 4
"""Of our own addresses, named in a magnet link or to the user."""


@dataclass(frozen=True, slots=True)
class Shared:
    """One torrent, and where its files are, by file number."""

    metainfo: Metainfo
    originals: Mapping[int, Original]


@dataclass(frozen=True, slots=True)
class ShareConfig:
    """What one process shares, and how."""

    shared: tuple[Shared, ...]
    session: SessionConfig = field(default_factory=SessionConfig)
    peers: tuple[tuple[str, int], ...] = ()
    """To connect to, for all torrents."""
    foreground: bool = True


@dataclass(frozen=True, slots=True)
class Sharing:
    """Peers may come. Its text is JSON, so that it survives the pipe to a waiting parent."""

    port: int
    pid: int
    warning: str = ""

    def __str__(self) -> str:
        return json.dumps({"port": self.port, "pid": self.pid})

    @classmethod
    def parse(cls, text: str, warning: str = "") -> Sharing:
        """The inverse of `str`."""
        told = json.loads(text)
        return cls(told["port"], told["pid"], warning)


class ShareReport(Protocol):
    """Who is told."""

    def on_ready(self, sharing: Sharing) -> None:
        """Peers may come."""

    async def follow(self, status: Callable[[], SessionStatistics]) -> None:
        """Runs while the torrents are shared, and is cancelled at the end; may return early."""


def own_addresses(bind: str | None) -> list[str]:
    """Where this machine can be reached, as far as it knows itself; loopback if nowhere else."""
    if bind is not None:
        return [*look(bind).addresses]
    found = []
    for _, name in socket.if_nameindex():
        with contextlib.suppress(ConfigError):  # an interface without an address
            address = ipaddress.ip_address(addresses_of(name)[0])
            if not address.is_loopback and not address.is_link_local:
                found.append(str(address))
    return found[:MAX_ADDRESSES] or ["127.0.0.1"]


async def run_share(
    config: ShareConfig, report: ShareReport, leave: Callable[[int], NoReturn] = os._exit
) -> None:
    """Share until a signal comes; raises one declared error when that cannot be begun.

    `leave` ends the process without any clean-up.
    """
    try:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            await nursery.start(_handle_signals, config, scope, nursery, leave)
            with scope:
                await _share(config, report)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise cause_of(group) from group


async def _share(config: ShareConfig, report: ShareReport) -> None:
    # late: the parent of a background process and `--help` never pay for the engine
    from torrentfs.daemon.allocation import keep_freed_memory
    from torrentfs.daemon.open_files import raise_limit
    from torrentfs.daemon.share_status import status_socket, tell_status
    from torrentfs.engine.session import open_session

    keep_freed_memory()
    raise_limit()
    with status_socket() as listener:
        async with open_session(config.session, cached=False) as session:
            stores: list[Originals] = []
            try:
                descriptors = Descriptors(MAX_OPEN)
                for number, shared in enumerate(config.shared):
                    store = Originals(shared.metainfo, shared.originals, descriptors, number)
                    stores.append(store)
                    await session.add(shared.metainfo, peers=config.peers, originals=store)
                    log.info("sharing %s on port %d", shared.metainfo.name, session.port)
                async with trio.open_nursery() as nursery:
                    for store in stores:
                        nursery.start_soon(store.watch)
                    if listener is not None:
                        nursery.start_soon(tell_status, listener, session.statistics)
                    report.on_ready(Sharing(session.port, os.getpid()))
                    nursery.start_soon(report.follow, session.statistics)
            finally:
                for store in stores:
                    store.close()


async def _handle_signals(
    config: ShareConfig,
    scope: trio.CancelScope,
    nursery: trio.Nursery,
    leave: Callable[[int], NoReturn],
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    async def leave_late(signum: int) -> None:
        await trio.sleep(GRACE)
        log.warning("stopping took longer than %g s: leaving", GRACE)
        leave(128 + signum)

    stopping = False
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for signum in signals:
            if signum == signal.SIGHUP and not config.foreground:
                log.info("SIGHUP ignored: there is nothing to reload")
                continue
            if stopping:
                leave(128 + signum)
            stopping = True
            log.info("%s: no longer sharing", signal.Signals(signum).name)
            nursery.start_soon(leave_late, signum)
            scope.cancel()
