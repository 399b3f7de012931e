"""The default gateway, and asking it for ports by PCP or NAT-PMP (see `wire.port_control`).

PCP first: it is bound to us by a nonce and tells the external address at once. A gateway that
knows only NAT-PMP says so. One that knows neither refuses (a closed port) or is silent; then
`TransportError`.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trio

from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.binding import attach
from torrentfs.transports.tcp import failure
from torrentfs.wire.port_control import (
    FIRST_TIMEOUT,
    PORT,
    Denied,
    ExternalAddress,
    Mapped,
    WrongVersion,
    nat_pmp_address_request,
    nat_pmp_request,
    parse_reply,
    pcp_request,
)

if TYPE_CHECKING:
    from random import Random

    from torrentfs.wire.port_control import Protocol, Reply

ROUTES = Path("/proc/net/route")
TRIES = 4
"""Times that a request is sent: 3.75 s until a gateway is silent."""
_UP, _GATEWAY = 1, 2  # RTF_UP, RTF_GATEWAY of linux/route.h
_LONGEST_REPLY = 2048


class Gateway(NamedTuple):
    """Where packets to the Internet go first: its IPv4 address, and the interface it is on."""

    address: str
    interface: str


def find_gateway(interface: str | None = None, routes: Path = ROUTES) -> Gateway | None:
    """The default gateway, the one of least metric; only through `interface` if that is given."""
    found: list[tuple[int, Gateway]] = []
    try:
        lines = routes.read_text().splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) < 8 or fields[1] != "00000000" or fields[7] != "00000000":
            continue
        flags = int(fields[3], 16)
        if flags & (_UP | _GATEWAY) == _UP | _GATEWAY and interface in (None, fields[0]):
            address = socket.inet_ntoa(struct.pack("=I", int(fields[2], 16)))
            found.append((int(fields[6]), Gateway(address, fields[0])))
    return min(found)[1] if found else None


class PortControl:
    """Ports of one gateway. `bind` is what to ask from (see `binding`)."""

    def __init__(self, gateway: str, rng: Random, *, bind: str | None = None) -> None:
        self._gateway = gateway
        self._bind = bind
        # of a mapping it must stay the same: by it the gateway knows that a renewal is ours
        self._nonces: dict[tuple[Protocol, int], bytes] = {}
        self._rng = rng
        self._speaks_pcp = True

    async def map(self, protocol: Protocol, port: int, external: int, lifetime: int) -> Mapped:
        """Have what comes to the gateway's port `external`, or another, sent to our `port`.

        `TransportError` when it does not answer, `RemoteProtocolError` when it refuses.
        A `lifetime` of 0 takes the mapping away.
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
            try:
                raw.setblocking(False)
                attach(raw, self._bind)
                raw.connect((self._gateway, PORT))
                return await self._map(raw, protocol, port, external, lifetime)
            except OSError as error:
                raise failure(f"asking the gateway {self._gateway} for a port", error) from error

    async def _map(
        self, raw: socket.socket, protocol: Protocol, port: int, external: int, lifetime: int
    ) -> Mapped:
        if self._speaks_pcp:
            nonce = self._nonces.setdefault((protocol, port), self._rng.randbytes(12))
            ours = str(raw.getsockname()[0])
            request = pcp_request(nonce, ours, protocol, port, external, lifetime)
            reply = await self._ask(raw, request, nonce, Mapped)
            if isinstance(reply, Mapped):
                return reply
            if isinstance(reply, Denied):
                raise RemoteProtocolError(reply.reason)
            self._speaks_pcp = False
        request = nat_pmp_request(protocol, port, external, lifetime)
        reply = await self._ask(raw, request, b"", Mapped)
        if not isinstance(reply, Mapped):
            said = reply.reason if isinstance(reply, Denied) else "the gateway knows no NAT-PMP"
            raise RemoteProtocolError(said)
        if not lifetime:
            return reply
        outside = await self._ask(raw, nat_pmp_address_request(), b"", ExternalAddress)
        address = outside.address if isinstance(outside, ExternalAddress) else None
        return Mapped(
            reply.protocol, reply.port, reply.external_port, reply.lifetime, reply.epoch, address
        )

    async def _ask(
        self,
        raw: socket.socket,
        request: bytes,
        nonce: bytes,
        wanted: type[Mapped] | type[ExternalAddress],
    ) -> Reply:
        """Send, and again, until the gateway answers this."""
        for attempt in range(TRIES):
            raw.send(request)
            with trio.move_on_after(FIRST_TIMEOUT * 2**attempt):
                while True:
                    await trio.lowlevel.wait_readable(raw)
                    try:
                        reply = parse_reply(raw.recv(_LONGEST_REPLY), nonce)
                    except (BlockingIOError, RemoteProtocolError):
                        continue
                    if isinstance(reply, wanted | Denied | WrongVersion):
                        return reply
        raise TransportError(f"the gateway {self._gateway} does not answer on port {PORT}")

    def __repr__(self) -> str:
        return f"<PortControl {self._gateway} {'PCP' if self._speaks_pcp else 'NAT-PMP'}>"
