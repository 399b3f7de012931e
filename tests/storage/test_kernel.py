"""System calls that Python has no name for."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from torrentfs.storage import kernel

if TYPE_CHECKING:
    from pathlib import Path


def test_a_hole_reads_as_zeros_and_keeps_the_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 65536)
    with path.open("r+b") as file:
        if not kernel.punch_hole(file.fileno(), 16384, 8192):
            pytest.skip("no holes on this file system")
    data = path.read_bytes()
    assert data == b"x" * 16384 + bytes(8192) + b"x" * (65536 - 24576)
    assert path.stat().st_blocks * 512 <= 65536 - 8192


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV])
def test_a_file_system_without_holes_is_an_answer(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(kernel, "_fallocate", lambda *_: -1)
    monkeypatch.setattr("ctypes.get_errno", lambda: code)
    assert not kernel.punch_hole(0, 0, 1)


def test_other_errors_are_raised(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 65536)
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            kernel.punch_hole(fd, 0, 4096)
        kernel.sync_file_system(fd)
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel.sync_file_system(fd)


def test_a_libc_without_the_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_fallocate", None)
    monkeypatch.setattr(kernel, "_syncfs", None)
    synced: list[bool] = []
    monkeypatch.setattr("os.sync", lambda: synced.append(True))
    assert not kernel.punch_hole(0, 0, 1)
    kernel.sync_file_system(0)
    assert synced
