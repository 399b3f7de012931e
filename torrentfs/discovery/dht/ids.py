"""Node ids: how far apart they are (BEP 5), and which may belong to which address (BEP 42).

An id is 20 bytes; the distance of two is their exclusive or, as a number. Whoever could choose his
id freely would settle beside any torrent he wants to watch or to hide, so BEP 42 ties the first 21
bits to the IP address: CRC-32C of the masked address, with 3 random bits that the last byte of the
id tells. Addresses that are not global are exempt, since several networks have the same ones.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

from torrentfs.discovery.dht.addresses import GLOBAL, scope
from torrentfs.wire.krpc import ID_BYTES

if TYPE_CHECKING:
    from random import Random

ID_BITS = 8 * ID_BYTES

_MASK4 = bytes.fromhex("030f3fff")
_MASK6 = bytes.fromhex("0103070f1f3f7fff")


def distance(one: bytes, other: bytes) -> int:
    """The exclusive or of two ids: 0 for the same, less than 2 ** 160."""
    return int.from_bytes(one) ^ int.from_bytes(other)


def common_bits(one: bytes, other: bytes) -> int:
    """How many leading bits are the same, 0 to 160."""
    return ID_BITS - distance(one, other).bit_length()


def random_id(rng: Random) -> bytes:
    """Anywhere."""
    return rng.randbytes(ID_BYTES)


def id_with_common_bits(own: bytes, bits: int, rng: Random) -> bytes:
    """A random id that has exactly `bits` (less than 160) leading bits in common with `own`."""
    rest = ID_BITS - bits - 1
    number = int.from_bytes(own) >> rest ^ 1
    return (number << rest | rng.getrandbits(rest) if rest else number).to_bytes(ID_BYTES)


def id_for(host: str, rng: Random) -> bytes:
    """A random id that BEP 42 allows at the IP address `host`."""
    last = rng.randrange(256)
    prefix = _prefix(host, last & 7)
    third = prefix[2] & 0xF8 | rng.randrange(8)
    return prefix[:2] + bytes([third]) + rng.randbytes(16) + bytes([last])


def may_be_at(node: bytes, host: str) -> bool:
    """Whether BEP 42 allows this id at the IP address `host`."""
    if scope(host) != GLOBAL:
        return True
    prefix = _prefix(host, node[-1] & 7)
    return node[:2] == prefix[:2] and not (node[2] ^ prefix[2]) & 0xF8


@lru_cache(8192)
def _prefix(host: str, random_bits: int) -> bytes:
    packed = ipaddress.ip_address(host).packed
    mask = _MASK4 if len(packed) == 4 else _MASK6
    masked = bytearray(a & b for a, b in zip(packed, mask, strict=False))
    masked[0] |= random_bits << 5
    return _crc32c(masked).to_bytes(4)


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC32C = _crc32c_table()


def _crc32c(data: bytes | bytearray) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
