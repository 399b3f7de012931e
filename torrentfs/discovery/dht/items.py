"""Items that anybody may keep in the table (BEP 44), and what a publisher's item says (BEP 46).

An immutable item is kept under the hash of its value. A mutable one is kept under the hash of its
publisher's key and a salt, and signed with that key (Ed25519): whoever has it can check it, so it
does not matter who gave it. Of several the one with the highest sequence number is the newest.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from torrentfs.discovery.dht.ids import distance
from torrentfs.errors import InvalidTorrent
from torrentfs.metainfo.bencoding import decode, encode
from torrentfs.wire.krpc import BAD_SIGNATURE, CAS_MISMATCH, ID_BYTES, OLD_SEQUENCE

if TYPE_CHECKING:
    from torrentfs.wire.krpc import Item, PutItem

LIFETIME = 2 * 3600.0
"""Seconds until an item is forgotten that nobody puts again (BEP 44: two hours)."""

MAX_ITEMS = 700
"""Items kept, as libtorrent: 1.2 KB each."""


def target_of(item: Item) -> bytes:
    """Where an item is kept."""
    if item.key is None:
        return hashlib.sha1(item.value, usedforsecurity=False).digest()
    return target_of_publisher(item.key, item.salt)


def target_of_publisher(key: bytes, salt: bytes) -> bytes:
    """Where the item of a publisher is kept."""
    return hashlib.sha1(key + salt, usedforsecurity=False).digest()


def signed_part(item: Item) -> bytes:
    """The bytes that a publisher signs."""
    salt = b"4:salt" + encode(item.salt) if item.salt else b""
    return salt + b"3:seqi%de1:v" % (item.sequence or 0) + item.value


def is_genuine(item: Item) -> bool:
    """Whether a mutable item, with its salt, has the signature of its key."""
    # imported where it is used: start-up time counts
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if item.key is None or item.signature is None:
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(item.key)
        key.verify(item.signature, signed_part(item))
    except (InvalidSignature, ValueError):
        return False
    return True


def info_hash_in(item: Item) -> bytes | None:
    """The torrent that a publisher's item names (BEP 46 `ih`)."""
    try:
        value = decode(item.value)
    except InvalidTorrent:
        return None
    info_hash = value.get(b"ih") if isinstance(value, dict) else None
    return info_hash if isinstance(info_hash, bytes) and len(info_hash) == ID_BYTES else None


class Refused(Exception):
    """An item is not kept; `code` is BEP 44's."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class Items:
    """The items that others put here, the newest of each."""

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[Item, float]] = {}

    def get(self, target: bytes, now: float) -> Item | None:
        """What is kept under `target`."""
        item, put_at = self._kept.get(target, (None, 0.0))
        return item if put_at + LIFETIME > now else None

    def put(self, put: PutItem, own_id: bytes, now: float) -> None:
        """Keep an item, or raise `Refused`."""
        item, target = put.item, target_of(put.item)
        known = self.get(target, now)
        if item.key is not None:
            if not is_genuine(item):
                raise Refused(BAD_SIGNATURE, "the signature does not fit")
            there = known.sequence if known is not None else None
            if put.expected is not None and there is not None and there != put.expected:
                raise Refused(CAS_MISMATCH, "the sequence number is another one")
            if there is not None and there > (item.sequence or 0):
                raise Refused(OLD_SEQUENCE, "there is a newer one")
        if known is None and not self._make_room(target, own_id, now):
            return  # it is for others to keep, who are closer
        self._kept[target] = item, now

    def _make_room(self, target: bytes, own_id: bytes, now: float) -> bool:
        if len(self._kept) < MAX_ITEMS:
            return True
        self.expire(now)
        if len(self._kept) < MAX_ITEMS:
            return True
        farthest = max(self._kept, key=lambda known: distance(known, own_id))
        if distance(farthest, own_id) < distance(target, own_id):
            return False
        del self._kept[farthest]
        return True

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        kept = self._kept.items()
        self._kept = {target: one for target, one in kept if one[1] + LIFETIME > now}

    def __len__(self) -> int:
        return len(self._kept)
