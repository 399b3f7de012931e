"""A swarm that never answers: reads end, readers can be killed, everything else goes on.

One peer says that it has everything and never sends a block. The issue's own bounds are asserted:
EIO at the deadline, `ls` in 50 ms with 200 reads blocked, `umount` within a second.
"""

from __future__ import annotations

import errno
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.hardening.observing import (
    KIB,
    MIB,
    attribute,
    blocked_readers,
    killed_after,
    pread,
    python,
    wait_until,
)
from tests.swarm.hostile import Connection, Payload, hostile_peer, staller
from tests.swarm.mounted import TORRENTFS, Mounted, is_mounted, mounted, unmount
from tests.swarm.payload import payload, sha256_file, write_file
from tests.swarm.ports import free_port
from tests.swarm.seeder import seed
from tests.swarm.torrents import MadeTorrent, make_torrent
from torrentfs.engine.breaker import FAST

pytestmark = [pytest.mark.real, pytest.mark.alone]

PIECE = 64 * KIB
BLOCKED = 200


class Dead(NamedTuple):
    """A mount with a dead torrent `dead.bin`, and a living one, `alive.bin`, if asked for."""

    mount: Mounted
    path: Path
    alive: Path


def film(work: Path, name: str, size: int, number: int) -> MadeTorrent:
    path = write_file(work / "payload" / f"{name}.bin", number, size)
    return make_torrent(path, work / f"{name}.torrent", piece_length=PIECE)


@contextmanager
def dead_mount(
    work: Path, *options: str, alive: bool = False, size: int = 2 * MIB
) -> Iterator[Dead]:
    dead = film(work, "dead", size, 1)
    with ExitStack() as stack:
        peer = stack.enter_context(hostile_peer(Payload.of_file(dead.path, PIECE), staller()))
        sources, peers = [dead.torrent], ["--peer", peer.address]
        if alive:
            other = film(work, "alive", 4 * MIB, 2)
            seeder = stack.enter_context(seed(other.torrent, other.path, work))
            sources.append(other.torrent)
            peers += ["--peer", seeder.address]
        mount = stack.enter_context(mounted(sources, work, *peers, "-v", *options))
        mount.wait_log("connected")
        yield Dead(mount, mount / "dead.bin", mount / "alive.bin")


def leftovers(work: Path) -> list[str]:
    """Temporary directories of ours."""
    return [name for name in os.listdir("/tmp") if name.startswith("torrentfs-")]


def test_a_read_fails_at_the_deadline_and_the_log_says_why(tmp_path: Path) -> None:
    with dead_mount(tmp_path, "--read-timeout", "3s") as dead:
        began = time.monotonic()
        with pytest.raises(OSError, match="Input/output error") as caught:
            pread(dead.path, 4096, 0)
        assert caught.value.errno == errno.EIO
        assert 2.9 <= time.monotonic() - began <= 6
        assert "cannot read dead.bin at 0: no byte of it came in 3 s: asked 1 peers" in (
            dead.mount.log()
        )
        # The torrent is known to be dead now: who comes later waits a second, twice, because the
        # kernel asks again for the page whose read-ahead failed.
        began = time.monotonic()
        with pytest.raises(OSError, match="Input/output error"):
            pread(dead.path, 4096, MIB)
        assert time.monotonic() - began <= 2 * FAST + 1


def test_where_nobody_listens_the_log_says_so(tmp_path: Path) -> None:
    dead = film(tmp_path, "dead", MIB, 1)
    peers = ("--peer", f"127.0.0.1:{free_port()}", "--read-timeout", "3s")
    with mounted(dead.torrent, tmp_path, *peers) as mount:
        with pytest.raises(OSError, match="Input/output error"):
            pread(mount / "dead.bin", 10, 0)
        assert "no peers connected" in mount.log()
        assert "refused" in mount.log()


def test_with_no_source_at_all_a_read_fails_at_once(tmp_path: Path) -> None:
    """docs/semantics.md: "with no peer, tracker or web seed left, not at all"."""
    dead = film(tmp_path, "dead", MIB, 1)
    with mounted(dead.torrent, tmp_path, "--read-timeout", "30s") as mount:
        began = time.monotonic()
        with pytest.raises(OSError, match="Input/output error"):
            pread(mount / "dead.bin", 10, 0)
        assert time.monotonic() - began < 2
        assert "no peer, tracker or web seed is left" in mount.log()


