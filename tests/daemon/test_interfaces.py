"""`--bind-interface`."""

from __future__ import annotations

import pytest

from torrentfs.daemon import interfaces
from torrentfs.daemon.interfaces import addresses_of, binding_of
from torrentfs.errors import ConfigError


def test_an_unknown_interface_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no network interface 'nowhere0': use one of .*lo"):
        binding_of("nowhere0")


@pytest.mark.real
def test_loopback() -> None:
    assert addresses_of("lo")[0] == "127.0.0.1"


@pytest.mark.real
def test_a_name_is_kept_and_an_address_is_held_to_its_device() -> None:
    assert binding_of("lo") == "%lo"
    assert binding_of("127.0.0.1") == "127.0.0.1%lo"
    assert binding_of("127.3.2.1") == "127.3.2.1%lo"


@pytest.mark.real
def test_an_address_that_nobody_has_is_left_for_the_kernel_to_refuse() -> None:
    assert binding_of("192.0.2.99") == "192.0.2.99"
    assert binding_of("2001:DB8::0:1") == "2001:db8::1"
    assert binding_of("fe80::1%lo") == "fe80::1%lo"


@pytest.mark.real
@pytest.mark.expect_log("does not let us hold them to its interface lo")
def test_a_system_that_lets_only_root_hold_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(interfaces, "hold", refuse)
    with pytest.raises(ConfigError, match=r"operation not permitted.*give its address, 127.0.0.1"):
        binding_of("lo")
    assert binding_of("127.0.0.1") == "127.0.0.1"
