"""What the kernel says of network devices, and which address is the best."""

from __future__ import annotations

import socket

import pytest

from torrentfs.transports import devices
from torrentfs.transports.devices import Device, DeviceAddress, owner_of, read_device

TEMPORARY, DEPRECATED = 0x01, 0x20
LINK = 253


def address(text: str, flags: int = 0, scope: int = 0, prefix: int = 24) -> DeviceAddress:
    return DeviceAddress(text, prefix, 1, flags, scope)


@pytest.mark.parametrize(
    ("own", "ipv4", "ipv6"),
    [
        ([], None, None),
        ([address("192.0.2.1")], "192.0.2.1", None),
        ([address("192.0.2.2", 0x01), address("192.0.2.1")], "192.0.2.1", None),  # additional
        ([address("169.254.0.1", scope=LINK), address("192.0.2.9")], "192.0.2.9", None),
        ([address("169.254.0.1", scope=LINK)], "169.254.0.1", None),
        ([address("fe80::1", scope=LINK)], None, None),
        ([address("fd00::1"), address("2a00::1")], None, "2a00::1"),
        ([address("2a00::1"), address("2a00::7", TEMPORARY)], None, "2a00::7"),
        ([address("2a00::1"), address("2a00::7", TEMPORARY | DEPRECATED)], None, "2a00::1"),
        ([address("10.0.0.1"), address("fd00::1")], "10.0.0.1", "fd00::1"),
    ],
)
def test_the_best_address_of_each_family(
    own: list[DeviceAddress], ipv4: str | None, ipv6: str | None
) -> None:
    device = Device(1, True, tuple(own))
    assert device.best(socket.AF_INET) == ipv4
    assert device.best(socket.AF_INET6) == ipv6


def test_whose_an_address_is() -> None:
    device = Device(1, True, (address("192.0.2.1"), address("127.0.0.1", prefix=8)))
    assert device.has("192.0.2.1")
    assert not device.has("192.0.2.2")  # of its network, but somebody else's
    assert device.has("127.3.2.1")
    assert not device.has("::1")


@pytest.mark.real
def test_loopback_as_the_kernel_has_it() -> None:
    device = read_device("lo")
    assert device is not None
    assert device.number == socket.if_nametoindex("lo")
    assert device.is_up
    assert device.best(socket.AF_INET) == "127.0.0.1"
    assert owner_of("127.0.0.7") == "lo"


def test_an_address_that_loopback_has_too_is_the_other_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As behind a load balancer."""
    lo = Device(1, True, (address("127.0.0.1", prefix=8), address("192.0.2.1", prefix=32)))
    known = {"lo": lo, "vpn0": Device(2, True, (address("192.0.2.1"),))}
    monkeypatch.setattr(devices, "read_device", known.get)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [*enumerate(known, 1)])
    assert owner_of("192.0.2.1") == "vpn0"
    assert owner_of("127.0.0.1") == "lo"


@pytest.mark.real
def test_what_is_not_there() -> None:
    assert read_device("nowhere0") is None
    assert read_device("a name that is far too long for a device") is None
    assert owner_of("192.0.2.99") is None
