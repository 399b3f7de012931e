"""Machines that cannot mount, users that may not: a mount namespace makes each of them.

They need root to be made; without it these tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.hardening_cli.command import NOBODY, TORRENT, check_refused, torrentfs
from tests.swarm.mounted import TORRENTFS

AS_NOBODY = f"exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "
FUSE_FOR_ALL = (
    '[ -e "$0/fuse" ] || mknod "$0/fuse" c 10 229; chmod 666 "$0/fuse"; '
    'mount --bind "$0/fuse" /dev/fuse; '
)
NO_DEV = "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9; "


@cache
def _can_be_made() -> bool:
    """Whether we may make mount namespaces, and nobody may run this very program."""
    command = ["unshare", "-m", "sh", "-c", f"{AS_NOBODY} {TORRENTFS} --version"]
    done = subprocess.run(command, capture_output=True, check=False)
    return os.geteuid() == 0 and done.returncode == 0


pytestmark = pytest.mark.real


class Place:
    """A torrent, a mount point and a home that belong to nobody (the user)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torrent = path / "good.torrent"
        self.torrent.write_bytes(TORRENT)
        self.mountpoint = path / "mnt"
        self.mountpoint.mkdir()
        for owned in (path, self.torrent, self.mountpoint):
            os.chown(owned, NOBODY, NOBODY)

    def run(
        self, machine: str, *args: str | Path, nobody: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """`torrentfs` on a machine that the shell script `machine` makes of this one."""
        script = machine + (AS_NOBODY if nobody else "exec ") + '"$@"'
        before = ["unshare", "-m", "sh", "-ec", script, str(self.path)]
        return torrentfs(*args, home=self.path, before=before, **variables)

    def mount(
        self, machine: str, *args: str | Path, nobody: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """`torrentfs mount`, as `run`."""
        return self.run(
            machine, "mount", self.torrent, self.mountpoint, *args, nobody=nobody, **variables
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Reachable by nobody, which pytest's directories of root are not."""
    if not _can_be_made():
        pytest.skip("only root can make such machines, of a checkout that all may read")
    with _opened(tmp_path):
        yield Place(tmp_path)


@contextmanager
def _opened(path: Path) -> Iterator[None]:
    closed = [p for p in path.parents if not p.stat().st_mode & 0o001]
    modes = [p.stat().st_mode for p in closed]
    for directory in closed:
        directory.chmod(0o711)
    try:
        yield
    finally:
        for directory, mode in zip(closed, modes, strict=True):
            directory.chmod(mode)


def test_no_fuse_device(place: Place) -> None:
    for nobody in (True, False):
        done = place.mount(NO_DEV, nobody=nobody)
        check_refused(done, 2, "/dev/fuse is missing: load it with `modprobe", place.mountpoint)
    done = place.run(NO_DEV, "doctor", nobody=False)
    assert done.returncode == 1
    assert "FAIL  /dev/fuse" in done.stdout


def test_a_fuse_device_of_root_alone(place: Place) -> None:
    machine = NO_DEV + "mknod -m 600 /dev/fuse c 10 229; "
    said = "you may not open /dev/fuse: let users do so with `chmod 666 /dev/fuse`"
    check_refused(place.mount(machine), 2, said, place.mountpoint)


def test_what_a_user_lacks(place: Place) -> None:
    mountpoint = place.mountpoint
    only = place.path / "only"  # a PATH with everything but fusermount3
    only.mkdir()
    (only / "setpriv").symlink_to("/usr/bin/setpriv")
    hide = FUSE_FOR_ALL + f'PATH="{only}"; '
    check_refused(place.mount(hide), 2, "fusermount3 is missing", mountpoint)
    conf = FUSE_FOR_ALL + "mount --bind /dev/null /etc/fuse.conf; "
    for option in ("--allow-other", "--allow-root"):
        said = f"{option} needs the line `user_allow_other` in /etc/fuse.conf"
        check_refused(place.mount(conf, option), 2, said, mountpoint)
    os.chown(mountpoint, 0, 0)
    check_refused(place.mount(FUSE_FOR_ALL), 2, "you may not write to", mountpoint)
    os.chown(mountpoint, NOBODY, NOBODY)
    place.torrent.chmod(0)
    check_refused(place.mount(FUSE_FOR_ALL), 1, "permission denied", mountpoint)


def test_a_user_mounts_and_unmounts_without_a_cache(place: Place) -> None:
    user = AS_NOBODY.removeprefix("exec ")
    script = f'{FUSE_FOR_ALL} {user} "$@"; {user} ls "$0/mnt"; {user} {TORRENTFS} umount "$0/mnt"'
    before = ["unshare", "-m", "sh", "-ec", script, str(place.path)]
    done = torrentfs(
        "mount", place.torrent, place.mountpoint, "--cache-dir", "/root/c",
        home=place.path, before=before,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "x\n"), done.stderr
    (line,) = done.stderr.splitlines()
    said = "torrentfs: mounted, but nothing is kept in the cache /root/c for now: permission denied"
    assert line.startswith(said)


def test_only_who_mounted_may_unmount(place: Place) -> None:
    mine = place.path / "roots"
    mine.mkdir()
    assert torrentfs("mount", place.torrent, mine, home=place.path).returncode == 0
    try:
        done = place.run("", "umount", mine)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert "only root and the user who mounted it may" in line
    finally:
        assert torrentfs("umount", mine, home=place.path).returncode == 0


def test_doctor_of_a_cache_in_a_closed_home(place: Place) -> None:
    done = place.run(FUSE_FOR_ALL, "doctor", "--cache-dir", "/root/cache")
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAIL  cache directory: /root/cache cannot be written to" in done.stdout


def test_a_home_that_is_closed(place: Place) -> None:
    """As `sudo -u nobody` leaves it: neither config file nor cache can be had, the rest works."""
    log = place.path / "log"
    done = place.mount(FUSE_FOR_ALL, "--log-file", log, "--allow-other", HOME="/root")
    check_refused(done, 2, "user_allow_other", place.mountpoint)


def test_full_and_read_only_disks(place: Place) -> None:
    fill = 'mount -t tmpfs -o size=64k none "$0/mnt2"; head -c 60000 /dev/zero >"$0/mnt2/f"; '
    (place.path / "mnt2").mkdir()
    cache = place.path / "mnt2" / "cache"
    for disk, why in (
        (fill, "full"),
        (fill + 'mount -o remount,ro "$0/mnt2"; ', "read-only file system"),
    ):
        script = disk + '"$@" && ls "$0/mnt" && umount "$0/mnt"'
        before = ["unshare", "-m", "sh", "-ec", script, str(place.path)]
        done = torrentfs(
            "mount", place.torrent, place.mountpoint, "--cache-dir", cache,
            home=place.path, before=before,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "x\n"), done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("torrentfs: mounted, but nothing is kept in the cache")
        assert why in line
