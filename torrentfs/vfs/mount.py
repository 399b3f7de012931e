"""The life of a mount: check, mount, serve, unmount. The only user of pyfuse3's session.

pyfuse3 has one session per process, a global of its C module; it stays inside this file.

**Serving.** pyfuse3 answers each request in a task; `max_tasks` is set so high that blocked
reads can never use the tasks up. The kernel allows a mount 12 requests in the background, which
six stuck readers fill, after which every buffered read on the mount waits: so `max_background`
of the connection is raised where we may. Read-ahead of the kernel stays at its 128 KiB: more
only makes probes of a file fetch more.

**Ending.** A mount ends when somebody unmounts it (`fusermount3 -u`, `umount`), when the
connection is aborted, or when the task that runs `serve_mount` is cancelled. The owner first
makes its torrents fail blocked reads, then cancels. Here, in order: nobody gets in line any
more; invalidations in flight end (the session still answers them); reads that the owner failed
are answered, so that they end with EIO; the session's tasks are cancelled; pyfuse3 closes the
device, at which the kernel fails whatever was not answered, and unmounts, lazily, so a process
that sits in the mount cannot stop us.

A reader that was killed leaves its request with us, and the kernel lets the mount go all the
same. Then the session's loop is over while tasks still wait for data nobody will read; a watch
on the device notices and cancels them.

**Invalidation.** Names and attributes are cached for an hour in the kernel, absent names for
seconds. When a torrent comes or goes, the outermost entry that came or went with it is dropped,
and the attributes of the directory it is in; what lies deeper is reached through that entry only.
It happens in a thread, never in the task of a request: the kernel may hold a lock that only the
answer to that request releases. One change is made known before the next one is made, so that
nobody drops what came since. Contents are never invalidated.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyfuse3
import trio

from torrentfs.errors import MountError
from torrentfs.vfs.mountpoint import (
    FSTYPE,
    FUSE_CONTROL,
    FUSE_DEVICE,
    MountPoint,
    check_fuse,
    check_mountpoint,
    detach,
    find_mount,
    mount_fuse_control,
    mount_table,
    recover,
    unmount,
)
from torrentfs.vfs.operations import Operations, OperationsOptions
from torrentfs.vfs.publication import Publication, Step
from torrentfs.vfs.tree import Placement, in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torrentfs.vfs.admission import Admission
    from torrentfs.vfs.tree import Change, Tree, Volume

__all__ = ["Mount", "MountOptions", "Placement", "preflight", "serve_mount", "unmount"]

log = logging.getLogger(__name__)

MAX_TASKS = 1_000_000
"""Requests at a time; in truth the kernel's `max_background` and its callers bound them."""
SPARE_TASKS = 8
"""Idle tasks that pyfuse3 keeps for the next requests."""
MAX_BACKGROUND = (16384, 4096, 1024, 512)
"""Values tried for the connection's `max_background`; users may set less than root."""
WATCH_INTERVAL = 0.25
"""Seconds between looks at whether the kernel still wants answers, while reads are waiting."""
PREFLIGHT_TIMEOUT = 5.0
"""Seconds for the checks before mounting; only a hung mount at the place exceeds them."""
LAST_ANSWERS = 0.25
"""Seconds at the end for reads that were failed to say so: EIO, not "endpoint not connected"."""
RETRIES_WITHIN = 0.03
"""Seconds in which the kernel asks once more for a page that could not be read."""
ANSWER_TIMEOUT = 10.0
"""Seconds until the kernel must have got its first answer."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How to mount. Owner and modes are the tree's; the rest of the kernel's behaviour is here."""

    allow_other: bool = False
    allow_root: bool = False
    fsname: str = "torrentfs"
    inotify: bool = False
    """Make changes through the mount, so that inotify reports them (publication.py)."""
    operations: OperationsOptions = field(default_factory=OperationsOptions)

    def for_fuse(self) -> set[str]:
        """The options given to libfuse.

        `ro` makes the kernel answer EROFS before it looks at modes, also to root. With
        `default_permissions` it checks modes itself. `max_read` is absent because libfuse wants
        it from its init callback too, which pyfuse3 keeps; without it the kernel asks for up to
        1 MiB at a time. With `inotify` we say EROFS ourselves, to everybody but us.
        """
        options = {f"fsname={self.fsname}", "subtype=torrentfs", "nosuid", "nodev", "noatime"}
        if not self.inotify:
            options |= {"default_permissions", "ro"}
        if self.allow_other:
            options.add("allow_other")
        if self.allow_root:
            options.add("allow_root")
        return options


