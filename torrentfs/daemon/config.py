"""What one mount is told: frozen values made from options, environment and config file.

`MountConfig` is complete and absolute: after it is built nothing looks at the environment, the
current directory or the terminal again, so that the process may fork and change directory.
Numbers and defaults of the engine live in `engine.config.SessionConfig` alone; the command line
reads its defaults from there.

The config file is TOML (`default_config_file()`, or `--config`): one top-level key per long
option, with `-` or `_`, e.g. `cache-size = "20G"`, `peer = ["192.0.2.7:6881"]`. An unknown key is
an error, because a misspelt limit that is silently ignored fills a disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torrentfs.daemon.control.config import ControlConfig
from torrentfs.engine.config import SessionConfig
from torrentfs.errors import ConfigError
from torrentfs.vfs.views import View

if TYPE_CHECKING:
    from collections.abc import Collection

    from torrentfs.daemon.refreshing import MediaServer
    from torrentfs.daemon.sources import Source

MAX_CONFIG_BYTES = 1024 * 1024
"""Longest config file read: one of a few kilobytes is already long."""

Mtime = Literal["added", "created"]
Layout = Literal["name", "infohash", "flat"]


@dataclass(frozen=True, slots=True)
class MountConfig:
    """One mount: what, where, and how; times in seconds, paths absolute."""

    sources: tuple[Source, ...]
    mountpoint: Path
    session: SessionConfig = field(default_factory=SessionConfig)
    foreground: bool = False
    metadata_timeout: float = 60.0
    """Longest wait for a magnet's metadata or a URL's .torrent."""
    follow_interval: float = 3600.0
    """Between two questions to the DHT for what a publisher named last."""
    allow_other: bool = False
    allow_root: bool = False
    uid: int | None = None
    """Owner of the files, or None for whoever mounts."""
    gid: int | None = None
    umask: int = 0o022
    xattrs: bool = False
    mtime: Mtime = "added"
    inotify: bool = False
    layout: Layout = "name"
    view: View = field(default_factory=View)
    peers: tuple[tuple[str, int], ...] = ()
    trackers: tuple[str, ...] = ()
    web_seeds: tuple[str, ...] = ()
    control: ControlConfig = field(default_factory=ControlConfig)
    watch: tuple[Path, ...] = ()
    """Directories of .torrent and .magnet files that are followed."""
    state_dir: Path | None = None
    """Where the library is written down; None: nowhere."""
    on_change: str = ""
    """A command for each entry that came or went; see `on_change`."""
    refresh: tuple[MediaServer, ...] = ()
    """Media servers that are told of it."""
    log_file: Path | None = None
    """None: the terminal in the foreground, `default_log_file` in the background."""
    log_format: Literal["text", "json"] = "text"
    verbosity: int = 0
    """0: what a user acts on; 1: what torrentfs does; 2: every library, and tracebacks."""

    def __post_init__(self) -> None:
        if self.allow_other and self.allow_root:
            raise ConfigError("--allow-other already includes root: leave out --allow-root")
        others = self.allow_other or self.allow_root
        if self.inotify and others and self.umask & 0o555:
            raise ConfigError(
                "with --inotify everybody who may use the mount may read all of it: "
                f"--umask {self.umask:03o} cannot forbid it"
            )
        if self.metadata_timeout <= 0 or self.session.read_timeout <= 0:
            raise ConfigError("a timeout must be longer than 0s")
        if self.follow_interval < 1:
            raise ConfigError("--follow-interval must be 1s at least")
        if self.log_file is not None and self.log_file.is_relative_to(self.mountpoint):
            raise ConfigError(f"the log file must not be in the mount point: {self.log_file}")
        for place in self.watch:
            if place.is_relative_to(self.mountpoint):
                raise ConfigError(f"a watch directory must not be in the mount point: {place}")
            if any(place != other and place.is_relative_to(other) for other in self.watch):
                raise ConfigError(f"{place} is watched already, with the directory above it")


@dataclass(frozen=True, slots=True)
class Beside:
    """Where to ask beside what the torrents themselves say."""

    trackers: tuple[str, ...] = ()
    web_seeds: tuple[str, ...] = ()
    peers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class OpenConfig:
    """How to open a torrent that is to be read without a mount; times in seconds."""

    session: SessionConfig = field(default_factory=SessionConfig)
    beside: Beside = field(default_factory=Beside)
    metadata_timeout: float = 60.0

    def __post_init__(self) -> None:
        if self.metadata_timeout <= 0 or self.session.read_timeout <= 0:
            raise ConfigError("a timeout must be longer than 0s")


def default_config_file() -> Path:
    """`~/.config/torrentfs/config.toml` (XDG_CONFIG_HOME is honoured)."""
    import platformdirs  # imported where it is used: start-up time counts

    return platformdirs.user_config_path("torrentfs") / "config.toml"


def default_log_file(mountpoint: Path) -> Path:
    """`~/.local/state/torrentfs/log/<mount point>.log`: one per mount, so two never mix."""
    import platformdirs

    name = re.sub(r"[^\w.-]+", "-", str(mountpoint)).strip("-.")[-100:] or "root"
    return platformdirs.user_log_path("torrentfs") / f"{name}.log"


def default_state_dir() -> Path:
    """`~/.local/state/torrentfs` (XDG_STATE_HOME is honoured)."""
    import platformdirs

    return platformdirs.user_state_path("torrentfs")


def library_file(state_dir: Path, mountpoint: str) -> Path:
    """Where the library of the mount point of this real path is written down."""
    name = re.sub(r"[^\w.-]+", "-", mountpoint).strip("-.")[-60:] or "root"
    digest = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]
    return state_dir / "library" / f"{name}-{digest}.sqlite"


def read_config_file(path: Path, known: Collection[str]) -> dict[str, Any]:
    """The options that `path` sets, by option name with `_`; ConfigError names file and key.

    Values are what TOML gives (a string, number, boolean or list of these); the option they
    belong to converts and checks them. `known` are the names allowed.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise ConfigError(f"cannot read the config file {path}: {reason}") from exc
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"the config file {path} is too large: the most is 1 MiB")
    try:
        table = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        reason = str(exc).splitlines()[0]
        raise ConfigError(f"the config file {path} is not TOML: {reason}") from exc
    options: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            raise ConfigError(f"{path}: there is no option {key!r} (see torrentfs mount --help)")
        if name in options:
            raise ConfigError(f"{path}: {key!r} is given twice, with - and with _")
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str | int | float) for item in items):
            raise ConfigError(f"{path}: {key!r} must be text, a number, true/false or a list")
        options[name] = value
    return options


def absolute(path: str | os.PathLike[str]) -> Path:
    """`path` from the current directory, `~` expanded, symbolic links left alone."""
    return Path(os.path.abspath(os.path.expanduser(path)))
