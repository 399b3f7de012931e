"""The real `bittorrent-tracker` server (Node), on loopback: HTTP, UDP, UDP6, WebSocket.

``scripts/setup test`` installs the package that ``tests/package.json`` pins.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.swarm.certificates import Certificate
from tests.swarm.child import ROOT, ChildFailed, JsonChild

_INSTALLED = ROOT / "tests" / "node_modules" / "bittorrent-tracker"


class Tracker:
    """A running tracker."""

    def __init__(
        self, child: JsonChild, ports: dict[str, int], http_host: str, udp_host: str
    ) -> None:
        self.child = child
        self.ports = ports
        self._udp_host = udp_host
        self._host = f"[{http_host}]" if ":" in http_host else http_host

    @property
    def http(self) -> str:
        """Announce URL over HTTP."""
        return f"http://{self._host}:{self.ports['http']}/announce"

    @property
    def udp(self) -> str:
        """Announce URL over UDP and IPv4."""
        return f"udp://{self._udp_host}:{self.ports['udp']}/announce"

    @property
    def udp6(self) -> str:
        """Announce URL over UDP and IPv6."""
        return f"udp://[::1]:{self.ports['udp6']}/announce"

    @property
    def websocket(self) -> str:
        """Announce URL for WebTorrent."""
        return f"ws://{self._host}:{self.ports['ws']}"

    @property
    def secure_websocket(self) -> str:
        """The same with TLS; only with a `certificate`."""
        return f"wss://{self._host}:{self.ports['wss']}"

    def wait_announce(self, event: str, timeout: float = 10.0) -> str:
        """Wait for the next announce with `event` (start, update, complete, stop); who sent it."""
        while True:
            line: dict[str, Any] = self.child.wait_line(timeout)
            if line.get("announce") == event:
                return str(line.get("address"))

    def freeze(self) -> None:
        """Stop the process: it still takes connections and packets, and answers nothing."""
        self.child.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.child.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Crash it."""
        self.child.kill()


@contextmanager
def tracker(
    work: Path,
    *,
    interval: int = 120,
    refuse: str = "",
    http_host: str = "127.0.0.1",
    udp_host: str = "127.0.0.1",
    port: int = 0,
    certificate: Certificate | None = None,
) -> Iterator[Tracker]:
    """Run a tracker; `interval` in seconds, `refuse` is a failure that answers every announce.

    `http_host` is the address of HTTP and WebSocket, `port` theirs (0: any); UDP is there in both
    families, over IPv4 at `udp_host`. WebSocket peers are told a fifth of `interval`.
    """
    if not _INSTALLED.exists():
        raise ChildFailed("bittorrent-tracker is not installed: run scripts/setup test")
    told: dict[str, Any] = {"interval": interval, "refuse": refuse, "httpHost": http_host}
    told["udpHost"] = udp_host
    if port:
        told["port"] = port
    if certificate is not None:
        told["certificate"] = {"key": str(certificate.key), "cert": str(certificate.chain)}
    options = json.dumps(told)
    script = ROOT / "tests" / "swarm" / "tracker.mjs"
    node = shutil.which("node") or "node"
    child = JsonChild([node, str(script), options], stderr=work / "tracker.log")
    try:
        yield Tracker(child, child.wait_line(), http_host, udp_host)
    finally:
        child.process.send_signal(signal.SIGCONT)
        child.close()
