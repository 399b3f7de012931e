"""The first 68 bytes of a connection (BEP 3) and the feature bits in them.

    19 "BitTorrent protocol" | 8 reserved bytes | 20 info-hash | 20 peer id

Feature bits: byte 5 0x10 extension protocol (BEP 10), byte 7 0x01 DHT (BEP 5), byte 7 0x04 fast
extension (BEP 6), byte 7 0x10 "can upgrade to v2" (BEP 52). Other bits are ignored on reading and
zero on writing. A v2 info-hash is cut to its first 20 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torrentfs.errors import LocalProtocolError, RemoteProtocolError

PREFIX = b"\x13BitTorrent protocol"
HANDSHAKE_BYTES = 68

_EXTENSIONS_AT, _EXTENSIONS = 5, 0x10
_LAST, _DHT, _FAST, _V2 = 7, 0x01, 0x04, 0x10


@dataclass(frozen=True, slots=True)
class Handshake:
    """Which torrent, who speaks, and what it can: `info_hash` and `peer_id` are 20 bytes each.

    `v2` may only be set for a torrent known to have a v2 form: libtorrent 2.1 closes the connection
    when it is set for a v1 torrent.
    """

    info_hash: bytes
    peer_id: bytes
    fast: bool = False
    extensions: bool = False
    dht: bool = False
    v2: bool = False

    def encode(self) -> bytes:
        """The 68 bytes; `LocalProtocolError` for a hash or id that is not 20 bytes long."""
        if len(self.info_hash) != 20 or len(self.peer_id) != 20:
            raise LocalProtocolError("a handshake has an info-hash and a peer id of 20 bytes")
        reserved = bytearray(8)
        reserved[_EXTENSIONS_AT] = _EXTENSIONS * self.extensions
        reserved[_LAST] = _DHT * self.dht | _FAST * self.fast | _V2 * self.v2
        return PREFIX + reserved + self.info_hash + self.peer_id

    @classmethod
    def parse(cls, data: bytes) -> Handshake:
        """Read 68 bytes; `RemoteProtocolError` when they are something else."""
        check_prefix(data)
        if len(data) != HANDSHAKE_BYTES:
            raise RemoteProtocolError("the handshake is cut short")
        reserved = data[20:28]
        last = reserved[_LAST]
        return cls(
            info_hash=data[28:48],
            peer_id=data[48:68],
            fast=bool(last & _FAST),
            extensions=bool(reserved[_EXTENSIONS_AT] & _EXTENSIONS),
            dht=bool(last & _DHT),
            v2=bool(last & _V2),
        )


def check_prefix(data: bytes) -> None:
    """Raise as soon as the first bytes of `data` show that this is no BEP 3 handshake."""
    if not PREFIX.startswith(data[: len(PREFIX)]):
        raise RemoteProtocolError("it does not speak the BitTorrent protocol")
