"""A web seed for the demo: the standard library's HTTP server, taught Range requests."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive

    def do_GET(self) -> None:
        path = self.translate_path(self.path)
        if not os.path.isfile(path):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            start, end = self._range(size)
            if start >= end and size:
                self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                return
            partial_answer = self.headers.get("Range") is not None
            self.send_response(HTTPStatus.PARTIAL_CONTENT if partial_answer else HTTPStatus.OK)
            if partial_answer:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            self.connection.settimeout(30)
            try:
                sent = self.connection.sendfile(stream, start, end - start) if end > start else 0
            except OSError:
                sent, self.close_connection = 0, True
            assert isinstance(self.server, WebSeedServer)
            self.server.count(sent)

    def _range(self, size: int) -> tuple[int, int]:
        """The half-open range asked for; a form other than ``bytes=a-b`` asks for everything."""
        kind, _, spec = (self.headers.get("Range") or "").partition("=")
        first, _, last = spec.partition("-")
        if kind != "bytes" or not first.isdigit():
            return 0, size
        return int(first), min(int(last) + 1 if last.isdigit() else size, size)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal belongs to the demo."""


class WebSeedServer(ThreadingHTTPServer):
    """The server, and how many payload bytes it has sent."""

    daemon_threads = True
    sent = 0
    _lock = threading.Lock()

    def count(self, sent: int) -> None:
        """Add the bytes of one answer."""
        with self._lock:
            self.sent += sent

    def url(self, name: str) -> str:
        """The URL of `name` below the root."""
        return f"http://127.0.0.1:{self.server_port}/{quote(name)}"


@contextmanager
def web_seed(root: Path) -> Iterator[WebSeedServer]:
    """Serve `root` on a free port of 127.0.0.1, in a thread, until the end of the block."""
    server = WebSeedServer(("127.0.0.1", 0), partial(_Handler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()
