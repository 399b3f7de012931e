"""Message stream encryption (MSE/PE) without its socket: the handshake of both roles.

    1  A -> B   Ya, PadA                                    A dials, B was dialled
    2  B -> A   Yb, PadB
    3  A -> B   H("req1", S), H("req2", SKEY) ^ H("req3", S),
                RC4(VC, provide, len PadC, PadC, len IA), RC4(IA)
    4  B -> A   RC4(VC, select, len PadD, PadD), then the stream

Y are Diffie-Hellman keys of 96 bytes (768-bit prime, generator 2, secrets of 160 bits), S their
shared secret, SKEY the torrent's info-hash, H is SHA-1, VC eight zero bytes. Each direction has an
RC4 key of its own, the first 1024 bytes of which are thrown away. `select` says how the stream
goes on: 1 in plain, 2 with RC4. IA is what A says first (its BEP 3 handshake), sent along to save a
round trip.

Pads have a random length of 0 to 512 bytes, so each side must search: B for H("req1", S), A for the
encrypted VC, both within 512 bytes of where they may begin. So all memory is bounded: whoever has
not found it then is talking to something else.

This hides the protocol from a line that filters it. It proves nothing about the peer and keeps
nothing secret from who knows the info-hash; RC4 and this key size would be no use for that.

The owner feeds `receive()` with what came and sends what it returns, until `secured` is there.
Randomness is an argument (`random_bytes`). Errors: `RemoteProtocolError`, and the owner drops the
connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from hashlib import sha1
from struct import Struct
from typing import TYPE_CHECKING

from torrentfs.errors import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cryptography.hazmat.primitives.ciphers import CipherContext

_PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74"
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437"
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A63A36210000000000090563",
    16,
)
_GENERATOR = 2
KEY_BYTES = 96
SECRET_BYTES = 20
"""160 bits, which the specification calls enough; longer ones only cost time."""

MAX_PAD = 512
"""Bytes of padding, and how far each side searches for where the other's message begins."""

MAX_INITIAL = 16 * 1024
"""Bytes of IA that we take: real ones have the 68 of a handshake, some a bitfield behind it."""

_VC = bytes(8)
_HASH_BYTES = 20
_DISCARDED = 1024
_OFFER = Struct(">8sIH")
_LENGTH = Struct(">H")


class Method(IntFlag):
    """How the stream goes on behind the handshake; also a set of such."""

    PLAIN = 1
    RC4 = 2


BOTH = Method.PLAIN | Method.RC4


@dataclass(frozen=True, slots=True)
class Secured:
    """A handshake that is over.

    `method` is one of `Method`; `encrypt` and `decrypt` are the ciphers from here on, None for a
    plain stream. `received` came behind the handshake and is decrypted. `skey` is the torrent.
    """

    method: Method
    skey: bytes
    encrypt: CipherContext | None
    decrypt: CipherContext | None
    received: bytes


class _Role:
    """What both roles do: make a key, wait for the other's, derive the ciphers."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self.secured: Secured | None = None
        """The result, once the handshake is over; then `receive` must not be called any more."""
        self._random = random_bytes
        self._secret = int.from_bytes(random_bytes(SECRET_BYTES))
        self._buffer = bytearray()
        self._shared = b""
        self._decrypt: CipherContext | None = None
        self._encrypt: CipherContext | None = None

    def _public(self) -> bytes:
        return pow(_GENERATOR, self._secret, _PRIME).to_bytes(KEY_BYTES)

    def _pad(self) -> bytes:
        return self._random(int.from_bytes(self._random(2)) % (MAX_PAD + 1))

    def _take_key(self) -> bool:
        """Read the other's public key; False when it is not all there."""
        if self._shared:
            return True
        if len(self._buffer) < KEY_BYTES:
            return False
        theirs = int.from_bytes(self._buffer[:KEY_BYTES])
        if not 1 < theirs < _PRIME - 1:  # the secret would be no secret
            raise RemoteProtocolError("sent an impossible encryption key")
        del self._buffer[:KEY_BYTES]
        self._shared = pow(theirs, self._secret, _PRIME).to_bytes(KEY_BYTES)
        return True

    def _search(self, wanted: bytes) -> bool:
        """Find `wanted` and drop what is before it; False when more bytes are needed."""
        at = self._buffer.find(wanted, 0, MAX_PAD + len(wanted))
        if at >= 0:
            del self._buffer[:at]
            return True
        if len(self._buffer) >= MAX_PAD + len(wanted):
            raise RemoteProtocolError("its encryption handshake has no beginning")
        return False

    def _finish(self, method: Method, skey: bytes) -> None:
        encrypt, decrypt = self._encrypt, self._decrypt
        received = bytes(self._buffer)
        if method is Method.PLAIN:
            encrypt = decrypt = None
        elif decrypt is not None:
            received = decrypt.update(received)
        self._buffer.clear()
        self.secured = Secured(method, skey, encrypt, decrypt, received)