class Mount:
    """A mount in service: what `serve_mount` hands to `task_status.started`."""

    def __init__(self, path: str, tree: Tree, operations: Operations) -> None:
        self.path = path
        self.tree = tree
        self.operations = operations
        self._notifying = trio.Lock()
        self._open = True

    def __repr__(self) -> str:
        return f"<Mount {self.path} {self.operations!r}>"

    async def add(
        self,
        volume: Volume,
        select: Iterable[int] = (),
        folder: tuple[str, ...] = (),
        name: str | None = None,
        *,
        now: float | None = None,
    ) -> tuple[str, ...]:
        """Show one more torrent (see `Tree.add`) and make the kernel see it; return its path.

        `now` is the time of the change in Unix seconds, by default the clock's.
        """
        [path] = await self.add_many([Placement(volume, select, folder, name)], now=now)
        return path

    async def add_many(
        self, placements: Iterable[Placement], *, now: float | None = None
    ) -> list[tuple[str, ...]]:
        """Show more torrents as one change; return their paths in the order given.

        Raises `ValueError` if one is shown already; then none is added.
        """
        wanted = list(placements)
        stamp = time.time() if now is None else now
        async with self._notifying:
            keys = [placement.volume.metainfo.hashes.key for placement in wanted]
            self.tree.check_new(keys)
            changes = []
            for placement in in_order(wanted):
                change = self.tree.insert(placement, stamp)
                changes.append(change)
                if self.operations.publication is not None:
                    self.tree.hidden.update(inode for _, inode in change.entries)
                await trio.lowlevel.checkpoint()  # a flat torrent may have 100,000 entries
            await self._publish(changes, went=False)
            await self._tell(changes, went=False)
        return [self.tree.path_of_key(key) for key in keys]

    async def remove(self, key: str, now: float | None = None) -> tuple[str, ...]:
        """Stop showing the torrent of info-hash `key` at Unix time `now`; return its path.

        Reads of it that wait fail at once, and later ones through handles that are open. Raises
        `KeyError` if it is not shown.
        """
        [path] = await self.remove_many([key], now)
        return path

    async def remove_many(
        self, keys: Iterable[str], now: float | None = None
    ) -> list[tuple[str, ...]]:
        """Stop showing several as one change. Raises `KeyError`; then none is removed."""
        stamp = time.time() if now is None else now
        async with self._notifying:
            found = [(key, self.tree.volume_of_key(key)) for key in dict.fromkeys(keys)]
            changes = []
            for key, volume in found:
                await self._publish([self.tree.leaving(key)], went=True)
                changes.append(self.tree.remove(key, stamp))
                self.operations.expel(volume)
            await self._tell(changes, went=True)
        return [change.path for change in changes]

    async def replace(
        self, key: str, placement: Placement, *, now: float | None = None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Show a torrent instead of that of info-hash `key`; the paths of the old and the new one.

        Nobody sees the folder with neither (but with `inotify`, for a moment), so the new one may
        have the very name of the old one. What is open of the old one can be read until it is
        closed (`wait_closed`); then `expel` it. Raises `KeyError` and, when the new one is shown
        already or its folder is too deep, `ValueError`; then nothing has changed.
        """
        stamp = time.time() if now is None else now
        tree = self.tree
        async with self._notifying:
            tree.volume_of_key(key)
            tree.check_new([placement.volume.metainfo.hashes.key])
            held = tree.hold(placement.folder)
            try:
                await self._publish([tree.leaving(key)], went=True)
                went = tree.remove(key, stamp)
                came = tree.insert(placement, stamp)
                if self.operations.publication is not None:
                    tree.hidden.update(inode for _, inode in came.entries)
                await self._publish([came], went=False)
            finally:
                tree.let_go(held)
            await self._tell([went], went=True)
            await self._tell([came], went=False)
        return went.path, came.path

    async def wait_closed(self, volume: Volume) -> None:
        """Wait until no file of a torrent is open."""
        await self.operations.handles.wait_closed(volume)

    def expel(self, volume: Volume) -> None:
        """Fail every read of a torrent that is not shown any more, now and later."""
        self.operations.expel(volume)

    async def _publish(self, changes: list[Change], *, went: bool) -> None:
        """Make them through the mount, if we do so; then hidden is what went and nothing else."""
        publication = self.operations.publication
        if publication is None:
            return
        steps = [step for change in changes for step in self._steps(change)]
        act = publication.remove if went else publication.make
        if self._open:
            with trio.CancelScope(shield=True):
                error = await trio.to_thread.run_sync(_act, act, steps)
            if error is not None:
                log.info("inotify did not report all that changed: %s", error)
        self.tree.hidden.clear()

    def _steps(self, change: Change) -> Iterator[Step]:
        tree = self.tree
        above = tuple(map(os.fsencode, tree.path_of(change.parent)))
        for name, inode in change.entries:
            target = tree.link_target(inode) or b""
            mode = tree.attributes(inode).mode
            yield Step(change.parent, inode, (*above, name), mode, target)

    async def _tell(self, changes: list[Change], *, went: bool) -> None:
        """Make the kernel forget what these changes made wrong. With the lock held."""
        if self._open:
            # A caller that is cancelled must not leave the kernel with names that are gone.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_drop, changes, went)

    async def end_invalidations(self) -> None:
        """Wait for the one in flight and allow no other; the session must still be served."""
        self._open = False
        async with self._notifying:
            pass


def _act(act: Callable[[Step], None], steps: list[Step]) -> OSError | None:
    """In a thread: make all these steps; the first error of any."""
    first = None
    for step in steps:
        try:
            act(step)
        except OSError as error:
            first = first or error
    return first


def _drop(changes: list[Change], went: bool) -> None:
    """In a thread: make the kernel forget these entries, and the attributes of what holds them."""
    try:
        for parent in dict.fromkeys(change.parent for change in changes):
            _invalidate(pyfuse3.invalidate_inode, parent, True)
        for change in changes:
            for name, inode in change.entries:
                if went:  # tells who watches the inode, unless it is in use: then the next suffices
                    _invalidate(pyfuse3.invalidate_entry, change.parent, name, inode)
                _invalidate(pyfuse3.invalidate_entry, change.parent, name)
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ENODEV):  # unmounted meanwhile
            log.warning("the kernel keeps names of the mount that it cached: %s", error)


def _invalidate(notify: Callable[..., None], *arguments: object) -> None:
    try:
        notify(*arguments)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EBUSY):  # not cached, in use
            raise


def hides(umask: int) -> bool:
    """Whether somebody may not read with this umask. The kernel does not check it for `inotify`."""
    return bool(umask & 0o555)


def preflight(mountpoint: str | os.PathLike[str], options: MountOptions | None = None) -> None:
    """Check that we can mount here, after removing what a crashed torrentfs left there.

    Blocks on file systems: not for the thread that serves a mount. Raises `MountError`.
    """
    options = options or MountOptions()
    if options.allow_other and options.allow_root:
        raise MountError("allow_other and allow_root exclude each other: give one of them")
    asked = "allow_root" if options.allow_root else "allow_other"
    check_fuse(allow_other=options.allow_other or options.allow_root, option=asked)
    if recover(mountpoint):
        log.warning("removed the mount that a crashed torrentfs left at %s", mountpoint)
    check_mountpoint(mountpoint)


async def serve_mount(
    tree: Tree,
    mountpoint: str | os.PathLike[str],
    options: MountOptions | None = None,
    *,
    admission: Admission | None = None,
    task_status: trio.TaskStatus[Mount] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Mount `tree` at `mountpoint` and answer the kernel until unmounted or cancelled.

    `task_status.started` gets the `Mount` once it is visible. Raises `MountError` if it cannot
    be mounted; an unmount from outside is a normal return. When this returns or raises, nothing
    is mounted any more.
    """
    options = options or MountOptions()
    if (
        options.inotify
        and (options.allow_other or options.allow_root)
        and hides(tree.options.umask)
    ):
        raise MountError("with inotify, others may read all or nothing: no umask can forbid it")
    path = await _preflight_in_time(mountpoint, options)
    operations = Operations(tree, options.operations, admission)
    _init(operations, path, options)
    place = find_mount(path)
    mount = Mount(path, tree, operations)
    try:
        device = _fuse_device()
        if place is not None:
            raise_limits(place)
        await _serve(mount, device, task_status, inotify=options.inotify)
    finally:
        _close(path)
        operations.handles.release_all()


async def _serve(
    mount: Mount, device: int | None, task_status: trio.TaskStatus[Mount], *, inotify: bool
) -> None:
    """Run the session until it ends by itself or this task is cancelled."""
    ended = trio.Event()
    # Cancelling the owner must not take the session along before it has answered what it must.
    life = trio.CancelScope(shield=True)
    failures: list[MountError] = []  # raised outside the nursery, so that no group wraps them

    async def session() -> None:
        try:
            with life:
                await pyfuse3.main(min_tasks=SPARE_TASKS, max_tasks=MAX_TASKS)
        except Exception as error:
            log.exception("the FUSE session of %s broke", mount.path)
            failures.append(MountError(f"the FUSE session of {mount.path} broke: {error}"))
        finally:
            ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(session)
        if device is not None:
            nursery.start_soon(_watch, device, mount.operations, life)
        try:
            device_number = await _until_answered(mount.path, ended)
            if inotify:
                mount.operations.publication = Publication(mount.path, device_number)
            task_status.started(mount)
            await ended.wait()
        except MountError as error:
            failures.append(error)
        finally:
            mount.operations.shut()
            with trio.CancelScope(shield=True):
                await mount.end_invalidations()
                if not ended.is_set():
                    with trio.move_on_after(LAST_ANSWERS):
                        await mount.operations.admission.wait_idle()
                        await trio.sleep(RETRIES_WITHIN)
            life.cancel()
            nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]


