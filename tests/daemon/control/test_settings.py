"""The mount as a whole, and what may be changed of it."""

from __future__ import annotations

from tests.daemon.control.fakes import client_of, fake_mount


async def test_the_status_adds_up_the_torrents() -> None:
    mount = fake_mount()
    mount.volume.downloaded = 1000
    async with client_of(mount.app) as client:
        status = (await client.get("/api/v1/status")).json()
    assert status["mountpoint"] == "/m"
    assert status["torrents"] == {"asleep": 1}
    assert status["size"] == 209_842
    assert status["received"] == {"tcp": 1000}
    assert status["limits"] == {
        "download_limit": None,
        "upload_limit": 1024 * 1024,
        "max_active": 32,
    }
    assert status["cache"]["used"] == 3 + 4 + 5


async def test_limits_are_set_and_lifted() -> None:
    mount = fake_mount()
    async with client_of(mount.app) as client:
        reply = await client.patch("/api/v1/settings", json={"download_limit": 5})
        assert reply.json() == {"download_limit": 5, "upload_limit": 1024 * 1024, "max_active": 32}
        reply = await client.patch(
            "/api/v1/settings", json={"download_limit": 0, "upload_limit": None, "max_active": None}
        )
        assert reply.json() == {"download_limit": None, "upload_limit": None, "max_active": 32}
        assert (await client.get("/api/v1/settings")).json() == reply.json()
        for wrong in (
            {"download_limit": -1},
            {"max_active": 0},
            {"volume": 11},
            {"max_active": "5"},
        ):
            assert (await client.patch("/api/v1/settings", json=wrong)).status_code == 422
