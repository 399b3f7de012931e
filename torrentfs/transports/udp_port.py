"""The UDP port: one socket per address family, shared by uTP and the DHT, for all torrents.

It has the number of the TCP port where that is free, because peers and trackers know only one. What
a datagram is for is told by its first byte: a bencoded dictionary (KRPC) begins with `d`, a uTP
header with the version 1 in its low four bits and a type up to 4 above. Others are dropped.

Receivers are synchronous. As many datagrams as there are, up to a bound, are handed out in one go,
then each kind that got some is told so (`after`): that is when uTP acknowledges, once for all.
Where the kernel can, it hands over runs of datagrams of one sender in one call (UDP_GRO), and takes
them so (UDP_SEGMENT): a system call costs as much as everything that we do for one packet.

Sending never waits. When the socket's buffer is full, one run of datagrams waits here until there
is room, `is_congested` says so, and `writable` is called then; what is sent meanwhile is dropped.
As on any line, a datagram can be lost: that is why errors of the network are no exceptions here.

Datagrams over IPv4 may be fragmented (no DF bit): a path narrower than uTP's packets then slows a
connection down and does not kill it. Over IPv6 the kernel does that. `send_whole` is for probes of
what a path carries: they are sent with DF whatever the kernel has heard of the path by ICMP, which
may be forged.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import trio

from torrentfs.transports.binding import hold
from torrentfs.transports.port_sockets import PortSockets
from torrentfs.transports.tcp import show_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torrentfs.transports.base import Address

log = logging.getLogger(__name__)

Kind = Literal["utp", "dht"]

_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104  # linux/udp.h; not in the socket module
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER = 10, 23  # linux/in.h, linux/in6.h
_PMTUDISC_DONT, _PMTUDISC_PROBE = 0, 3
_TOO_LARGE = (errno.EINVAL, errno.EMSGSIZE)
"""What a run of segments larger than the path fails with: single datagrams may be cut."""
_MAX_SEGMENTS = 32
"""Datagrams in one system call; the kernel takes 64 (and 64 KiB)."""
_BATCH = 64
"""Receive calls before other tasks have their turn."""
_BUFFER_BYTES = 2 << 20
"""Socket buffers that we ask for: a burst must not be lost while another task runs (the kernel
gives less where `net.core.rmem_max` is less)."""
_UTP_FIRST_BYTES = frozenset(kind << 4 | 1 for kind in range(5))
_ANCILLARY = socket.CMSG_SPACE(4)


class _Receiver(NamedTuple):
    handler: Callable[[memoryview, Address], None]
    after: Callable[[], None] | None
    writable: Callable[[], None] | None


class _Link:
    """One socket, and what waits for room in it."""

    def __init__(self, bound: socket.socket) -> None:
        self.socket = bound
        self.segments = hasattr(socket, "CMSG_LEN")  # until the kernel says no
        self.waiting: list[bytes] = []
        self.waiting_for: Any = None
        self.congested = trio.Event()

    @property
    def is_closed(self) -> bool:
        """Whether another one is at its place."""
        return self.socket.fileno() < 0


class UdpPort:
    """A bound UDP port; the module says how it is shared. Binds at construction: `ConfigError`.

    `bind` is where (see `binding`), None for every address of the machine.
    """

    def __init__(self, port: int = 0, *, bind: str | None = None) -> None:
        self.received = 0
        """Datagrams that came."""
        self.sent = 0
        self.dropped = 0
        """Datagrams of no kind, or that found no room to go out."""
        self._receivers: dict[Kind, _Receiver] = {}
        self._sockets = PortSockets(port, bind, partial(_bind_one, bind), "receive datagrams at")
        self._links = {int(bound.family): _Link(bound) for bound in self._sockets.sockets}
        self.port = self._sockets.port
        self._nursery: trio.Nursery | None = None
        self._buffer = bytearray(1 << 16)
        self._closed = False

    @property
    def families(self) -> frozenset[int]:
        """The address families that can be sent to."""
        return frozenset(self._links)

    def register(
        self,
        kind: Kind,
        handler: Callable[[memoryview, Address], None],
        after: Callable[[], None] | None = None,
        writable: Callable[[], None] | None = None,
    ) -> None:
        """Give datagrams of `kind` to `handler(data, sender)`; `data` lives as long as the call.

        `after()` follows each run of them, `writable()` when a congested socket has room again.
        """
        self._receivers[kind] = _Receiver(handler, after, writable)

    # -- receiving ----------------------------------------------------------------------------

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receive until cancelled; the sockets are closed then."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for link in self._links.values():
                    nursery.start_soon(self._receive_loop, link)
                    nursery.start_soon(self._drain_loop, link)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self.close()

    def follow(self) -> str:
        """Be where `bind` stands now, while `serve` runs; why that is not possible, or empty."""
        moved = self._sockets.follow()
        for bound in moved.gone:
            link = self._links.pop(bound.family)
            trio.lowlevel.notify_closing(bound)
            bound.close()
            link.congested.set()
        for bound in moved.come:
            link = self._links[bound.family] = _Link(bound)
            if self._nursery is not None:
                self._nursery.start_soon(self._receive_loop, link)
                self._nursery.start_soon(self._drain_loop, link)
        return moved.trouble

    async def _receive_loop(self, link: _Link) -> None:
        with contextlib.suppress(trio.ClosedResourceError):  # `follow`: another is at its place
            while not link.is_closed:
                if self._receive(link):
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(link.socket)

    def _receive(self, link: _Link) -> bool:
        """Hand out what there is; True when there may be more."""
        view, receive = memoryview(self._buffer), link.socket.recvmsg_into
        room = [view]
        touched: set[Kind] = set()
        more = True
        for _ in range(_BATCH):
            try:
                size, ancillary, _, sender = receive(room, _ANCILLARY)
            except BlockingIOError:
                more = False
                break
            except OSError as error:  # an ICMP error of some earlier datagram
                log.debug("UDP port: %s", error)
                continue
            step = size
            if ancillary:
                step = struct.unpack_from("=i", ancillary[0][2])[0] or size
            sender = sender[:2]
            at = 0
            while at < size:
                self._hand_out(view[at : min(size, at + step)], sender, touched)
                at += step
        for kind in touched:
            after = self._receivers[kind].after
            if after is not None:
                self._call(after)
        return more

    def _hand_out(self, data: memoryview, sender: Address, touched: set[Kind]) -> None:
        self.received += 1
        first = data[0]
        kind: Kind | None = None
        if first in _UTP_FIRST_BYTES:
            kind = "utp"
        elif first == 0x64:  # "d"
            kind = "dht"
        receiver = self._receivers.get(kind) if kind is not None else None
        if receiver is None or kind is None:
            self.dropped += 1
            return
        touched.add(kind)
        try:
            receiver.handler(data, sender)
        except Exception:  # a bug of ours must cost this datagram, not the port
            log.exception("a bug in the %s receiver", kind)

    def _call(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception:
            log.exception("a bug behind the UDP port")

    # -- sending ------------------------------------------------------------------------------

    def send(self, datagram: bytes, address: Address) -> bool:
        """Send one datagram; False when it could not go out."""
        return self.send_run((datagram,), address)

    def send_run(self, datagrams: Sequence[bytes], address: Address) -> bool:
        """Send datagrams of one length (the last may be shorter) to one address, in order.

        False when none of them could go out; those that find no room wait for it (`is_congested`).
        """
        link = self._link(address)
        if link is None or link.waiting or self._closed:
            self.dropped += len(datagrams)
            return False
        done = self._send(link, datagrams, address)
        if done < len(datagrams):
            link.waiting = list(datagrams[done:])
            link.waiting_for = address
            link.congested.set()
        return True

    def send_whole(self, datagram: bytes, address: Address) -> bool:
        """Send one that nobody may cut; False if it is too large for our own interface."""
        link = self._link(address)
        if link is None or link.waiting or self._closed:
            self.dropped += 1
            return True
        one, option = link.socket, (socket.IPPROTO_IP, _IP_MTU_DISCOVER)
        if one.family == socket.AF_INET6:
            option = (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
        try:
            usual = one.getsockopt(*option)
            one.setsockopt(*option, _PMTUDISC_PROBE)
        except OSError:  # a kernel that cannot: then nothing is tried
            return False
        try:
            one.sendto(datagram, address)
            self.sent += 1
        except OSError as error:
            self.dropped += 1
            return error.errno != errno.EMSGSIZE
        finally:
            one.setsockopt(*option, usual)
        return True

    def is_congested(self, address: Address) -> bool:
        """Whether what is sent to this address now would be dropped, for want of room."""
        link = self._link(address)
        return link is not None and bool(link.waiting)

    def _link(self, address: Address) -> _Link | None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        return self._links.get(family)

    def _send(self, link: _Link, datagrams: Sequence[bytes], address: Address) -> int:
        """Send as many as there is room for; how many are done with, lost ones included."""
        done = single = 0  # up to `single` one by one
        while done < len(datagrams):
            together = link.segments and done >= single
            run = datagrams[done : done + (_MAX_SEGMENTS if together else 1)]
            try:
                if len(run) == 1:
                    link.socket.sendto(run[0], address)
                else:
                    size = struct.pack("=H", len(run[0]))
                    link.socket.sendmsg(run, [(_SOL_UDP, _UDP_SEGMENT, size)], 0, address)
            except BlockingIOError:
                return done
            except (OSError, OverflowError) as error:
                number = error.errno if isinstance(error, OSError) else None
                if len(run) > 1 and number in _TOO_LARGE:
                    single = done + len(run)
                    continue
                if len(run) > 1 and number not in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                    log.debug("UDP port: %s; datagrams go one by one from now on", error)
                    link.segments = False
                    continue
                log.debug("UDP to %s: %s", show_address(*address), error)
                self.dropped += len(run)
            else:
                self.sent += len(run)
            done += len(run)
        return done

    async def _drain_loop(self, link: _Link) -> None:
        while True:
            await link.congested.wait()
            try:
                if link.is_closed:
                    return
                await trio.lowlevel.wait_writable(link.socket)
            except trio.ClosedResourceError:
                return
            done = self._send(link, link.waiting, link.waiting_for)
            link.waiting = link.waiting[done:]
            if not link.waiting:
                link.congested = trio.Event()
                for receiver in tuple(self._receivers.values()):
                    if receiver.writable is not None:
                        self._call(receiver.writable)

    def close(self) -> None:
        """Close the sockets; `serve` does it by itself when it ends."""
        if not self._closed:
            self._closed = True
            self._sockets.close()

    def __repr__(self) -> str:
        return f"<UdpPort {self.port}, {self.received} received, {self.sent} sent>"


def _bind_one(bind: str | None, family: int, host: str, port: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_DGRAM)
    try:
        one.setblocking(False)
        hold(one, bind)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        else:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        with contextlib.suppress(OSError):
            one.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        one.bind((host, port))
    except BaseException:
        one.close()
        raise
    return one
