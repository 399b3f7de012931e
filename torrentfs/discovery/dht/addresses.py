"""How far an address reaches, and who may name whom.

A node answers with addresses of others, and we send datagrams there. If a stranger on the Internet
could name `127.0.0.1` or `192.168.0.1`, he could make us knock at the doors of our own house: so an
address is believed only from somebody whose own address reaches no farther (a neighbour may name
neighbours and strangers, a stranger only strangers).

`place` is what counts as one owner when tables and lookups ask for variety: a /24 of IPv4, a /64
of IPv6. Nodes on this machine or in its network are told apart by their address with its port.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torrentfs.wire.krpc import Address

UNUSABLE, LOOPBACK, LOCAL, GLOBAL = range(4)
"""Nowhere, this machine, its network, the Internet: the higher, the farther."""


@lru_cache(8192)
def scope(host: str) -> int:
    """How far the IP address `host` reaches; `UNUSABLE` where no single node can be."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return UNUSABLE
    if address.is_loopback:  # first, since ::1 is reserved too
        return LOOPBACK
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return UNUSABLE
    if isinstance(address, ipaddress.IPv6Address):
        # a link-local address means nothing without its interface, a mapped one is IPv4
        if address.ipv4_mapped is not None or address.is_link_local:
            return UNUSABLE
    elif address.packed[0] == 0 or address.packed == b"\xff\xff\xff\xff":
        return UNUSABLE
    return GLOBAL if address.is_global else LOCAL


def may_name(by: str, host: str) -> bool:
    """Whether we believe the node at `by` that there is another at `host`."""
    reach = scope(host)
    return reach != UNUSABLE and reach >= scope(by)


@lru_cache(8192)
def _network(host: str) -> bytes:
    packed = ipaddress.ip_address(host).packed
    return packed[:3] if len(packed) == 4 else packed[:8]


def place(address: Address) -> Address | bytes:
    """What nodes of one owner have in common; only for usable addresses."""
    return _network(address[0]) if scope(address[0]) == GLOBAL else address


def owner(address: Address) -> Address | str:
    """The host, which has one node; on this machine and in its network the address with port."""
    return address[0] if scope(address[0]) == GLOBAL else address


def is_ipv6(address: Address) -> bool:
    """The family of an address."""
    return ":" in address[0]