async def _until_answered(path: str, ended: trio.Event) -> int:
    """Wait for the kernel's first request to come through; `MountError` if it cannot.

    Returns the mount's device number (`st_dev`).

    The kernel and libfuse agree on a protocol only after mounting, and libfuse ends the session
    if they do not.
    """
    with trio.move_on_after(ANSWER_TIMEOUT):
        try:
            found = await trio.to_thread.run_sync(os.stat, path, abandon_on_cancel=True)
        except OSError as error:
            raise MountError(f"the mount on {path} does not work: {error.strerror}") from None
        if not ended.is_set():
            return found.st_dev
        raise MountError(f"the mount on {path} ended at once: see the lines of libfuse above")
    raise MountError(f"the mount on {path} does not answer")


async def _watch(device: int, operations: Operations, life: trio.CancelScope) -> None:
    """Cancel `life` when the kernel has let go of the mount while reads still wait."""
    poll = select.poll()
    poll.register(device, 0)  # errors are always reported
    while True:
        await trio.sleep(WATCH_INTERVAL)
        if operations.admission.running and poll.poll(0):
            log.info("the mount is gone: ending the reads that were left")
            life.cancel()
            return


async def _preflight_in_time(mountpoint: str | os.PathLike[str], options: MountOptions) -> str:
    """Run `preflight` in a thread, for so long; the real path of the mount point."""
    with trio.move_on_after(PREFLIGHT_TIMEOUT):
        await trio.to_thread.run_sync(preflight, mountpoint, options, abandon_on_cancel=True)
        return await trio.to_thread.run_sync(os.path.realpath, os.fspath(mountpoint))
    raise MountError(
        f"{mountpoint} does not answer: something that hangs is mounted there; "
        f"remove it with `fusermount3 -u -z {mountpoint}`"
    )


