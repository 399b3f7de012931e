"""uTP streams to peers: the sockets, tasks and clocks around `wire.utp_connection`.

All connections share one `UdpPort`. Its receiver is synchronous, so packets are handled where they
come in, without a task switch; when the run of datagrams is over, each connection that got some
sends what it owes (one acknowledgement for all of them) and wakes who waits in its stream. One task
looks after all timers.

A stream that was closed lives on here until its last bytes and its FIN have arrived, `LINGER`
seconds at most. Aborting sends a RESET and forgets it.

Strangers can send a SYN under any address, so what they cost is bounded as at the TCP port: above
`max_strangers` connections that nobody has vouched for (their handler has not returned), the oldest
is aborted; a packet of no connection is answered by one of 20 bytes, some per second at most. Who
is blocked is answered by none.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Literal, Protocol

import trio

from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.transports.tcp import CONNECT_TIMEOUT, show_address
from torrentfs.wire.utp import RESET, SYN, parse_packet, refusal
from torrentfs.wire.utp_connection import SEND_CAPACITY, UtpConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from torrentfs.transports.base import Address, Buffer, PeerStream
    from torrentfs.wire.utp import Packet

log = logging.getLogger(__name__)

LINGER = 30.0
"""Seconds that a closed stream may take to deliver what it was given."""

MAX_CONNECTIONS = 1000
"""All together: four times what the engine ever wants."""

_REFUSALS = 50
"""Packets of no connection that are answered in a second."""


class Port(Protocol):
    """What is needed of a `UdpPort`."""

    def register(
        self,
        kind: Literal["utp"],
        handler: Callable[[memoryview, Address], None],
        after: Callable[[], None] | None = None,
        writable: Callable[[], None] | None = None,
    ) -> None: ...
    def send_run(self, datagrams: Sequence[bytes], address: Address) -> bool: ...
    def send_whole(self, datagram: bytes, address: Address) -> bool: ...
    def is_congested(self, address: Address) -> bool: ...


class UtpStream:
    """A `PeerStream` over a uTP connection; made by `Utp`."""

    kind = "utp"
    __slots__ = (
        *("_closed", "_receiving", "_room", "_sending", "_utp", "_waiting"),
        *("connection", "linger_until", "opened", "remote"),
    )

    def __init__(self, utp: Utp, connection: UtpConnection, remote: Address) -> None:
        self.connection = connection
        self.remote = remote
        self.linger_until = float("inf")
        self.opened = trio.Event()
        """Set when the connection is made or broken."""
        self._utp = utp
        self._closed = False
        self._receiving = False
        self._sending = False
        self._waiting = trio.Event()
        self._room = trio.Event()

    async def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes and put some at the start of `buffer`: how many, 0 at the end."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this peer")
        self._receiving = True
        connection = self.connection
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            while True:
                if self._closed:
                    raise self.failure()
                if connection.readable:
                    count = connection.read_into(buffer)
                    if connection.wants_to_send:
                        self._utp.flush(self)
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    return count
                if connection.ended:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    return 0
                if connection.error is not None:
                    raise self.failure()
                self._waiting = trio.Event()
                await self._waiting.wait()
        finally:
            self._receiving = False

    async def send_all(self, data: Buffer) -> None:
        """Send all of `data`."""
        await self.send_many((data,))

    async def send_many(self, buffers: Sequence[Buffer]) -> None:
        """Send all of each buffer, in order."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending to this peer")
        self._sending = True
        connection = self.connection
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._check()
            for buffer in buffers:
                at, size = connection.queue(buffer), len(buffer)
                while at < size:
                    self._utp.flush(self)
                    while connection.room < SEND_CAPACITY // 2:
                        self._room = trio.Event()
                        await self._room.wait()
                        self._check()
                    at += connection.queue(memoryview(buffer)[at:])
            self._utp.flush(self)
            await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self._sending = False

    def _check(self) -> None:
        if self._closed or self.connection.error is not None:
            raise self.failure()

    def failure(self) -> TransportError:
        """What this stream fails with, now that it has."""
        reason = "closed by us" if self._closed else self.connection.error
        return TransportError(f"connection to {show_address(*self.remote)}: {reason}")

    def wake(self) -> None:
        """Something changed: let those go on who wait for it."""
        connection = self.connection
        broken = connection.error is not None or self._closed
        if broken or connection.readable or connection.ended:
            self._waiting.set()
        if broken or connection.room >= SEND_CAPACITY // 2:
            self._room.set()
        if broken or connection.connected:
            self.opened.set()

    async def aclose(self) -> None:
        """Close; what was sent is still delivered."""
        if not self._closed:
            self._closed = True
            self.linger_until = trio.current_time() + LINGER
            self.connection.close()
            self.connection.discard()
            self.wake()
            self._utp.flush(self)
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """Close at once; tasks waiting in this stream get `TransportError`."""
        self._closed = True
        self._utp.forget(self)
        self.wake()

    def __repr__(self) -> str:
        return f"<UtpStream {show_address(*self.remote)} {self.connection!r}>"


