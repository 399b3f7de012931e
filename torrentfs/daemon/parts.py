"""The real parts of a mount: the only place where the daemon names engine and FUSE modules.

Imported late, in the process that serves, so that neither `--help` nor the process that waits
for the mount pays for pyfuse3, SQLite or sockets.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, cast

import trio

from torrentfs.daemon.allocation import keep_freed_memory
from torrentfs.daemon.control.start import Control
from torrentfs.daemon.open_files import raise_limit
from torrentfs.daemon.report import MountStatus
from torrentfs.daemon.service import Parts
from torrentfs.engine.session import open_session
from torrentfs.vfs.mount import MountOptions, preflight, serve_mount
from torrentfs.vfs.mountpoint import detach, source_of
from torrentfs.vfs.operations import OperationsOptions
from torrentfs.vfs.tree import Placement, Tree, TreeOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from pathlib import Path

    from torrentfs.daemon.config import MountConfig
    from torrentfs.daemon.places import Shown
    from torrentfs.daemon.service import Session

log = logging.getLogger(__name__)


def real_parts() -> Parts:
    """What `run_mount` needs to mount for real."""
    return Parts(
        open_session=_open_session,
        check_mountpoint=_check_mountpoint,
        open_control=_open_control,
        serve_mount=_serve_mount,
        detach=_detach,
        status=_status,
        exit=os._exit,
    )


def _open_session(config: MountConfig) -> AbstractAsyncContextManager[Session]:
    keep_freed_memory()
    raise_limit()
    return cast("AbstractAsyncContextManager[Session]", open_session(config.session))


def _open_control(config: MountConfig, place: str) -> AbstractContextManager[Any]:
    return Control(config.control, place, config.state_dir)


def _mount_options(config: MountConfig) -> MountOptions:
    return MountOptions(
        allow_other=config.allow_other,
        allow_root=config.allow_root,
        fsname=source_of(os.getpid()),
        inotify=config.inotify,
        operations=OperationsOptions(
            xattrs=config.xattrs, line_timeout=config.session.read_timeout
        ),
    )


async def _check_mountpoint(config: MountConfig) -> str:
    def check() -> str:
        preflight(config.mountpoint, _mount_options(config))
        return os.path.realpath(config.mountpoint)

    # a hung file system at the mount point must not hold up Ctrl-C
    return await trio.to_thread.run_sync(check, abandon_on_cancel=True)


async def _serve_mount(
    config: MountConfig,
    shown: Sequence[Shown],
    folder_times: Mapping[tuple[str, ...], float],
    *,
    task_status: trio.TaskStatus[Any],
) -> None:
    tree = make_tree(config, shown, folder_times)
    await serve_mount(tree, config.mountpoint, _mount_options(config), task_status=task_status)


def make_tree(
    config: MountConfig,
    shown: Iterable[Shown],
    folder_times: Mapping[tuple[str, ...], float],
) -> Tree:
    """The tree that a mount begins with.

    What was there before goes first, under the names that it had: then nothing that came, or went,
    meanwhile can take one of them.
    """
    options = TreeOptions(
        uid=os.getuid() if config.uid is None else config.uid,
        gid=os.getgid() if config.gid is None else config.gid,
        umask=config.umask,
        mtime=config.mtime,
        layout=config.layout,
        view=config.view,
    )
    tree = Tree(options, folder_times=folder_times)
    known: list[Placement] = []
    new: list[Placement] = []
    for one in shown:
        placement = Placement(one.volume, one.select, one.folder, one.name)
        (new if one.name is None else known).append(placement)
    tree.add_many(known)
    tree.add_many(new)
    return tree


def _detach(mountpoint: Path) -> None:
    if not detach(str(mountpoint)):
        log.error("%s is still mounted: fusermount3 -u -z %s", mountpoint, mountpoint)


def _status(session: Any) -> MountStatus:
    torrents = session.statistics().torrents
    received: dict[str, int] = {}
    for torrent in torrents:
        for kind, amount in torrent.bytes_by_kind.items():
            received[kind] = received.get(kind, 0) + amount
    return MountStatus(
        torrents=len(torrents),
        total=sum(torrent.size for torrent in torrents),
        have=sum(int(torrent.size * torrent.progress) for torrent in torrents),
        download_rate=sum(torrent.download_rate for torrent in torrents),
        upload_rate=sum(torrent.upload_rate for torrent in torrents),
        peers=sum(len(torrent.peers) for torrent in torrents),
        blocked_reads=sum(torrent.waiting_reads for torrent in torrents),
        received=received,
        note="stalled" if any(torrent.state == "stalled" for torrent in torrents) else "",
    )
