"""The wheel and the sdist: built, installed where nothing of the checkout is, and mounted."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.swarm.mounted import is_mounted, unmount
from tests.swarm.payload import sha256_file, write_file
from tests.swarm.quiet import quiet_environment
from tests.swarm.seeder import seed
from tests.swarm.torrents import make_torrent

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, where: Path, limit: float = 300) -> str:
    done = subprocess.run(
        [*map(str, command)],
        cwd=where,
        env={**quiet_environment(), "HOME": str(where), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_built_can_be_installed_and_mounts(tmp_path: Path) -> None:
    source, built = tmp_path / "source", tmp_path / "dist"
    source.mkdir()
    # what is in version control, not what lies about here
    files = run("git", "ls-files", "-z", where=ROOT).split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--outdir", built, source, where=tmp_path)
    [wheel], [sdist] = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "torrentfs/py.typed" in names
    assert "torrentfs/daemon/control/page/index.html" in names
    assert not [name for name in names if name.startswith(("tests/", "scripts/"))]
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("/pyproject.toml") for name in archive.getnames())

    home = tmp_path / "installed"
    run(sys.executable, "-m", "venv", home, where=tmp_path)
    run(home / "bin" / "pip", "install", "-q", wheel, where=tmp_path)
    assert (home / "share" / "man" / "man1" / "torrentfs.1").is_file()
    assert (home / "share" / "man" / "man8" / "mount.torrentfs.8").is_file()
    command = home / "bin" / "torrentfs"
    assert run(command, "--version", where=tmp_path).startswith("torrentfs ")

    film = write_file(tmp_path / "payload" / "film.bin", 1, 1_000_000)
    made = make_torrent(film, tmp_path / "film.torrent")
    place = tmp_path / "mount"
    place.mkdir()
    with seed(made.torrent, film, tmp_path) as seeder:
        try:
            peer = ("--peer", seeder.address, "--cache-dir", tmp_path / "cache")
            run(command, "mount", *peer, made.torrent, place, where=tmp_path)
            assert sha256_file(place / "film.bin") == sha256_file(film)
            run(command, "umount", place, where=tmp_path)
            assert not is_mounted(place)
        finally:
            if is_mounted(place):
                unmount(place, lazy=True)
