"""Encrypted connections to peers (MSE/PE, `wire.mse`): a `PeerStream` over a `PeerStream`.

The handshake is made over any stream that is connected; what comes out is a stream again, with RC4
or plain bytes, as both sides agreed. Received bytes are decrypted where they are, in the buffer of
the wire codec; what is sent must be copied once, because others may read the buffers of a piece.

The policy, as libtorrent has it (`pe_enabled`, `pe_forced`, `pe_disabled`):

* `prefer`: a peer we dial gets an encrypted handshake, then, if that fails, a plain one over a new
  connection (`engine.dialling`); peers that dial us choose. The stream goes on in plain where both
  may choose, because the handshake alone is what lines are filtered by.
* `require`: encrypted both ways, and RC4 for the whole stream: who asks for this does not want a
  plain stream under an encrypted handshake (libtorrent with `allowed_enc_level` at `pe_rc4`).
* `off`: plain both ways.

How an incoming connection begins is seen from its first bytes: those of a BEP 3 handshake are
known. A public key starts with all 20 of them for one peer in 2 ** 160.

The caller owns the timeouts.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import trio

from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.wire.handshake import PREFIX
from torrentfs.wire.mse import BOTH, Initiator, Method, Responder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torrentfs.transports.base import Address, Buffer, PeerStream
    from torrentfs.wire.mse import Secured

Encryption = Literal["prefer", "require", "off"]

_READ_SIZE = 2048
"""Bytes of one receive in the handshake, the longest part of which has 700."""


class EncryptedStream:
    """A stream behind its encryption handshake; `early` came along with that."""

    __slots__ = (
        *("_decrypt", "_early", "_encrypt", "_sending", "_stream"),
        *("encryption", "kind", "remote"),
    )

    def __init__(self, stream: PeerStream, secured: Secured | None, early: bytes = b"") -> None:
        self.remote: Address = stream.remote
        self.kind: str = stream.kind
        self.encryption = "none" if secured is None else (secured.method.name or "").lower()
        """`rc4`, `plain` (an encrypted handshake, then plain bytes) or `none`."""
        self._stream = stream
        self._encrypt = secured.encrypt if secured is not None else None
        self._decrypt = secured.decrypt if secured is not None else None
        self._early = early if secured is None else secured.received
        self._sending = False

    async def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes and put some at the start of `buffer`: how many, 0 at the end."""
        if self._early and len(buffer):
            await trio.lowlevel.checkpoint()
            count = min(len(buffer), len(self._early))
            buffer[:count] = self._early[:count]
            self._early = self._early[count:]
            return count
        count = await self._stream.receive_into(buffer)
        if self._decrypt is not None and count:
            received = buffer[:count]
            self._decrypt.update_into(received, received)
        return count

    async def send_all(self, data: Buffer) -> None:
        """Send all of `data`."""
        await self.send_many((data,))

    async def send_many(self, buffers: Sequence[Buffer]) -> None:
        """Send all of each buffer, in order."""
        if self._encrypt is None:
            await self._stream.send_many(buffers)
            return
        if self._sending:  # before the cipher moves on
            raise trio.BusyResourceError("another task is sending to this peer")
        self._sending = True
        try:
            hidden = bytearray(sum(map(len, buffers)))
            at, whole = 0, memoryview(hidden)
            for buffer in buffers:
                if buffer:
                    self._encrypt.update_into(buffer, whole[at : at + len(buffer)])
                    at += len(buffer)
            await self._stream.send_many((hidden,))
        finally:
            self._sending = False

    async def aclose(self) -> None:
        """Close; bytes already given to a send still go out."""
        await self._stream.aclose()

    def abort(self) -> None:
        """Close at once; tasks waiting in this stream get `TransportError`."""
        self._stream.abort()

    def __repr__(self) -> str:
        return f"<EncryptedStream {self.encryption} over {self._stream!r}>"


async def encrypt_outgoing(
    stream: PeerStream, skey: bytes, initial: bytes, *, policy: Encryption = "prefer"
) -> EncryptedStream:
    """Shake hands as the side that dialled; `initial` (our BEP 3 handshake) goes along.

    Raises `RemoteProtocolError` or `TransportError`; then the connection is of no use any more.
    """
    provide = Method.RC4 if policy == "require" else BOTH
    role = Initiator(skey, os.urandom, provide=provide, initial=initial)
    await stream.send_all(role.first())
    return await _finish(stream, role, b"")


async def accept(
    stream: PeerStream, skeys: Iterable[bytes], *, policy: Encryption = "prefer"
) -> EncryptedStream:
    """Take an incoming connection as it begins, plain or encrypted, and as the policy allows.

    `skeys` are the info-hashes that may be asked for. Raises as `encrypt_outgoing`.
    """
    early = b""
    while PREFIX.startswith(early) and early != PREFIX:
        early += await _receive(stream, len(PREFIX) - len(early))
    if early == PREFIX:
        if policy == "require":
            raise RemoteProtocolError("it does not encrypt")
        return EncryptedStream(stream, None, early)
    if policy == "off":
        raise RemoteProtocolError("it does not speak the BitTorrent protocol, or encrypts it")
    allow = Method.RC4 if policy == "require" else BOTH
    return await _finish(stream, Responder(skeys, os.urandom, allow=allow), early)


async def _finish(stream: PeerStream, role: Initiator | Responder, early: bytes) -> EncryptedStream:
    received = early
    if isinstance(role, Initiator):
        received = await _receive(stream, _READ_SIZE)
        if received[: len(PREFIX)] == PREFIX:
            raise RemoteProtocolError("it does not encrypt")
    while True:
        if received:
            answer = role.receive(received)
            if answer:
                await stream.send_all(answer)
            if role.secured is not None:
                return EncryptedStream(stream, role.secured)
        received = await _receive(stream, _READ_SIZE)


async def _receive(stream: PeerStream, most: int) -> bytes:
    room = bytearray(most)
    count = await stream.receive_into(memoryview(room))
    if not count:
        raise TransportError("closed the connection before its handshake")
    return bytes(room[:count])
