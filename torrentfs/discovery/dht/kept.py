"""What a node keeps for its next start, as bytes: a bencoded dictionary.

That is other nodes, in two compact lists, and its own ids with the port that they were at. Others
remember who is where, and take an id at another port for a liar's: so ids are for that port only.

A file of an older or newer form, or a damaged one, holds no nodes; it is no error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torrentfs.discovery.dht.addresses import is_ipv6
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo.bencoding import decode, encode
from torrentfs.wire.krpc import ID_BYTES, Contact, pack_contacts, unpack_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_BYTES = 64 * 1024
"""Of the file; 200 nodes of each family have 13 KB."""

MAX_NODES = 400


class Own(NamedTuple):
    """Our own ids, by whether they are for IPv6, and the UDP port that they were at."""

    port: int
    ids: Mapping[bool, bytes]


NOBODY = Own(0, {})


def pack_kept(contacts: Iterable[Contact], own: Own = NOBODY) -> bytes:
    """The content of the file."""
    contacts = list(contacts)[:MAX_NODES]
    ids = {"id6" if ipv6 else "id": value for ipv6, value in own.ids.items()}
    return encode(
        {
            **ids,
            "port": own.port,
            "nodes": pack_contacts((c for c in contacts if not is_ipv6(c.address)), ipv6=False),
            "nodes6": pack_contacts((c for c in contacts if is_ipv6(c.address)), ipv6=True),
        }
    )


def unpack_own(data: bytes) -> Own:
    """Our own ids in a file's content."""
    fields = _fields(data)
    port = fields.get(b"port")
    if not isinstance(port, int):
        return NOBODY
    found = {False: fields.get(b"id"), True: fields.get(b"id6")}
    ids = {
        ipv6: value
        for ipv6, value in found.items()
        if isinstance(value, bytes) and len(value) == ID_BYTES
    }
    return Own(port, ids)


def unpack_kept(data: bytes) -> list[Contact]:
    """The nodes in a file's content."""
    fields = _fields(data)
    return [*_contacts(fields.get(b"nodes"), 6), *_contacts(fields.get(b"nodes6"), 18)][:MAX_NODES]


def _fields(data: bytes) -> dict[bytes, Any]:
    try:
        fields = decode(data, max_size=MAX_BYTES)
    except InvalidTorrent:
        return {}
    return fields if isinstance(fields, dict) else {}


def _contacts(packed: object, width: int) -> list[Contact]:
    step = ID_BYTES + width
    if not isinstance(packed, bytes) or len(packed) % step:
        return []
    return [
        Contact(packed[at : at + ID_BYTES], unpack_address(packed[at + ID_BYTES : at + step]))
        for at in range(0, len(packed), step)
    ]