def raise_limits(place: MountPoint) -> int | None:
    """Raise the connection's background limits as far as we may; the limit set, or None."""
    with fuse_control() as control:
        connection = control / place.connection
        reason = f"{connection} is missing: mount fusectl"
        for limit in MAX_BACKGROUND:
            try:
                (connection / "max_background").write_text(str(limit))
                (connection / "congestion_threshold").write_text(str(limit * 3 // 4))
            except FileNotFoundError:
                break
            except OSError as error:
                reason = error.strerror or str(error)
                continue
            return limit
    log.info(
        "cannot raise the kernel's limit of background requests (%s): "
        "six readers of a stuck torrent will hold up all others of this mount",
        reason,
    )
    return None


@contextlib.contextmanager
def fuse_control() -> Iterator[Path]:
    """The directory of all connections' limits; root mounts it for the moment if nobody has."""
    usual = Path(FUSE_CONTROL)
    if os.geteuid() != 0 or any(mount.fstype == "fusectl" for mount in mount_table()):
        yield usual
        return
    with tempfile.TemporaryDirectory(prefix="torrentfs-") as directory:
        mounted = mount_fuse_control(directory)
        try:
            yield Path(directory) if mounted else usual
        finally:
            if mounted:
                detach(directory)


def _fuse_device() -> int | None:
    """The descriptor of the session that was just opened (libfuse keeps it to itself)."""
    found = None
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == FUSE_DEVICE:
                found = int(name)
    return found


def _init(operations: Operations, path: str, options: MountOptions) -> None:
    """Mount. libfuse and fusermount3 give their reasons on stderr only: they become the error."""
    with _captured_stderr() as said:
        try:
            pyfuse3.init(operations, path, options.for_fuse())
        except RuntimeError as error:
            failure: RuntimeError | None = error
        else:
            failure = None
    words = said[0].strip() if said else ""
    if failure is None:
        if words:
            log.info("libfuse: %s", words)
        return
    if "not permitted" in words or "ermission denied" in words:
        raise MountError(
            f"no right to mount on {path} ({_last_line(words)}): mount as root, install fuse3 for "
            "its fusermount3, or give the container `--device /dev/fuse --cap-add SYS_ADMIN`"
        )
    raise MountError(f"cannot mount on {path}: {_last_line(words) or failure}")


def _last_line(words: str) -> str:
    return words.splitlines()[-1].strip() if words else ""


@contextlib.contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """What is written to descriptor 2 in the block, also by child processes, in the list."""
    said: list[str] = []
    try:
        saved = os.dup(2)
    except OSError:  # there is no stderr
        yield said
        return
    sink = os.memfd_create("stderr", os.MFD_CLOEXEC)
    try:
        os.dup2(sink, 2)
        try:
            yield said
        finally:
            os.dup2(saved, 2)
            said.append(os.pread(sink, 65536, 0).decode(errors="replace"))
    finally:
        os.close(saved)
        os.close(sink)


def _close(path: str) -> None:
    """End the session: the kernel fails what was not answered, and the mount goes away."""
    pyfuse3.close(unmount=True)
    left = find_mount(path)
    if left is not None and left.fstype == FSTYPE and not detach(path):
        log.error("%s is still mounted: remove it with `fusermount3 -u -z %s`", path, path)
