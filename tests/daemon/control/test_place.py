"""Where the socket is, who may come to it, and what may be in its way."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from torrentfs.daemon.control.place import (
    UnixSocket,
    address_of,
    find_socket,
    listen_tcp,
    runtime_directory,
    socket_name,
    state_directory,
)
from torrentfs.errors import ConfigError


def test_the_directory_is_the_users_own(tmp_path: Path) -> None:
    mine = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": "/home/me"}
    uid = os.getuid()
    assert runtime_directory(mine, uid) == tmp_path / "torrentfs"
    assert runtime_directory(mine, uid + 1) == Path("/home/me/.local/state/torrentfs/run")
    assert runtime_directory({"HOME": "/root"}, 0) == Path("/run/torrentfs")
    assert runtime_directory({"XDG_RUNTIME_DIR": "relative"}, 0) == Path("/run/torrentfs")
    assert state_directory({"XDG_STATE_HOME": "/s"}, uid) == Path("/s/torrentfs")


def test_names_differ_by_mount_point() -> None:
    assert socket_name("/mnt/a") != socket_name("/mnt/b")
    assert socket_name("/mnt/a") == socket_name(Path("/mnt/a"))


@pytest.mark.real
def test_the_socket_is_for_its_user_alone_and_goes_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "run" / "x.sock"
    made = UnixSocket(path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    made.close()
    assert not path.exists()


@pytest.mark.real
def test_a_path_too_long_for_a_socket_address_works(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 20) / ("name" * 20) / "x.sock"
    made = UnixSocket(path)
    with socket.socket(socket.AF_UNIX) as client, address_of(path) as address:
        assert len(address) < 108
        client.connect(address)
    made.close()


@pytest.mark.real
def test_the_socket_of_a_mount_that_crashed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    left = UnixSocket(path)
    left.listener.close()
    again = UnixSocket(path)
    left.close()  # what it sees now is not its own any more
    assert path.exists()
    again.close()
    assert not path.exists()


@pytest.mark.real
def test_sockets_of_other_mounts_that_crashed_are_swept(tmp_path: Path) -> None:
    crashed, alive = UnixSocket(tmp_path / "a.sock"), UnixSocket(tmp_path / "b.sock")
    crashed.listener.close()
    (tmp_path / "c.sock").write_text("precious")
    made = UnixSocket(tmp_path / "d.sock")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.sock", "c.sock", "d.sock"]
    made.close()
    alive.close()


def test_nothing_but_a_socket_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="not a socket"):
        UnixSocket(path)
    assert path.read_text() == "precious"


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to("real")
    with pytest.raises(ConfigError, match="not a directory of yours"):
        UnixSocket(tmp_path / "run" / "x.sock")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot use"):
        UnixSocket(tmp_path / "file" / "x.sock")


@pytest.mark.real
def test_the_socket_of_another_process_is_found_by_its_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made = UnixSocket(runtime_directory() / socket_name("/mnt/a"))
    assert find_socket("/mnt/a", None) == made.path
    assert find_socket("/mnt/b", None) is None
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "elsewhere"))
    assert find_socket("/mnt/a", None) is None
    made.close()


@pytest.mark.real
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_in_use_is_told(host: str) -> None:
    with listen_tcp(host, 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}.*in use"):
            listen_tcp(host, port)
