"""The real `bittorrent-tracker` server (Node), on loopback: HTTP, UDP, UDP6, WebSocket.

``scripts/setup test`` installs the package that ``tests/package.json`` pins.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.swarm.child import ROOT, ChildFailed, JsonChild

_INSTALLED = ROOT / "tests" / "node_modules" / "bittorrent-tracker"


class Tracker:
    """A running tracker."""

    def __init__(self, child: JsonChild, ports: dict[str, int]) -> None:
        self.child = child
        self.ports = ports

    @property
    def http(self) -> str:
        """Announce URL over HTTP."""
        return f"http://127.0.0.1:{self.ports['http']}/announce"

    @property
    def udp(self) -> str:
        """Announce URL over UDP and IPv4."""
        return f"udp://127.0.0.1:{self.ports['udp']}/announce"

    @property
    def udp6(self) -> str:
        """Announce URL over UDP and IPv6."""
        return f"udp://[::1]:{self.ports['udp6']}/announce"

    @property
    def websocket(self) -> str:
        """Announce URL for WebTorrent."""
        return f"ws://127.0.0.1:{self.ports['ws']}"

    def wait_announce(self, event: str, timeout: float = 10.0) -> str:
        """Wait for the next announce with `event` (start, update, complete, stop); who sent it."""
        while True:
            line: dict[str, Any] = self.child.wait_line(timeout)
            if line.get("announce") == event:
                return str(line.get("address"))

    def kill(self) -> None:
        """Crash it."""
        self.child.kill()


@contextmanager
def tracker(work: Path, *, interval: int = 120, refuse: str = "") -> Iterator[Tracker]:
    """Run a tracker; `interval` in seconds, `refuse` is a failure that answers every announce."""
    if not _INSTALLED.exists():
        raise ChildFailed("bittorrent-tracker is not installed: run scripts/setup test")
    options = json.dumps({"interval": interval, "refuse": refuse})
    script = ROOT / "tests" / "swarm" / "tracker.mjs"
    node = shutil.which("node") or "node"
    child = JsonChild([node, str(script), options], stderr=work / "tracker.log")
    try:
        yield Tracker(child, child.wait_line())
    finally:
        child.close()
