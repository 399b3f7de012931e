"""Info-hashes: forms, names, matching."""

from __future__ import annotations

import hashlib

import pytest

from torrentfs.metainfo.hashes import InfoHashes

V1, V2 = bytes(range(20)), bytes(range(100, 132))


def test_forms() -> None:
    both = InfoHashes(V1, V2)
    assert both.wire == (V1, V2[:20])
    assert both.key == str(both) == V1.hex()
    assert InfoHashes(v2=V2).wire == (V2[:20],)
    assert InfoHashes(v2=V2).key == V2.hex()


def test_of_info() -> None:
    hashes = InfoHashes.of_info(b"de", v1=True, v2=True)
    assert hashes.v1 == hashlib.sha1(b"de").digest()
    assert hashes.v2 == hashlib.sha256(b"de").digest()
    assert InfoHashes.of_info(b"de", v1=True, v2=False).v2 is None


@pytest.mark.parametrize(("v1", "v2"), [(None, None), (b"", None), (V2, None), (None, V1)])
def test_refusals(v1: bytes | None, v2: bytes | None) -> None:
    with pytest.raises(ValueError, match="info-hash"):
        InfoHashes(v1, v2)
