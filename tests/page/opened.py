"""A mount with `--http`, and its page in Chromium."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.control.controlled import of_user
from tests.swarm.browser import Browser
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.ports import free_port
from tests.swarm.tab import Tab

LOOKS = {
    "light": {"width": 1280, "height": 900},
    "dark": {"width": 1280, "height": 900, "dark": True},
    "phone": {"width": 360, "height": 740},
    "phone-dark": {"width": 360, "height": 740, "dark": True},
}
SERIOUS = ("serious", "critical")


class Served(NamedTuple):
    """A mount, and where it answers."""

    mount: Mounted
    work: Path
    url: str
    token: str

    @property
    def address(self) -> str:
        """What a user opens."""
        return f"{self.url}/?token={self.token}"

    def ask(self, path: str) -> Any:
        """The JSON of a route of the API."""
        headers = {"authorization": f"Bearer {self.token}"}
        reply = httpx.get(f"{self.url}/api/v1{path}", headers=headers, timeout=20)
        assert reply.status_code == 200, reply.text
        return reply.json()


@contextmanager
def served(
    work: Path, *options: str, sources: Sequence[Path] = (), port: int = 0
) -> Iterator[Served]:
    """Mount with `--http`; an empty directory is watched, so that there may be no torrent."""
    port = port or free_port()
    watch = work / "watch"
    watch.mkdir(exist_ok=True)
    with mounted(
        sources,
        work,
        *("--http", f"127.0.0.1:{port}", "--watch", str(watch)),
        *("--state-dir", str(work / "state" / "torrentfs"), *options),
        environment=of_user(work),
    ) as mount:
        token = (work / "state" / "torrentfs" / "http-token").read_text().strip()
        yield Served(mount, work, f"http://127.0.0.1:{port}", token)


def examine(tab: Tab, work: Path, name: str) -> None:
    """In light, in dark and at a phone's width: a picture, no fault, nothing beside the edge."""
    for look, size in LOOKS.items():
        tab.look(**size)  # type: ignore[arg-type]
        tab.screenshot(work / f"{name}-{look}.png", whole=True)
        faults = [
            f"{fault['id']}: {fault['help']}: {fault['nodes'][:3]}"
            for fault in tab.audit()
            if fault["impact"] in SERIOUS
        ]
        assert not faults, f"{name}, {look}: {faults}"
        wide = tab.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= size["width"], f"{name}, {look}: {wide} pixels wide"
    tab.look()


@contextmanager
def opened(chromium: Browser, here: Served) -> Iterator[Tab]:
    """The page of a mount; its console stays empty."""
    with chromium.visit(here.address) as tab:
        assert tab.status == 200
        tab.wait("h1")
        tab.wait_value("() => document.getElementById('mountpoint').textContent", bool)
        try:
            yield tab
        except BaseException:
            tab.screenshot(here.work / "failed.png")
            raise
        # an error that was answered is told to the user, and on the console as well
        said = [line for line in tab.said() if not line.startswith("Failed to load resource")]
        assert not said, said
