"""One port, a socket for each family, and what is bound to changes."""

from __future__ import annotations

import errno
import socket

import pytest

from torrentfs.errors import ConfigError
from torrentfs.transports import port_sockets
from torrentfs.transports.binding import Footing
from torrentfs.transports.port_sockets import PortSockets


class Fake:
    """A bound socket."""

    def __init__(self, family: int, host: str, port: int) -> None:
        self.family, self.host, self.port = family, host, port or 40000
        self.closed = False

    def getsockname(self) -> tuple[str, int]:
        return self.host, self.port

    def close(self) -> None:
        self.closed = True


class Net:
    """Addresses that can be bound to, or why not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.footing = Footing(7, "10.0.0.2", "fd00::2", "")
        self.refused: dict[str, int] = {}
        monkeypatch.setattr(port_sockets, "look", lambda bind: self.footing)

    def open_one(self, family: int, host: str, port: int) -> socket.socket:
        if host in self.refused:
            raise OSError(self.refused[host], "x")
        return Fake(family, host, port)  # type: ignore[return-value]

    def open(self, port: int = 0, bind: str | None = "%vpn0") -> PortSockets:
        return PortSockets(port, bind, self.open_one, "listen on")


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    return Net(monkeypatch)


def hosts(made: PortSockets) -> list[str]:
    return [one.getsockname()[0] for one in made.sockets]


def test_one_of_each_family_and_all_of_one_port(net: Net) -> None:
    made = net.open()
    assert hosts(made) == ["10.0.0.2", "fd00::2"]
    assert {one.getsockname()[1] for one in made.sockets} == {made.port} == {40000}
    assert hosts(net.open(bind=None)) == ["0.0.0.0", "::"]


def test_a_machine_without_ipv6(net: Net) -> None:
    net.refused["::"] = errno.EAFNOSUPPORT
    assert hosts(net.open(bind=None)) == ["0.0.0.0"]


def test_what_cannot_be_opened_is_told(net: Net) -> None:
    net.refused["fd00::2"] = errno.EACCES
    with pytest.raises(ConfigError, match=r"cannot listen on vpn0:7: permission denied"):
        net.open(7)
    net.refused["fd00::2"] = errno.EADDRINUSE
    with pytest.raises(ConfigError, match="no port is free in both"):
        net.open()
    net.footing = Footing(0, None, None, "the interface vpn0 is gone")
    with pytest.raises(ConfigError, match="cannot listen on vpn0: the interface vpn0 is gone"):
        net.open()


def test_nothing_moves_while_nothing_changes(net: Net) -> None:
    assert net.open(bind=None).follow() == ([], [], "")
    made = net.open()
    assert made.follow() == ([], [], "")
    net.footing = net.footing._replace(trouble="the interface vpn0 is down")
    assert made.follow() == ([], [], "")  # the same device: it may be up again


def test_a_device_that_is_made_anew(net: Net) -> None:
    made = net.open(6881)
    before = made.sockets
    net.footing = Footing(0, None, None, "the interface vpn0 is gone")
    assert made.follow() == (before, [], "")
    assert made.sockets == []
    net.footing = Footing(8, "10.0.0.2", "fd00::2", "")
    moved = made.follow()
    assert moved.come == made.sockets
    assert hosts(made) == ["10.0.0.2", "fd00::2"]
    assert {one.getsockname()[1] for one in made.sockets} == {6881}


def test_only_what_has_another_address_moves(net: Net) -> None:
    made = net.open()
    four, six = made.sockets
    net.footing = Footing(7, "10.0.0.9", "fd00::2", "")
    moved = made.follow()
    assert moved.gone == [four]
    assert [one.getsockname()[0] for one in moved.come] == ["10.0.0.9"]
    assert six in made.sockets


def test_a_port_that_is_taken_meanwhile_is_tried_again(net: Net) -> None:
    made = net.open()
    net.footing = Footing(8, "10.0.0.2", None, "")
    net.refused["10.0.0.2"] = errno.EADDRINUSE
    moved = made.follow()
    assert (len(moved.gone), moved.come, moved.trouble) == (2, [], "x")
    net.refused.clear()
    assert len(made.follow().come) == 1
    made.close()
    assert made.sockets == []
