"""A BEP 17 seed: one script URL that takes an info-hash, a piece and ranges inside the piece."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit


class HttpSeed(ThreadingHTTPServer):
    """Serves the bytes of piece space, `busy` times with "come back in a second" first."""

    daemon_threads = False

    def __init__(self, info_hash: bytes, data: bytes, piece_length: int, busy: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.info_hash = info_hash
        self.data = data
        self.piece_length = piece_length
        self.busy = busy
        self.sent = 0
        self.refused = 0
        self.counting = threading.Lock()

    @property
    def url(self) -> str:
        """What stands in `httpseeds`."""
        return f"http://127.0.0.1:{self.server_address[1]}/seed.php"


class _Handler(BaseHTTPRequestHandler):
    server: HttpSeed
    protocol_version = "HTTP/1.1"
    timeout = 5  # of a connection kept alive; the test is over by then

    def do_GET(self) -> None:
        seed = self.server
        url = urlsplit(self.path)
        raw = dict(part.split("=", 1) for part in url.query.split("&"))
        fields = parse_qs(url.query, encoding="latin-1")
        if url.path != "/seed.php" or unquote_to_bytes(raw["info_hash"]) != seed.info_hash:
            return self._answer(404, b"no such torrent")
        with seed.counting:
            if seed.busy:
                seed.busy -= 1
                seed.refused += 1
                return self._answer(503, b"1")
        piece = int(fields["piece"][0])
        whole = seed.data[piece * seed.piece_length : (piece + 1) * seed.piece_length]
        if "ranges" in fields:
            parts = [part.split("-") for part in fields["ranges"][0].split(",")]
            body = b"".join(whole[int(first) : int(last) + 1] for first, last in parts)
        else:
            body = whole
        with seed.counting:
            seed.sent += len(body)
        return self._answer(200, body)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def http_seed(
    info_hash: bytes, data: bytes, piece_length: int, *, busy: int = 0
) -> Iterator[HttpSeed]:
    """Run a seed in a thread."""
    server = HttpSeed(info_hash, data, piece_length, busy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
