"""Tokens: who announces a peer must have received our answer at the address he announces (BEP 5).

A token is a keyed hash of the asker's IP address and the info-hash, so nothing is remembered per
asker. The key changes every `LIFETIME` seconds and the one before stays good as long, so a token
holds for 5 to 10 minutes, as BEP 5 says.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

LIFETIME = 300.0
"""Seconds after which the key changes."""

TOKEN_BYTES = 8


class Tokens:
    """Makes and knows tokens. `rng` must be one that nobody can foresee."""

    def __init__(self, rng: Random, now: float) -> None:
        self._rng = rng
        self._keys = [rng.randbytes(32), rng.randbytes(32)]
        self._changes_at = now + LIFETIME

    def make(self, host: str, info_hash: bytes, now: float) -> bytes:
        """The token for an asker at `host`."""
        self._change_key(now)
        return _token(self._keys[0], host, info_hash)

    def is_good(self, token: bytes, host: str, info_hash: bytes, now: float) -> bool:
        """Whether we gave this token to `host`, not too long ago."""
        self._change_key(now)
        return any(hmac.compare_digest(token, _token(key, host, info_hash)) for key in self._keys)

    def _change_key(self, now: float) -> None:
        while self._changes_at <= now:
            late = now - self._changes_at >= LIFETIME  # both keys are too old
            self._keys = [self._rng.randbytes(32), self._keys[0]]
            self._changes_at = now if late else self._changes_at + LIFETIME


def _token(key: bytes, host: str, info_hash: bytes) -> bytes:
    text = host.encode() + b" " + info_hash
    return hashlib.blake2b(text, digest_size=TOKEN_BYTES, key=key).digest()
