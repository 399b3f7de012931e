"""Where the socket of a mount is: a directory of the user's own, a name made from the mount point.

The directory is `$XDG_RUNTIME_DIR/torrentfs` where that is this user's, `/run/torrentfs` for root,
else `~/.local/state/torrentfs/run`. It has mode 0700 and the socket 0600, so the kernel lets in
nobody but the user and root. A program that looks for the socket of another process (`sudo
torrentfs list`, or a shell that has other variables) works out the directory from the variables
that *that* process was started with.

Nothing here imports more than the standard library: every command of the command line pays for it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pwd
import socket
import stat
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from torrentfs.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BACKLOG = 64
MOST_SWEPT = 1000
_LONGEST = 107
"""Bytes of a path that fit into a `sockaddr_un`."""


def runtime_directory(environ: Mapping[str, str] | None = None, uid: int | None = None) -> Path:
    """The directory for sockets of user `uid` with these variables; the defaults are our own."""
    environ = os.environ if environ is None else environ
    uid = os.geteuid() if uid is None else uid
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and _owner(runtime) == uid:
        return Path(runtime, "torrentfs")
    if uid == 0:
        return Path("/run/torrentfs")
    return state_directory(environ, uid) / "run"


def state_directory(environ: Mapping[str, str] | None = None, uid: int | None = None) -> Path:
    """`~/.local/state/torrentfs` (XDG_STATE_HOME is honoured)."""
    environ = os.environ if environ is None else environ
    state = environ.get("XDG_STATE_HOME", "")
    if state.startswith("/"):
        return Path(state, "torrentfs")
    home = environ.get("HOME", "")
    if not home.startswith("/"):
        with suppress(KeyError):
            home = pwd.getpwuid(os.geteuid() if uid is None else uid).pw_dir
    return Path(home or "/", ".local/state/torrentfs")


def _owner(path: str) -> int | None:
    try:
        return os.stat(path).st_uid
    except OSError:
        return None


def socket_name(mountpoint: str | os.PathLike[str]) -> str:
    """The name of the socket of what is mounted at `mountpoint` (absolute, without symlinks)."""
    return hashlib.blake2b(os.fsencode(mountpoint), digest_size=10).hexdigest() + ".sock"


def find_socket(mountpoint: str, pid: int | None) -> Path | None:
    """The socket of the mount at `mountpoint`, served by process `pid` as far as that is known."""
    directories = [runtime_directory()]
    if pid is not None:
        with suppress(OSError):
            raw = Path(f"/proc/{pid}/environ").read_bytes()
            pairs = (os.fsdecode(line).partition("=") for line in raw.split(b"\0"))
            environ = {name: value for name, _, value in pairs}
            directories.append(runtime_directory(environ, os.stat(f"/proc/{pid}").st_uid))
    for directory in directories:
        path = directory / socket_name(mountpoint)
        try:
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                return path
        except OSError:
            continue
    return None


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """A name for `path` that fits into a socket address, while the context lasts."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class UnixSocket:
    """A listening socket in its directory; `close` takes it away, if it is still ours."""

    def __init__(self, path: Path) -> None:
        """Make directory and socket. `ConfigError` when somebody else's things are in the way."""
        self.path = path
        _own_directory(path.parent)
        _check_replaceable(path)
        _sweep(path.parent)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with suppress(FileNotFoundError):
                made.unlink()
            with address_of(made) as address:
                self.listener.bind(address)
            os.chmod(made, 0o600)
            self.listener.listen(BACKLOG)
            # Under its name it is listened to from the start, or `_sweep` of another mount would
            # take it away. Whoever had the name has lost the mount point.
            made.rename(path)
            self._identity = _identity(path)
        except OSError as error:
            self.listener.close()
            made.unlink(missing_ok=True)
            raise ConfigError(f"cannot make the socket {path}: {error.strerror}") from error

    def close(self) -> None:
        """Stop listening."""
        self.listener.close()
        with suppress(OSError):
            if _identity(self.path) == self._identity:
                self.path.unlink()


def _identity(path: Path) -> tuple[int, int, int]:
    about = os.lstat(path)
    return about.st_dev, about.st_ino, about.st_ctime_ns  # numbers alone are used again


def _own_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = os.lstat(path)
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
            raise ConfigError(f"{path} is not a directory of yours: no socket is made there")
        if about.st_mode & 0o077:
            os.chmod(path, 0o700)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"cannot use {path} for the control socket: {reason}") from error


def _check_replaceable(path: Path) -> None:
    """`ConfigError` when something other than a socket has the name."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"{path} is not a socket: it is in the way of the control socket")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"cannot look at {path}: {error.strerror}") from error


def _sweep(directory: Path) -> None:
    """Take away the sockets of mounts that crashed: nobody listens to them."""
    for path in islice(directory.glob("*.sock"), MOST_SWEPT):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                continue
            probe.setblocking(False)
            try:
                with address_of(path) as address:
                    probe.connect(address)
            except ConnectionRefusedError:
                path.unlink()


def listen_tcp(host: str, port: int) -> socket.socket:
    """A listening socket at an address given in digits; `ConfigError` when it is not free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = "it is in use" if error.errno == errno.EADDRINUSE else str(error.strerror).lower()
        raise ConfigError(f"cannot listen on {host} port {port} (--http): {reason}") from error
    return listener
