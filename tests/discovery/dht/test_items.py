"""Items in the table: the vectors of BEP 44, and what is kept."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from torrentfs.discovery.dht import items
from torrentfs.discovery.dht.items import (
    LIFETIME,
    Items,
    Refused,
    info_hash_in,
    is_genuine,
    signed_part,
    target_of,
)
from torrentfs.metainfo.bencoding import encode
from torrentfs.wire.krpc import BAD_SIGNATURE, CAS_MISMATCH, OLD_SEQUENCE, Item, PutItem

OWN = bytes(20)
KEY = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548"
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"p" * 32)
PUBLIC = PRIVATE.public_key().public_bytes_raw()


def signed(value: object, sequence: int = 1, salt: bytes = b"") -> Item:
    bare = Item(encode(value), PUBLIC, bytes(64), sequence, salt)
    return Item(bare.value, PUBLIC, PRIVATE.sign(signed_part(bare)), sequence, salt)


@pytest.mark.parametrize(
    ("salt", "signature", "target"),
    [
        (
            b"",
            "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
            "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01",
            "4a533d47ec9c7d95b1ad75f576cffc641853b750",
        ),
        (
            b"foobar",
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
            "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08",
            "411eba73b6f087ca51a3795d9c8c938d365e32c1",
        ),
    ],
)
def test_mutable_vectors(salt: bytes, signature: str, target: str) -> None:
    item = Item(b"12:Hello World!", bytes.fromhex(KEY), bytes.fromhex(signature), 1, salt)
    assert target_of(item).hex() == target
    assert is_genuine(item)
    assert not is_genuine(Item(b"12:Hello World?", item.key, item.signature, 1, salt))
    assert not is_genuine(Item(item.value, item.key, item.signature, 2, salt))
    assert not is_genuine(Item(item.value, b"\xff" * 32, item.signature, 1, salt))


def test_immutable_vector() -> None:
    item = Item(b"12:Hello World!")
    assert target_of(item).hex() == "e5f96f6f38320f0f33959cb4d3d656452117aadb"
    assert not is_genuine(item)


def test_a_publishers_torrent() -> None:
    assert info_hash_in(Item(encode({"ih": b"h" * 20}))) == b"h" * 20
    for value in (encode({"ih": b"short"}), encode({}), encode(5), b"d"):
        assert info_hash_in(Item(value)) is None


def test_the_newest_is_kept() -> None:
    kept = Items()
    one, two = signed("one", 1), signed("two", 2)
    kept.put(PutItem(two, b"t"), OWN, 0.0)
    assert kept.get(target_of(two), 1.0) == two
    with pytest.raises(Refused) as caught:
        kept.put(PutItem(one, b"t"), OWN, 0.0)
    assert caught.value.code == OLD_SEQUENCE
    with pytest.raises(Refused) as caught:
        kept.put(PutItem(signed("three", 3), b"t", 1), OWN, 0.0)
    assert caught.value.code == CAS_MISMATCH
    kept.put(PutItem(signed("three", 3), b"t", 2), OWN, 0.0)
    assert len(kept) == 1
    kept.put(PutItem(signed("salted", 1, b"salt"), b"t"), OWN, 0.0)
    assert len(kept) == 2


def test_what_is_not_signed_is_not_kept() -> None:
    kept = Items()
    item = signed("one")
    with pytest.raises(Refused) as caught:
        kept.put(PutItem(Item(b"1:x", item.key, item.signature, 1), b"t"), OWN, 0.0)
    assert caught.value.code == BAD_SIGNATURE
    assert len(kept) == 0


def test_items_expire_and_the_farthest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Items()
    monkeypatch.setattr(items, "MAX_ITEMS", 20)
    for n in range(200):
        kept.put(PutItem(Item(encode(n)), b"t"), OWN, 0.0)
    assert len(kept) == 20
    every = sorted(target_of(Item(encode(n))) for n in range(200))
    assert {target for target in every if kept.get(target, 0.0)} == set(every[:20])
    assert kept.get(every[0], LIFETIME) is None
    kept.put(PutItem(Item(encode(b"far")), b"t"), OWN, LIFETIME)
    assert len(kept) == 1