class Utp:
    """All uTP connections over one UDP port; `run` must run for timers and incoming ones."""

    def __init__(self, port: Port, *, max_strangers: int = 64) -> None:
        self.max_strangers = max_strangers
        self.blocks: Callable[[str], bool] = lambda host: False
        """Whether we never talk to a caller from an IP address."""
        self.accepted = 0
        self._port = port
        self._streams: dict[tuple[str, int, int], UtpStream] = {}
        self._touched: dict[UtpStream, None] = {}
        self._blocked: dict[UtpStream, None] = {}
        self._strangers: dict[UtpStream, None] = {}  # oldest first
        self._handler: Callable[[PeerStream], Awaitable[None]] | None = None
        self._nursery: trio.Nursery | None = None
        self._timer_at = float("inf")
        self._timer = trio.Event()
        self._refused = 0
        self._refused_at = float("-inf")
        port.register("utp", self._on_datagram, self._after, self._on_writable)

    async def run(
        self,
        handler: Callable[[PeerStream], Awaitable[None]] | None = None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Until cancelled; `handler(stream)` for each incoming connection, as `Listener.serve`.

        Without a handler nobody can connect to us.
        """
        async with trio.open_nursery() as nursery:
            self._handler, self._nursery = handler, nursery
            task_status.started()
            try:
                await self._timer_loop()
            finally:
                self._nursery = None
                for stream in list(self._streams.values()):
                    stream.abort()

    async def connect(self, address: Address, *, timeout: float = CONNECT_TIMEOUT) -> UtpStream:
        """Connect to the peer at an IP address within `timeout` seconds, or `TransportError`."""
        host, port = address
        number = self._free_id(address)
        now = trio.current_time()
        connection = UtpConnection.dial(number, _random16(), now, ipv6=":" in host)
        stream = UtpStream(self, connection, address)
        self._streams[host, port, number] = stream
        action = f"connecting to {show_address(host, port)} by uTP"
        try:
            with trio.move_on_after(timeout):
                self.flush(stream)
                await stream.opened.wait()
            if not connection.connected:
                raise TransportError(f"{action}: {connection.error or 'timed out'}")
        except BaseException:
            stream.abort()
            raise
        return stream

    def _free_id(self, address: Address) -> int:
        if len(self._streams) >= MAX_CONNECTIONS:
            raise TransportError("too many uTP connections")
        while (*address, number := _random16()) in self._streams:
            pass
        return number

    # -- receiving ----------------------------------------------------------------------------

    def _on_datagram(self, data: memoryview, sender: Address) -> None:
        try:
            packet = parse_packet(data)
        except RemoteProtocolError as error:
            log.debug("dropped a datagram of %s: %s", show_address(*sender), error)
            return
        host, port = sender
        if packet.kind == SYN:
            self._on_syn(packet, sender)
            return
        stream = self._streams.get((host, port, packet.connection))
        if stream is None and packet.kind == RESET:  # some answer with the id that we sent under
            near = (packet.connection - 1) & 0xFFFF, (packet.connection + 1) & 0xFFFF
            found = (self._streams.get((host, port, number)) for number in near)
            wanted = packet.connection
            stream = next((s for s in found if s and s.connection.send_id == wanted), None)
        if stream is None:
            if packet.kind != RESET and not self.blocks(host):
                self._refuse(packet, sender)
            return
        stream.connection.receive(packet, trio.current_time())
        self._touched[stream] = None

    def _on_syn(self, packet: Packet, sender: Address) -> None:
        key = (*sender, (packet.connection + 1) & 0xFFFF)
        now = trio.current_time()
        stream = self._streams.get(key)
        if stream is not None:
            stream.connection.receive(packet, now)
            self._touched[stream] = None
            return
        if self._handler is None or self._nursery is None or not sender[1]:
            return
        if self.blocks(sender[0]):
            return
        if len(self._streams) >= MAX_CONNECTIONS:
            return
        ipv6 = ":" in sender[0]
        connection = UtpConnection.answer(packet, _random16(), now, ipv6=ipv6)
        stream = UtpStream(self, connection, sender)
        self._streams[key] = stream
        self._touched[stream] = None
        self.accepted += 1
        if len(self._strangers) >= self.max_strangers:
            oldest = next(iter(self._strangers))
            log.debug("dropped silent %r: too many strangers", oldest)
            oldest.abort()
        self._strangers[stream] = None
        self._nursery.start_soon(self._handle, stream, self._handler)

    async def _handle(
        self, stream: UtpStream, handler: Callable[[PeerStream], Awaitable[None]]
    ) -> None:
        try:
            await handler(stream)
        except TransportError as error:
            stream.abort()
            log.debug("incoming %s", error)
        except BaseException:
            stream.abort()
            raise
        finally:
            self._strangers.pop(stream, None)

    def _refuse(self, packet: Packet, sender: Address) -> None:
        now = trio.current_time()
        if now - self._refused_at >= 1:
            self._refused_at, self._refused = now, 0
        self._refused += 1
        if self._refused <= _REFUSALS:
            self._port.send_run((refusal(packet, now),), sender)

    def _after(self) -> None:
        touched, self._touched = self._touched, {}
        for stream in touched:
            self.flush(stream)
            stream.wake()

    # -- sending ------------------------------------------------------------------------------

    def flush(self, stream: UtpStream) -> None:
        """Send what a connection has to send, and note when it wants to be asked again."""
        connection = stream.connection
        if self._port.is_congested(stream.remote):
            self._blocked[stream] = None
        else:
            now = trio.current_time()
            probe = connection.probe(now)
            if probe is not None and not self._port.send_whole(probe, stream.remote):
                connection.on_probe_refused(now)
            datagrams = connection.datagrams(now)
            if len(datagrams) == 1:
                self._port.send_run(datagrams, stream.remote)
            elif datagrams:
                for run in _runs(datagrams):
                    self._port.send_run(run, stream.remote)
        if connection.finished:
            self.forget(stream)
            return
        timeout = min(connection.next_timeout(), stream.linger_until)
        if timeout < self._timer_at:
            self._timer_at = timeout
            self._timer.set()

    def _on_writable(self) -> None:
        blocked, self._blocked = self._blocked, {}
        for stream in blocked:
            self.flush(stream)
            stream.wake()

    def forget(self, stream: UtpStream) -> None:
        """A stream is over; if it was not, the peer is told so."""
        connection = stream.connection
        key = (*stream.remote, connection.receive_id)
        if self._streams.get(key) is not stream:
            return
        del self._streams[key]
        log.debug("over: %r", stream)
        self._strangers.pop(stream, None)
        self._blocked.pop(stream, None)
        farewell = None if connection.finished else connection.reset(trio.current_time())
        if farewell is not None:
            self._port.send_run((farewell,), stream.remote)

    async def _timer_loop(self) -> None:
        while True:
            with trio.move_on_at(self._timer_at):
                await self._timer.wait()
            self._timer = trio.Event()
            now = trio.current_time()
            self._timer_at = float("inf")
            for stream in list(self._streams.values()):
                connection = stream.connection
                if now >= stream.linger_until:
                    self.forget(stream)
                    continue
                timeout = connection.next_timeout()
                if timeout <= now:
                    connection.on_timeout(now)
                    self.flush(stream)
                    stream.wake()
                    timeout = connection.next_timeout()
                self._timer_at = min(self._timer_at, timeout, stream.linger_until)

    def __len__(self) -> int:
        return len(self._streams)

    def __repr__(self) -> str:
        return f"<Utp {len(self._streams)} connections, {len(self._strangers)} strangers>"


def _runs(datagrams: list[bytes]) -> list[list[bytes]]:
    """Cut where the length changes: runs that one call can send (the last may be shorter)."""
    runs: list[list[bytes]] = []
    size = -1
    for datagram in datagrams:
        length = len(datagram)
        if length == size:
            runs[-1].append(datagram)
        elif length < size:
            runs[-1].append(datagram)
            size = -1
        else:
            runs.append([datagram])
            size = length
    return runs


def _random16() -> int:
    return int.from_bytes(os.urandom(2))