READS = {
    "read": "open(sys.argv[1], 'rb').read(10)",
    "mmap": "import mmap; f = open(sys.argv[1], 'rb');"
    " mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[5000]",
    "sendfile": "os.sendfile(os.open('/dev/null', os.O_WRONLY),"
    " os.open(sys.argv[1], os.O_RDONLY), 0, 10)",
    "second open": "f = open(sys.argv[1], 'rb'); open(sys.argv[1], 'rb').read(10)",
}


@pytest.mark.parametrize("how", READS)
def test_kill_9_of_a_blocked_reader_takes_effect_at_once(tmp_path: Path, how: str) -> None:
    with dead_mount(tmp_path, "--read-timeout", "60s") as dead:
        source = f"import os, sys; print('go', flush=True); {READS[how]}"
        with python(source, dead.path) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "go\n"
            time.sleep(0.3)
            assert reader.poll() is None
            assert killed_after(reader) < 0.5


def test_a_reader_with_o_direct_never_outlives_the_read_timeout(tmp_path: Path) -> None:
    """docs/semantics.md: "The exception to tenet 4 is a reader with `O_DIRECT`: it can be killed
    only when its read is answered", which is at the latest when the read times out."""
    source = (
        "import mmap, os, sys; fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT);"
        "print('go', flush=True); os.preadv(fd, [mmap.mmap(-1, 4096)], 0)"
    )
    with dead_mount(tmp_path, "--read-timeout", "3s") as dead:
        began = time.monotonic()
        with python(source, dead.path) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "go\n"
            time.sleep(0.3)
            killed_after(reader)
            assert time.monotonic() - began < 3 + 3
        os.listdir(dead.mount.path)


def test_with_200_reads_blocked_ls_answers_within_50_ms_and_another_torrent_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        dead_mount(tmp_path, "--read-timeout", "60s", alive=True, size=BLOCKED * MIB // 2) as dead,
        blocked_readers(dead.path, BLOCKED),
    ):
        # In this process, so that what is measured is the mount and not the start of a process.
        took = []
        for _ in range(9):
            began = time.perf_counter()
            for name in os.listdir(dead.mount.path):
                os.stat(dead.mount / name)
            os.statvfs(dead.mount.path)
            took.append(time.perf_counter() - began)
        began = time.perf_counter()
        listing = subprocess.run(
            ["ls", "-la", dead.mount.path], capture_output=True, text=True, timeout=20, check=True
        )
        process = time.perf_counter() - began
        began = time.perf_counter()
        os.close(os.open(dead.path, os.O_RDONLY))
        second_open = time.perf_counter() - began
        began = time.perf_counter()
        assert sha256_file(dead.alive) == sha256_file(tmp_path / "payload" / "alive.bin")
        healthy = time.perf_counter() - began
        with capsys.disabled():
            print(
                f"\n{BLOCKED} reads blocked: listing {statistics.median(took) * 1000:.1f} ms, "
                f"ls -la {process * 1000:.0f} ms, second open {second_open * 1000:.1f} ms, "
                f"4 MiB of another torrent {healthy * 1000:.0f} ms"
            )
        assert "dead.bin" in listing.stdout
        assert statistics.median(took) < 0.05
        assert second_open < 0.5
        assert healthy < 5


def end_by_sigterm(mount: Mounted) -> None:
    mount.process.send_signal(signal.SIGTERM)


def end_by_ctrl_c(mount: Mounted) -> None:
    os.killpg(mount.pid, signal.SIGINT)  # as a terminal does: to the whole group


