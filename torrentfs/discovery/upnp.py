"""Ports of a gateway that speaks UPnP (Internet Gateway Device), through miniupnpc.

The library blocks, so it works in a thread; each call ends by itself within some seconds, and one
that is cancelled is left to end alone. What a device on the network says is the library's to parse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.wire.port_control import Mapped

if TYPE_CHECKING:
    from torrentfs.wire.port_control import Protocol

DISCOVER_MS = 2000
"""Milliseconds in which gateways have to answer the search."""
DESCRIPTION = "torrentfs"
_PERMANENT_ONLY = "OnlyPermanentLeasesSupported"
_CONFLICT = "ConflictInMappingEntry"
_OTHER_PORTS = 3


class Upnp:
    """Ports of the gateway that answers. `bind` is the local IPv4 address to ask from."""

    def __init__(self, *, bind: str | None = None) -> None:
        self._bind = bind
        self._device: Any = None

    async def map(self, protocol: Protocol, port: int, external: int, lifetime: int) -> Mapped:
        """As `PortControl.map`; some gateways know only mappings that stay until taken away."""
        return await trio.to_thread.run_sync(
            self._map, protocol, port, external, lifetime, abandon_on_cancel=True
        )

    def _map(self, protocol: Protocol, port: int, external: int, lifetime: int) -> Mapped:
        device = self._device or self._find()
        name = protocol.upper()
        try:
            if not lifetime:
                device.deleteportmapping(external, name)
                return Mapped(protocol, port, external, 0, 0, None)
            for other in range(_OTHER_PORTS + 1):
                try:
                    self._add(device, name, port, external + other, lifetime)
                except Exception as error:  # the library raises bare Exception
                    if _CONFLICT not in str(error) or other == _OTHER_PORTS:
                        raise
                else:
                    address = device.externalipaddress() or None
                    return Mapped(protocol, port, external + other, lifetime, 0, address)
        except Exception as error:
            self._device = None  # it may be another one the next time
            raise RemoteProtocolError(f"the gateway refuses: {error}") from error
        raise AssertionError

    def _add(self, device: Any, name: str, port: int, external: int, lifetime: int) -> None:
        place = (external, name, device.lanaddr, port, DESCRIPTION, "")
        try:
            device.addportmapping(*place, lifetime)
        except Exception as error:
            if _PERMANENT_ONLY not in str(error):
                raise
            device.addportmapping(*place)

    def _find(self) -> Any:
        import miniupnpc

        place = {} if self._bind is None else {"multicastif": self._bind}
        device = miniupnpc.UPnP(discoverdelay=DISCOVER_MS, **place)
        try:
            found = device.discover()
            if found:
                device.selectigd()
        except Exception as error:
            raise TransportError(f"no UPnP gateway: {error}") from error
        if not found:
            raise TransportError("no UPnP gateway answers")
        self._device = device
        return device

    def __repr__(self) -> str:
        return f"<Upnp {'found' if self._device is not None else 'not found'}>"
