"""Network devices as the kernel knows them now: number, state, addresses.

A VPN's device goes and comes again under its old name, with another number and perhaps another
address. So what is kept is the name; the rest is asked for when it is needed, by rtnetlink(7): some
system calls, a tenth of a millisecond. `device_changes` tells when to ask again.

Of the addresses of a family that one is best which the kernel itself would take for an unbound
socket: no deprecated one, a global one of IPv6 before a local (ULA), a temporary one (RFC 8981)
where the machine makes them. Addresses that are not usable yet (duplicate detection) are none, nor
are link-local ones of IPv6, which reach the Internet from nowhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIOCGIFFLAGS = 0x8913
_IFF_UP, _IFF_RUNNING = 0x1, 0x40  # linux/if.h
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_NEWADDR, _GETADDR, _ERROR, _DONE = 20, 22, 2, 3
_REQUEST_DUMP = 0x1 | 0x300
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_SECOND, _OPTIMISTIC, _FAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x04, 0x08, 0x20, 0x40
_SCOPE_LINK = 253
_SOL_NETLINK, _STRICT = 270, 12  # linux/netlink.h
_MAX_BYTES = 1 << 16


class DeviceAddress(NamedTuple):
    """An address of a device."""

    text: str
    prefix: int
    """Length of its network's prefix."""
    device: int
    """Its number."""
    flags: int
    scope: int

    def rank(self) -> tuple[bool, bool, bool, str]:
        """Smaller is better, within a family."""
        address, second = ipaddress.ip_address(self.text), bool(self.flags & _SECOND)
        if address.version == 4:  # there the flag means an additional address
            return bool(self.flags & _DEPRECATED), self.scope == _SCOPE_LINK, second, ""
        return bool(self.flags & _DEPRECATED), not address.is_global, not second, self.text


class Device(NamedTuple):
    """A device at one moment."""

    number: int
    is_up: bool
    """Taken up, and with a line."""
    addresses: tuple[DeviceAddress, ...]

    def best(self, family: int) -> str | None:
        """The address to use of a family."""
        version = 6 if family == socket.AF_INET6 else 4
        own = [one for one in self.addresses if (":" in one.text) == (version == 6)]
        usable = [one for one in own if version == 4 or one.scope != _SCOPE_LINK]
        return min(usable, key=DeviceAddress.rank).text if usable else None

    def has(self, address: str) -> bool:
        """Whether the address is one of its own; of loopback all of its network are."""
        wanted = ipaddress.ip_address(address.partition("%")[0])
        return any(
            ipaddress.ip_address(one.text) == wanted
            or (
                wanted.is_loopback
                and wanted in ipaddress.ip_network((one.text, one.prefix), strict=False)
            )
            for one in self.addresses
        )


def read_device(name: str) -> Device | None:
    """The device of this name, if there is one now."""
    try:
        index = socket.if_nametoindex(name)
    except (OSError, ValueError):
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16s16x", name.encode())
        try:
            flags = struct.unpack_from("=H", fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)[0]
        except OSError:  # it has gone just now
            return None
    is_up = flags & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING
    own = tuple(one for one in _addresses(index) if one.device == index)
    return Device(index, is_up, own)


def owner_of(address: str) -> str | None:
    """The name of the device that has this address; of several, one that leads somewhere."""
    found: list[tuple[bool, str]] = []
    for _, name in socket.if_nameindex():
        device = read_device(name)
        if device is not None and device.has(address):
            own = [ipaddress.ip_address(one.text) for one in device.addresses]
            found.append((any(one.is_loopback for one in own), name))
    return min(found)[1] if found else None


def _addresses(index: int) -> Iterator[DeviceAddress]:
    """The addresses of a device; older kernels tell those of others, too."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        with contextlib.suppress(OSError):
            link.setsockopt(_SOL_NETLINK, _STRICT, 1)
        size = _HEADER.size + _ADDRESS.size
        link.send(
            _HEADER.pack(size, _GETADDR, _REQUEST_DUMP, 1, 0) + _ADDRESS.pack(0, 0, 0, 0, index)
        )
        while True:
            data = link.recv(_MAX_BYTES)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                if kind in (_DONE, _ERROR) or length < _HEADER.size:  # ENODEV: it has gone
                    return
                if kind == _NEWADDR:
                    one = _parse(data[at + _HEADER.size : at + length])
                    if one is not None:
                        yield one
                at += (length + 3) & ~3


def _parse(message: bytes) -> DeviceAddress | None:
    """An address that can be used now."""
    family, prefix, flags, scope, index = _ADDRESS.unpack_from(message)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found: dict[int, bytes] = {}
    at = _ADDRESS.size
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if length < 4:
            break
        found[kind] = message[at + 4 : at + length]
        at += (length + 3) & ~3
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    if packed is None:
        return None
    if _IFA_FLAGS in found:  # eight bits are too few by now
        (flags,) = struct.unpack("=I", found[_IFA_FLAGS])
    if flags & _FAILED or (flags & _TENTATIVE and not flags & _OPTIMISTIC):
        return None
    return DeviceAddress(socket.inet_ntop(family, packed), prefix, index, flags, scope)