def end_by_umount(mount: Mounted) -> None:
    done = subprocess.run(
        [TORRENTFS, "umount", mount.path], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not is_mounted(mount.path)


@pytest.mark.parametrize("end", [end_by_sigterm, end_by_ctrl_c, end_by_umount])
def test_it_ends_within_a_second_with_200_reads_blocked(
    tmp_path: Path, end: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(end)
    before = leftovers(tmp_path)
    with (
        dead_mount(tmp_path, "--read-timeout", "60s", size=BLOCKED * MIB // 2) as dead,
        blocked_readers(dead.path, BLOCKED) as reader,
    ):
        began = time.monotonic()
        end(dead.mount)
        wait_until(lambda: not is_mounted(dead.mount.path))
        gone = time.monotonic() - began
        assert dead.mount.process.wait(10) == 0
        ended = time.monotonic() - began
        assert reader.wait(5) is not None
        readers = time.monotonic() - began
        with capsys.disabled():
            print(f"\nunmounted {gone:.2f} s, ended {ended:.2f} s, readers {readers:.2f} s")
        # `torrentfs umount` is a Python process that has to start first: 2 x for that alone.
        assert gone < (2.0 if end is end_by_umount else 1.0)
        assert readers < 5
        assert os.listdir(dead.mount.path) == []
        assert leftovers(tmp_path) == before
        log = dead.mount.log()
        assert "Traceback" not in log
        assert "SIGTERM: unmounting" in log or "SIGINT: unmounting" in log or "is unmounted" in log


def test_fusermount_ends_an_idle_mount_and_the_process_with_it(tmp_path: Path) -> None:
    with dead_mount(tmp_path) as dead:
        done = unmount(dead.mount.path)
        assert (done.returncode, done.stderr) == (0, "")
        assert dead.mount.process.wait(5) == 0
        assert not is_mounted(dead.mount.path)


def test_fusermount_says_busy_while_reads_wait_and_umount_copes(tmp_path: Path) -> None:
    """docs/semantics.md: "for `fusermount3 -u` and `umount` the kernel says busy"."""
    with (
        dead_mount(tmp_path, "--read-timeout", "60s") as dead,
        blocked_readers(dead.path, 4) as reader,
    ):
        assert "busy" in unmount(dead.mount.path).stderr
        end_by_umount(dead.mount)
        assert dead.mount.process.wait(5) == 0
        reader.wait(5)


def test_umount_does_not_take_files_from_programs_that_only_have_them_open(tmp_path: Path) -> None:
    with dead_mount(tmp_path, "--read-timeout", "60s") as dead:
        with dead.path.open("rb"):
            done = subprocess.run(
                [TORRENTFS, "umount", dead.mount.path],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            assert done.returncode != 0
            assert " is in use by " in done.stderr
            assert f"({os.getpid()})" in done.stderr
            assert is_mounted(dead.mount.path)
        end_by_umount(dead.mount)
        assert dead.mount.process.wait(5) == 0


def test_when_the_swarm_comes_back_reads_succeed_again(tmp_path: Path) -> None:
    dead = film(tmp_path, "dead", 2 * MIB, 1)
    living = [False]

    def coming_back(peer: Connection) -> None:
        """Silent until `living`, then answers what it was asked for and all that follows."""
        peer.seed_ready()
        for piece, begin, length in peer.requests():
            while not living[0]:
                if peer.stopping.wait(0.02):
                    return
            peer.block(piece, begin, peer.payload.block(piece, begin, length))

    with (
        hostile_peer(Payload.of_file(dead.path, PIECE), coming_back) as peer,
        mounted(
            dead.torrent, tmp_path, "--peer", peer.address, "--read-timeout", "2s", "--xattrs", "-v"
        ) as mount,
    ):
        path = mount / "dead.bin"
        mount.wait_log("connected")
        with pytest.raises(OSError, match="Input/output error"):
            pread(path, 4096, 0)
        assert attribute(path, "state") == "stalled"
        with pytest.raises(OSError, match="Input/output error"):
            pread(path, 4096, 0)
        living[0] = True
        wait_until(lambda: succeeds(path), 10)
        assert path.read_bytes() == payload(1, 2 * MIB)
        assert attribute(path, "state") == "complete"


def test_when_a_new_seeder_appears_reads_succeed_again(tmp_path: Path) -> None:
    dead = film(tmp_path, "dead", 2 * MIB, 1)
    port = free_port()
    address = f"127.0.0.1:{port}"
    with mounted(dead.torrent, tmp_path, "--peer", address, "--read-timeout", "2s", "-v") as mount:
        with pytest.raises(OSError, match="Input/output error"):
            pread(mount / "dead.bin", 4096, 0)
        with seed(dead.torrent, dead.path, tmp_path, port=port):
            wait_until(lambda: succeeds(mount / "dead.bin"), 40)
            assert (mount / "dead.bin").read_bytes() == payload(1, 2 * MIB)


def succeeds(path: Path) -> bool:
    try:
        return len(pread(path, 4096, 0)) == 4096
    except OSError:
        return False
