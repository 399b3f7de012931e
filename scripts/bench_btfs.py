"""btfs for the benchmark: in a network of its own, and gone afterwards.

btfs starts a DHT node on every interface and cannot be told not to.  So it is only ever started
where loopback is all there is: in a network namespace that the benchmark makes for itself (with
its seeder, and a mount namespace, so that even a crash leaves no mount).  `btfs` looks again each
time, and refuses elsewhere.  The torrent is private besides, and has no tracker.

btfs takes no address of a peer, and dials those that it learns of by uTP first, which the seeder
does not speak.  So the seeder calls: it connects to btfs's port when btfs has the torrent.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.swarm.mounted import MountFailed, is_mounted, unmount

_MARK = "TORRENTFS_BENCH_PRIVATE_NETWORK"  # in the environment of the process that asked for one
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914  # SIOCGIFFLAGS, SIOCSIFFLAGS
_UP, _RUNNING = 0x1, 0x40

# Ended with its parent even if that is killed (util-linux).
_BOUND_TO_PARENT = ("setpriv", "--pdeathsig", "KILL")


def interfaces_up() -> set[str]:
    """Names of the network interfaces that can carry anything."""
    up = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for _, name in socket.if_nameindex():
            asked = struct.pack("16sh14x", name.encode(), 0)
            _, flags = struct.unpack("16sh14x", fcntl.ioctl(control, _GET_FLAGS, asked))
            if flags & _UP:
                up.add(name)
    return up


def why_not() -> str | None:
    """Why btfs cannot take part, in words; None if it can.

    May start this program again, in a private network, with the same arguments.
    """
    if shutil.which("btfs") is None:
        return "it is not installed"
    if os.environ.pop(_MARK, None):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP | _RUNNING))
        return None if interfaces_up() == {"lo"} else "the network is not private"
    private = ["unshare", "--net", "--mount", "--propagation", "private"]
    try:
        subprocess.run([*private, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "it needs a private network namespace, and that needs root"
    sys.stdout.flush()
    again = [sys.executable, "-m", "scripts.bench", *sys.argv[1:]]
    os.execvpe(private[0], [*private, *again], {**os.environ, _MARK: "1"})


@contextmanager
def btfs(torrent: Path, work: Path, port: int) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Mount `torrent` with btfs, listening on `port`; always unmounted and ended.

    MountFailed if it has not listed the torrent in 20 s, or the network is not private.
    """
    if interfaces_up() != {"lo"}:
        raise MountFailed("btfs is not for a network that leads anywhere")
    root, data = work / "btfs", work / "btfs-data"
    root.mkdir(parents=True, exist_ok=True)
    data.mkdir(exist_ok=True)
    argv = ["btfs", "-f", "--keep", f"--data-directory={data}"]
    argv += [f"--min-port={port}", f"--max-port={port}", str(torrent), str(root)]
    process = subprocess.Popen(
        [*_BOUND_TO_PARENT, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # a line for each piece that it hands over, many times
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        deadline = time.monotonic() + 20
        while not (is_mounted(root) and os.listdir(root)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise MountFailed("btfs did not mount")
            time.sleep(0.01)
        yield root, process
    finally:
        if is_mounted(root):
            unmount(root, lazy=True)
        for end in (None, process.terminate, process.kill):
            if end is not None:
                end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
                break
