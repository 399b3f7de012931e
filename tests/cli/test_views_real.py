"""Layouts and filters on a real mount."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.scale.torrents import MIB, many_files, one_huge_file
from tests.swarm.mounted import mounted
from torrentfs.metainfo.torrent_file import parse_torrent

pytestmark = pytest.mark.real


def listed(root: Path) -> list[str]:
    found = subprocess.run(
        ["find", ".", "-type", "f"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return sorted(line.removeprefix("./") for line in found.stdout.splitlines())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "many/top000/middle0000/a file 000000.x"),
        (["--layout", "infohash"], "KEY/many/top000/middle0000/a file 000000.x"),
        (["--layout", "flat"], "a file 000000.x"),
    ],
)
def test_layouts(options: list[str], expected: str, tmp_path: Path) -> None:
    data = many_files(200)
    (tmp_path / "t.torrent").write_bytes(data)
    key = parse_torrent(data).hashes.key
    with mounted(tmp_path / "t.torrent", tmp_path, *options) as mount:
        found = listed(mount.path)
        assert len(found) == 200
        assert found[0] == expected.replace("KEY", key)
        assert (mount.path / found[5]).stat().st_size == 1000 + 37 * 5
        assert os.statvfs(mount.path).f_files == 200


def test_filters(tmp_path: Path) -> None:
    (tmp_path / "t.torrent").write_bytes(many_files(200))
    options = ("--select", "A FILE*7.X", "--exclude", "middle0001/", "--min-size", "2000")
    with mounted(tmp_path / "t.torrent", tmp_path, *options) as mount:
        expected = [n for n in range(100) if n % 10 == 7 and 1000 + 37 * n >= 2000]
        prefix = "many/top000/middle0000"
        assert listed(mount.path) == [f"{prefix}/a file {n:06}.x" for n in expected]
        assert os.listdir(mount.path / "many/top000") == ["middle0000"]


def test_a_torrent_of_which_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "many.torrent").write_bytes(many_files(20))
    (tmp_path / "huge.torrent").write_bytes(one_huge_file(MIB))
    sources = [tmp_path / "many.torrent", tmp_path / "huge.torrent"]
    with mounted(sources, tmp_path, "--exclude", "huge", "--layout", "flat") as mount:
        assert len(os.listdir(mount.path)) == 20
        assert not (mount.path / "huge").exists()
        assert os.statvfs(mount.path).f_files == 20
