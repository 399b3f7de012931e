"""`torrentfs mount -f` as a service of `Type=notify`: ready when it can be listed, and alive."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.swarm.mounted import mounted
from tests.swarm.payload import write_file
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
