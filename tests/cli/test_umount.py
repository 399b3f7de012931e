"""`torrentfs umount`: what it hands on, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torrentfs.errors import MountError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Mount points that were to be unmounted; the one called `busy` is."""
    asked: list[tuple[str, bool]] = []

    def unmount(mountpoint: Path, *, lazy: bool) -> None:
        asked.append((str(mountpoint), lazy))
        if mountpoint.name == "busy" and not lazy:
            raise MountError(f"{mountpoint} is in use by cat (12): end it, or use --lazy")

    monkeypatch.setattr("torrentfs.vfs.mountpoint.unmount", unmount)
    return asked


def test_each_mount_point_is_unmounted_by_its_absolute_name(
    run: Run, asked: list[tuple[str, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("umount", "a", "../b", "~/c")
    assert (result.exit_code, result.output) == (0, "")
    assert asked == [
        (str(tmp_path / "a"), False),
        (str(tmp_path.parent / "b"), False),
        (str(tmp_path / "c"), False),
    ]


def test_one_in_use_is_refused_in_one_line(run: Run, asked: list[tuple[str, bool]]) -> None:
    result = run("umount", "/m/busy")
    assert result.exit_code == 2
    assert result.stderr == "torrentfs: /m/busy is in use by cat (12): end it, or use --lazy\n"


@pytest.mark.parametrize("flag", ["-z", "--lazy"])
def test_lazy_detaches_it(run: Run, asked: list[tuple[str, bool]], flag: str) -> None:
    assert run("umount", flag, "/m/busy").exit_code == 0
    assert asked == [("/m/busy", True)]


def test_one_that_fails_does_not_keep_the_others_mounted(
    run: Run, asked: list[tuple[str, bool]]
) -> None:
    result = run("umount", "/m/a", "/m/busy", "/m/b")
    assert result.exit_code == 2
    assert [path for path, _ in asked] == ["/m/a", "/m/busy", "/m/b"]
    assert result.stderr.count("\n") == 1


def test_what_is_not_mounted_is_an_error(run: Run, tmp_path: Path) -> None:
    result = run("umount", str(tmp_path))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert str(tmp_path) in result.stderr


def test_a_mount_point_is_needed(run: Run) -> None:
    result = run("umount")
    assert result.exit_code == 1
    assert "MOUNTPOINT" in result.stderr
