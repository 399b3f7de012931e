"""How mounts begin and end: refusals in one line, recovery, every way to unmount."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuse.conftest import ROOT, Mounter, wait_until
from torrentfs.errors import MountError
from torrentfs.vfs.mountpoint import detach, find_mount, is_dead, mount_table, unmount

pytestmark = pytest.mark.real

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def refusal(mounter: Mounter, at: Path, **spec: object) -> str:
    mounted = mounter.start({"s": 9}, at, **spec)
    line = mounted.first_line()
    assert mounted.process.wait(10) == 2, line + mounted.log()
    assert mounted.log() == ""  # one line, and nothing of libfuse beside it
    return line


def test_the_mount_table_names_us(mount: Mounter) -> None:
    mounted = mount({"s": 9})
    place = find_mount(mounted.path)
    assert place is not None
    assert (place.fstype, place.source) == ("fuse.torrentfs", "torrentfs")
    assert mounted.end() == 0
    assert find_mount(mounted.path) is None
    assert os.listdir(mounted.path) == []


def test_the_kernels_limits_are_raised(mount: Mounter) -> None:
    """docs/semantics.md: "We raise this to 16384 as root"."""
    from torrentfs.vfs.mount import fuse_control

    mounted = mount({"s": 9})
    place = find_mount(mounted.path)
    assert place is not None
    with fuse_control() as control:
        connection = control / place.connection
        if not connection.is_dir():
            pytest.skip("fusectl cannot be used here")
        assert int((connection / "max_background").read_text()) >= (
            16384 if os.geteuid() == 0 else 512
        )
        assert int((connection / "congestion_threshold").read_text()) >= 384


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_signals_unmount(how: signal.Signals, mount: Mounter) -> None:
    """docs/semantics.md: "SIGTERM, Ctrl-C, `torrentfs umount`, `fusermount3 -u` and `umount`
    all end the mount cleanly".
    """
    mounted = mount({"s": 9})
    held = os.open(mounted.path / "s", os.O_RDONLY)
    os.read(held, 10)
    mounted.process.send_signal(how)
    assert mounted.process.wait(3) == 0, mounted.log()
    with contextlib.suppress(OSError):  # close() has nobody to tell any more
        os.close(held)
    assert not mounted.is_mounted()
    assert mounted.process.stdout is not None
    assert "0 files, 0 directories" in mounted.process.stdout.read()


@pytest.mark.parametrize("command", [["fusermount3", "-u"], ["umount"]])
def test_unmounting_from_outside_ends_the_daemon(command: list[str], mount: Mounter) -> None:
    if command == ["umount"] and os.geteuid() != 0:
        pytest.skip("umount is for root")
    mounted = mount({"s": 9})
    subprocess.run([*command, mounted.path], check=True, timeout=5)
    assert mounted.process.wait(3) == 0
    assert not mounted.is_mounted()
    assert "ERROR" not in mounted.log()


def test_unmount_says_who_is_in_the_way(mount: Mounter) -> None:
    """docs/semantics.md: "The last three refuse while files are in use (`torrentfs umount`
    says by whom) unless asked to be lazy".
    """
    mounted = mount({"t": [["a/b", 5]]})
    with (mounted.path / "t/a/b").open("rb"):
        with pytest.raises(MountError, match=rf"in use by .*\({os.getpid()}\)") as caught:
            unmount(mounted.path)
        assert "\n" not in str(caught.value)
        assert mounted.is_mounted()
        unmount(mounted.path, lazy=True)
        assert not mounted.is_mounted()
    assert mounted.process.wait(3) == 0
    with pytest.raises(MountError, match="nothing is mounted at"):
        unmount(mounted.path)


def test_unmount_takes_strange_paths(mount: Mounter, tmp_path: Path) -> None:
    place = tmp_path / "my films\\040\n\u00e9"
    place.mkdir()
    mounted = mount({"s": 9}, place)
    unmount(os.path.relpath(place))
    assert mounted.process.wait(3) == 0


def test_a_mount_through_a_symlink(mount: Mounter, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    mounted = mount({"s": 9}, tmp_path / "link")
    assert (tmp_path / "real" / "s").stat().st_size == 9
    unmount(tmp_path / "link")
    assert mounted.process.wait(3) == 0


def test_mount_points_that_are_refused(mount: Mounter, tmp_path: Path) -> None:
    """docs/semantics.md: "The mount point must be an existing, empty directory with nothing
    mounted on it".
    """
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert refusal(mount, tmp_path / "full") == (
        f"refused: {tmp_path}/full is not empty: mount on an empty directory"
    )
    assert refusal(mount, tmp_path / "full" / "file") == (
        f"refused: {tmp_path}/full/file is not a directory: a mount point must be one"
    )
    assert refusal(mount, tmp_path / "none") == (
        f"refused: {tmp_path}/none does not exist: create it with `mkdir -p {tmp_path}/none`"
    )
    both = {"allow_other": True, "allow_root": True}
    (tmp_path / "empty").mkdir()
    assert "exclude each other" in refusal(mount, tmp_path / "empty", mount=both)


def test_a_second_mount_at_one_place_is_refused_and_the_first_lives(mount: Mounter) -> None:
    mounted = mount({"s": 9})
    assert "is busy: torrentfs is mounted there" in refusal(mount, mounted.path)
    assert (mounted.path / "s").stat().st_size == 9


def test_a_crashed_mount_is_recovered_at_the_next_start(mount: Mounter) -> None:
    """docs/semantics.md: "A mount point that a crash left behind is recovered"."""
    crashed = mount({"old": 9})
    (crashed.path / "old").read_bytes()
    with (crashed.path / "old").open("rb"):
        crashed.process.kill()
        crashed.process.wait()
        place = find_mount(crashed.path)
        assert place is not None
        assert is_dead(place)
        with pytest.raises(OSError, match="not connected"):
            os.listdir(crashed.path)
        again = mount({"new": 9}, crashed.path)
    assert os.listdir(again.path) == ["new"]
    assert "removed the mount that a crashed torrentfs left" in again.log()
    assert again.end() == 0
    assert not again.is_mounted()


def test_crashes_on_top_of_each_other_are_recovered(mount: Mounter) -> None:
    crashed = mount({"old": 9})
    crashed.process.kill()
    crashed.process.wait()
    unmount(crashed.path)  # a dead mount can be unmounted like any other
    assert not crashed.is_mounted()


def test_a_mount_whose_daemon_hangs_is_refused_in_time(mount: Mounter) -> None:
    mounted = mount({"s": 9})
    mounted.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert "does not answer" in refusal(mount, mounted.path)
        assert time.monotonic() - began < 9
    finally:
        mounted.process.send_signal(signal.SIGCONT)


@pytest.fixture
def for_nobody() -> Iterator[Path]:
    """A directory that user nobody owns and can reach."""
    place = Path(tempfile.mkdtemp(prefix="torrentfs-test-"))
    os.chown(place, 65534, 65534)
    place.chmod(0o755)
    try:
        yield place
    finally:
        for mount in mount_table():
            if mount.path.startswith(str(place)):
                detach(mount.path)
        shutil.rmtree(place)


@AS_ROOT
def test_others_see_it_only_if_allowed(mount: Mounter, for_nobody: Path) -> None:
    """docs/semantics.md: "have no access unless `--allow-other`"."""
    for name, options, code in (("closed", {}, 1), ("open", {"allow_other": True}, 0)):
        (for_nobody / name).mkdir()
        mounted = mount({"s": 9}, for_nobody / name, mount=options)
        done = subprocess.run(
            [*NOBODY, "cat", mounted.path / "s"], capture_output=True, timeout=5, check=False
        )
        assert done.returncode == code
    # Not even as somebody else is a write anything but EROFS.
    done = subprocess.run(
        [*NOBODY, "touch", mounted.path / "new"],
        capture_output=True, text=True, timeout=5, check=False,
    )  # fmt: skip
    assert "Read-only file system" in done.stderr
    for mounted in mount.started:
        assert mounted.end() == 0


@pytest.fixture
def as_nobody(tmp_path: Path) -> tuple[str, ...]:
    """Runs a command as user nobody, with a /dev/fuse that all may open, unseen by others."""
    os.mknod(tmp_path / "fuse", 0o600 | stat.S_IFCHR, os.makedev(10, 229))
    (tmp_path / "fuse").chmod(0o666)
    (tmp_path / "fuse.conf").write_text("")
    script = (
        f"mount --bind {tmp_path}/fuse /dev/fuse && "
        f"if [ -e /etc/fuse.conf ]; then mount --bind {tmp_path}/fuse.conf /etc/fuse.conf; fi && "
        'exec "$@"'
    )
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh", *NOBODY)
    done = subprocess.run(
        [*prefix, sys.executable, "-c", "import pyfuse3, trio, tests.fuse.daemon"],
        cwd=ROOT, capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("user nobody cannot read this checkout or its Python here")
    return prefix


@AS_ROOT
def test_an_ordinary_user_mounts_and_gets_clear_refusals(
    mount: Mounter, for_nobody: Path, as_nobody: tuple[str, ...]
) -> None:
    line = refusal(mount, for_nobody, prefix=as_nobody, mount={"allow_other": True})
    assert line == (
        "refused: --allow-other needs the line `user_allow_other` in /etc/fuse.conf: "
        "add it as root, or mount without the option"
    )
    (for_nobody / "roots").mkdir()
    assert "you may not write to" in refusal(mount, for_nobody / "roots", prefix=as_nobody)
    (for_nobody / "roots").rmdir()
    mounted = mount({"s": 9}, for_nobody, prefix=as_nobody)
    inside = ("nsenter", f"--target={mounted.process.pid}", "--mount", *NOBODY)
    listed = subprocess.run(
        [*inside, "ls", "-ln", for_nobody], capture_output=True, text=True, timeout=5, check=True
    )
    assert "65534 65534 9" in listed.stdout
    subprocess.run([*inside, "fusermount3", "-u", for_nobody], timeout=5, check=True)
    assert mounted.process.wait(3) == 0
    again = mount({"s": 9}, for_nobody, prefix=as_nobody)
    assert again.end(3) == 0


@AS_ROOT
def test_a_user_without_rights(
    mount: Mounter, for_nobody: Path, as_nobody: tuple[str, ...], tmp_path: Path
) -> None:
    """As in a container without CAP_SYS_ADMIN: one line, with libfuse's reason inside."""
    line = refusal(mount, for_nobody, prefix=(*as_nobody, "--no-new-privs"))
    assert line.startswith(f"refused: no right to mount on {for_nobody} (fusermount3: ")
    (tmp_path / "fuse").chmod(0o600)
    line = refusal(mount, for_nobody, prefix=as_nobody)
    assert line.startswith("refused: you may not open /dev/fuse: let users do so with")


def test_nothing_is_left_in_the_process(mount: Mounter) -> None:
    mounted = mount({"s": 9})
    mounted.end()
    assert mounted.log().count("Warning") == 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(mounted.process.pid, 0)
        pytest.fail("it still runs")
    wait_until(lambda: not mounted.is_mounted())
