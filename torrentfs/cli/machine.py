"""What `doctor` needs to know about this machine, gathered once as plain facts.

Only this file looks at the system; the verdicts in `doctor.py` are a pure function of `Facts`.
Nothing here changes anything, but for a probe file in the cache directory that is removed again.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import socket
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from torrentfs.daemon.open_files import attainable
from torrentfs.storage.kernel import punch_hole
from torrentfs.vfs.mountpoint import FUSE_CONTROL, FUSE_DEVICE, mount_table, others_allowed

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGES = ("pyfuse3", "trio", "httpx", "bencodepy", "cachetools", "platformdirs", "rich")
"""Python modules that a mount imports."""


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """The cache directory, or of the nearest directory above it that exists."""

    directory: str
    writable: bool
    free: int
    """Bytes free for this user."""
    filesystem: str
    """Its type in the mount table, like `ext4`, `nfs4`, `fuse.sshfs`."""
    punches_holes: bool | None
    """None: could not be tried."""


@dataclass(frozen=True, slots=True)
class Facts:
    """This machine; defaults are those of one where everything is right."""

    root: bool = False
    distribution: str = "debian"
    """`debian`, `fedora`, `arch`, `suse`, `alpine`, or `` for any other."""
    container: bool = False
    fuse_device: str = ""
    """Empty when /dev/fuse can be opened, else why not."""
    fuse_mode: int = 0o666
    """Its permission bits; 0 when it is not there."""
    fusermount: str | None = "/usr/bin/fusermount3"
    fusermount_setuid: bool = True
    allow_other: bool = True
    connections_problem: str = ""
    """Why limits of FUSE mounts cannot be raised in /sys: `not mounted`, `read-only`, or empty."""
    user_background: int = 65535
    """Most that a user other than root may set `max_background` of a mount to; 0: the default."""
    cache: CacheFacts = field(
        default_factory=lambda: CacheFacts("/cache", True, 2**40, "ext4", True)
    )
    wanted_free: int = 0
    """Bytes: the least free space that the cache leaves."""
    open_files: int = 65536
    """That a mount may have; it raises its soft limit to the hard one."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Python modules that do not import, and why."""
    origin: str = "/src/torrentfs"
    """What pip installed torrentfs from: a directory, a wheel, a URL; empty: unknown."""
    ipv6: bool = True
    port: int = 0
    port_error: str = ""
    """Why the port cannot be listened on, or empty."""


def gather(cache_dir: Path, wanted_free: int, port: int) -> Facts:
    """Look at this machine, as the user who asks."""
    fusermount = shutil.which("fusermount3")
    return Facts(
        root=os.geteuid() == 0,
        distribution=distribution_of(_read("/etc/os-release")),
        container=_in_container(),
        fuse_device=_open_error(FUSE_DEVICE),
        fuse_mode=_mode(FUSE_DEVICE),
        fusermount=fusermount,
        fusermount_setuid=bool(fusermount and _is_setuid_root(fusermount)),
        allow_other=others_allowed(),
        connections_problem=_connections_problem(),
        user_background=_number(_read("/sys/module/fuse/parameters/max_user_bgreq")),
        cache=_look_at_cache(cache_dir),
        wanted_free=wanted_free,
        open_files=attainable(),
        missing=_missing_packages(),
        origin=_origin(),
        ipv6=not _bind_error(socket.AF_INET6, "::1", 0),
        port=port,
        port_error=_bind_error(socket.AF_INET, "0.0.0.0", port),
    )


def distribution_of(os_release: str) -> str:
    """The family that os-release(5) tells of, by ID and ID_LIKE."""
    words: list[str] = []
    for line in os_release.splitlines():
        key, _, value = line.partition("=")
        if key in ("ID", "ID_LIKE"):
            words += value.strip().strip("\"'").split()
    families = {
        "debian": "debian",
        "ubuntu": "debian",
        "fedora": "fedora",
        "rhel": "fedora",
        "centos": "fedora",
        "arch": "arch",
        "suse": "suse",
        "opensuse": "suse",
        "alpine": "alpine",
    }
    return next((families[word] for word in words if word in families), "")


def _origin() -> str:
    """As pip has noted it (PEP 610); empty for what came from an index, or by other means."""
    from importlib import metadata

    try:
        noted = metadata.distribution("torrentfs").read_text("direct_url.json")
        url = str(json.loads(noted or "{}").get("url", ""))
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        return ""
    return unquote(url.removeprefix("file://"))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _in_container() -> bool:
    if any(os.path.exists(path) for path in ("/.dockerenv", "/run/.containerenv")):
        return True
    return b"container=" in _environment_of_init()


def _environment_of_init() -> bytes:
    with suppress(OSError):
        return Path("/proc/1/environ").read_bytes()
    return b""


def _open_error(path: str) -> str:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return "it does not exist"
    except OSError as exc:
        return (exc.strerror or str(exc)).lower()
    return ""


def _mode(path: str) -> int:
    with suppress(OSError):
        return stat.S_IMODE(os.stat(path).st_mode)
    return 0


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isdecimal() else 0


def _is_setuid_root(path: str) -> bool:
    with suppress(OSError):
        found = os.stat(path)
        return found.st_uid == 0 and bool(found.st_mode & stat.S_ISUID)
    return False


def _connections_problem() -> str:
    """The owner of a mount may write its limits, if the control file system is there."""
    with suppress(OSError):
        if os.path.ismount(FUSE_CONTROL):
            # in containers /sys is often mounted read-only
            return "read-only" if os.statvfs(FUSE_CONTROL).f_flag & os.ST_RDONLY else ""
    return "not mounted"


def _look_at_cache(directory: Path) -> CacheFacts:
    existing = directory
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent  # not there, or in a place that is closed to us
    is_directory = os.path.isdir(existing)
    writable = is_directory and os.access(existing, os.W_OK | os.X_OK)
    if not is_directory:
        existing = existing.parent
    space = os.statvfs(existing)
    punches = _punches_holes(existing) if writable else None
    if punches is None and writable and existing == directory:
        writable = False  # a read-only or full file system
    return CacheFacts(
        directory=str(directory),
        writable=writable,
        free=space.f_bavail * space.f_frsize,
        filesystem=_filesystem_of(existing),
        punches_holes=punches,
    )


def _filesystem_of(directory: Path) -> str:
    place = os.path.realpath(directory)
    found = ""
    longest = -1
    for mount in mount_table():
        inside = place == mount.path or place.startswith(mount.path.rstrip("/") + "/")
        if inside and len(mount.path) >= longest:
            found, longest = mount.fstype, len(mount.path)
    return found


def _punches_holes(directory: Path) -> bool | None:
    """Try it on a file without a name; None when no file can be made at all."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"x" * 65536)
            file.flush()
            return punch_hole(file.fileno(), 0, 65536)
    except OSError:
        return None


def _missing_packages() -> dict[str, str]:
    missing = {}
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except Exception as exc:  # a binary module may fail in any way
            missing[name] = f"{type(exc).__name__}: {exc}"
    return missing


def _bind_error(family: socket.AddressFamily, host: str, port: int) -> str:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as exc:
        return (exc.strerror or str(exc)).lower()
    return ""
