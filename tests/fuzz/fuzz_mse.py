"""The encryption handshake, both roles: a result, a wait, or `RemoteProtocolError`.

The first byte chooses the role and how far the exchange got honestly, the second how it is cut.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire.mse import KEY_BYTES, MAX_INITIAL, MAX_PAD, Initiator, Responder, rc4

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULES = ["torrentfs.wire.mse"]

_SKEY = b"k" * 20
_MOST = KEY_BYTES + 3 * MAX_PAD + MAX_INITIAL + 100


def _pair() -> tuple[Initiator, Responder]:
    rng = Random(7)
    initiator = Initiator(_SKEY, rng.randbytes, initial=b"hello")
    return initiator, Responder([b"x" * 20, _SKEY], rng.randbytes)


def seeds() -> Iterable[bytes]:
    """An honest exchange, from either side, and its parts behind the key exchange."""
    one, other = _pair()
    first = one.first()
    second = other.receive(first)
    third = one.receive(second)
    fourth = other.receive(third)
    yield b"\0\0" + first + third
    yield b"\1\7" + second + fourth
    yield b"\2\0" + bytes(14) + b"\0\5hello"
    yield b"\2\3" + bytes(11) + b"\2\0\3pad\0\5hello and more"
    yield b"\3\0" + bytes(11) + b"\1\0\4paddand more"


def one_input(data: bytes) -> None:
    """Feed it in pieces; nothing but the declared error, and memory within bounds."""
    kind, cut, body = (data[:1] or b"\0")[0] % 4, (data[1:2] or b"\0")[0], data[2:]
    one, other = _pair()
    role: Initiator | Responder = one if kind & 1 else other
    if kind == 2:  # as by a peer that knows the torrent
        third = one.receive(other.receive(one.first()))
        body = third[:40] + rc4(b"keyA", one._shared, _SKEY).update(body)
    elif kind == 3:
        one.receive(other.receive(one.first()))
        body = rc4(b"keyB", one._shared, _SKEY).update(body)
    step = max(cut + 1, len(body) // 100)
    try:
        for at in range(0, len(body), step):
            role.receive(body[at : at + step])
            if role.secured is not None:
                return
            assert len(role._buffer) <= _MOST
    except RemoteProtocolError as refused:
        reason = str(refused)
    else:
        return
    assert reason.isprintable()
