"""What the tests of this directory do with a mount: what a user's programs do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
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


def reading(files: Sequence[Path]) -> list[subprocess.Popen[str]]:
    """Start one ``sha256sum`` for each path."""
    return [
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


def digests(readers: Sequence[subprocess.Popen[str]], timeout: float = 50.0) -> list[str]:
    """What each `sha256sum` found; all of them are ended."""
    try:
        found = []
        for reader in readers:
            output, errors = reader.communicate(timeout=timeout)
            assert (reader.returncode, errors) == (0, "")
            found.append(output[:64])
        return found
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate(timeout=10)


def pread(fd: int, size: int, offset: int) -> bytes:
    """One read, repeated only past a short one."""
    data = os.pread(fd, size, offset)
    while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
        data += more
    return data
