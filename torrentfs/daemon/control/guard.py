"""The outermost layer: who may ask, how much they may send, what browsers may do.

* Access is decided by `access.decide`, before anything of the request is looked at.
* A body is bounded in size and in time: a .torrent up to what a torrent may have, anything else a
  megabyte. What a refused request still sends is dropped for a moment, so that the answer reaches
  it, and then the connection is broken off.
* Each answer says that a browser may run nothing but the page's own files, and show it in no frame.
  What is served out of torrents is a stranger's: `files` gives it a sandbox of its own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import trio
from starlette.exceptions import HTTPException

from torrentfs.daemon.control.access import Refusal, decide
from torrentfs.metainfo.limits import MAX_TORRENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from torrentfs.daemon.control.leaving import Message, Receive, Scope, Send

    App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 1024 * 1024
UPLOAD = "/api/v1/torrents"
"""Where a .torrent may be posted."""
CHUNK_TIMEOUT = 30.0
"""Seconds for the next part of a body."""
SLOWEST = 16 * 1024
"""Bytes a second that a body must come at, after its first `CHUNK_TIMEOUT`."""
LINGER = 2.0
"""Seconds for which what a refused request sends is dropped."""

HEADERS = {
    b"content-security-policy": (
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        b"media-src 'self'; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}
"""Unless the application says something else."""


TOO_LARGE = "the body of this request is too large"
TOO_SLOW = "the body of this request does not come"


class Guard:
    """ASGI middleware. `scope["state"]` has the `endpoint`, and `abort` of the connection."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            return
        await _Exchange(self._app, scope, receive, send).run()


class _Exchange:
    """One request and its answer."""

    def __init__(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        self._app = app
        self._scope = scope
        self._receive_next = receive
        self._send_next = send
        headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in scope["headers"]
        ]
        self._headers = dict(headers)
        self._ambiguous = len(self._headers) < len(headers) and any(
            sum(name == twice for name, _ in headers) > 1
            for twice in ("host", "authorization", "origin", "content-length")
        )
        self._limit = self._body_limit()
        self._received = 0
        self._whole = False
        self._gone = False
        self._since = trio.current_time()

    def _body_limit(self) -> int:
        kind = self._headers.get("content-type", "").partition(";")[0].strip().lower()
        is_upload = self._scope["path"] == UPLOAD and kind != "application/json"
        return MAX_TORRENT_BYTES if is_upload else MAX_BODY

    async def run(self) -> None:
        answer = self._judge()
        if answer is not None:
            await self._say(answer)
        else:
            await self._app(self._scope, self._receive, self._send)
        if not self._whole and not self._gone:
            await self._drop_rest()

    def _judge(self) -> Refusal | None:
        scope = self._scope
        if self._ambiguous:
            return Refusal(400, "a header is there twice")
        query = scope["query_string"].decode("latin-1")
        endpoint = scope["state"]["endpoint"]
        verdict = decide(endpoint, scope["method"], scope["path"], query, self._headers)
        if verdict is None:
            length = self._headers.get("content-length", "0")
            if length.isascii() and length.isdigit() and int(length) > self._limit:
                return Refusal(413, TOO_LARGE)
            return None
        if isinstance(verdict, Refusal):
            return verdict
        return Refusal(303, "", (("location", "/"), ("set-cookie", verdict.cookie)))

    async def _receive(self) -> Message:
        if self._whole or self._gone:
            message = await self._receive_next()
            self._gone |= message["type"] == "http.disconnect"
            return message
        slack = self._since + CHUNK_TIMEOUT + self._received / SLOWEST - trio.current_time()
        with trio.move_on_after(max(0.0, min(CHUNK_TIMEOUT, slack))) as scope:
            message = await self._receive_next()
        if scope.cancelled_caught:
            raise HTTPException(408, TOO_SLOW)
        if message["type"] == "http.disconnect":
            self._gone = True
        else:
            self._received += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._received > self._limit:
                raise HTTPException(413, TOO_LARGE)
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message.get("headers", ())}
            more = [(name, value) for name, value in HEADERS.items() if name not in given]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await self._send_next(message)

    async def _say(self, refusal: Refusal) -> None:
        body = (json.dumps({"error": refusal.words}) + "\n").encode() if refusal.words else b""
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *((name.encode(), value.encode()) for name, value in refusal.headers),
        ]
        start = {"type": "http.response.start", "status": refusal.status, "headers": headers}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})

    async def _drop_rest(self) -> None:
        with trio.move_on_after(LINGER):
            while not self._whole and not self._gone:
                message = await self._receive_next()
                self._gone = message["type"] == "http.disconnect"
                self._whole = not message.get("more_body", False)
        if not self._whole and not self._gone:
            abort = self._scope["state"].get("abort")
            if abort is not None:
                abort()
