"""BEP 10 messages: one byte of extension id, then a payload that belongs to that extension.

Id 0 is the extension handshake. Other ids are chosen by the *receiver* of a message: what comes in
carries an id from `OUR_EXTENSIONS`, what goes out one from the peer's handshake. So reading needs
no state, and writing needs the peer's table. A new extension is one row in `_READERS`, one in
`_WRITERS` and one in `OUR_EXTENSIONS`.

Handshakes are read leniently, as everybody does: a value of a wrong type or out of range counts as
absent, and unknown keys are ignored. What is not a bencoded dictionary at all is an error.
"""

from __future__ import annotations

import ipaddress
from struct import Struct
from typing import TYPE_CHECKING, Any

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.metainfo.bencoding import BencodingError, decode_prefix, encode
from torrentfs.metainfo.limits import MAX_METADATA_BYTES
from torrentfs.wire import holepunch, limits
from torrentfs.wire import messages as m
from torrentfs.wire.pex import read_pex, write_pex
from torrentfs.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HANDSHAKE_ID = 0

OUR_EXTENSIONS: Mapping[str, int] = {
    "ut_pex": 1,
    "ut_metadata": 2,
    "ut_holepunch": holepunch.EXTENSION_ID,
    "lt_donthave": 7,
}
"""The extensions that we speak, and the ids under which we want their messages."""

_REQUEST, _DATA, _REJECT = range(3)
_U32 = Struct(">I")
_MAX_U32 = 0xFFFFFFFF


def read_extended(payload: memoryview) -> m.ExtensionMessage:
    """The message in `payload`, which begins with the extension id; at least one byte."""
    identifier = payload[0]
    reader = _READERS.get(identifier)
    if reader is None:
        return m.UnknownExtension(identifier, bytes(payload[1:]))
    try:
        return reader(payload[1:])
    except BencodingError as error:
        raise RemoteProtocolError(f"bad extension message {identifier}: {error}") from None


def write_extended(message: m.ExtensionMessage, their_ids: Mapping[str, int]) -> bytes:
    """Extension id and payload, under the id that the peer gave.

    `LocalProtocolError` when the peer does not speak the extension.
    """
    if isinstance(message, m.ExtensionHandshake):
        return bytes([HANDSHAKE_ID]) + _write_handshake(message)
    if isinstance(message, m.UnknownExtension):
        if not 0 <= message.id <= 255:
            raise LocalProtocolError("an extension id is one byte")
        return bytes([message.id]) + message.payload
    writer = _WRITERS.get(type(message))
    if writer is None:
        raise LocalProtocolError(f"{type(message).__name__} is not a message of the peer protocol")
    name = _NAMES.get(type(message), "ut_metadata")
    identifier = their_ids.get(name)
    if identifier is None:
        raise LocalProtocolError(f"the peer does not speak {name}")
    return bytes([identifier]) + writer(message)


# -- the handshake ---------------------------------------------------------------------------


def _read_handshake(payload: memoryview) -> m.ExtensionHandshake:
    if len(payload) > limits.MAX_EXTENSION_HANDSHAKE_BYTES:
        raise RemoteProtocolError(f"an extension handshake of {len(payload)} bytes")
    # trailing bytes are tolerated: some clients pad
    table, _ = decode_prefix(payload)
    if not isinstance(table, dict):
        raise RemoteProtocolError("the extension handshake is not a dictionary")
    version = table.get(b"v")
    names = _read_names(table.get(b"m"))
    return m.ExtensionHandshake(
        extensions={name: number for name, number in names.items() if number},
        withdrawn=frozenset(name for name, number in names.items() if not number),
        version=printable(version) if isinstance(version, bytes) else None,
        port=_number(table.get(b"p"), 1, 0xFFFF),
        request_queue=_number(table.get(b"reqq"), 1, _MAX_U32),
        metadata_size=_number(table.get(b"metadata_size"), 1, MAX_METADATA_BYTES),
        upload_only=bool(_number(table.get(b"upload_only"), 1, _MAX_U32)),
        your_ip=_read_address(table.get(b"yourip")),
    )


def _read_names(table: object) -> dict[str, int]:
    if not isinstance(table, dict):
        return {}
    names: dict[str, int] = {}
    for raw, identifier in table.items():
        if len(names) >= limits.MAX_EXTENSIONS:
            break
        if len(raw) > limits.MAX_EXTENSION_NAME_BYTES or not raw.isascii():
            continue
        if _number(identifier, 0, 255) is not None:
            names[raw.decode("ascii")] = identifier
    return names


