"""What our sockets are held to: a local address, and the network device that it is on.

Written `ADDRESS` or `ADDRESS%DEVICE`, as RFC 4007 has it for IPv6 (here for IPv4 too).

An address alone decides what others see, not which way packets go: when the device of a VPN is
taken down, the kernel sends packets from its address by the next route that fits, in the clear.
A socket that is bound to a device (SO_BINDTODEVICE) sends by that one or not at all, and stays so
when the device goes and another of its name comes. So an interface that was given by name holds
every socket, from before its first packet: that is the kill switch.

Since Linux 5.7 this needs no privilege for a socket that is not bound to a device yet.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple


class Binding(NamedTuple):
    """The two parts; `device` is None where an address was given."""

    address: str
    device: str | None


def split(bind: str) -> Binding:
    """`ADDRESS%DEVICE` taken apart. A link-local IPv6 address keeps its zone, it is part of it."""
    host, _, device = bind.partition("%")
    try:
        own_zone = ipaddress.ip_address(host).is_link_local and ":" in host
    except ValueError:
        own_zone = False
    return Binding(bind if own_zone else host, device or None)


def hold(unbound: socket.socket, bind: str | None) -> None:
    """Hold a new socket to the device of `bind`, if it names one. `OSError` if it cannot be."""
    device = split(bind).device if bind is not None else None
    if device is not None:
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
