"""The messages of the DHT (BEP 5; BEP 32 IPv6, 42 `ip`, 43 `ro`, 44 items, 51 samples).

    one node                                          another
    Query(transaction, call, our id)       ->
                                           <-         Response(transaction, its id, what was asked)
                                                      or Failure(transaction, code, words)

The values of a response stand for themselves (`nodes`, `nodes6`, `values`, `token`), so a response
is read without knowing the question; whether it belongs to one is for the caller, who compares
transaction *and* sender.

Every id is 20 bytes, every port is not 0. What has a wrong type or size makes the whole message
malformed: a `RemoteProtocolError`. If that message was a query, it is a `BadQuery`, which has what
is needed to answer with a `Failure`. Contacts and peers that nobody can reach (port 0, address 0)
are left out of a response without a word, because real nodes hand them on in good faith.

An unknown query that names a target is answered like `find_node`, as BEP 5's authors advise;
libtorrent does so too. Optional keys of no use here are passed over.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

from torrentfs.errors import InvalidTorrent, LocalProtocolError, RemoteProtocolError
from torrentfs.metainfo.bencoding import decode, encode, encoded
from torrentfs.wire.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Address = tuple[str, int]

ID_BYTES = 20

MAX_DATAGRAM_BYTES = 4096
"""Of a message. Real ones fit into one packet (1,500); some nodes let theirs be cut in two."""

MAX_NESTING = 8
"""Lists and dictionaries inside each other: BEP 5 needs 3."""

MAX_TRANSACTION_BYTES = 32
"""Of another's transaction, which we send back; most have 2 or 4 bytes."""

MAX_TOKEN_BYTES = 128
"""Of a token, which we send back; libtorrent's have 4 bytes, others 8 or 20."""

MAX_VERSION_BYTES = 16
"""Of `v`; the usual four are two letters and two digits."""

MAX_CONTACTS = 32
"""Taken of one list of nodes; BEP 5 says 8, some send 16 or 20."""

MAX_ITEM_BYTES, MAX_SALT_BYTES = 1000, 64
"""Of a stored item's bencoded value, and of its salt (BEP 44)."""

MAX_PEERS = 200
"""Taken of one response; more do not fit into a packet."""

MAX_SAMPLES = 20
"""Info-hashes in one answer (BEP 51): 400 bytes, so that nodes fit beside them; as libtorrent."""

MAX_SAMPLE_INTERVAL = 21600
"""Seconds that BEP 51 allows."""

ITEM_TOO_BIG, BAD_SIGNATURE, SALT_TOO_BIG, CAS_MISMATCH, OLD_SEQUENCE = 205, 206, 207, 301, 302
GENERIC_ERROR, SERVER_ERROR, PROTOCOL_ERROR, METHOD_UNKNOWN = 201, 202, 203, 204

Want = Literal["n4", "n6"]


class Contact(NamedTuple):
    """A node: its id and where it is."""

    id: bytes
    address: Address


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""


@dataclass(frozen=True, slots=True)
class FindNode:
    """Which nodes are closest to `target`? `want`: of which families; empty: of the socket's."""

    target: bytes
    want: tuple[Want, ...] = ()


@dataclass(frozen=True, slots=True)
class GetPeers:
    """Who has this torrent, or else: which nodes are closest to it?"""

    info_hash: bytes
    want: tuple[Want, ...] = ()


@dataclass(frozen=True, slots=True)
class AnnouncePeer:
    """The sender has this torrent; `port` is None where it is the port of the datagram."""

    info_hash: bytes
    port: int | None
    token: bytes


@dataclass(frozen=True, slots=True)
class Item:
    """What the table keeps for anybody (BEP 44): bencoded `value`, and who signed it.

    An immutable item has its value alone; the others have all of key (32 bytes), signature (64) and
    sequence number. Only a `PutItem` tells the salt.
    """

    value: bytes
    key: bytes | None = None
    signature: bytes | None = None
    sequence: int | None = None
    salt: bytes = b""


@dataclass(frozen=True, slots=True)
class GetItem:
    """What is kept under `target`?"""

    target: bytes
    want: tuple[Want, ...] = ()


