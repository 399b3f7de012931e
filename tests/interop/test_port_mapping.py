"""Two homes behind NAT boxes with real port mapping reach each other; without it they do not."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.swarm.mounted import mounted
from tests.swarm.network import Home, homes
from tests.swarm.payload import write_file
from tests.swarm.shared import Share, shared

pytestmark = pytest.mark.real

ASK = {"TORRENTFS_NO_PORT_MAPPING": "0"}
SIZE = 3 << 20


def can_connect(home: Home, host: str, port: int) -> bool:
    program = f"import socket; socket.create_connection(({host!r}, {port}), 1)"
    command = [*home.before, sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def read_from(home: Home, share: Share, peer: Home, file: Path, work: Path, name: str) -> None:
    address = f"{peer.outer}:{share.peer[1]}"
    options = ("--peer", address, "--bind-interface", home.address)
    with mounted(share.torrent, work, *options, name=name, before=home.before) as mount:
        read = (mount / file.name).read_bytes()
        assert hashlib.sha256(read).digest() == hashlib.sha256(file.read_bytes()).digest()


@pytest.mark.parametrize("way", ["PCP/NAT-PMP", "UPnP"])
def test_two_homes_reach_each_other(tmp_path: Path, way: str) -> None:
    with ExitStack() as stack:
        pcp = way == "PCP/NAT-PMP"
        first, second = stack.enter_context(homes(tmp_path, pcp=pcp, upnp=not pcp))
        shares = []
        for home, name in ((first, "one"), (second, "two")):
            work = tmp_path / name
            work.mkdir()
            file = write_file(work / f"{name}.bin", len(shares) + 1, SIZE)
            # its library cannot be held to an interface: then there is no UPnP
            bind = home.address if pcp else None
            options = {"bind": bind, "before": home.before, "variables": ASK}
            share = stack.enter_context(shared(file, work, name=name, **options))
            share.wait_log(f"tcp port {share.peer[1]} is open as {home.outer}:")
            assert f"({way})" in share.log()
            shares.append((share, file, work))
        (one, file, work), (two, other, room) = shares
        read_from(second, one, first, file, work, "there")
        read_from(first, two, second, other, room, "back")
        port = one.peer[1]
        assert can_connect(second, first.outer, port)
        assert one.end() == 0
        assert not can_connect(second, first.outer, port)  # taken away at the end


def test_who_does_not_ask_is_not_reached(tmp_path: Path) -> None:
    with homes(tmp_path) as (first, second):
        file = write_file(tmp_path / "one.bin", 1, 1000)
        options = {"bind": first.address, "before": first.before}
        with shared(file, tmp_path, "--no-port-mapping", variables=ASK, **options) as share:
            assert can_connect(first, first.address, share.peer[1])
            assert not can_connect(second, first.outer, share.peer[1])
