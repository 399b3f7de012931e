"""UPnP gateways: what the library is asked, and what its ways to fail become."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from torrentfs.discovery.upnp import Upnp
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.wire.port_control import Mapped


class Device:
    """miniupnpc's object; `taken` are external ports of others."""

    found = 1
    lanaddr = "192.168.1.7"
    taken: tuple[int, ...] = ()
    permanent_only = False

    def __init__(self, *, discoverdelay: int, multicastif: str = "") -> None:
        self.multicastif = multicastif  # cannot be set later
        self.mapped: dict[tuple[int, str], Any] = {}
        devices.append(self)

    def discover(self) -> int:
        return self.found

    def selectigd(self) -> str:
        return "http://192.168.1.1/"

    def externalipaddress(self) -> str:
        return "203.0.113.7"

    def addportmapping(self, external: int, protocol: str, *place: Any) -> bool:
        if external in self.taken:
            raise Exception("ConflictInMappingEntry")
        if self.permanent_only and len(place) > 4:
            raise Exception("OnlyPermanentLeasesSupported")
        self.mapped[external, protocol] = place
        return True

    def deleteportmapping(self, external: int, protocol: str) -> bool:
        if (external, protocol) not in self.mapped:
            raise Exception("NoSuchEntryInArray")
        del self.mapped[external, protocol]
        return True


devices: list[Device] = []


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> type[Device]:
    devices.clear()

    class Fresh(Device):
        pass

    monkeypatch.setitem(sys.modules, "miniupnpc", SimpleNamespace(UPnP=Fresh))
    return Fresh


async def test_a_mapping_comes_and_goes() -> None:
    upnp = Upnp(bind="192.168.1.7")
    assert await upnp.map("tcp", 6881, 6881, 7200) == Mapped(
        "tcp", 6881, 6881, 7200, 0, "203.0.113.7"
    )
    (device,) = devices
    assert device.multicastif == "192.168.1.7"
    assert device.mapped == {(6881, "TCP"): ("192.168.1.7", 6881, "torrentfs", "", 7200)}
    await upnp.map("tcp", 6881, 6881, 0)
    assert device.mapped == {}
    assert len(devices) == 1  # searched for once


async def test_a_taken_port_is_passed_over(library: type[Device]) -> None:
    library.taken = (6881, 6882)
    assert (await Upnp().map("udp", 6881, 6881, 60)).external_port == 6883
    library.taken = tuple(range(6881, 6900))
    with pytest.raises(RemoteProtocolError, match="Conflict"):
        await Upnp().map("udp", 6881, 6881, 60)


async def test_a_gateway_that_knows_no_lifetimes(library: type[Device]) -> None:
    library.permanent_only = True
    await Upnp().map("tcp", 6881, 6881, 7200)
    assert devices[0].mapped == {(6881, "TCP"): ("192.168.1.7", 6881, "torrentfs", "")}


async def test_no_gateway(library: type[Device]) -> None:
    library.found = 0
    with pytest.raises(TransportError, match="no UPnP gateway answers"):
        await Upnp().map("tcp", 6881, 6881, 7200)


async def test_a_refusal_is_looked_into_anew(library: type[Device]) -> None:
    upnp = Upnp()
    with pytest.raises(RemoteProtocolError, match="NoSuchEntry"):
        await upnp.map("tcp", 6881, 6881, 0)
    await upnp.map("tcp", 6881, 6881, 60)
    assert len(devices) == 2  # it may be another gateway by now
