"""Asking a gateway to let peers in: PCP (RFC 6887) and its predecessor NAT-PMP (RFC 6886).

Both are datagrams to port 5351 of the default gateway, and answer from there. A request is sent
again after 250 ms, doubling (RFC 6886 3.1), until it is answered. A gateway that knows NAT-PMP only
answers a PCP request with "unsupported version" in its own version, 0: `WrongVersion`.

A PCP answer carries the nonce of its request, 96 random bits, without which nobody else can
take it for ours. NAT-PMP has nothing of the kind: there only the gateway's address protects us.

Lifetimes are seconds; one of 0 takes a mapping away. Anything malformed is a
`RemoteProtocolError`. The replies at the end of the file are for tests.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from struct import Struct
from typing import Literal

from torrentfs.errors import LocalProtocolError, RemoteProtocolError

PORT = 5351
FIRST_TIMEOUT = 0.25
"""Seconds to the first repetition; doubles with each."""
NONCE_LENGTH = 12

Protocol = Literal["tcp", "udp"]

_NUMBERS: dict[Protocol, int] = {"tcp": 6, "udp": 17}  # IANA; used by PCP
_NAT_PMP_OPCODES: dict[Protocol, int] = {"udp": 1, "tcp": 2}
_PCP_VERSION, _NAT_PMP_VERSION = 2, 0
_DRAFT_VERSION = 1  # of PCP, before its RFC
_PCP_MAP, _ANSWER = 1, 0x80
_LONGEST = 1100  # RFC 6887 7
_PCP_REQUEST = Struct(">BBxxI16s12sBxxxHH16s")
_PCP_HEAD = Struct(">BBxBII12x")
_PCP_MAPPED = Struct(">12sBxxxHH16s")
_NAT_PMP_REQUEST = Struct(">BBxxHHI")
_NAT_PMP_HEAD = Struct(">BBHI")
_NAT_PMP_MAPPED = Struct(">HHI")
_ANY_IPV4 = ipaddress.IPv6Address("::ffff:0.0.0.0")
_UNSUPPORTED_VERSION = 1
_REASONS = {
    1: "does not know this version", 2: "does not permit it", 3: "found the request malformed",
    4: "does not know this request", 5: "does not know an option", 6: "found an option malformed",
    7: "has no network", 8: "has no room for more", 9: "does not know this protocol",
    10: "has no room for more of us", 11: "cannot give this external port",
    12: "sees us at another address", 13: "has too many remote peers",
}  # fmt: skip
_NAT_PMP_REASONS = {
    1: "does not know this version", 2: "does not permit it", 3: "has no network",
    4: "has no room for more", 5: "does not know this request",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mapped:
    """The gateway passes what comes to `external_port` on to our `port`, for `lifetime` seconds.

    `address` is its external address, None where the answer does not tell (NAT-PMP). `epoch` is
    the gateway's seconds since it began: one that grew too little tells of a restart.
    """

    protocol: Protocol
    port: int
    external_port: int
    lifetime: int
    epoch: int
    address: str | None


@dataclass(frozen=True, slots=True)
class ExternalAddress:
    """What the gateway's address is outside (NAT-PMP)."""

    address: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Denied:
    """The gateway will not, `reason` says why."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class WrongVersion:
    """The gateway speaks another version: after PCP, try NAT-PMP."""


Reply = Mapped | ExternalAddress | Denied | WrongVersion


def pcp_request(
    nonce: bytes, client: str, protocol: Protocol, port: int, external_port: int, lifetime: int
) -> bytes:
    """Ask for a mapping by PCP; `client` is our address as the gateway sees it."""
    if len(nonce) != NONCE_LENGTH:
        raise LocalProtocolError("a PCP nonce has 12 bytes")
    return _PCP_REQUEST.pack(
        _PCP_VERSION,
        _PCP_MAP,
        lifetime,
        _as_ipv6(client),
        nonce,
        _NUMBERS[protocol],
        port,
        external_port,
        _ANY_IPV4.packed if "." in client else bytes(16),
    )


def nat_pmp_request(protocol: Protocol, port: int, external_port: int, lifetime: int) -> bytes:
    """Ask for a mapping by NAT-PMP."""
    return _NAT_PMP_REQUEST.pack(
        _NAT_PMP_VERSION, _NAT_PMP_OPCODES[protocol], port, external_port, lifetime
    )


def nat_pmp_address_request() -> bytes:
    """Ask for the external address by NAT-PMP."""
    return bytes((_NAT_PMP_VERSION, 0))


def parse_reply(data: bytes, nonce: bytes) -> Reply | None:
    """What a gateway said. None: an answer to another request, or no answer at all.

    `nonce` is that of our request, if it was by PCP.
    """
    if len(data) > _LONGEST or len(data) < 2:
        raise RemoteProtocolError("no datagram of port control")
    if not data[1] & _ANSWER:
        return None
    if data[0] == _NAT_PMP_VERSION:
        return _parse_nat_pmp(data)
    if data[0] == _PCP_VERSION:
        return _parse_pcp(data, nonce)
    if data[0] == _DRAFT_VERSION:
        return WrongVersion()
    raise RemoteProtocolError(f"an answer of version {data[0]}")


def _parse_pcp(data: bytes, nonce: bytes) -> Reply | None:
    if len(data) < _PCP_HEAD.size or len(data) % 4:
        raise RemoteProtocolError("a PCP answer of an impossible length")
    _, opcode, code, lifetime, epoch = _PCP_HEAD.unpack_from(data)
    if opcode != _PCP_MAP | _ANSWER:
        return None
    if code == _UNSUPPORTED_VERSION:
        return WrongVersion()
    if len(data) < _PCP_HEAD.size + _PCP_MAPPED.size:
        if code:  # some gateways cut their refusals short
            return _denied(code, _REASONS)
        raise RemoteProtocolError("a PCP answer without its mapping")
    theirs, number, port, external, address = _PCP_MAPPED.unpack_from(data, _PCP_HEAD.size)
    if theirs != nonce:
        return None
    if code:
        return _denied(code, _REASONS)
    outside = ipaddress.IPv6Address(address)
    return Mapped(
        _protocol(number, _NUMBERS),
        port,
        external,
        lifetime,
        epoch,
        str(outside.ipv4_mapped or outside),
    )


def _parse_nat_pmp(data: bytes) -> Reply | None:
    if len(data) < _NAT_PMP_HEAD.size:
        raise RemoteProtocolError("a NAT-PMP answer cut short")
    _, opcode, code, epoch = _NAT_PMP_HEAD.unpack_from(data)
    if code == _UNSUPPORTED_VERSION:
        return WrongVersion()
    if code:
        return _denied(code, _NAT_PMP_REASONS)
    opcode &= ~_ANSWER
    if opcode == 0:
        if len(data) < 12:
            raise RemoteProtocolError("a NAT-PMP answer cut short")
        return ExternalAddress(str(ipaddress.IPv4Address(data[8:12])), epoch)
    if len(data) < _NAT_PMP_HEAD.size + _NAT_PMP_MAPPED.size:
        raise RemoteProtocolError("a NAT-PMP answer cut short")
    port, external, lifetime = _NAT_PMP_MAPPED.unpack_from(data, _NAT_PMP_HEAD.size)
    return Mapped(_protocol(opcode, _NAT_PMP_OPCODES), port, external, lifetime, epoch, None)


def _protocol(number: int, numbers: dict[Protocol, int]) -> Protocol:
    for name, known in numbers.items():
        if known == number:
            return name
    raise RemoteProtocolError(f"a mapping of protocol {number}")


def _denied(code: int, reasons: dict[int, str]) -> Denied:
    return Denied(code, f"the gateway {reasons.get(code, f'answers with error {code}')}")


def _as_ipv6(address: str) -> bytes:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv4Address):
        parsed = ipaddress.IPv6Address(f"::ffff:{parsed}")
    return parsed.packed


# -- the gateway's side ---------------------------------------------------------------------------


def pcp_reply(request: bytes, *, code: int = 0, epoch: int, address: str, external: int) -> bytes:
    """What a gateway answers to `pcp_request`, word for word but for these."""
    _, _, lifetime, _, nonce, number, port, _, _ = _PCP_REQUEST.unpack(request)
    head = _PCP_HEAD.pack(_PCP_VERSION, _PCP_MAP | _ANSWER, code, lifetime, epoch)
    return head + _PCP_MAPPED.pack(nonce, number, port, external, _as_ipv6(address))


def nat_pmp_reply(request: bytes, *, code: int = 0, epoch: int, external: int) -> bytes:
    """What a gateway answers to `nat_pmp_request`."""
    _, opcode, port, _, lifetime = _NAT_PMP_REQUEST.unpack(request)
    head = _NAT_PMP_HEAD.pack(_NAT_PMP_VERSION, opcode | _ANSWER, code, epoch)
    return head + _NAT_PMP_MAPPED.pack(port, external, lifetime)


def nat_pmp_address_reply(*, code: int = 0, epoch: int, address: str) -> bytes:
    """What a gateway answers to `nat_pmp_address_request`."""
    head = _NAT_PMP_HEAD.pack(_NAT_PMP_VERSION, _ANSWER, code, epoch)
    return head + ipaddress.IPv4Address(address).packed
