"""What the tests of this directory look at from outside: attributes, readers, disk, memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20

KERNEL_READAHEAD = 128 * KIB
"""What the kernel reads beyond a program's own reads (the default of a FUSE mount)."""

# Opens FILE once and blocks COUNT threads in reads of it, each 512 KiB behind the one before.
_BLOCKED = """
import os, sys, threading
fd = os.open(sys.argv[1], os.O_RDONLY)
for number in range(int(sys.argv[2])):
    threading.Thread(target=lambda n=number: os.pread(fd, 4096, n << 19)).start()
print("started", flush=True)
"""


def wait_until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait for something that must become true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def attribute(path: Path, name: str) -> str:
    """`user.torrentfs.<name>` of a path in a mount with ``--xattrs``."""
    return os.getxattr(path, f"user.torrentfs.{name}").decode()


def pread(path: Path, size: int, offset: int) -> bytes:
    """One read system call on a descriptor of its own, repeated only past a short read."""
    fd = os.open(path, os.O_RDONLY)
    try:
        data = os.pread(fd, size, offset)
        while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
            data += more
        return data
    finally:
        os.close(fd)


def disk_bytes(directory: Path) -> int:
    """What the regular files below a directory take on disk (`st_blocks`)."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total


def extents(file: Path) -> list[tuple[int, int]]:
    """(start, end) of each run of data of a sparse file, as its file system sees them."""
    found = []
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        end = 0
        while end < size:
            try:
                start = os.lseek(stream.fileno(), end, os.SEEK_DATA)
            except OSError:  # ENXIO: no more data
                break
            end = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            found.append((start, end))
    return found


def resident_bytes(pid: int) -> int:
    """Memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * KIB
    raise AssertionError("no VmRSS")


@contextmanager
def python(source: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program that reads in a mount; killed at the end, which must work at once."""
    process = subprocess.Popen(
        [sys.executable, "-c", source, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        process_group=0,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


@contextmanager
def blocked_readers(file: Path, count: int) -> Iterator[subprocess.Popen[str]]:
    """A process with `count` threads, each in a read that nobody answers."""
    with python(_BLOCKED, file, count) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        wait_until(lambda: _sleeping(process.pid) >= count)
        yield process


def _sleeping(pid: int) -> int:
    """Threads of a process that sleep uninterruptibly: in a page fault or read of a mount."""
    states = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return states.count("D")


def killed_after(process: subprocess.Popen[str]) -> float:
    """``kill -9``; the seconds until the process is gone."""
    began = time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    return time.monotonic() - began
