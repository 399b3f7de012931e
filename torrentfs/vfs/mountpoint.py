"""Mount points: what is mounted where, may we mount here, and unmounting. No FUSE session.

The table is `/proc/self/mountinfo`, read without touching any file system in it: a stat of a
mount whose daemon hangs would hang too. Where a file system must be asked whether it lives, it
is asked by `statfs`, which the kernel never answers from a cache; callers run that in a thread.

**Busy.** The kernel refuses to unmount while a read waits for bytes that never come, and who is
in it cannot leave. So `unmount` asks the daemon by a signal to fail such reads, and tries again
for a moment; programs that merely have files open are named, and lose nothing. The daemon is
found by the mount table alone: its process id is part of the mount's source, `torrentfs:PID`.

Every refusal is a `MountError` of one line that says what to do.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from torrentfs.errors import MountError

FSTYPE = "fuse.torrentfs"
"""The type that our mounts have in the mount table."""
FUSE_DEVICE = "/dev/fuse"
FUSE_CONTROL = "/sys/fs/fuse/connections"
FUSE_CONF = "/etc/fuse.conf"
LET_GO = signal.SIGUSR1
"""Asks the daemon to fail, for `LET_GO_SECONDS`, reads for which nothing comes."""
LET_GO_SECONDS = 1.0
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_ESCAPE = re.compile(rb"\\([0-7]{3})")


class MountPoint(NamedTuple):
    """A line of the mount table. `device` is `major:minor`; the minor names a FUSE connection."""

    path: str
    fstype: str
    source: str
    device: str

    @property
    def connection(self) -> str:
        """The name of the FUSE connection in fusectl."""
        return self.device.partition(":")[2]


def mount_table(text: bytes | None = None) -> list[MountPoint]:
    """All mounts that this process sees, later ones on top of earlier ones."""
    if text is None:
        text = Path("/proc/self/mountinfo").read_bytes()
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(b" - ")
        fields, kind = before.split(b" "), after.split(b" ")
        if len(fields) >= 6 and len(kind) >= 2:
            path, fstype, source = (_unescape(raw) for raw in (fields[4], kind[0], kind[1]))
            mounts.append(MountPoint(path, fstype, source, os.fsdecode(fields[2])))
    return mounts


def _unescape(raw: bytes) -> str:
    """The kernel writes blanks and backslashes of paths as octal escapes."""
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), raw))


def find_mount(mountpoint: str | os.PathLike[str]) -> MountPoint | None:
    """What is mounted at `mountpoint` itself, or None. Follows symlinks only if it must."""
    table = mount_table()
    for path in (os.path.abspath(mountpoint), None):
        wanted = os.path.realpath(mountpoint) if path is None else path
        for mount in reversed(table):
            if mount.path == wanted:
                return mount
    return None


def is_dead(mount: MountPoint) -> bool:
    """Whether the daemon behind a FUSE mount is gone. May block if it is there but hangs."""
    if not mount.fstype.startswith("fuse"):
        return False
    try:
        os.statvfs(mount.path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def recover(mountpoint: str | os.PathLike[str]) -> bool:
    """Take away what a crashed torrentfs left mounted at `mountpoint`; True if there was any.

    A dead mount of another file system is not ours to remove: `MountError`.
    """
    recovered = False
    for _ in range(16):  # mounts can be stacked
        mount = find_mount(mountpoint)
        if mount is None or not is_dead(mount):
            return recovered
        if mount.fstype != FSTYPE:
            raise MountError(
                f"{mount.path} is a dead mount ({mount.fstype}): "
                f"remove it with `fusermount3 -u -z {mount.path}`"
            )
        detach(mount.path)
        recovered = True
    return recovered


def check_mountpoint(mountpoint: str | os.PathLike[str]) -> None:
    """Refuse a mount point that is missing, no directory, busy, not ours or not empty."""
    mount = find_mount(mountpoint)
    if mount is not None:
        what = "torrentfs" if mount.fstype == FSTYPE else mount.fstype
        raise MountError(
            f"{mountpoint} is busy: {what} is mounted there; "
            f"unmount it (`torrentfs umount {mountpoint}`) or choose another directory"
            if mount.fstype == FSTYPE
            else f"{mountpoint} is busy: {what} is mounted there; choose another directory"
        )
    try:
        about = os.stat(mountpoint)
        if not stat.S_ISDIR(about.st_mode):
            raise MountError(f"{mountpoint} is not a directory: a mount point must be one")
        content = os.listdir(mountpoint)
    except FileNotFoundError:
        raise MountError(
            f"{mountpoint} does not exist: create it with `mkdir -p {shlex.quote(str(mountpoint))}`"
        ) from None
    except NotADirectoryError:
        raise MountError(f"{mountpoint} is not a directory: a mount point must be one") from None
    except OSError as error:
        raise MountError(f"cannot use {mountpoint} as mount point: {error.strerror}") from None
    if content:
        raise MountError(f"{mountpoint} is not empty: mount on an empty directory")
    if os.geteuid() != 0 and not os.access(mountpoint, os.W_OK):
        raise MountError(
            f"you may not write to {mountpoint}, so FUSE refuses to mount there: "
            "choose a directory of your own"
        )


def check_fuse(*, allow_other: bool = False, option: str = "allow_other") -> None:
    """Refuse if this machine or this user cannot mount FUSE; `option` names what asks for it."""
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise MountError(
            f"{FUSE_DEVICE} is missing: load it with `modprobe fuse`, "
            "or start the container with `--device /dev/fuse --cap-add SYS_ADMIN`"
        ) from None
    except PermissionError:
        # fusermount3 gives up its rights before it opens the device, so it cannot help here.
        raise MountError(
            f"you may not open {FUSE_DEVICE}: let users do so with `chmod 666 {FUSE_DEVICE}`, "
            "or start the container with `--device /dev/fuse --cap-add SYS_ADMIN`"
        ) from None
    except OSError as error:
        raise MountError(
            f"{FUSE_DEVICE} cannot be opened ({error.strerror}): load it with `modprobe fuse`, "
            "or start the container with `--device /dev/fuse --cap-add SYS_ADMIN`"
        ) from None
    if os.geteuid() == 0:
        return
    if shutil.which("fusermount3") is None:
        raise MountError(
            "fusermount3 is missing, and only root mounts without it: install the package fuse3"
        )
    if allow_other and not others_allowed():
        raise MountError(
            f"--{option.replace('_', '-')} needs the line `user_allow_other` in {FUSE_CONF}: "
            "add it as root, or mount without the option"
        )


def others_allowed() -> bool:
    """Whether fuse.conf has the line `user_allow_other`."""
    try:
        lines = Path(FUSE_CONF).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.partition("#")[0].strip() == "user_allow_other" for line in lines)


def unmount(mountpoint: str | os.PathLike[str], *, lazy: bool = False) -> None:
    """Unmount the torrentfs at `mountpoint`; `lazy` detaches it even if it is in use.

    Raises `MountError` if there is none, or if it is busy, saying who uses it.
    """
    mount = find_mount(mountpoint)
    if mount is None:
        raise MountError(f"nothing is mounted at {mountpoint}")
    if mount.fstype != FSTYPE:
        raise MountError(f"{mountpoint} is not a torrentfs mount but {mount.fstype}")
    try:
        _unmount(mount.path, lazy=lazy)
    except OSError as error:
        if error.errno != errno.EBUSY:
            who = "" if os.geteuid() == 0 else "only root and the user who mounted it may: "
            raise MountError(f"cannot unmount {mountpoint}: {who}{error.strerror}") from None
        if _unmount_when_let_go(mount):
            return
        users = users_of(mount.path)
        who = f" by {', '.join(users)}" if users else ""
        raise MountError(
            f"{mountpoint} is in use{who}: close it first, "
            f"or detach it now with `torrentfs umount --lazy {mountpoint}`"
        ) from None


def source_of(pid: int) -> str:
    """The source that the mount of daemon `pid` has in the mount table."""
    return f"torrentfs:{pid}"


def daemon_of(mount: MountPoint) -> int | None:
    """The process that serves `mount`, as far as it can be seen from here that it does.

    A number from another pid namespace could be anybody's, so the process must have the FUSE
    device open; whose files we may not see, we may not signal either.
    """
    name, _, number = mount.source.partition(":")
    if name != "torrentfs" or not number.isdecimal():
        return None
    try:
        for descriptor in os.scandir(f"/proc/{number}/fd"):
            if os.readlink(descriptor.path) == FUSE_DEVICE:
                return int(number)
    except OSError:
        return None
    return None


def _unmount_when_let_go(mount: MountPoint) -> bool:
    """Make the daemon fail reads that are stuck; True when the mount could be taken then."""
    pid = daemon_of(mount)
    if pid is None:
        return False
    try:
        os.kill(pid, LET_GO)
    except OSError:
        return False
    deadline = time.monotonic() + LET_GO_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.02)
        with contextlib.suppress(OSError):
            _unmount(mount.path, lazy=False)
            return True
    return False


def detach(path: str) -> bool:
    """Unmount lazily whatever is at `path`, in use or not; False if that failed."""
    try:
        _unmount(path, lazy=True)
    except OSError:
        return False
    return True


def _unmount(path: str, *, lazy: bool) -> None:
    """umount2(2) as root, else fusermount3. Raises `OSError`."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
        if libc.umount2(os.fsencode(path), flags) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", path]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=10, check=False
        )
    except FileNotFoundError:
        raise OSError(errno.ENOENT, "fusermount3 is missing: install the package fuse3") from None
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, "fusermount3 does not answer") from None
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        number = errno.EBUSY if "busy" in done.stderr else errno.EPERM
        raise OSError(number, words[-1] if words else f"fusermount3 ended with {done.returncode}")


