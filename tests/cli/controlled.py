"""A mount for commands to talk to, without kernel and socket: the application, asked in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import trio

from tests.daemon.control.fakes import FakeMount, fake_mount, with_state
from torrentfs.cli import client as client_module
from torrentfs.cli.client import Client
from torrentfs.vfs.mountpoint import FSTYPE, MountPoint

MOUNT = MountPoint("/m", FSTYPE, "torrentfs:1", "0:50")
OTHER = MountPoint("/other", FSTYPE, "torrentfs:2", "0:51")
ROOT = MountPoint("/", "ext4", "/dev/sda1", "8:1")


class InPlace(httpx.BaseTransport):
    """Answers with an ASGI application."""

    def __init__(self, mount: FakeMount) -> None:
        self._transport = httpx.ASGITransport(with_state(mount.app), raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> tuple[httpx.Response, bytes]:
            body = request.read()
            again = httpx.Request(
                request.method, request.url, headers=request.headers, content=body
            )
            reply = await self._transport.handle_async_request(again)
            return reply, await reply.aread()

        reply, content = trio.run(ask)
        return httpx.Response(reply.status_code, headers=reply.headers, content=content)


@pytest.fixture
def controlled(monkeypatch: pytest.MonkeyPatch) -> FakeMount:
    """The mount at /m, which is the only one."""
    mount = fake_mount()

    @contextmanager
    def connect(found: MountPoint, timeout: float = 0.0) -> Iterator[Client]:
        assert found == MOUNT
        with httpx.Client(transport=InPlace(mount), base_url="http://torrentfs") as http:
            yield Client(http, found)

    monkeypatch.setattr(client_module, "connect", connect)
    monkeypatch.setattr(client_module, "mount_table", lambda: [ROOT, MOUNT])
    return mount
