"""A torrent that never answers: everything else goes on, and every reader can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fuse.conftest import Mounted, Mounter, wait_until
from tests.vfs.fakes import content_of

pytestmark = pytest.mark.real

GIB = 1 << 30
READ = (
    "import os, sys; n = int(sys.argv[2]);"
    "fds = [os.open(sys.argv[1], os.O_RDONLY) for _ in range(n)];"
    "import threading;"
    "[threading.Thread(target=os.pread, args=(fd, 4096, i << 22)).start()"
    " for i, fd in enumerate(fds)]"
)


def timed(*command: str | Path, timeout: float = 30.0) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, timeout=timeout)
    return time.perf_counter() - began


def block(mount: Mounter, mounted: Mounted, count: int) -> subprocess.Popen[bytes]:
    """A process with `count` threads, each blocked in a read at a place of its own."""
    mounted.tell("hold dead")
    reader = mount.reader(sys.executable, "-c", READ, str(mounted.path / "dead"), str(count))
    mounted.wait_blocked(count)
    return reader


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_with_200_reads_blocked_everything_else_answers_at_once(
    mount: Mounter, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/semantics.md: "Every call is answered", docs/semantics.md: "One dead torrent never
    slows another"."""
    mounted = mount({"dead": GIB, "healthy": 4 << 20, "t": [["a/b", 5], ["c", 6]]})
    block(mount, mounted, 200)
    timings = {
        "ls -lR": timed("ls", "-lR", mounted.path),
        "stat of the file": timed("stat", mounted.path / "dead"),
        "df": timed("df", mounted.path),
        "find": timed("find", mounted.path),
    }
    began = time.perf_counter()
    assert (mounted.path / "healthy").read_bytes() == content_of("healthy/0", 0, 4 << 20)
    timings["reading 4 MiB of another"] = time.perf_counter() - began
    began = time.perf_counter()
    os.close(os.open(mounted.path / "dead", os.O_RDONLY))
    timings["second open"] = time.perf_counter() - began
    with capsys.disabled():
        print("\n" + ", ".join(f"{name} {value * 1000:.0f} ms" for name, value in timings.items()))
    assert timings["second open"] < 0.5
    assert max(timings.values()) < 2.0
    mounted.tell("free dead")
    wait_until(lambda: mounted.tell("blocked") == 0)
    with (mounted.path / "dead").open("rb") as file:
        assert os.pread(file.fileno(), 100, 1 << 22) == content_of("dead/0", 1 << 22, 100)


def test_reads_beyond_a_torrents_slots_wait_in_its_own_line(mount: Mounter) -> None:
    mounted = mount({"dead": GIB, "healthy": 4 << 20}, admission={"per_torrent": 20})
    reader = block(mount, mounted, 20)
    more = mount.reader(sys.executable, "-c", READ, str(mounted.path / "dead"), "50")
    wait_until(lambda: mounted.tell("waiting") > 20)
    assert (mounted.path / "healthy").read_bytes() == content_of("healthy/0", 0, 4 << 20)
    mounted.tell("free dead")
    assert reader.wait(10) == 0
    assert more.wait(10) == 0


@pytest.mark.parametrize(
    "how",
    [
        "open(sys.argv[1], 'rb').read(100)",
        "import mmap; f = open(sys.argv[1], 'rb');"
        " mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[5000]",
        "os.sendfile(os.open('/dev/null', os.O_WRONLY), os.open(sys.argv[1], os.O_RDONLY), 0, 99)",
    ],
    ids=["read", "mmap", "sendfile"],
)
def test_a_blocked_reader_dies_at_once_of_sigkill(how: str, mount: Mounter) -> None:
    """docs/semantics.md: "A reader that waits can be killed"."""
    mounted = mount({"dead": GIB})
    mounted.tell("hold dead")
    reader = mount.reader(
        sys.executable, "-c", f"import os, sys; {how}", str(mounted.path / "dead")
    )
    mounted.wait_blocked(1)
    began = time.perf_counter()
    reader.send_signal(signal.SIGKILL)
    assert reader.wait(5) == -signal.SIGKILL
    assert time.perf_counter() - began < 0.5
    # The kernel keeps the handle of a request in flight: its release comes with the answer.
    mounted.tell("free dead")
    wait_until(lambda: mounted.tell("open dead") == 0)


