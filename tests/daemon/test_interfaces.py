"""`--bind-interface`."""

from __future__ import annotations

import pytest

from torrentfs.daemon import interfaces
from torrentfs.daemon.interfaces import address_of, binding_of
from torrentfs.errors import ConfigError


def test_an_address_stands_for_itself() -> None:
    assert address_of("192.0.2.1") == "192.0.2.1"
    assert address_of("2001:DB8::0:1") == "2001:db8::1"


def test_an_unknown_interface_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no network interface 'nowhere0': use one of .*lo"):
        address_of("nowhere0")


@pytest.mark.real
def test_loopback() -> None:
    assert address_of("lo") == "127.0.0.1"


@pytest.mark.real
def test_an_interface_with_ipv6_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "_ipv4", lambda _name: None)
    assert address_of("lo") == "::1"


@pytest.mark.real
def test_a_name_holds_to_the_device_and_an_address_does_not() -> None:
    assert binding_of("lo") == "127.0.0.1%lo"
    assert binding_of("127.0.0.1") == "127.0.0.1"


@pytest.mark.real
def test_a_system_that_lets_only_root_hold_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(interfaces, "hold", refuse)
    with pytest.raises(ConfigError, match=r"operation not permitted.*give its address, 127.0.0.1"):
        binding_of("lo")
