"""What sockets are held to."""

from __future__ import annotations

import socket

import pytest

from torrentfs.transports.binding import Binding, hold, split


@pytest.mark.parametrize(
    ("bind", "parts"),
    [
        ("192.0.2.1", Binding("192.0.2.1", None)),
        ("192.0.2.1%eth0", Binding("192.0.2.1", "eth0")),
        ("2001:db8::1%wg0", Binding("2001:db8::1", "wg0")),
        ("fe80::1%eth0", Binding("fe80::1%eth0", "eth0")),
        ("169.254.1.1%eth0", Binding("169.254.1.1", "eth0")),
        ("name%x", Binding("name", "x")),
        ("::1", Binding("::1", None)),
        ("%vpn0", Binding(None, "vpn0")),
    ],
)
def test_the_parts(bind: str, parts: Binding) -> None:
    assert split(bind) == parts


@pytest.mark.real
def test_a_socket_is_held_to_the_device() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        hold(one, None)
        hold(one, "127.0.0.1")
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) == b""
        hold(one, "127.0.0.1%lo")
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) == b"lo\0"
        with pytest.raises(OSError, match="No such device"):
            hold(one, "127.0.0.1%nowhere0")
