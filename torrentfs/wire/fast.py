"""The allowed-fast set of BEP 6: pieces a peer may ask for while it is choked.

It is computed from the peer's address and the info-hash, so that a peer gets the same few pieces
again when it reconnects, and cannot collect a torrent by reconnecting.
"""

from __future__ import annotations

import ipaddress
from hashlib import sha1

SET_SIZE = 10
"""BEP 6: "k is 10 in the reference implementation"."""


def allowed_fast_set(
    host: str, info_hash: bytes, num_pieces: int, size: int = SET_SIZE
) -> tuple[int, ...]:
    """At most `size` distinct pieces for the peer at `host`, in the order of BEP 6.

    IPv4: the hash starts from the /24 network. BEP 6 says nothing about IPv6; we take the /64, the
    smallest network given to one customer. IPv4-mapped addresses count as IPv4. `ValueError` when
    `host` is not an address.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    network = 3 if address.version == 4 else 8
    packed = address.packed
    size = min(size, num_pieces)
    digest = packed[:network] + bytes(len(packed) - network) + info_hash
    allowed: dict[int, None] = {}
    while len(allowed) < size:
        digest = sha1(digest, usedforsecurity=False).digest()
        for at in range(0, 20, 4):
            if len(allowed) < size:
                allowed[int.from_bytes(digest[at : at + 4]) % num_pieces] = None
    return tuple(allowed)
