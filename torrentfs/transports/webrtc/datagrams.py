"""UDP for ICE, many datagrams at a time (asyncio; the worker process only).

asyncio's own datagram transport reads one datagram for each turn of the event loop, and a page
that sends 25 MB/s sends 22,000 of them a second: half of the CPU went into waking up, and while
one was handled the socket's buffer ran over. Here a turn reads what there is (up to `BATCH`), the
protocol gets them together if it has `datagrams_received`, and equal packets to one place leave
with one system call (UDP_SEGMENT, Linux 4.18; one by one where the kernel or the device will not).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Address = tuple[Any, ...]

BATCH = 16
"""Datagrams for each turn: a quarter of a millisecond of work. The acknowledgements of more come to
Chromium in a clump, and what it then sends in one go overruns a buffer of its own (64 KiB)."""
MAX_DATAGRAM = 2048
"""WebRTC's packets are of 1200 bytes; what is longer is cut off, and thrown away by DTLS."""
MAX_PENDING = 512
"""Datagrams kept while the socket cannot take any; what comes then is lost, as in any network."""
RECEIVE_BUFFER = 4 << 20
"""Bytes to ask for with SO_RCVBUF; the kernel gives what `net.core.rmem_max` allows."""
MAX_SEGMENTS = 48
"""Of one UDP_SEGMENT: less than 64 KB in all, and less than the kernel's 64."""
UDP_SEGMENT = 103
"""linux/udp.h; Python's socket module has no name for it."""
_SEGMENT_SIZE = Struct("=H")


@runtime_checkable
class BatchProtocol(Protocol):
    """A datagram protocol that takes several at once."""

    def datagrams_received(self, datagrams: list[tuple[bytes, Address]]) -> None:
        """All that came in this turn, in order."""


class DatagramTransport(asyncio.DatagramTransport):
    """A bound, unconnected UDP socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.DatagramProtocol,
    ) -> None:
        super().__init__({"socket": sock, "sockname": sock.getsockname()})
        self._loop = loop
        self._socket = sock
        self._protocol = protocol
        self._batched = isinstance(protocol, BatchProtocol)
        self._pending: deque[tuple[bytes, Address]] = deque()
        self._closing = False
        self._segments = True
        loop.add_reader(sock, self._on_readable)
        protocol.connection_made(self)

    # -- in ---------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        receive = self._socket.recvfrom
        datagrams: list[tuple[bytes, Address]] = []
        try:
            for _ in range(BATCH):
                datagrams.append(receive(MAX_DATAGRAM))
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:  # an ICMP answer to something sent before
            self._protocol.error_received(error)
        if self._batched:
            cast("BatchProtocol", self._protocol).datagrams_received(datagrams)
            return
        for data, address in datagrams:
            if not self._closing:
                self._protocol.datagram_received(data, address)

    # -- out --------------------------------------------------------------------------------------

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send one datagram, now or as soon as the socket can."""
        assert addr is not None, "the socket is not connected"
        if self._closing:
            return
        if not self._pending:
            try:
                self._socket.sendto(data, addr)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._socket, self._on_writable)
            except OSError as error:
                self._protocol.error_received(error)
                return
            else:
                return
        if len(self._pending) < MAX_PENDING:
            self._pending.append((bytes(data), addr))

    def send_many(self, datagrams: Sequence[bytes], address: Address) -> None:
        """Send several to one place, in as few system calls as the kernel allows."""
        begin = 0
        while begin < len(datagrams):
            size = len(datagrams[begin])
            end = begin + 1
            most = min(len(datagrams), begin + MAX_SEGMENTS)
            if self._segments and not self._pending:
                while end < most and len(datagrams[end]) == size:
                    end += 1
                if end < most and len(datagrams[end]) < size:
                    end += 1  # the last segment may be shorter
            if end - begin == 1 or not self._send_segments(datagrams[begin:end], size, address):
                for datagram in datagrams[begin:end]:
                    self.sendto(datagram, address)
            begin = end

    def _send_segments(self, datagrams: Sequence[bytes], size: int, address: Address) -> bool:
        control = [(socket.IPPROTO_UDP, UDP_SEGMENT, _SEGMENT_SIZE.pack(size))]
        try:
            self._socket.sendmsg(datagrams, control, 0, address)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # EIO: the device cannot; EINVAL: the path takes less; ENOPROTOOPT: old
            self._segments = False
            return False
        return True

    def _on_writable(self) -> None:
        while self._pending:
            data, address = self._pending[0]
            try:
                self._socket.sendto(data, address)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._protocol.error_received(error)
            self._pending.popleft()
        self._loop.remove_writer(self._socket)

    # -- end --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close at once; what could not be sent yet is lost."""
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._loop.call_soon(self._finish)

    def is_closing(self) -> bool:
        """True from `close` on."""
        return self._closing

    def _finish(self) -> None:
        self._protocol.connection_lost(None)
        self._socket.close()


class DatagramLoop(asyncio.SelectorEventLoop):
    """An event loop whose unconnected UDP sockets are read in batches; for `asyncio.Runner`."""

    async def create_datagram_endpoint(
        self,
        protocol_factory: Any,
        local_addr: Any = None,
        remote_addr: Any = None,
        **more: Any,
    ) -> Any:
        """As asyncio's; names, connected sockets and special wishes are left to asyncio."""
        sock = more.pop("sock", None)
        if remote_addr is None and not more:
            if sock is not None and not _is_connected(sock):
                return self._open(sock, protocol_factory)
            if sock is None and local_addr is not None and _is_address(local_addr[0]):
                return self._open(_bound(local_addr), protocol_factory)
        if sock is not None:
            more["sock"] = sock
        return await super().create_datagram_endpoint(
            protocol_factory, local_addr, remote_addr, **more
        )

    def _open(
        self, sock: socket.socket, protocol_factory: Callable[[], asyncio.DatagramProtocol]
    ) -> tuple[DatagramTransport, asyncio.DatagramProtocol]:
        try:
            sock.setblocking(False)
            protocol = protocol_factory()
            return DatagramTransport(self, sock, protocol), protocol
        except BaseException:
            sock.close()
            raise


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _is_address(name: str) -> bool:
    """True unless it has to be looked up."""
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _bound(place: tuple[str, int]) -> socket.socket:
    family, kind, number, _, address = socket.getaddrinfo(
        *place[:2], type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
    )[0]
    sock = socket.socket(family, kind, number)
    try:
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock
