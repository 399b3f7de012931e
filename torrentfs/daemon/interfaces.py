"""`--bind-interface`: what the interface or address that a user gives is for `transports.binding`.

An interface given by name holds every socket, with one address of each family that it has. An
address holds every socket too, together with the interface that has it. Where the system lets
nobody hold a socket to an interface, an address still says where connections come from, with a
warning; an interface is refused, because its name promises more.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket

from torrentfs.errors import ConfigError
from torrentfs.transports.binding import hold, look
from torrentfs.transports.devices import owner_of

log = logging.getLogger(__name__)


def binding_of(name: str) -> str:
    """What to hold every socket to, as `transports.binding` has it; `ConfigError`."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return _of_device(name)
    if address.version == 6 and address.is_link_local and "%" in name:
        return str(address)  # its zone is its device
    return _of_address(str(address))


def _of_device(name: str) -> str:
    addresses = addresses_of(name)
    refusal = _refusal(f"%{name}")
    if refusal:
        raise ConfigError(
            f"cannot hold connections to {name} ({refusal}): "
            f"give its address, {addresses[0]}, which does not stop them from leaving another way"
        )
    return f"%{name}"


def _of_address(address: str) -> str:
    device = owner_of(address)
    if device is None:  # binding to it will tell; a route may make it ours all the same
        return address
    held = f"{address}%{device}"
    refusal = _refusal(held)
    if refusal:
        log.warning(
            "connections come from %s, but the system does not let us hold them to its interface "
            "%s (%s): when that goes, they may leave another way",
            address, device, refusal,
        )  # fmt: skip
        return address
    return held


def _refusal(bind: str) -> str:
    """Why sockets cannot be held; empty if they can."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            hold(probe, bind)
        except OSError as error:
            return os.strerror(error.errno or 0).lower()
    return ""


def addresses_of(name: str) -> tuple[str, ...]:
    """The addresses of an interface, one of each family, IPv4 first; `ConfigError` if none."""
    known = [interface for _, interface in socket.if_nameindex()]
    if name not in known:
        raise ConfigError(
            f"there is no network interface {name!r}: use one of {', '.join(known)}, or an address"
        )
    addresses = look(f"%{name}").addresses
    if not addresses:
        raise ConfigError(f"the network interface {name} has no address: is it up?")
    return addresses
