"""Looking up names: not while nothing may leave, and only what can be reached."""

from __future__ import annotations

import socket

import pytest
import trio

from torrentfs.transports import binding, names
from torrentfs.transports.binding import Footing
from torrentfs.transports.http import resolve_host
from torrentfs.transports.names import look_up
from torrentfs.transports.tcp import connect


class Resolver:
    """Counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int, **_: object) -> list[object]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        return [
            (socket.AF_INET6, 1, 6, "", ("2001:db8::1", port, 0, 0)),
            (socket.AF_INET, 1, 6, "", ("192.0.2.1", port)),
        ]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    made = Resolver()
    monkeypatch.setattr(trio.socket, "getaddrinfo", made)
    return made


@pytest.fixture
def stands(monkeypatch: pytest.MonkeyPatch) -> dict[str, Footing]:
    """What stands behind `%vpn0`."""
    footings = {"%vpn0": Footing(7, "10.0.0.2", None, "")}
    for module in (binding, names):
        monkeypatch.setattr(module, "look", footings.__getitem__)
    return footings


async def found(bind: str | None) -> list[str]:
    return [str(place[0]) for _, place in await look_up("a.example", 80, socket.SOCK_STREAM, bind)]


async def test_both_families_or_those_that_we_have(
    resolver: Resolver, stands: dict[str, Footing]
) -> None:
    assert await found(None) == ["2001:db8::1", "192.0.2.1"]
    assert await found("%vpn0") == ["192.0.2.1"]
    stands["%vpn0"] = Footing(7, "10.0.0.2", "fd00::2", "")
    assert await found("%vpn0") == ["2001:db8::1", "192.0.2.1"]


async def test_nobody_is_asked_while_nothing_may_leave(
    resolver: Resolver, stands: dict[str, Footing]
) -> None:
    stands["%vpn0"] = Footing(0, None, None, "the interface vpn0 is gone")
    with pytest.raises(OSError, match="the interface vpn0 is gone"):
        await found("%vpn0")
    with pytest.raises(OSError, match="the interface vpn0 is gone"):
        await connect("a.example", 80, "%vpn0")
    assert await resolve_host("a.example", "%vpn0") == []
    assert resolver.asked == []
    assert await resolve_host("a.example") != []
    assert resolver.asked == ["a.example"]
