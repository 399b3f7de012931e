"""A proxy in the config file is held by every command that uses the network."""

from __future__ import annotations

import select
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.swarm.mounted import TORRENTFS
from tests.swarm.payload import write_file
from tests.swarm.shared import environment

pytestmark = pytest.mark.real

COMMANDS = {
    "inspect": ["inspect", "http://{at}/x.torrent"],
    "cat": ["cat", "http://{at}/x.torrent", "x"],
    "mount": ["mount", "-f", "http://{at}/x.torrent", "mnt"],
    "share-tracker": ["share", "-v", "--tracker", "http://{at}/announce", "what"],
    "share-peer": ["share", "-vv", "--peer", "{at}", "what"],
}


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """What is asked; it answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.mark.parametrize("held", [True, False], ids=["dead proxy", "no proxy"])
@pytest.mark.parametrize("command", list(COMMANDS))
def test_nothing_goes_past_a_dead_proxy(
    tmp_path: Path, server: socket.socket, command: str, held: bool
) -> None:
    (tmp_path / "mnt").mkdir()
    write_file(tmp_path / "what", 1, 1000)
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))  # and does not listen
        proxy = f"socks5://127.0.0.1:{dead.getsockname()[1]}"
        if held:
            config = tmp_path / "home/.config/torrentfs/config.toml"
            config.parent.mkdir(parents=True)
            config.write_text(f'proxy = "{proxy}"\n')
        at = f"127.0.0.1:{server.getsockname()[1]}"
        log = tmp_path / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [TORRENTFS, *(word.format(at=at) for word in COMMANDS[command])],
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment(tmp_path),
            )
        try:
            deadline = time.monotonic() + 30
            asked, refused = False, False
            while not asked and not refused:
                assert time.monotonic() < deadline, log.read_text()
                asked = bool(select.select([server], [], [], 0.05)[0])
                refused = f"{proxy} cannot be reached" in log.read_text()
            assert (asked, refused) == (not held, held)
        finally:
            process.terminate()
            process.wait(20)
        assert bool(select.select([server], [], [], 0)[0]) is not held
