"""How far addresses reach, and who is believed about whom."""

from __future__ import annotations

import pytest

from torrentfs.discovery.dht.addresses import (
    GLOBAL,
    LOCAL,
    LOOPBACK,
    UNUSABLE,
    is_ipv6,
    may_name,
    owner,
    place,
    scope,
)


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("8.8.8.8", GLOBAL),
        ("2a00:1450:4001::5", GLOBAL),
        ("127.0.0.1", LOOPBACK),
        ("127.3.2.1", LOOPBACK),
        ("::1", LOOPBACK),
        ("10.0.0.1", LOCAL),
        ("192.168.1.1", LOCAL),
        ("172.16.0.1", LOCAL),
        ("169.254.1.1", LOCAL),
        ("100.64.0.1", LOCAL),
        ("fd00::1", LOCAL),
        ("fe80::1", UNUSABLE),
        ("::ffff:8.8.8.8", UNUSABLE),
        ("0.0.0.0", UNUSABLE),
        ("0.1.2.3", UNUSABLE),
        ("::", UNUSABLE),
        ("224.0.0.1", UNUSABLE),
        ("ff02::1", UNUSABLE),
        ("240.0.0.1", UNUSABLE),
        ("255.255.255.255", UNUSABLE),
        ("router.example", UNUSABLE),
    ],
)
def test_scope(host: str, reach: int) -> None:
    assert scope(host) == reach


def test_strangers_cannot_name_our_neighbours() -> None:
    assert may_name("8.8.8.8", "9.9.9.9")
    assert not may_name("8.8.8.8", "192.168.0.1")
    assert not may_name("8.8.8.8", "127.0.0.1")
    assert may_name("192.168.0.7", "192.168.0.1")
    assert not may_name("192.168.0.7", "127.0.0.1")
    assert may_name("127.0.0.1", "127.0.0.2")
    assert may_name("127.0.0.1", "8.8.8.8")
    assert not may_name("127.0.0.1", "224.0.0.1")


def test_owners_and_places() -> None:
    assert place(("8.8.8.8", 1)) == place(("8.8.8.9", 2)) != place(("8.8.9.8", 1))
    assert place(("2a00:1450:4001::5", 1)) == place(("2a00:1450:4001::9:5", 2))
    assert place(("2a00:1450:4001::5", 1)) != place(("2a00:1450:4001:1::5", 1))
    assert place(("127.0.0.1", 1)) != place(("127.0.0.1", 2))
    assert owner(("8.8.8.8", 1)) == owner(("8.8.8.8", 2))
    assert owner(("10.0.0.1", 1)) != owner(("10.0.0.1", 2))


def test_family() -> None:
    assert is_ipv6(("::1", 5))
    assert not is_ipv6(("1.2.3.4", 5))
