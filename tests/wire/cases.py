"""One of every message, and what hostile peers send instead."""

from __future__ import annotations

from torrentfs.wire import messages as m
from torrentfs.wire.extension import OUR_EXTENSIONS

ROOT = bytes(range(32))

EVERY_MESSAGE: list[m.Message] = [
    m.KeepAlive(),
    m.Choke(),
    m.Unchoke(),
    m.Interested(),
    m.NotInterested(),
    m.Have(7),
    m.Request(1, 16384, 16384),
    m.Piece(1, 16384, b"x" * 16384),
    m.Piece(0, 0, b""),
    m.Cancel(1, 16384, 16384),
    m.Port(6881),
    m.SuggestPiece(3),
    m.RejectRequest(1, 0, 5),
    m.AllowedFast(9),
    m.ExtensionHandshake(),
    m.ExtensionHandshake(
        extensions={**OUR_EXTENSIONS, "ut_pex": 1},
        withdrawn=frozenset(["lt_other"]),
        version="torrentfs 0.1.0",
        port=6881,
        request_queue=500,
        metadata_size=12345,
        upload_only=True,
        your_ip="192.0.2.1",
    ),
    m.ExtensionHandshake(your_ip="2001:db8::1"),
    m.MetadataRequest(0),
    m.MetadataData(1, 20000, b"d" * 3616),
    m.MetadataReject(2),
    m.DontHave(5),
    m.PeerExchange({("192.0.2.1", 6881): 2, ("2001:db8::1", 51413): 16}, (("192.0.2.9", 1),)),
    m.Rendezvous(("192.0.2.1", 6881)),
    m.Connect(("2001:db8::1", 51413)),
    m.RendezvousFailed(("192.0.2.1", 0), 1),
    m.UnknownExtension(99, b"whatever"),
    m.HashRequest(ROOT, 3, 512, 512, 4),
    m.Hashes(ROOT, 3, 0, 2, 1, b"n" * 96),
    m.HashReject(ROOT, 3, 512, 512, 4),
]

FIRST_MESSAGES: list[m.Message] = [m.BitfieldMessage(b"\xff\x80"), m.HaveAll(), m.HaveNone()]


def raw(number: int, payload: bytes = b"") -> bytes:
    """A message of any number and payload."""
    return (len(payload) + 1).to_bytes(4) + bytes([number]) + payload


def extended(number: int, payload: bytes) -> bytes:
    """A BEP 10 message."""
    return raw(20, bytes([number]) + payload)


METADATA, DONT_HAVE = OUR_EXTENSIONS["ut_metadata"], OUR_EXTENSIONS["lt_donthave"]
HOLEPUNCH = OUR_EXTENSIONS["ut_holepunch"]

HOSTILE: dict[str, bytes] = {
    "length of 4 GiB": b"\xff\xff\xff\xff",
    "length with top bit": b"\x80\x00\x00\x00\x07",
    "piece over a block": (9 + 16385).to_bytes(4) + b"\x07" + bytes(8),
    "piece of 16 MiB": (1 << 24).to_bytes(4) + b"\x07" + bytes(8),
    "piece without offset": raw(7, bytes(7)),
    "piece out of range": raw(7, b"\0\0\0\x10" + bytes(8)),
    "choke with payload": raw(0, b"x"),
    "have too short": raw(4, b"\0\0\0"),
    "have too long": raw(4, bytes(5)),
    "have out of range": raw(4, b"\0\0\0\x10"),
    "negative have": raw(4, b"\xff\xff\xff\xff"),
    "request too short": raw(6, bytes(11)),
    "request out of range": raw(6, b"\xff" * 12),
    "cancel too long": raw(8, bytes(13)),
    "port too short": raw(9, b"\0"),
    "bitfield too short": raw(5, b"\xff"),
    "bitfield too long": raw(5, b"\xff\xff\xff"),
    "bitfield with spare bits": raw(5, b"\xff\x81"),
    "bitfield of 4 MiB": (1 << 22).to_bytes(4) + b"\x05",
    "have-all with payload": raw(14, b"x"),
    "allowed-fast out of range": raw(17, b"\0\0\1\0"),
    "suggest out of range": raw(13, b"\0\0\1\0"),
    "unknown message": raw(10),
    "unknown message 255": raw(255, b"abc"),
    "a second handshake": b"\x13BitTorrent protocol" + bytes(48),
    "extended without id": raw(20),
    "extended of 2 MiB": (1 << 21).to_bytes(4) + b"\x14\x63",
    "handshake not bencoded": extended(0, b"hello"),
    "handshake a list": extended(0, b"le"),
    "handshake cut": extended(0, b"d1:md"),
    "handshake with a lying string": extended(0, b"d1:v99999999999:xe"),
    "handshake empty": extended(0, b""),
    "handshake nested deep": extended(0, b"d1:m" + b"l" * 5000),
    "handshake over its limit": extended(0, b"d1:v70000:" + b"x" * 70000 + b"e"),
    "metadata nested deep": extended(METADATA, b"l" * 5000),
    "metadata not a dictionary": extended(METADATA, b"i1e"),
    "metadata without type": extended(METADATA, b"d5:piecei0ee"),
    "metadata of negative piece": extended(METADATA, b"d8:msg_typei0e5:piecei-1ee"),
    "metadata of huge piece": extended(METADATA, b"d8:msg_typei0e5:piecei99999999999ee"),
    "metadata of no size": extended(METADATA, b"d8:msg_typei1e5:piecei0eexx"),
    "metadata of negative size": extended(
        METADATA, b"d8:msg_typei1e5:piecei0e10:total_sizei-5eexx"
    ),
    "metadata of 1 TB": extended(
        METADATA, b"d8:msg_typei1e5:piecei0e10:total_sizei1000000000000eexx"
    ),
    "metadata over a block": extended(METADATA, b"d8:msg_typei1e5:piecei0ee" + bytes(20000)),
    "dont-have too short": extended(DONT_HAVE, b"\0"),
    "dont-have out of range": extended(DONT_HAVE, b"\0\0\1\0"),
    "hole punching without anything": extended(HOLEPUNCH, b""),
    "hole punching cut in the address": extended(HOLEPUNCH, b"\1\1" + bytes(8)),
    "hole punching failed, without why": extended(HOLEPUNCH, b"\2\0" + bytes(6)),
    "hole punching too long": extended(HOLEPUNCH, bytes(65)),
    "hash request too short": raw(21, bytes(47)),
    "hashes too short": raw(22, bytes(47)),
    "hashes ragged": raw(22, bytes(49)),
    "hashes of a huge length": raw(22, ROOT + b"\xff" * 16),
    "hashes of 1 MiB": (1 << 20).to_bytes(4) + b"\x16",
    "hash reject too long": raw(23, bytes(49)),
}
"""What ends a connection of 9 pieces; each must be refused and nothing else may happen."""
