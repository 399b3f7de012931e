"""Which of this machine's addresses ICE may use.

Loopback addresses are of no use to a peer elsewhere and, as in browsers, are used only where
there is no other (a machine or a network namespace without network) or where they are asked for.
Link-local IPv6 addresses need a scope that no description can carry.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import ifaddr

from torrentfs.errors import TransportError
from torrentfs.transports.binding import look, split

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_ADDRESSES = 8
"""Each is a socket for every connection, and a row of checks; a machine with many containers has
dozens. The first ones are those of the physical devices."""


def host_addresses(bind: str | None) -> list[str]:
    """The addresses to gather host candidates from; `bind` is a device or an address, or None.

    Or both, as `ADDRESS%DEVICE`. `TransportError` when there is no such device, it is down, or has
    no address now.
    """
    if bind is not None:
        try:
            return [str(ipaddress.ip_address(bind))]
        except ValueError:
            pass
        footing = look(bind if "%" in bind else f"%{bind}")
        if "%" in bind and not footing.trouble:
            return [*footing.addresses]
        if footing.number and footing.trouble:
            raise TransportError(f"{footing.trouble}: no address for WebRTC")
    found = [
        str(address)
        for adapter in ifaddr.get_adapters()
        if bind is None or bind in (adapter.name, adapter.nice_name)
        for address in _usable(adapter.ips)
    ]
    outside = [each for each in found if not ipaddress.ip_address(each).is_loopback]
    addresses = list(dict.fromkeys(outside or found))[:MAX_ADDRESSES]
    if not addresses:
        where = "this machine" if bind is None else f"the network interface {bind}"
        raise TransportError(f"{where} has no address for WebRTC")
    return addresses


def device_of(bind: str | None) -> str | None:
    """The device that `bind` names, if it does not name an address alone."""
    if bind is None:
        return None
    try:
        ipaddress.ip_address(bind)
    except ValueError:
        return split(bind).device or bind
    return None


def _usable(ips: Iterable[ifaddr.IP]) -> Iterable[str]:
    for ip in ips:
        text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
        if not ipaddress.ip_address(text).is_link_local:
            yield text
