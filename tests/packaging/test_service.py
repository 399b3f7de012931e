"""`torrentfs mount -f` as a service of `Type=notify`: ready when it can be listed, and alive."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from tests.swarm.mounted import mounted
from tests.swarm.payload import write_file
from tests.swarm.seeder import seed
from tests.swarm.torrents import make_torrent

pytestmark = pytest.mark.real


def test_the_manager_hears_of_readiness_life_and_end(tmp_path: Path) -> None:
    made = make_torrent(write_file(tmp_path / "film.bin", 1, 100_000), tmp_path / "t.torrent")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        with mounted(made.torrent, tmp_path, environment=told) as mount:
            heard = ""
            while "READY=1" not in heard:
                heard = manager.recv(4096).decode()
            assert os.listdir(mount.path) == ["film.bin"]
            assert heard.splitlines() == ["READY=1", f"STATUS=mounted film.bin on {mount.path}"]
            assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            mount.end()
            while heard != "STOPPING=1":
                heard = manager.recv(4096).decode()


UNIT = Path(__file__).parents[2] / "contrib/systemd/torrentfs@.service"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_the_rights_that_the_unit_leaves_are_enough(tmp_path: Path) -> None:
    [kept] = re.findall("^CapabilityBoundingSet=(.+)$", UNIT.read_text(), re.MULTILINE)
    names = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in kept.split())
    confined = ("setpriv", "--no-new-privs", f"--bounding-set=-all,{names}")
    film = write_file(tmp_path / "film.bin", 1, 300_000)
    made = make_torrent(film, tmp_path / "t.torrent")
    made.torrent.chmod(0o600)
    os.chown(made.torrent, 1000, 1000)  # a user's, in a watch directory
    watch = tmp_path / "watch"
    watch.mkdir()
    made.torrent.rename(watch / "film.torrent")
    options = ("--watch", str(watch), "--allow-other", "--bind-interface", "lo")
    with (
        seed(watch / "film.torrent", film, tmp_path / "seed") as peer,
        mounted([], tmp_path, *options, "--peer", peer.address, before=confined) as mount,
    ):
        assert (mount / "film.bin").read_bytes() == film.read_bytes()
        status = Path(f"/proc/{mount.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