class Initiator(_Role):
    """The side that dialled. `first()` is sent at once, then what `receive()` returns.

    `initial` is sent along with the third message, always encrypted (IA); `provide` are the
    methods offered.
    """

    def __init__(
        self,
        skey: bytes,
        random_bytes: Callable[[int], bytes],
        *,
        provide: Method = BOTH,
        initial: bytes = b"",
    ) -> None:
        super().__init__(random_bytes)
        if not provide or len(initial) > MAX_INITIAL:
            raise LocalProtocolError("an encryption handshake that no peer can answer")
        self._skey = skey
        self._provide = provide
        self._initial = initial
        self._verification = b""
        self._select: Method | None = None
        self._skip = -1

    def first(self) -> bytes:
        """Our public key and padding."""
        return self._public() + self._pad()

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take what came; returns what to send. `RemoteProtocolError`."""
        self._buffer += data
        answer = b""
        if not self._shared:
            if not self._take_key():
                return b""
            answer = self._third()
        if self._read_answer() and self._select is not None:
            self._finish(self._select, self._skey)
        return answer

    def _third(self) -> bytes:
        shared = self._shared
        self._encrypt = rc4(b"keyA", shared, self._skey)
        self._decrypt = rc4(b"keyB", shared, self._skey)
        # what VC looks like in the answer; the cipher then stands right behind it
        self._verification = self._decrypt.update(_VC)
        pad = self._pad()
        offer = _OFFER.pack(_VC, self._provide, len(pad)) + pad
        offer += _LENGTH.pack(len(self._initial)) + self._initial
        proof = _xor(_hash(b"req2", self._skey), _hash(b"req3", shared))
        return _hash(b"req1", shared) + proof + self._encrypt.update(offer)

    def _read_answer(self) -> bool:
        assert self._decrypt is not None
        if self._select is None:
            size = _OFFER.size
            if not self._search(self._verification) or len(self._buffer) < size:
                return False
            answer = self._decrypt.update(bytes(self._buffer[len(_VC) : size]))
            _, select, self._skip = _OFFER.unpack(_VC + answer)
            del self._buffer[:size]
            if select not in (Method.PLAIN, Method.RC4) or not select & self._provide:
                raise RemoteProtocolError(f"selected encryption {select}")
            if self._skip > MAX_PAD:
                raise RemoteProtocolError(f"encryption padding of {self._skip} bytes")
            self._select = Method(select)
        if len(self._buffer) < self._skip:
            return False
        self._decrypt.update(bytes(self._buffer[: self._skip]))
        del self._buffer[: self._skip]
        return True


class Responder(_Role):
    """The side that was dialled, which knows the info-hashes `skeys`.

    `allow` are the methods we would go on with, `prefer` the one taken when both are possible. The
    initiator's IA is in `secured.received`, in front of what came behind it.
    """

    def __init__(
        self,
        skeys: Iterable[bytes],
        random_bytes: Callable[[int], bytes],
        *,
        allow: Method = BOTH,
        prefer: Method = Method.PLAIN,
    ) -> None:
        super().__init__(random_bytes)
        self._skeys = skeys
        self._allow = allow
        self._prefer = prefer
        self._skey: bytes | None = None
        self._head: bytes | None = None
        self._initial_at = 0
        self._initial_size: int | None = None

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take what came; returns what to send. `RemoteProtocolError`."""
        self._buffer += data
        answer = b""
        if not self._shared:
            if not self._take_key():
                return b""
            answer = self._public() + self._pad()
        if self._skey is None and not self._find_torrent():
            return answer
        if self._head is None and not self._read_offer():
            return answer
        initial = self._read_initial()
        if initial is None:
            return answer
        return answer + self._accept(initial)

    def _find_torrent(self) -> bool:
        begin = _hash(b"req1", self._shared)
        if not self._search(begin) or len(self._buffer) < 2 * _HASH_BYTES:
            return False
        proof = bytes(self._buffer[_HASH_BYTES : 2 * _HASH_BYTES])
        wanted = _xor(proof, _hash(b"req3", self._shared))
        del self._buffer[: 2 * _HASH_BYTES]
        self._skey = next((skey for skey in self._skeys if _hash(b"req2", skey) == wanted), None)
        if self._skey is None:
            raise RemoteProtocolError("asked for a torrent that is not here")
        self._decrypt = rc4(b"keyA", self._shared, self._skey)
        self._encrypt = rc4(b"keyB", self._shared, self._skey)
        return True

    def _read_offer(self) -> bool:
        assert self._decrypt is not None
        if len(self._buffer) < _OFFER.size:
            return False
        self._head = self._decrypt.update(bytes(self._buffer[: _OFFER.size]))
        del self._buffer[: _OFFER.size]
        verification, _, pad = _OFFER.unpack(self._head)
        if verification != _VC:
            raise RemoteProtocolError("its encryption handshake cannot be read")
        if pad > MAX_PAD:
            raise RemoteProtocolError(f"encryption padding of {pad} bytes")
        self._initial_at = pad + _LENGTH.size
        return True

    def _read_initial(self) -> bytes | None:
        assert self._decrypt is not None
        if self._initial_size is None:
            if len(self._buffer) < self._initial_at:
                return None
            rest = self._decrypt.update(bytes(self._buffer[: self._initial_at]))
            del self._buffer[: self._initial_at]
            (self._initial_size,) = _LENGTH.unpack_from(rest, self._initial_at - _LENGTH.size)
            if self._initial_size > MAX_INITIAL:
                raise RemoteProtocolError(f"{self._initial_size} bytes along with the handshake")
        if len(self._buffer) < self._initial_size:
            return None
        initial = self._decrypt.update(bytes(self._buffer[: self._initial_size]))
        del self._buffer[: self._initial_size]
        return initial

    def _accept(self, initial: bytes) -> bytes:
        assert self._skey is not None
        assert self._head is not None
        assert self._encrypt is not None
        provided = int.from_bytes(self._head[8:12]) & self._allow
        if provided & self._prefer:
            provided = self._prefer
        if provided not in (Method.PLAIN, Method.RC4):
            raise RemoteProtocolError("offers no encryption that we would use")
        method = Method(provided)
        pad = self._pad()
        answer = self._encrypt.update(_OFFER.pack(_VC, method, len(pad)) + pad)
        self._finish(method, self._skey)
        assert self.secured is not None
        secured = self.secured
        self.secured = Secured(
            method, self._skey, secured.encrypt, secured.decrypt, initial + secured.received
        )
        return answer


def rc4(label: bytes, shared: bytes, skey: bytes) -> CipherContext:
    """The cipher of one direction, its first 1024 bytes thrown away."""
    # imported where they are used: start-up time counts
    from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
    from cryptography.hazmat.primitives.ciphers import Cipher

    cipher = Cipher(ARC4(_hash(label, shared + skey)), mode=None).encryptor()
    cipher.update(bytes(_DISCARDED))
    return cipher


def _hash(label: bytes, data: bytes) -> bytes:
    return sha1(label + data, usedforsecurity=False).digest()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
