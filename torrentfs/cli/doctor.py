"""`torrentfs doctor`: what is missing on this machine, and the command that mends it.

Each check is a pure function of the facts in `machine.py` and gives one verdict: `ok`, `warn`
(mounting works, something is worse than it could be) or `FAIL` (no mount). A command that mends
is the distribution's own. Exit code 0 unless a check fails, then 1.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import click

from torrentfs.cli.options import PATH, SIZE, WholeNumber
from torrentfs.cli.output import printable
from torrentfs.cli.settings import ReadingCommand, config_option
from torrentfs.daemon.quantities import format_size
from torrentfs.engine.config import SessionConfig, default_cache_dir

if TYPE_CHECKING:
    from pathlib import Path

    from torrentfs.cli.machine import Facts

Level = Literal["ok", "warn", "FAIL"]

ENOUGH_FILES = 4096
"""Open files: 200 peers, as many files of the cache, and programs that open files in the mount."""

ENOUGH_BACKGROUND = 512
"""The least `max_background` that a mount tries for (vfs/mount.py)."""

_INSTALL = {
    "debian": "sudo apt install {}",
    "fedora": "sudo dnf install {}",
    "arch": "sudo pacman -S {}",
    "suse": "sudo zypper install {}",
    "alpine": "sudo apk add {}",
}
_REMOTE = ("nfs", "cifs", "smb", "9p", "fuse", "ceph", "glusterfs")
"""Starts of file system types on which SQLite's locks or holes in files are not to be trusted."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one check; `mend` is a command or an advice, empty when all is well."""

    check: str
    level: Level
    text: str
    mend: str = ""


def install(facts: Facts, package: str) -> str:
    """The command that installs `package` here."""
    return _INSTALL.get(facts.distribution, "install the package {}").format(package)


def examine(facts: Facts) -> list[Verdict]:
    """All verdicts, the most fundamental first."""
    return [
        _fuse_device(facts),
        _fusermount(facts),
        _packages(facts),
        _allow_other(facts),
        _limits(facts),
        _cache(facts),
        _space(facts),
        _holes(facts),
        _open_files(facts),
        _ipv6(facts),
        _port(facts),
    ]


def _fuse_device(facts: Facts) -> Verdict:
    name = "/dev/fuse"
    if not facts.fuse_device:
        if facts.root and facts.fuse_mode and not facts.fuse_mode & 0o066:
            text = f"mode {facts.fuse_mode:04o}: only root can mount"
            return Verdict(name, "warn", text, "sudo chmod 666 /dev/fuse")
        return Verdict(name, "ok", "can be opened")
    if facts.container:
        mend = "start the container with --device /dev/fuse --cap-add SYS_ADMIN"
    elif "exist" in facts.fuse_device:
        mend = "sudo modprobe fuse"
    else:
        mend = "sudo chmod 666 /dev/fuse"
    return Verdict(name, "FAIL", facts.fuse_device, mend)


def _fusermount(facts: Facts) -> Verdict:
    name = "fusermount3"
    if facts.fusermount is None:
        level: Level = "warn" if facts.root else "FAIL"
        return Verdict(name, level, "is not installed", install(facts, "fuse3"))
    if not facts.fusermount_setuid and not facts.root:
        mend = f"sudo chmod u+s {facts.fusermount}"
        return Verdict(name, "FAIL", f"{facts.fusermount} is not setuid root", mend)
    return Verdict(name, "ok", facts.fusermount)


def _packages(facts: Facts) -> Verdict:
    name = "Python packages"
    if not facts.missing:
        return Verdict(name, "ok", "all there")
    text = "; ".join(f"{module} ({reason})" for module, reason in facts.missing.items())
    # by name only what was installed by name: the name may be a stranger's on an index
    mend = "install torrentfs again, the way it was installed"
    if facts.origin:
        mend = f"pip install --force-reinstall {shlex.quote(facts.origin)}"
    if "pyfuse3" in facts.missing:
        build = {"debian": "libfuse3-dev pkg-config gcc python3-dev"}
        build |= {"fedora": "fuse3-devel pkgconf gcc python3-devel", "arch": "fuse3 pkgconf gcc"}
        build |= {"suse": "fuse3-devel pkgconf gcc python3-devel"}
        build |= {"alpine": "fuse3-dev pkgconf gcc musl-dev python3-dev"}
        packages = build.get(facts.distribution, "libfuse3 (development files) pkg-config gcc")
        mend = f"{install(facts, packages)} {'&&' if facts.origin else '; then'} {mend}"
    return Verdict(name, "FAIL", text, mend)


def _allow_other(facts: Facts) -> Verdict:
    name = "--allow-other"
    if facts.root:
        return Verdict(name, "ok", "root may always use it")
    if facts.allow_other:
        return Verdict(name, "ok", "user_allow_other is in /etc/fuse.conf")
    mend = "echo user_allow_other | sudo tee -a /etc/fuse.conf"
    return Verdict(name, "warn", "not permitted: other users cannot see your mounts", mend)


