"""An event loop whose sockets all leave by one network device or address.

`--bind-interface` must hold for every socket, and the ICE library makes some (to a TURN server)
that it binds to nothing. All of them come from two methods of the loop, so it is done here, where
none can be forgotten. A device is bound to with SO_BINDTODEVICE, which needs no privilege since
Linux 5.7, and before the first packet; the address alone would leave the route to the kernel.
"""

from __future__ import annotations

import socket
from typing import Any

from torrentfs.errors import TransportError
from torrentfs.transports.webrtc.datagrams import DatagramLoop
from torrentfs.transports.webrtc.interfaces import device_of, host_addresses


class BoundLoop(DatagramLoop):
    """`bind` is a device or an address; None leaves sockets alone."""

    def __init__(self, bind: str | None = None) -> None:
        super().__init__()
        self.bind_to = bind

    async def create_datagram_endpoint(
        self, protocol_factory: Any, local_addr: Any = None, remote_addr: Any = None, **more: Any
    ) -> Any:
        """As in the base, from a bound socket."""
        if self.bind_to is None or more.get("sock") is not None:
            return await super().create_datagram_endpoint(
                protocol_factory, local_addr, remote_addr, **more
            )
        bound = None
        place = None
        if remote_addr is not None:
            family, place = await self._find(remote_addr[0], remote_addr[1], socket.SOCK_DGRAM)
            bound = self._socket(family, socket.SOCK_DGRAM)
        else:
            family = socket.AF_INET6 if ":" in local_addr[0] else socket.AF_INET
            bound = self._socket(family, socket.SOCK_DGRAM, local_addr[0])
        try:
            if place is not None:
                bound.connect(place)
            return await super().create_datagram_endpoint(protocol_factory, sock=bound)
        except BaseException:
            bound.close()
            raise

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **more: Any
    ) -> Any:
        """As in the base, from a bound socket."""
        if self.bind_to is None or more.get("sock") is not None:
            return await super().create_connection(protocol_factory, host, port, **more)
        family, place = await self._find(host, port, socket.SOCK_STREAM)
        bound = self._socket(family, socket.SOCK_STREAM)
        try:
            await self.sock_connect(bound, place)
            if more.get("ssl"):
                more.setdefault("server_hostname", host)
            return await super().create_connection(protocol_factory, sock=bound, **more)
        except BaseException:
            bound.close()
            raise

    async def _find(
        self, host: str, port: int, kind: socket.SocketKind
    ) -> tuple[socket.AddressFamily, Any]:
        """The server's address in a family that we have."""
        ours = {_family(each) for each in self._addresses()}
        for family, _, _, _, place in await self.getaddrinfo(host, port, type=kind):
            if family in ours:
                return family, place
        raise OSError(f"{host} cannot be reached from {self.bind_to}")

    def _addresses(self) -> list[str]:
        try:
            return host_addresses(self.bind_to)
        except TransportError as error:  # callers are libraries, which know OSError
            raise OSError(str(error)) from error

    def _socket(
        self, family: socket.AddressFamily, kind: socket.SocketKind, address: str | None = None
    ) -> socket.socket:
        if address is None:
            address = next(each for each in self._addresses() if _family(each) == family)
        bound = socket.socket(family, kind)
        try:
            bound.setblocking(False)
            device = device_of(self.bind_to)
            if device is not None:
                option = device.encode() + b"\0"
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, option)
            bound.bind((address, 0))
        except BaseException:
            bound.close()
            raise
        return bound


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
