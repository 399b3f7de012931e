"""`mount -t torrentfs`, and a line of fstab: real mount(8), real FUSE.

mount(8) finds the helper in /sbin only, so the test puts a link there, and takes it away.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.swarm.mounted import TORRENTFS, is_mounted, unmount
from tests.swarm.payload import sha256_file, write_file
from tests.swarm.quiet import quiet_environment
from tests.swarm.seeder import seed
from tests.swarm.torrents import make_torrent

pytestmark = pytest.mark.real

HELPER = Path("/sbin/mount.torrentfs")


@pytest.fixture
def _helper() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root may put a helper of mount(8) in place")
    if os.path.lexists(HELPER):
        pytest.skip(f"{HELPER} is there already")
    HELPER.symlink_to(TORRENTFS.with_name("mount.torrentfs"))
    try:
        yield
    finally:
        HELPER.unlink()


def mount(work: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**quiet_environment(), "HOME": str(work), "XDG_STATE_HOME": str(work / "state")}
    return subprocess.run(
        ["mount", *map(str, words)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


@pytest.mark.usefixtures("_helper")
@pytest.mark.parametrize("by", ["type", "fstab"])
def test_mounting_as_any_file_system(tmp_path: Path, by: str) -> None:
    film = write_file(tmp_path / "payload" / "film.bin", 1, 1_000_000)
    made = make_torrent(film, tmp_path / "a b.torrent")
    place = tmp_path / "mount"
    place.mkdir()
    with seed(made.torrent, film, tmp_path) as seeder:
        options = f"ro,noatime,x-systemd.automount,peer={seeder.address},cache_dir={tmp_path}/cache"
        try:
            if by == "type":
                done = mount(tmp_path, "-t", "torrentfs", "-o", options, made.torrent, place)
            else:
                table = tmp_path / "fstab"
                source = str(made.torrent).replace(" ", "\\040")
                table.write_text(f"{source} {place} torrentfs {options},_netdev,nofail 0 0\n")
                done = mount(tmp_path, "-T", table, place)
            assert (done.returncode, done.stderr) == (0, "")
            assert is_mounted(place)
            assert sha256_file(place / "film.bin") == sha256_file(film)
        finally:
            if is_mounted(place):
                done = subprocess.run(
                    ["umount", place], capture_output=True, text=True, timeout=20, check=False
                )
                still = is_mounted(place)
                if still:
                    unmount(place, lazy=True)
                assert not still, done.stderr


@pytest.mark.usefixtures("_helper")
def test_a_mount_that_fails_says_why(tmp_path: Path) -> None:
    place = tmp_path / "mount"
    place.mkdir()
    done = mount(tmp_path, "-t", "torrentfs", tmp_path / "none.torrent", place)
    assert done.returncode == 1
    assert "no such file" in done.stderr
    assert not is_mounted(place)