def _limits(facts: Facts) -> Verdict:
    """`max_background`: without a higher one, six readers of a stuck torrent stop all others."""
    name = "FUSE limits"
    consequence = "many readers of a stuck torrent slow down the others"
    if facts.root and facts.connections_problem == "not mounted":
        return Verdict(name, "ok", "root mounts fusectl for the moment when it is not there")
    if not facts.connections_problem:
        most = facts.user_background
        if facts.root or not 0 < most < ENOUGH_BACKGROUND:
            return Verdict(name, "ok", "can be raised in /sys/fs/fuse/connections")
        text = f"users may raise max_background to {most} only: {consequence}"
        mend = "echo 4096 | sudo tee /sys/module/fuse/parameters/max_user_bgreq"
        return Verdict(name, "warn", text, mend)
    text = f"/sys/fs/fuse/connections is {facts.connections_problem}, so they cannot be raised: "
    text += consequence
    mend = "sudo mount -t fusectl fusectl /sys/fs/fuse/connections"
    if facts.connections_problem == "read-only":
        mend = "sudo mount -o remount,rw /sys/fs/fuse/connections"
    return Verdict(name, "warn", text, mend)


def _cache(facts: Facts) -> Verdict:
    name = "cache directory"
    cache = facts.cache
    if not cache.writable:
        mend = "choose another with --cache-dir, or mend its owner: "
        mend += f"sudo chown -R $USER {cache.directory}"
        text = f"{cache.directory} cannot be written to"
        return Verdict(name, "FAIL", text, mend)
    if cache.filesystem.startswith(_REMOTE):
        text = f"{cache.directory} is on {cache.filesystem}: slow, and locks may not hold"
        return Verdict(name, "warn", text, "choose a local disk with --cache-dir")
    return Verdict(name, "ok", f"{cache.directory} on {cache.filesystem or 'an unknown type'}")


def _space(facts: Facts) -> Verdict:
    name = "free space"
    free = facts.cache.free
    if free <= facts.wanted_free:
        text = f"{format_size(free)}, and {format_size(facts.wanted_free)} are left alone"
        mend = "free some, lower --min-free-space, or choose another disk with --cache-dir"
        return Verdict(name, "warn", f"{text}: nothing will be kept", mend)
    return Verdict(name, "ok", format_size(free))


def _holes(facts: Facts) -> Verdict:
    name = "sparse files"
    if facts.cache.punches_holes is None:
        return Verdict(name, "warn", "could not be tried")
    if facts.cache.punches_holes:
        return Verdict(name, "ok", "holes can be punched")
    text = f"{facts.cache.filesystem} cannot punch holes: parts of a file are not given back"
    return Verdict(name, "warn", text, "choose ext4, xfs or btrfs with --cache-dir")


def _open_files(facts: Facts) -> Verdict:
    name = "open files"
    limit = facts.open_files
    if limit >= ENOUGH_FILES:
        return Verdict(name, "ok", f"up to {limit}")
    text = f"only {limit}: too few for many peers and torrents"
    return Verdict(name, "warn", text, f"ulimit -Hn {ENOUGH_FILES} (LimitNOFILE= in systemd)")


def _ipv6(facts: Facts) -> Verdict:
    if facts.ipv6:
        return Verdict("IPv6", "ok", "there")
    mend = "sudo sysctl net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.lo.disable_ipv6=0"
    return Verdict("IPv6", "warn", "is off: IPv6 peers cannot be reached", mend)


def _port(facts: Facts) -> Verdict:
    if facts.port_error:
        text = f"{facts.port} cannot be listened on: {facts.port_error}"
        return Verdict("port", "FAIL", text, "choose another with --port")
    text = f"{facts.port} is free" if facts.port else "a free one can be had"
    return Verdict("port", "ok", text)


_COLOURS = {"ok": "green", "warn": "yellow", "FAIL": "red"}
_SESSION = SessionConfig()


@click.command(
    cls=ReadingCommand,
    reads=("cache_dir", "min_free_space", "port"),
    context_settings={"auto_envvar_prefix": "TORRENTFS"},
    short_help="Find out what is missing on this machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option(
    "--cache-dir",
    type=PATH,
    default=default_cache_dir,
    help="The cache directory to look at.  [default: ~/.cache/torrentfs]",
)
@click.option(
    "--min-free-space",
    type=SIZE,
    default=str(_SESSION.min_free),
    show_default=format_size(_SESSION.min_free),
    help="What the cache leaves free.",
)
@click.option("--port", type=WholeNumber(0, 65535), default=0, help="The port to try.")
@config_option
def doctor(as_json: bool, cache_dir: Path, min_free_space: int, port: int) -> int:
    """Check this machine and print, for whatever is missing, the command that mends it.

    Exit code 0 when mounting can work, 1 when a check FAILs.
    """
    from torrentfs.cli.machine import gather
    from torrentfs.daemon.config import absolute

    verdicts = examine(gather(absolute(cache_dir), min_free_space, port))
    if as_json:
        click.echo(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        for verdict in verdicts:
            level = click.style(f"{verdict.level:<4}", fg=_COLOURS[verdict.level])
            click.echo(f"{level}  {verdict.check}: {printable(verdict.text)}")
            if verdict.mend:
                click.echo(f"      -> {printable(verdict.mend)}")
    return 1 if any(verdict.level == "FAIL" for verdict in verdicts) else 0
