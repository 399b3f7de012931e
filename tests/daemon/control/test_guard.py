"""The outermost layer: access, bodies, and what browsers are told."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.daemon.control.fakes import client_of, fake_mount, with_state
from torrentfs.daemon.control import guard
from torrentfs.daemon.control.access import Endpoint
from torrentfs.daemon.control.guard import Guard

HTTP = Endpoint("t" * 40, 80, "127.0.0.1")
BEARER = {"authorization": "Bearer " + "t" * 40}


class Request:
    """A request as a server passes it on, in parts, and the answer to it."""

    def __init__(self, *parts: bytes, ends: bool = True, **scope: Any) -> None:
        self.scope = {
            "type": "http", "method": "POST", "path": "/api/v1/torrents", "query_string": b"",
            "raw_path": b"/api/v1/torrents", "headers": [], "http_version": "1.1",
            "scheme": "http", "root_path": "", "asgi": {"version": "3.0"}, **scope,
        }  # fmt: skip
        self._left = list(parts)
        self._ends = ends
        self.taken = 0
        self.sent: list[Any] = []
        self.when_read = trio.Event()
        """When the client goes, after it has sent all."""

    async def receive(self) -> Any:
        await trio.lowlevel.checkpoint()
        if self._left:
            part = self._left.pop(0)
            self.taken += len(part)
            more = bool(self._left) or not self._ends
            return {"type": "http.request", "body": part, "more_body": more}
        await self.when_read.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(message)

    async def ask(self, app: Any, **state: Any) -> int:
        await with_state(app, **state)(self.scope, self.receive, self.send)
        return int(self.sent[0]["status"]) if self.sent else 0


async def test_nothing_is_answered_without_the_token() -> None:
    mount = fake_mount()
    async with client_of(mount.app, HTTP) as client:
        for path in (
            "/", "/api/v1/status", "/api/v1/openapi.json", "/files/sample/two.bin", "/nothing",
        ):  # fmt: skip
            reply = await client.get(path)
            assert reply.status_code == 401, path
            assert reply.json()["error"]
            assert "www-authenticate" in reply.headers
            assert (await client.get(path, headers=BEARER)).status_code in (200, 404), path
    assert mount.volume.reads  # with the token


async def test_the_token_in_the_address_of_the_page_becomes_a_cookie() -> None:
    mount = fake_mount()
    async with client_of(mount.app, HTTP) as client:
        reply = await client.get("/", params={"token": "t" * 40})
        assert (reply.status_code, reply.headers["location"]) == (303, "/")
        assert (await client.get("/api/v1/status")).status_code == 200


async def test_a_browser_may_run_nothing_else() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        for path in ("/api/v1/status", "/nothing", "/files/"):
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe-inline" not in policy.replace("style-src 'unsafe-inline'", "")
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert "access-control-allow-origin" not in headers


async def test_a_websocket_is_closed() -> None:
    request = Request(type="websocket")
    await Guard(fake_mount().app)(request.scope, request.receive, request.send)
    assert request.sent == [{"type": "websocket.close"}]


async def test_a_header_that_is_there_twice_is_refused() -> None:
    headers = [(b"host", b"localhost"), (b"host", b"evil.example")]
    assert await Request(b"", headers=headers).ask(fake_mount().app) == 400


async def test_a_body_that_says_it_is_too_large_is_not_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    aborted: list[bool] = []
    headers = [(b"content-type", b"application/json"), (b"content-length", b"99999999")]
    request = Request(b"x", ends=False, headers=headers)
    app = fake_mount().app
    assert await request.ask(app, abort=lambda: aborted.append(True)) == 413
    assert aborted == [True]  # what it still sends would hold up the connection


async def test_a_body_that_turns_out_too_large_is_refused() -> None:
    headers = [(b"content-type", b"application/json")]
    parts = [b"x" * 300_000] * 5
    request = Request(*parts, headers=headers)
    assert await request.ask(fake_mount().app) == 413
    request = Request(*parts, headers=headers, path="/api/v1/settings", method="PATCH")
    assert await request.ask(fake_mount().app) == 413


async def test_a_torrent_may_be_large(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = [(b"content-type", b"application/x-bittorrent")]
    request = Request(*[b"x" * 300_000] * 5, headers=headers)
    assert await request.ask(fake_mount().app) == 400  # read, and no torrent
    monkeypatch.setattr(guard, "MAX_TORRENT_BYTES", 1_000_000)
    request = Request(*[b"x" * 300_000] * 5, headers=headers)
    assert await request.ask(fake_mount().app) == 413


async def test_a_body_that_does_not_come_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    headers = [(b"content-type", b"application/x-bittorrent")]
    request = Request(b"d8:announce", ends=False, headers=headers)
    start = trio.current_time()
    assert await request.ask(fake_mount().app, abort=lambda: None) == 408
    assert trio.current_time() - start < 60
