"""Errors: one form, and the status that says whose fault it is."""

from __future__ import annotations

import pytest

from tests.daemon.control.fakes import client_of, fake_mount
from torrentfs.daemon.control.errors import status_of
from torrentfs.errors import (
    ConfigError,
    DataUnavailable,
    InvalidTorrent,
    LocalProtocolError,
    MetadataTimeout,
    StorageError,
    TorrentFSError,
    TransportError,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("x"), 400),
        (InvalidTorrent("x"), 400),
        (TransportError("x"), 502),
        (MetadataTimeout("x"), 504),
        (DataUnavailable("x"), 503),
        (StorageError("x"), 503),
        (LocalProtocolError("x"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_the_status_says_whose_fault_it_is(error: TorrentFSError, status: int) -> None:
    assert status_of(error) == status


async def test_every_error_has_the_same_form() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        for reply, status in [
            (await client.get("/nothing"), 404),
            (await client.put("/api/v1/torrents"), 405),
            (await client.get("/api/v1/torrents/sample/files?limit=x"), 422),
            (await client.patch("/api/v1/settings", content=b"{"), 422),
        ]:
            assert reply.status_code == status
            assert list(reply.json()) == ["error"]
            assert reply.json()["error"]


async def test_a_bug_is_a_500_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    mount = fake_mount()

    async def fail(key: str) -> None:
        raise RuntimeError("secret detail")

    mount.library.pause = fail  # type: ignore[method-assign]
    async with client_of(mount.app) as client:
        reply = await client.patch("/api/v1/torrents/sample", json={"paused": True})
    assert reply.status_code == 500
    assert "bug in torrentfs" in reply.json()["error"]
    assert "secret" not in reply.text
