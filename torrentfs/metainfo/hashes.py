"""Names of torrents: the info-hash, in its v1 (BEP 3) and v2 (BEP 52) forms.

A torrent may have one or both. On the wire, in trackers and in the DHT a v2 hash is cut to its
first 20 bytes; everywhere inside torrentfs a torrent is named by `InfoHashes.key`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InfoHashes:
    """The hashes that name one torrent: `v1` is 20 bytes of SHA-1, `v2` 32 bytes of SHA-256."""

    v1: bytes | None = None
    v2: bytes | None = None

    def __post_init__(self) -> None:
        if self.v1 is None and self.v2 is None:
            raise ValueError("a torrent has at least one info-hash")
        if self.v1 is not None and len(self.v1) != 20:
            raise ValueError("a v1 info-hash is 20 bytes")
        if self.v2 is not None and len(self.v2) != 32:
            raise ValueError("a v2 info-hash is 32 bytes")

    @classmethod
    def of_info(cls, info: bytes, *, v1: bool, v2: bool) -> InfoHashes:
        """Hash the received bytes of an info dictionary in the forms that it has."""
        return cls(
            v1=hashlib.sha1(info, usedforsecurity=False).digest() if v1 else None,
            v2=hashlib.sha256(info).digest() if v2 else None,
        )

    @property
    def wire(self) -> tuple[bytes, ...]:
        """The 20-byte forms used in handshakes and announces, the preferred one first."""
        forms = [h for h in (self.v1, self.v2[:20] if self.v2 else None) if h is not None]
        return tuple(forms)

    @property
    def key(self) -> str:
        """The stable name of the torrent inside torrentfs: hex of v1 where it has one, else v2."""
        return (self.v1 or self.v2 or b"").hex()

    def __str__(self) -> str:
        return self.key
