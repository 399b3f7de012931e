"""A private coturn: a STUN server, and a relay (TURN) over UDP and TCP, at one port."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.swarm.ending import end
from tests.swarm.ports import free_port

TURNSERVER = shutil.which("turnserver") or "/usr/bin/turnserver"
USER, PASSWORD = "me", "secret"


class Relay:
    """A running coturn."""

    def __init__(self, host: str, port: int, log: Path) -> None:
        self.host = host
        self.port = port
        self.stun = f"stun:{host}:{port}"
        self.turn = f"turn:{host}:{port}"
        self._log = log

    def log(self) -> str:
        """What it says of sessions."""
        return self._log.read_text(errors="replace")

    @property
    def allocations(self) -> int:
        """How many relayed addresses it has given out."""
        return self.log().count("ALLOCATE processed, success")


@contextmanager
def relay(work: Path, host: str = "127.0.0.1") -> Iterator[Relay]:
    """Run one at `host`, for `USER` with `PASSWORD`; it relays to loopback, too."""
    work = work / "coturn"
    work.mkdir(parents=True, exist_ok=True)
    port = free_port(host)
    log = work / f"{port}.log"
    argv = [
        *(TURNSERVER, "-n", "--verbose", "--log-file", "stdout", "--simple-log"),
        *("--pidfile", str(work / f"{port}.pid"), "--userdb", str(work / f"{port}.db")),
        *("--listening-ip", host, "--relay-ip", host, "--listening-port", str(port)),
        *("--realm", "torrentfs.test", "--lt-cred-mech", "--user", f"{USER}:{PASSWORD}"),
        *("--no-tls", "--no-dtls", "--no-cli", "--no-tcp-relay", "--no-rfc5780"),
        *("--allow-loopback-peers", "--relay-threads", "1"),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
        )
    try:
        made = Relay(host, port, log)
        deadline = time.monotonic() + 10
        while "UDP listener opened" not in made.log() or "TCP listener opened" not in made.log():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"coturn: {made.log()}")
            time.sleep(0.02)
        yield made
    finally:
        end(process)
