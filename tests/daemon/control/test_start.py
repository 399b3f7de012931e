"""The server of a mount from its sockets to its end."""

from __future__ import annotations

import stat
from pathlib import Path

import httpx
import pytest
import trio

from tests.daemon.control.fakes import fake_mount
from torrentfs.daemon.control.config import ControlConfig
from torrentfs.daemon.control.place import address_of, runtime_directory, socket_name
from torrentfs.daemon.control.start import TOKEN_FILE, Control
from torrentfs.errors import ConfigError

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return runtime_directory()


async def test_both_sockets_are_served_and_gone_at_the_end(tmp_path: Path, runtime: Path) -> None:
    mount = fake_mount()
    path = runtime / socket_name("/m")
    with Control(ControlConfig(("127.0.0.1", 0)), "/m", tmp_path / "state") as control:
        token = (tmp_path / "state" / TOKEN_FILE).read_text().strip()
        assert stat.S_IMODE((tmp_path / "state" / TOKEN_FILE).stat().st_mode) == 0o600
        url = control.http.partition(" ")[0]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(control.serve, mount.subject)
            with address_of(path) as address:  # a long path under some test runners
                transport = httpx.AsyncHTTPTransport(uds=address)
                async with httpx.AsyncClient(transport=transport) as client:
                    assert (await client.get("http://x/api/v1/status")).status_code == 200
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(url + "api/v1/status")).status_code == 401
                client.headers["authorization"] = f"Bearer {token}"
                assert (await client.get(url + "api/v1/status")).status_code == 200
                reply = await client.get(url, headers={"host": "evil.example"})
                assert reply.status_code == 421
                reply = await client.post(
                    url + "api/v1/torrents", headers={"origin": "http://evil.example"}, json={}
                )
                assert reply.status_code == 403
            nursery.cancel_scope.cancel()
    assert not path.exists()


def test_a_port_in_use_is_told_before_there_is_a_mount(tmp_path: Path) -> None:
    with Control(ControlConfig(("127.0.0.1", 0)), "/m", tmp_path) as control:
        port = control.listening[0].endpoint.port
        with pytest.raises(ConfigError, match="in use"):
            Control(ControlConfig(("127.0.0.1", port)), "/m2", tmp_path)


@pytest.mark.expect_log("commands cannot reach this mount")
def test_a_socket_that_cannot_be_made_does_not_cost_the_mount(runtime: Path) -> None:
    runtime.mkdir()
    (runtime / socket_name("/m")).write_text("precious")
    with Control(ControlConfig(), "/m") as control:
        assert control.listening == []
    assert (runtime / socket_name("/m")).read_text() == "precious"