def _read_address(packed: object) -> str | None:
    if isinstance(packed, bytes) and len(packed) in (4, 16):
        return str(ipaddress.ip_address(packed))
    return None


def _number(value: object, lowest: int, highest: int) -> int | None:
    return value if isinstance(value, int) and lowest <= value <= highest else None


def _write_handshake(message: m.ExtensionHandshake) -> bytes:
    names = {**dict.fromkeys(message.withdrawn, 0), **message.extensions}
    facts: dict[str, object] = {"m": names}
    optional = {
        "v": message.version,
        "p": message.port,
        "reqq": message.request_queue,
        "metadata_size": message.metadata_size,
        "upload_only": 1 if message.upload_only else None,
    }
    facts.update((key, value) for key, value in optional.items() if value is not None)
    if message.your_ip is not None:
        facts["yourip"] = ipaddress.ip_address(message.your_ip.partition("%")[0]).packed
    return encode(facts)


# -- ut_metadata (BEP 9) and lt_donthave (BEP 54) ----------------------------------------------


def _read_metadata(payload: memoryview) -> m.ExtensionMessage:
    if len(payload) > limits.MAX_METADATA_MESSAGE_BYTES:
        raise RemoteProtocolError(f"a metadata message of {len(payload)} bytes")
    table, end = decode_prefix(payload)
    if not isinstance(table, dict):
        raise RemoteProtocolError("a metadata message is not a dictionary")
    kind = table.get(b"msg_type")
    piece = _number(table.get(b"piece"), 0, _MAX_U32)
    if not isinstance(kind, int) or piece is None:
        raise RemoteProtocolError("a metadata message without type or piece")
    if kind == _REQUEST:
        return m.MetadataRequest(piece)
    if kind == _REJECT:
        return m.MetadataReject(piece)
    if kind != _DATA:
        # BEP 9: "unrecognized message ID MUST be ignored"
        return m.UnknownExtension(OUR_EXTENSIONS["ut_metadata"], bytes(payload))
    total = _number(table.get(b"total_size"), 1, MAX_METADATA_BYTES)
    if total is None:
        raise RemoteProtocolError("metadata of no or an impossible size")
    return m.MetadataData(piece, total, bytes(payload[end:]))


def _write_metadata_request(message: m.MetadataRequest) -> bytes:
    return encode({"msg_type": _REQUEST, "piece": message.piece})


def _write_metadata_data(message: m.MetadataData) -> bytes:
    head = {"msg_type": _DATA, "piece": message.piece, "total_size": message.total_size}
    return encode(head) + message.data


def _write_metadata_reject(message: m.MetadataReject) -> bytes:
    return encode({"msg_type": _REJECT, "piece": message.piece})


def _read_dont_have(payload: memoryview) -> m.DontHave:
    if len(payload) != _U32.size:
        raise RemoteProtocolError("a lt_donthave message of a wrong length")
    return m.DontHave(*_U32.unpack(payload))


def _write_dont_have(message: m.DontHave) -> bytes:
    return _U32.pack(message.piece)


_READERS: dict[int, Callable[[memoryview], m.ExtensionMessage]] = {
    HANDSHAKE_ID: _read_handshake,
    OUR_EXTENSIONS["ut_metadata"]: _read_metadata,
    OUR_EXTENSIONS["lt_donthave"]: _read_dont_have,
    OUR_EXTENSIONS["ut_pex"]: read_pex,
    OUR_EXTENSIONS["ut_holepunch"]: holepunch.read_holepunch,
}

_NAMES: dict[type, str] = {
    m.DontHave: "lt_donthave",
    m.PeerExchange: "ut_pex",
    m.Rendezvous: "ut_holepunch",
    m.Connect: "ut_holepunch",
    m.RendezvousFailed: "ut_holepunch",
}
"""The extension of a message, where it is not ut_metadata."""

_WRITERS: dict[type, Callable[[Any], bytes]] = {
    m.MetadataRequest: _write_metadata_request,
    m.MetadataData: _write_metadata_data,
    m.MetadataReject: _write_metadata_reject,
    m.DontHave: _write_dont_have,
    m.PeerExchange: write_pex,
    m.Rendezvous: holepunch.write_holepunch,
    m.Connect: holepunch.write_holepunch,
    m.RendezvousFailed: holepunch.write_holepunch,
}
