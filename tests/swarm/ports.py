"""Ports on loopback: one that is free, one that answers."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that was free a moment ago."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def wait_port(
    port: int,
    process: subprocess.Popen[bytes],
    errors: Callable[[], str],
    timeout: float = 10.0,
) -> None:
    """Wait until 127.0.0.1:`port` accepts; RuntimeError if `process` ends or time is up."""
    deadline = time.monotonic() + timeout
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode}: {errors()}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"port {port} does not answer: {errors()}") from None
            time.sleep(0.01)
