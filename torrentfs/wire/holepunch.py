"""Hole punching messages (BEP 55): two peers behind NAT are told of each other by a third one.

    initiator                     relay                      target
    Rendezvous(of the target) ->
                              <-  Connect(to the target)
                                  Connect(to the initiator) ->
            (both dial at once, over uTP: what each sends opens its own NAT for the other)

or `RendezvousFailed` instead, with the address of the question and one of the codes below.

    type (1 byte), family (1 byte: 0 IPv4, 1 IPv6), address (4 or 16), port (2), error code (4)

The code is 0 where nothing failed; libtorrent leaves it out there, so it is optional in reading.
What has an unknown type or family is no error: it is `UnknownExtension` and passed over. An address
that nobody can have (port 0) is read like any other, for it must be sent back in an error.
"""

from __future__ import annotations

import ipaddress

from torrentfs.errors import LocalProtocolError, RemoteProtocolError
from torrentfs.wire import messages as m

EXTENSION_ID = 4
"""Under which we want these messages; libtorrent's number, too."""

NO_SUCH_PEER, NOT_CONNECTED, NO_SUPPORT, NO_SELF = 1, 2, 3, 4
"""Error codes: no possible address; not connected to us; does not speak it; is yourself, or me."""

MAX_BYTES = 64
"""Of a message, whatever may be appended one day; today's have 24 at most."""

_RENDEZVOUS, _CONNECT, _FAILED = range(3)
_WIDTHS = {0: 4, 1: 16}
_CODE_BYTES = 4


def read_holepunch(payload: memoryview) -> m.ExtensionMessage:
    """A message's payload; `RemoteProtocolError` when it is cut short, or far too long."""
    if not 2 <= len(payload) <= MAX_BYTES:
        raise RemoteProtocolError(f"a hole punching message of {len(payload)} bytes")
    kind, family = payload[0], payload[1]
    width = _WIDTHS.get(family)
    if width is None or kind > _FAILED:
        return m.UnknownExtension(EXTENSION_ID, bytes(payload))
    end = 2 + width + 2
    if len(payload) < end + (_CODE_BYTES if kind == _FAILED else 0):
        raise RemoteProtocolError(f"a hole punching message of {len(payload)} bytes")
    host = str(ipaddress.ip_address(bytes(payload[2 : 2 + width])))
    address = host, int.from_bytes(payload[2 + width : end])
    if kind == _RENDEZVOUS:
        return m.Rendezvous(address)
    if kind == _CONNECT:
        return m.Connect(address)
    return m.RendezvousFailed(address, int.from_bytes(payload[end : end + _CODE_BYTES]))


def write_holepunch(message: m.Rendezvous | m.Connect | m.RendezvousFailed) -> bytes:
    """The payload of a message; `LocalProtocolError` for a name, or what has no such port."""
    host, port = message.address
    try:
        packed = ipaddress.ip_address(host).packed
        place = bytes([len(packed) == 16]) + packed + port.to_bytes(2)
        if isinstance(message, m.RendezvousFailed):
            return bytes([_FAILED]) + place + message.code.to_bytes(_CODE_BYTES)
    except (ValueError, OverflowError):
        raise LocalProtocolError(f"cannot be written: {message}") from None
    kind = _RENDEZVOUS if isinstance(message, m.Rendezvous) else _CONNECT
    return bytes([kind]) + place + bytes(_CODE_BYTES)


def failure_words(code: int) -> str:
    """What an error code means."""
    return _WORDS.get(code, f"error {code}")


_WORDS = {
    NO_SUCH_PEER: "no such peer",
    NOT_CONNECTED: "not connected to it",
    NO_SUPPORT: "it does not speak BEP 55",
    NO_SELF: "that is one of us two",
}
