"""What our sockets are held to: a network device, a local address, or both.

Written `%DEVICE`, `ADDRESS` or `ADDRESS%DEVICE`, as RFC 4007 has it for IPv6 (here for IPv4 too).

An address alone decides what others see, not which way packets go: when the device of a VPN is
taken down, the kernel sends packets from its address by the next route that fits, in the clear.
A socket that is bound to a device (SO_BINDTODEVICE) sends by that one or not at all. So a device
holds every socket, from before its first packet: that is the kill switch. Since Linux 5.7 this
needs no privilege for a socket that is not bound to a device yet.

A socket is held to the device that there is at that moment. When that one goes, the socket is of
no use any more, also when another of the same name comes. So what is kept is the name: who opens
a socket `look`s what stands behind it now, one address of each family, and who keeps one for long
looks again when devices change (`device_changes`). While nothing stands there, no socket is opened,
and no name looked up: the system's resolver goes its own way.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple

from torrentfs.transports.devices import read_device


class Binding(NamedTuple):
    """The two parts; one of them may be None."""

    address: str | None
    device: str | None


class Footing(NamedTuple):
    """What stands behind a binding at one moment."""

    number: int
    """The device's number, 0 where none is named or there."""
    ipv4: str | None
    ipv6: str | None
    trouble: str
    """Why nothing can leave from there now, in words; else empty."""

    def address(self, family: int) -> str | None:
        """Where sockets of a family are bound."""
        return self.ipv6 if family == socket.AF_INET6 else self.ipv4

    @property
    def addresses(self) -> tuple[str, ...]:
        """One of each family that there is."""
        return tuple(one for one in (self.ipv4, self.ipv6) if one is not None)


def split(bind: str) -> Binding:
    """The parts. A link-local IPv6 address keeps its zone, it is part of it."""
    host, _, device = bind.partition("%")
    try:
        own_zone = ipaddress.ip_address(host).is_link_local and ":" in host
    except ValueError:
        own_zone = False
    return Binding((bind if own_zone else host) or None, device or None)


def show(bind: str) -> str:
    """It as users write it."""
    return bind.removeprefix("%")


def look(bind: str) -> Footing:
    """What stands behind it now. `OSError` only if the system cannot tell."""
    address, device = split(bind)
    family = 0
    if address is not None:
        try:
            family = ipaddress.ip_address(address.partition("%")[0]).version
        except ValueError:
            return Footing(0, None, None, f"{address} is not an IP address")
    mine = address if family == 4 else None, address if family == 6 else None
    if device is None:
        return Footing(0, *mine, "")
    found = read_device(device)
    if found is None:
        return Footing(0, None, None, f"the interface {device} is gone")
    if address is None:
        mine = found.best(socket.AF_INET), found.best(socket.AF_INET6)
    elif not found.has(address):
        mine = None, None
    trouble = ""
    if not found.is_up:
        trouble = f"the interface {device} is down"
    elif mine == (None, None):
        trouble = f"the interface {device} has no address"
        if address is not None:
            trouble = f"the interface {device} does not have the address {address} any more"
    return Footing(found.number, *mine, trouble)


def require(bind: str | None) -> None:
    """`OSError` while nothing can leave from there."""
    trouble = look(bind).trouble if bind is not None else ""
    if trouble:
        raise OSError(trouble)


def hold(unbound: socket.socket, bind: str | None) -> None:
    """Hold a new socket to the device of `bind`, if it names one. `OSError` if it cannot be."""
    device = split(bind).device if bind is not None else None
    if device is not None:
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")


def attach(unbound: socket.socket, bind: str | None, port: int = 0) -> None:
    """Hold a new socket, and bind it to the address of its family; `OSError` if there is none.

    Without `bind` nothing is done.
    """
    if bind is None:
        return
    footing = look(bind)
    if footing.trouble:
        raise OSError(footing.trouble)
    address = footing.address(unbound.family)
    if address is None:
        raise OSError(f"cannot be reached from {show(bind)}")
    hold(unbound, bind)
    unbound.bind((address, port))