def mount_fuse_control(directory: str) -> bool:
    """As root: mount fusectl, which holds the limits of all FUSE connections; whether it worked."""
    libc = ctypes.CDLL(None, use_errno=True)
    done: int = libc.mount(b"fusectl", os.fsencode(directory), b"fusectl", 0, None)
    return done == 0


def users_of(path: str, limit: int = 5) -> list[str]:
    """Processes that hold files or directories below `path`, as `name (pid)`, at most `limit`.

    Only links in /proc are read, so this never waits for the mount; other users' processes are
    seen by root only.
    """
    inside = path.rstrip("/") + "/"
    users = []
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda p: int(p.name)):
        if any(link == path or link.startswith(inside) for link in _links_of(process)):
            name = "?"
            with contextlib.suppress(OSError):
                name = (process / "comm").read_text(errors="replace").strip()
            users.append(f"{name} ({process.name})")
            if len(users) >= limit:
                users.append("...")
                break
    return users


def _links_of(process: Path) -> list[str]:
    links = []
    candidates = [process / "cwd", process / "root"]
    for directory in ("fd", "map_files"):
        with contextlib.suppress(OSError):
            candidates += [process / directory / n for n in os.listdir(process / directory)]
    for candidate in candidates:
        with contextlib.suppress(OSError):
            links.append(os.readlink(candidate))
    return links