def test_a_second_open_and_read_of_a_stuck_file_can_be_killed(mount: Mounter) -> None:
    mounted = mount({"dead": GIB})
    block(mount, mounted, 3)
    second = mount.reader("cat", str(mounted.path / "dead"))
    wait_until(lambda: mounted.tell("open dead") == 4)
    time.sleep(0.1)
    second.kill()
    assert second.wait(2) == -signal.SIGKILL


def test_a_failed_read_is_eio_and_logged_once(mount: Mounter) -> None:
    """docs/semantics.md: "fails with `EIO`, and the log says why, once for each reason in ten
    seconds".
    """
    mounted = mount({"dead": 1 << 20})
    mounted.tell("hold dead")
    reader = mount.reader("cat", str(mounted.path / "dead"))
    mounted.wait_blocked(1)
    mounted.tell("fail dead")
    assert reader.wait(5) == 1
    with pytest.raises(OSError, match="Input/output error"):
        (mounted.path / "dead").read_bytes()
    assert "cannot read dead at 0: told to fail" in mounted.log()
    assert mounted.log().count("cannot read dead") == 1


def test_a_fault_whose_read_fails_is_sigbus(mount: Mounter) -> None:
    """docs/semantics.md: "A fault on a mapped page whose read fails is `SIGBUS`"."""
    mounted = mount({"dead": 1 << 20})
    mounted.tell("hold dead")
    touch = "import mmap, sys; f = open(sys.argv[1], 'rb'); mmap.mmap(f.fileno(), 0, prot=1)[0]"
    reader = mount.reader(sys.executable, "-c", touch, str(mounted.path / "dead"))
    mounted.wait_blocked(1)
    mounted.tell("fail dead")
    assert reader.wait(5) == -signal.SIGBUS


def test_who_was_killed_in_a_read_does_not_hold_the_mount(mount: Mounter) -> None:
    """The request of a killed reader stays with the daemon; the mount goes all the same."""
    mounted = mount({"dead": GIB})
    reader = block(mount, mounted, 5)
    reader.kill()
    reader.wait(5)
    assert mounted.tell("blocked") >= 5
    assert timed("fusermount3", "-u", mounted.path) < 1.0
    assert mounted.process.wait(3) == 0
    assert not mounted.is_mounted()


def test_termination_with_blocked_reads_takes_less_than_a_second(
    mount: Mounter, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/semantics.md: "`umount` works at any moment"."""
    mounted = mount({"dead": GIB})
    reader = block(mount, mounted, 200)
    inside = mount.reader("sh", "-c", 'cd "$0" && exec sleep 60', str(mounted.path))
    wait_until(lambda: os.readlink(f"/proc/{inside.pid}/cwd") == str(mounted.path))
    began = time.perf_counter()
    mounted.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not mounted.is_mounted())
    unmounted = time.perf_counter() - began
    assert mounted.process.wait(5) == 0
    ended = time.perf_counter() - began
    with capsys.disabled():
        print(f"\nunmounted after {unmounted:.2f} s, ended after {ended:.2f} s")
    assert unmounted < 1.0
    reader.wait(5)
    assert mounted.path.stat().st_mtime != 1_700_000_000
    assert os.listdir(mounted.path) == []


def test_an_aborted_connection_ends_the_daemon(mount: Mounter) -> None:
    mounted = mount({"dead": GIB})
    block(mount, mounted, 5)
    if not _abort(mounted.path):
        pytest.skip("fusectl cannot be used here")
    assert mounted.process.wait(3) == 0
    assert not mounted.is_mounted()


def _abort(path: Path) -> bool:
    from torrentfs.vfs.mount import fuse_control
    from torrentfs.vfs.mountpoint import find_mount

    place = find_mount(path)
    assert place is not None
    with fuse_control() as control:
        try:
            (control / place.connection / "abort").write_text("1")
        except OSError:
            return False
    return True


def test_a_sleeping_reader_sleeps_killably(mount: Mounter) -> None:
    mounted = mount({"dead": GIB})
    mounted.tell("hold dead")
    reader = mount.reader("head", "-c", "100", str(mounted.path / "dead"))
    mounted.wait_blocked(1)
    assert state(reader.pid) in "DS"  # D in ps, but of the killable kind:
    reader.kill()
    assert reader.wait(1) == -signal.SIGKILL
