"""Which addresses ICE may use."""

from __future__ import annotations

import ifaddr
import pytest

from torrentfs.errors import TransportError
from torrentfs.transports.webrtc.interfaces import MAX_ADDRESSES, device_of, host_addresses


def adapter(name: str, *addresses: str) -> ifaddr.Adapter:
    ips = [
        ifaddr.IP((text, 0, 2 if text.startswith("fe80") else 0) if ":" in text else text, 24, name)
        for text in addresses
    ]
    return ifaddr.Adapter(name, name, ips)


LO = adapter("lo", "127.0.0.1", "::1")
ETH = adapter("eth0", "192.0.2.2", "2001:db8::2", "fe80::2")
VPN = adapter("tun0", "10.8.0.2")


@pytest.fixture
def adapters(monkeypatch: pytest.MonkeyPatch) -> list[ifaddr.Adapter]:
    found = [LO, ETH, VPN]
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: found)
    return found


def test_all_but_loopback(adapters: list[ifaddr.Adapter]) -> None:
    assert host_addresses(None) == ["192.0.2.2", "2001:db8::2", "10.8.0.2"]


def test_loopback_where_there_is_nothing_else(adapters: list[ifaddr.Adapter]) -> None:
    adapters[:] = [LO]
    assert host_addresses(None) == ["127.0.0.1", "::1"]


def test_of_one_device(adapters: list[ifaddr.Adapter]) -> None:
    assert host_addresses("tun0") == ["10.8.0.2"]
    assert host_addresses("lo") == ["127.0.0.1", "::1"]


def test_an_address_stands_for_itself(adapters: list[ifaddr.Adapter]) -> None:
    assert host_addresses("192.0.2.99") == ["192.0.2.99"]
    assert host_addresses("::1") == ["::1"]


def test_a_device_that_is_down(adapters: list[ifaddr.Adapter]) -> None:
    with pytest.raises(TransportError, match="tun1"):
        host_addresses("tun1")
    adapters.clear()
    with pytest.raises(TransportError, match="this machine"):
        host_addresses(None)


def test_not_every_container(adapters: list[ifaddr.Adapter]) -> None:
    adapters += [adapter(f"veth{n}", f"172.17.{n}.1") for n in range(50)]
    assert len(host_addresses(None)) == MAX_ADDRESSES
    assert host_addresses(None)[0] == "192.0.2.2"


def test_device_of() -> None:
    assert device_of("eth0") == "eth0"
    assert device_of("192.0.2.1") is None
    assert device_of("::1") is None
    assert device_of(None) is None
