"""`--bind-interface`: the local address that a network interface (or an address) stands for.

An interface given by name holds every socket (see `transports.binding`); an address only says
where connections come from.
An interface's IPv4 address is preferred, as most peers have one; an interface with IPv6 alone
gives its first global address.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
from pathlib import Path

from torrentfs.errors import ConfigError
from torrentfs.transports.binding import hold

_SIOCGIFADDR = 0x8915
"""ioctl of netdevice(7): an interface's IPv4 address."""
_IPV6_TABLE = Path("/proc/net/if_inet6")
_LINK_LOCAL = 0x20
"""Scope of an address in `_IPV6_TABLE` that is useless without its interface."""


def binding_of(name: str) -> str:
    """What to hold every socket to, as `transports.binding` has it: an interface with its name.

    `ConfigError` also where the system lets nobody but root hold a socket to a device.
    """
    address = address_of(name)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return address
    bound = f"{address.partition('%')[0]}%{name}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            hold(probe, bound)
        except OSError as error:
            raise ConfigError(
                f"cannot hold connections to {name} ({os.strerror(error.errno or 0).lower()}): "
                f"give its address, {address}, which does not stop them from leaving another way"
            ) from error
    return bound


def address_of(name: str) -> str:
    """The address to bind to for interface `name`; an address stands for itself. ConfigError."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    known = [interface for _, interface in socket.if_nameindex()]
    if name not in known:
        raise ConfigError(
            f"there is no network interface {name!r}: use one of {', '.join(known)}, or an address"
        )
    address = _ipv4(name) or _ipv6(name)
    if address is None:
        raise ConfigError(f"the network interface {name} has no address: is it up?")
    return address


def _ipv4(name: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", name.encode()[:15])
        try:
            reply = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(reply[20:24])


def _ipv6(name: str) -> str | None:
    try:
        lines = _IPV6_TABLE.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        digits, _, _, scope, _, interface = line.split()
        if interface == name and int(scope, 16) != _LINK_LOCAL:
            return str(ipaddress.IPv6Address(int(digits, 16)))
    return None
