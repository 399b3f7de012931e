"""A private nginx as a web seed: its own configuration, logs and temporary directories.

The access log has one line per request, ``status bytes-sent "range" uri``, so that a test can count
what really went over the wire.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tests.swarm.ending import end
from tests.swarm.ports import free_port, wait_port

# Debian installs it where an ordinary user's PATH does not look.
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin") or "nginx"

_CONFIGURATION = """\
daemon off;
master_process off;
pid {work}/nginx.pid;
error_log {work}/error.log warn;
{user}
events {{ worker_connections 512; }}
http {{
    log_format counted '$status $body_bytes_sent "$http_range" $request_uri';
    access_log {work}/access.log counted;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    default_type application/octet-stream;
    sendfile on;
    keepalive_timeout 30s;
    keepalive_requests 100000;
    server {{
        {listen}
        root "{root}";
        {extra}
    }}
}}
"""


class Request(NamedTuple):
    """One line of the access log."""

    status: int
    sent: int
    range: str
    uri: str


class WebSeed:
    """A running nginx."""

    def __init__(self, port: int, work: Path, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.process = process
        self._log = work / "access.log"

    def url(self, name: str = "") -> str:
        """The URL of `name` below the root, escaped; the root's own ends with a slash."""
        return f"http://127.0.0.1:{self.port}/{quote(name)}"

    def requests(self) -> list[Request]:
        """Every request answered so far."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        pattern = re.compile(r'(\d+) (\d+) "([^"]*)" (.*)')
        matches = [match for match in map(pattern.fullmatch, lines) if match]
        return [Request(int(m[1]), int(m[2]), m[3], m[4]) for m in matches]

    def bytes_sent(self) -> int:
        """Body bytes of all answers so far (nginx logs a request when it ends)."""
        return sum(request.sent for request in self.requests())

    def kill(self) -> None:
        """Crash it."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def web_seed(
    root: Path,
    work: Path,
    *,
    port: int = 0,
    limit_rate: int = 0,
    ranges: bool = True,
    extra: str = "",
) -> Iterator[WebSeed]:
    """Serve the directory `root` on 127.0.0.1.

    `limit_rate` is bytes per second and connection; ``ranges=False`` makes a server that ignores
    Range headers; `extra` is more nginx configuration for the server block.
    """
    work = work / "nginx"
    work.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    lines = [f"limit_rate {limit_rate};"] if limit_rate else []
    lines += [] if ranges else ["max_ranges 0;"]
    configuration = work / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            work=work,
            root=root,
            listen=f"listen 127.0.0.1:{port};",
            user="user root;" if os.geteuid() == 0 else "",
            extra="\n        ".join([*lines, extra]),
        )
    )
    process = subprocess.Popen(
        [NGINX, "-p", str(work), "-c", str(configuration), "-e", str(work / "error.log")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        wait_port(port, process, lambda: (work / "error.log").read_text())
        yield WebSeed(port, work, process)
    finally:
        end(process)


def wait_quiet(seed: WebSeed, seconds: float = 0.3, timeout: float = 5.0) -> None:
    """Wait until the access log has not grown for `seconds` (requests are logged at their end)."""
    deadline = time.monotonic() + timeout
    last, since = -1, time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < seconds:
        count = len(seed.requests())
        if count != last:
            last, since = count, time.monotonic()
        time.sleep(0.02)
