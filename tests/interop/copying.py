"""What the tests of this directory do with a mount: what a user's programs do."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.swarm.payload import ODD_TREE, files_below, sha256_tree

KIB = 1 << 10
MIB = 1 << 20

VERSIONS = ("v1", "v2", "hybrid")

STRANGE_TREE: Mapping[str, int] = MappingProxyType(
    {
        **ODD_TREE,
        "with space/50% off#1?.bin": 33_333,
        "with space/a+b&c=d;e [x] {y}.bin": 70_001,
        "q'uo\"te/%41lready.bin": 12_345,
        "e\u0301 and \u00e9/文件 🎬.mkv": 200_003,
    }
)
"""`ODD_TREE` and names that a URL, a shell or a normal form would change."""


def cp(source: Path, target: Path, timeout: float = 50.0) -> Path:
    """``cp -r``, which must succeed and say nothing; gives `target`."""
    done = subprocess.run(
        ["cp", "-r", str(source), str(target)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return target


def assert_same(copy: Path, original: Path) -> None:
    """Every file of the same name and SHA-256, none more and none less, none empty by mistake."""
    assert sha256_tree(copy) == sha256_tree(original)
    assert files_below(copy)


def copy_equals(source: Path, original: Path, work: Path) -> None:
    """``cp -r`` of `source`, a path in a mount, gives exactly `original`."""
    assert_same(cp(source, work / "copy"), original)


@contextmanager
def copying(source: Path, target: Path) -> Iterator[subprocess.Popen[str]]:
    """Start one ``cp``; it does not outlive the block."""
    with subprocess.Popen(
        ["cp", str(source), str(target)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as program:
        try:
            yield program
        finally:
            program.kill()


class Readers:
    """Programs that read files of a mount from start to end, all at the same time."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._programs = [
            subprocess.Popen(
                ["sha256sum", "--zero", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,
            )
            for file in files
        ]

    def digests(self, timeout: float = 45.0) -> list[str]:
        """Wait for all; the SHA-256 that each found."""
        found = []
        for program in self._programs:
            output, errors = program.communicate(timeout=timeout)
            assert (program.returncode, errors) == (0, "")
            found.append(output[:64])
        return found

    def close(self) -> None:
        """Kill those that still read."""
        for program in self._programs:
            program.kill()
            program.communicate(timeout=10)


@contextmanager
def reading(*files: Path) -> Iterator[Readers]:
    """Start one ``sha256sum`` for each path; none outlives the block."""
    readers = Readers(files)
    try:
        yield readers
    finally:
        readers.close()


def wait_until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    """Wait for something that must become true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def pread(fd: int, size: int, offset: int) -> bytes:
    """One read, repeated only past a short one."""
    data = os.pread(fd, size, offset)
    while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
        data += more
    return data
