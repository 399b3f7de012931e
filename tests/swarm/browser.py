"""Chromium, headless, with pages of WebTorrent: the peers that a mount meets on the web.

`Browser.visit` is for any other page (see `tests.swarm.tab`).

WebTorrent's own bundle (npm) runs in Debian's Chromium, driven by playwright-core from a Node
process (``browser.mjs``) that takes one JSON line per request. Only loopback is used: no DHT, no
STUN server, no tracker but those that are named. ``scripts/setup test`` installs all three.

    with tracker(tmp_path) as server, browser(tmp_path) as chromium:
        page = chromium.open()
        page.seed(file, trackers=[server.websocket])
        magnet = page.wait("seeding")["magnet"]
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.swarm.child import ROOT, ChildFailed, JsonChild
from tests.swarm.payload import files_below
from tests.swarm.tab import Tab

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"

_INSTALLED = ROOT / "tests" / "node_modules"
_SCRIPT = ROOT / "tests" / "swarm" / "browser.mjs"


class Page:
    """A tab with one WebTorrent client."""

    def __init__(self, child: JsonChild, tab: int) -> None:
        self._child = child
        self._tab = tab

    def seed(self, path: Path, *, trackers: Sequence[str], piece_length: int = 0) -> None:
        """Make a torrent of a file or directory and seed it; `wait("seeding")` gives its magnet.

        WebTorrent chooses the length of pieces if `piece_length` is 0.
        """
        options: dict[str, Any] = {"announce": list(trackers), "name": path.name}
        if piece_length:
            options["pieceLength"] = piece_length
        named = [
            [str(file), f"{path.name}/{name}" if name else path.name]
            for name, file in files_below(path).items()
        ]
        self._call("seed", 60, files=named, options=options)

    def seed_torrent(self, torrent: Path, file: Path, *, trackers: Sequence[str] = ()) -> None:
        """Seed the one `file` of an existing .torrent; its hashes are believed."""
        options = {"announce": list(trackers), "skipVerify": True}
        self._call(
            "seedTorrent", torrent=str(torrent), files=[[str(file), file.name]], options=options
        )

    def add(self, magnet: str, *, select: bool = True) -> None:
        """Download the torrent of a magnet; nothing is asked for yet if not `select`."""
        self._call("add", magnet=magnet, options={} if select else {"deselect": True})

    def add_torrent(self, torrent: Path, *, trackers: Sequence[str] = ()) -> None:
        """Download the torrent of a .torrent file, announced to `trackers` too."""
        self._call("addTorrent", torrent=str(torrent), options={"announce": list(trackers)})

    def visit(self, magnet: str) -> float:
        """Meet one peer of the magnet's swarm and go again; seconds until the handshake."""
        return float(self._call("visit", magnet=magnet)["seconds"])

    def leave(self) -> None:
        """Destroy the client as a page does that is done; a new one takes its place."""
        self._call("leave")

    def status(self) -> dict[str, Any]:
        """What the client's torrent says of itself, its wires, and the page's last warnings."""
        return self._call("status")

    def wait(self, fact: str, timeout: float = 20.0) -> dict[str, Any]:
        """Wait until `fact` of the status is true: ``ready``, ``seeding``, ``done``, ``wires``."""
        deadline = time.monotonic() + timeout
        while not (status := self.status()).get(fact):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {fact!r} in {timeout:g} s: {status}")
            time.sleep(0.02)
        return status

    def digests(self, timeout: float = 60.0) -> dict[str, str]:
        """Hex SHA-256 of each file by its path, read from the client's own store."""
        return self._call("digests", timeout)

    def limit(self, *, upload: int = -1, download: int = -1) -> None:
        """Bytes a second in each direction from now on; -1 is no limit."""
        self._call("limit", upload=upload, download=download)

    def stream(self, path: str) -> None:
        """Play a file in the ``<video>`` element, through WebTorrent's service worker."""
        self._call("stream", path=path)

    def seek(self, seconds: float) -> None:
        """Set the time of the ``<video>`` element."""
        self._call("seek", seconds=seconds)

    def video(self) -> dict[str, Any]:
        """currentTime, duration, readyState, seeking, frames, ... of the ``<video>`` element."""
        return self._call("video")

    def wait_video(
        self, condition: Callable[[dict[str, Any]], object], timeout: float = 20.0
    ) -> dict[str, Any]:
        """Wait until `condition` of what `video` says is true."""
        deadline = time.monotonic() + timeout
        while not condition(video := self.video()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the video did not get there in {timeout:g} s: {video}")
            time.sleep(0.02)
        return video

    def pause(self) -> None:
        """Halt the ``<video>`` element."""
        self._call("pause")

    def screenshot(self, path: Path, element: str = "") -> Path:
        """A PNG of what the page shows, or of the one element of a selector."""
        request = {"do": "screenshot", "tab": self._tab, "path": str(path), "element": element}
        self._child.ask(request)
        return path

    def close(self) -> None:
        """Close the tab, as a user does: nobody is told anything."""
        self._child.ask({"do": "close", "tab": self._tab})

    def _call(self, name: str, timeout: float = 20.0, **argument: Any) -> dict[str, Any]:
        request = {"do": "call", "tab": self._tab, "name": name, "argument": argument}
        return self._child.ask(request, timeout)


class Browser:
    """A running Chromium."""

    def __init__(self, child: JsonChild) -> None:
        self.child = child
        self._tabs = itertools.count(1)

    def open(self) -> Page:
        """A new tab with storage of its own."""
        page = Page(self.child, next(self._tabs))
        self.child.ask({"do": "open", "tab": page._tab})
        return page

    @contextmanager
    def visit(
        self,
        url: str,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        still: bool = False,
    ) -> Iterator[Tab]:
        """A tab at `url`, closed at the end; `still` for a user who wants reduced motion."""
        tab = Tab(self.child, next(self._tabs))
        look = {"width": width, "height": height, "dark": dark, "still": still}
        tab.status = self.child.ask({"do": "visit", "tab": tab.number, "url": url, **look})[
            "status"
        ]
        try:
            yield tab
        finally:
            tab.close()

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A new tab that is closed at the end."""
        page = self.open()
        try:
            yield page
        finally:
            page.close()


@contextmanager
def browser(work: Path, *, mdns: bool = False, arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """Run Chromium; `work` gets its log, `arguments` are more of its options.

    With `mdns` its ICE candidates are ``.local`` names, as for a page that may not use the
    microphone, and Chromium answers for them by multicast; else they are addresses.
    """
    if not (_INSTALLED / "playwright-core").exists() or not shutil.which(CHROMIUM):
        raise ChildFailed("chromium or its packages are not installed: run scripts/setup test")
    node = shutil.which("node") or "node"
    # Not below `work`: Chromium has a socket beside its profile, and their paths must be short.
    with TemporaryDirectory(prefix="chromium-") as home:
        options = {"executable": CHROMIUM, "mdns": mdns, "arguments": list(arguments), "home": home}
        child = JsonChild(
            [node, str(_SCRIPT), json.dumps(options)],
            stderr=work / "chromium.log",
            environment={"TMPDIR": home, "HOME": home, "XDG_CONFIG_HOME": home},
        )
        try:
            child.wait_line(30)
            yield Browser(child)
        finally:
            child.close(10)


def write_video(path: Path, seconds: int, *, rate: str = "4M") -> Path:
    """An mp4 of a moving test picture that counts its seconds, `rate` bits a second; index first.

    Key frames are a second apart, so that a seek is exact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    source = f"testsrc2=size=640x360:rate=25:duration={seconds},noise=alls=20:allf=t"
    coding = f"-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 -b:v {rate} -minrate {rate}"
    words = "ffmpeg -v error"
    limits = f"-maxrate {rate} -bufsize {rate} -movflags +faststart"
    subprocess.run(
        [*words.split(), "-f", "lavfi", "-i", source, *coding.split(), *limits.split(), str(path)],
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=60,
    )
    return path