@dataclass(frozen=True, slots=True)
class PutItem:
    """Keep this; `expected` is the sequence number that it replaces, if the sender insists."""

    item: Item
    token: bytes
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class SampleInfohashes:
    """Which torrents are kept here, and which nodes are closest to `target` (BEP 51)?"""

    target: bytes
    want: tuple[Want, ...] = ()


@dataclass(frozen=True, slots=True)
class InfohashSample:
    """Some of the `total` info-hashes that a node keeps; others come after `interval` seconds."""

    interval: int
    total: int
    info_hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class OtherCall:
    """A query of a name that we do not know; `target` is its target or info-hash if it has one."""

    name: bytes
    target: bytes | None = None


Call = Ping | FindNode | GetPeers | AnnouncePeer | GetItem | PutItem | SampleInfohashes | OtherCall


@dataclass(frozen=True, slots=True)
class Query:
    """A question by the node `id`; a `read_only` one answers no questions (BEP 43)."""

    transaction: bytes
    id: bytes
    call: Call
    read_only: bool = False
    version: bytes | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """An answer by the node `id`. None is for what was not said; a list may be said and empty."""

    transaction: bytes
    id: bytes
    nodes: tuple[Contact, ...] | None = None
    nodes6: tuple[Contact, ...] | None = None
    peers: tuple[Address, ...] | None = None
    token: bytes | None = None
    item: Item | None = None
    seen_as: Address | None = None
    """The address of the node that is answered, as the answering one sees it (BEP 42)."""
    version: bytes | None = None
    sample: InfohashSample | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A refusal; `words` are made printable."""

    transaction: bytes
    code: int
    words: str
    version: bytes | None = None


Message = Query | Response | Failure


class BadQuery(RemoteProtocolError):
    """A query that can be answered only with a `Failure` of this transaction and code."""

    def __init__(self, reason: str, transaction: bytes, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.transaction = transaction
        self.code = code


# -- addresses in compact form ---------------------------------------------------------------


def pack_address(address: Address) -> bytes:
    """6 bytes of an IPv4 address and port, 18 of IPv6."""
    host, port = address
    if ":" not in host:  # much the commonest, and `ipaddress` is slow
        try:
            a, b, c, d = map(int, host.split("."))
            return bytes((a, b, c, d)) + port.to_bytes(2)
        except (ValueError, OverflowError):
            raise LocalProtocolError(f"not an address: {host}:{port}") from None
    try:
        return ipaddress.IPv6Address(host).packed + port.to_bytes(2)
    except (ValueError, OverflowError):
        raise LocalProtocolError(f"not an address: [{host}]:{port}") from None


def unpack_address(packed: bytes) -> Address:
    """The address in 6 or 18 bytes; `RemoteProtocolError` for any other number."""
    port = int.from_bytes(packed[-2:])
    if len(packed) == 6:
        return "{}.{}.{}.{}".format(*packed[:4]), port
    if len(packed) == 18:
        return str(ipaddress.IPv6Address(packed[:16])), port
    raise RemoteProtocolError(f"a compact address of {len(packed)} bytes")


def pack_contacts(contacts: Iterable[Contact], *, ipv6: bool) -> bytes:
    """26 bytes each (BEP 5), or 38 (BEP 32); all must be of that family."""
    packed = [_id(contact.id) + pack_address(contact.address) for contact in contacts]
    width = ID_BYTES + (18 if ipv6 else 6)
    if any(len(one) != width for one in packed):
        raise LocalProtocolError("a contact of the other address family")
    return b"".join(packed)


def unpack_contacts(packed: bytes, *, ipv6: bool) -> tuple[Contact, ...]:
    """The reachable ones of a compact list, each address once, `MAX_CONTACTS` at most."""
    width = ID_BYTES + (18 if ipv6 else 6)
    if len(packed) % width:
        raise RemoteProtocolError(f"compact nodes of {len(packed)} bytes")
    found: dict[Address, Contact] = {}
    for at in range(0, min(len(packed), MAX_CONTACTS * width), width):
        address = unpack_address(packed[at + ID_BYTES : at + width])
        if _is_reachable(address):
            found.setdefault(address, Contact(packed[at : at + ID_BYTES], address))
    return tuple(found.values())


def _is_reachable(address: Address) -> bool:
    return address[1] != 0 and address[0] not in ("0.0.0.0", "::")


# -- writing ---------------------------------------------------------------------------------


def encode_message(message: Message) -> bytes:
    """The datagram; `LocalProtocolError` when a field has a size that nobody may send."""
    body: dict[bytes, Any] = {b"t": _sized(message.transaction, MAX_TRANSACTION_BYTES)}
    if message.version is not None:
        body[b"v"] = _sized(message.version, MAX_VERSION_BYTES)
    if isinstance(message, Query):
        name, arguments = _call_fields(message.call)
        arguments[b"id"] = _id(message.id)
        body |= {b"y": b"q", b"q": name, b"a": arguments}
        if message.read_only:
            body[b"ro"] = 1
    elif isinstance(message, Response):
        body |= {b"y": b"r", b"r": _values(message)}
        if message.seen_as is not None:
            body[b"ip"] = pack_address(message.seen_as)
    else:
        body |= {b"y": b"e", b"e": [message.code, message.words.encode()]}
    return encode(body)


def _call_fields(call: Call) -> tuple[bytes, dict[bytes, Any]]:
    if isinstance(call, Ping):
        return b"ping", {}
    if isinstance(call, FindNode):
        return b"find_node", {b"target": _id(call.target), **_wanted(call.want)}
    if isinstance(call, GetPeers):
        return b"get_peers", {b"info_hash": _id(call.info_hash), **_wanted(call.want)}
    if isinstance(call, AnnouncePeer):
        if call.port is not None and not 0 < call.port < 65536:
            raise LocalProtocolError(f"a peer cannot be announced at port {call.port}")
        return b"announce_peer", {
            b"info_hash": _id(call.info_hash),
            b"implied_port": int(call.port is None),
            b"port": call.port or 1,  # who does not know `implied_port` would refuse 0
            b"token": _sized(call.token, MAX_TOKEN_BYTES),
        }
    if isinstance(call, GetItem):
        return b"get", {b"target": _id(call.target), **_wanted(call.want)}
    if isinstance(call, SampleInfohashes):
        return b"sample_infohashes", {b"target": _id(call.target), **_wanted(call.want)}
    if isinstance(call, PutItem):
        fields = _item_fields(call.item)
        if call.item.salt:
            fields[b"salt"] = _sized(call.item.salt, MAX_SALT_BYTES)
        if call.expected is not None:
            fields[b"cas"] = call.expected
        return b"put", {**fields, b"token": _sized(call.token, MAX_TOKEN_BYTES)}
    return call.name, {} if call.target is None else {b"target": _id(call.target)}


def _wanted(want: tuple[Want, ...]) -> dict[bytes, Any]:
    return {b"want": [word.encode() for word in want]} if want else {}


def _item_fields(item: Item) -> dict[bytes, Any]:
    fields: dict[bytes, Any] = {b"v": encoded(_sized(item.value, MAX_ITEM_BYTES))}
    if item.key is not None:
        fields |= {b"k": item.key, b"sig": item.signature, b"seq": item.sequence}
    return fields


def _values(response: Response) -> dict[bytes, Any]:
    values: dict[bytes, Any] = {b"id": _id(response.id)}
    if response.nodes is not None:
        values[b"nodes"] = pack_contacts(response.nodes, ipv6=False)
    if response.nodes6 is not None:
        values[b"nodes6"] = pack_contacts(response.nodes6, ipv6=True)
    if response.peers is not None:
        values[b"values"] = [pack_address(peer) for peer in response.peers]
    if response.item is not None:
        values |= _item_fields(response.item)
    if response.sample is not None:
        values |= _sample_fields(response.sample)
    if response.token is not None:
        values[b"token"] = _sized(response.token, MAX_TOKEN_BYTES)
    return values


def _sample_fields(sample: InfohashSample) -> dict[bytes, Any]:
    hashes = b"".join(map(_id, sample.info_hashes))
    return {
        b"interval": sample.interval,
        b"num": sample.total,
        b"samples": _sized(hashes, MAX_SAMPLES * ID_BYTES),
    }


def _id(value: bytes) -> bytes:
    if len(value) != ID_BYTES:
        raise LocalProtocolError(f"an id of {len(value)} bytes")
    return value


def _sized(value: bytes, most: int) -> bytes:
    if len(value) > most:
        raise LocalProtocolError(f"a field of {len(value)} bytes, where {most} is the most")
    return value


# -- reading ---------------------------------------------------------------------------------


def parse_message(data: bytes) -> Message:
    """A datagram; `RemoteProtocolError`, `BadQuery` where it is a query."""
    try:
        body = decode(data, max_depth=MAX_NESTING, max_size=MAX_DATAGRAM_BYTES)
    except InvalidTorrent as error:
        raise RemoteProtocolError(str(error)) from None
    if not isinstance(body, dict):
        raise RemoteProtocolError("a DHT message is a dictionary")
    transaction = body.get(b"t")
    if not isinstance(transaction, bytes) or len(transaction) > MAX_TRANSACTION_BYTES:
        raise RemoteProtocolError("a DHT message without a transaction that can be repeated")
    version = body.get(b"v")
    if not isinstance(version, bytes) or len(version) > MAX_VERSION_BYTES:
        version = None
    kind = body.get(b"y")
    if kind == b"q":
        try:
            return _parse_query(body, transaction, version)
        except RemoteProtocolError as error:
            raise BadQuery(str(error), transaction) from None
    if kind == b"r":
        return _parse_response(body, transaction, version)
    if kind == b"e":
        return _parse_failure(body, transaction, version)
    raise RemoteProtocolError("a DHT message is a query, a response or an error")


def _parse_query(body: Mapping[bytes, Any], transaction: bytes, version: bytes | None) -> Query:
    name, arguments = body.get(b"q"), body.get(b"a")
    if not isinstance(name, bytes) or not isinstance(arguments, dict):
        raise RemoteProtocolError("a query without name or arguments")
    reader = _CALLS.get(name)
    return Query(
        transaction,
        _take_id(arguments, b"id"),
        reader(arguments) if reader is not None else _other_call(name, arguments),
        read_only=body.get(b"ro") == 1,
        version=version,
    )


def _find_node(arguments: Mapping[bytes, Any]) -> Call:
    return FindNode(_take_id(arguments, b"target"), _take_want(arguments))


def _get_peers(arguments: Mapping[bytes, Any]) -> Call:
    return GetPeers(_take_id(arguments, b"info_hash"), _take_want(arguments))


def _announce_peer(arguments: Mapping[bytes, Any]) -> Call:
    implied, port = arguments.get(b"implied_port", 0), arguments.get(b"port")
    if not isinstance(implied, int):
        _wrong("implied_port")
    if not implied and (not isinstance(port, int) or not 0 < port < 65536):
        _wrong("port")
    token = arguments.get(b"token")
    if not isinstance(token, bytes) or len(token) > MAX_TOKEN_BYTES:
        _wrong("token")
    return AnnouncePeer(_take_id(arguments, b"info_hash"), None if implied else port, token)


def _get(arguments: Mapping[bytes, Any]) -> Call:
    return GetItem(_take_id(arguments, b"target"), _take_want(arguments))


def _sample_infohashes(arguments: Mapping[bytes, Any]) -> Call:
    return SampleInfohashes(_take_id(arguments, b"target"), _take_want(arguments))


def _put(arguments: Mapping[bytes, Any]) -> Call:
    token, expected = arguments.get(b"token"), arguments.get(b"cas")
    if not isinstance(token, bytes) or len(token) > MAX_TOKEN_BYTES:
        _wrong("token")
    if expected is not None and not isinstance(expected, int):
        _wrong("cas")
    item = _take_item(arguments)
    if item is None:
        _wrong("v")
    return PutItem(item, token, expected)


def _take_item(fields: Mapping[bytes, Any]) -> Item | None:
    """BEP 44: signed are the bytes of the value as they are bencoded, which has one right form."""
    if b"v" not in fields:
        return None
    value = encode(fields[b"v"])
    if len(value) > MAX_ITEM_BYTES:
        raise RemoteProtocolError("an item of more than 1000 bytes")
    key = fields.get(b"k")
    if key is None:
        return Item(value)
    signature, sequence, salt = (fields.get(name) for name in (b"sig", b"seq", b"salt"))
    salt = b"" if salt is None else salt
    if not isinstance(key, bytes) or len(key) != 32:
        _wrong("k")
    if not isinstance(signature, bytes) or len(signature) != 64:
        _wrong("sig")
    if not isinstance(sequence, int) or not 0 <= sequence < 1 << 63:
        _wrong("seq")
    if not isinstance(salt, bytes) or len(salt) > MAX_SALT_BYTES:
        _wrong("salt")
    return Item(value, key, signature, sequence, salt)


def _other_call(name: bytes, arguments: Mapping[bytes, Any]) -> Call:
    for key in (b"target", b"info_hash"):
        target = arguments.get(key)
        if isinstance(target, bytes) and len(target) == ID_BYTES:
            return OtherCall(name, target)
    return OtherCall(name)


_CALLS = {
    b"ping": lambda arguments: Ping(),
    b"find_node": _find_node,
    b"get_peers": _get_peers,
    b"announce_peer": _announce_peer,
    b"get": _get,
    b"put": _put,
    b"sample_infohashes": _sample_infohashes,
}


def _take_id(fields: Mapping[bytes, Any], key: bytes) -> bytes:
    value = fields.get(key)
    if not isinstance(value, bytes) or len(value) != ID_BYTES:
        _wrong(key.decode())
    return value


def _take_want(arguments: Mapping[bytes, Any]) -> tuple[Want, ...]:
    """BEP 32: a list of words, of which unknown ones mean nothing to us."""
    words = arguments.get(b"want", ())
    if not isinstance(words, list):
        return ()
    known: tuple[Want, ...] = ("n4", "n6")
    return tuple(word for word in known if word.encode() in words)


def _parse_response(
    body: Mapping[bytes, Any], transaction: bytes, version: bytes | None
) -> Response:
    values = body.get(b"r")
    if not isinstance(values, dict):
        _wrong("r")
    token = values.get(b"token")
    if token is not None and (not isinstance(token, bytes) or len(token) > MAX_TOKEN_BYTES):
        _wrong("token")
    return Response(
        transaction,
        _take_id(values, b"id"),
        nodes=_take_contacts(values, b"nodes", ipv6=False),
        nodes6=_take_contacts(values, b"nodes6", ipv6=True),
        peers=_take_peers(values),
        token=token,
        item=_take_item(values),
        seen_as=_take_seen_as(body),
        version=version,
        sample=_take_sample(values),
    )


def _take_sample(values: Mapping[bytes, Any]) -> InfohashSample | None:
    packed = values.get(b"samples")
    if packed is None:
        return None
    interval, total = values.get(b"interval"), values.get(b"num")
    if not isinstance(packed, bytes) or len(packed) % ID_BYTES:
        _wrong("samples")
    if not isinstance(interval, int) or not 0 <= interval <= MAX_SAMPLE_INTERVAL:
        _wrong("interval")
    if not isinstance(total, int) or not 0 <= total < 1 << 63:
        _wrong("num")
    size = min(len(packed), MAX_SAMPLES * ID_BYTES)
    hashes = tuple(packed[at : at + ID_BYTES] for at in range(0, size, ID_BYTES))
    return InfohashSample(interval, total, hashes)


def _take_contacts(
    values: Mapping[bytes, Any], key: bytes, *, ipv6: bool
) -> tuple[Contact, ...] | None:
    packed = values.get(key)
    if packed is None:
        return None
    if not isinstance(packed, bytes):
        _wrong(key.decode())
    return unpack_contacts(packed, ipv6=ipv6)


def _take_peers(values: Mapping[bytes, Any]) -> tuple[Address, ...] | None:
    packed = values.get(b"values")
    if packed is None:
        return None
    if not isinstance(packed, list) or not all(isinstance(one, bytes) for one in packed):
        _wrong("values")
    peers = map(unpack_address, packed[:MAX_PEERS])
    return tuple(dict.fromkeys(peer for peer in peers if _is_reachable(peer)))


def _take_seen_as(body: Mapping[bytes, Any]) -> Address | None:
    """Only advice, so whatever else some nodes put there does no harm."""
    packed = body.get(b"ip")
    if not isinstance(packed, bytes) or len(packed) not in (6, 18):
        return None
    address = unpack_address(packed)
    return address if _is_reachable(address) else None


def _parse_failure(body: Mapping[bytes, Any], transaction: bytes, version: bytes | None) -> Failure:
    match body.get(b"e"):
        case [int(code), bytes(words), *_]:
            return Failure(transaction, code, printable(words), version)
    _wrong("e")


def _wrong(key: str) -> NoReturn:
    raise RemoteProtocolError(f"a DHT message with a wrong {key!r}")
