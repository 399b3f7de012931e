"""Nodes kept for the next start, as bytes: two compact lists in a bencoded dictionary.

A file of an older or newer form, or a damaged one, holds no nodes; it is no error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torrentfs.discovery.dht.addresses import is_ipv6
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo.bencoding import decode, encode
from torrentfs.wire.krpc import ID_BYTES, Contact, pack_contacts, unpack_address

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 64 * 1024
"""Of the file; 200 nodes of each family have 13 KB."""

MAX_NODES = 400


def pack_kept(contacts: Iterable[Contact]) -> bytes:
    """The content of the file."""
    contacts = list(contacts)[:MAX_NODES]
    return encode(
        {
            "nodes": pack_contacts((c for c in contacts if not is_ipv6(c.address)), ipv6=False),
            "nodes6": pack_contacts((c for c in contacts if is_ipv6(c.address)), ipv6=True),
        }
    )


def unpack_kept(data: bytes) -> list[Contact]:
    """The nodes in a file's content."""
    try:
        fields = decode(data, max_size=MAX_BYTES)
    except InvalidTorrent:
        return []
    if not isinstance(fields, dict):
        return []
    return [*_contacts(fields.get(b"nodes"), 6), *_contacts(fields.get(b"nodes6"), 18)][:MAX_NODES]


def _contacts(packed: object, width: int) -> list[Contact]:
    step = ID_BYTES + width
    if not isinstance(packed, bytes) or len(packed) % step:
        return []
    return [
        Contact(packed[at : at + ID_BYTES], unpack_address(packed[at + ID_BYTES : at + step]))
        for at in range(0, len(packed), step)
    ]
