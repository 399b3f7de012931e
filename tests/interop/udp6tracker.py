"""A UDP tracker on ::1 that gives IPv6 peers as BEP 15 wants it: 18 bytes each.

The package of `tests/swarm/tracker.py` does not: over UDP it tells of IPv4 peers only. Written
with `struct` alone, so that an error in this project's own codecs does not cancel out.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_MAGIC, _CONNECTION = 0x41727101980, 0x1122334455667788
_CONNECT, _ANNOUNCE, _STOPPED = 0, 1, 3


def _serve(udp: socket.socket, stopping: threading.Event) -> None:
    swarms: dict[bytes, dict[bytes, None]] = {}
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            data, sender = udp.recvfrom(2048)
            if reply := _answer(data, sender[0], swarms):
                udp.sendto(reply, sender)


def _answer(data: bytes, host: str, swarms: dict[bytes, dict[bytes, None]]) -> bytes:
    connection, action, transaction = struct.unpack_from(">QII", data)
    if (connection, action) == (_MAGIC, _CONNECT):
        return struct.pack(">IIQ", _CONNECT, transaction, _CONNECTION)
    if (connection, action) != (_CONNECTION, _ANNOUNCE) or len(data) < 98:
        return b""
    (event,) = struct.unpack_from(">I", data, 80)
    us = socket.inet_pton(socket.AF_INET6, host) + data[96:98]
    swarm = swarms.setdefault(data[16:36], {})
    others = b"".join(peer for peer in swarm if peer != us)
    if event == _STOPPED:
        swarm.pop(us, None)
    else:
        swarm[us] = None
    return struct.pack(">IIIII", _ANNOUNCE, transaction, 120, 0, len(swarm)) + others


@contextmanager
def udp6_tracker() -> Iterator[str]:
    """Run one in a thread; gives its announce URL."""
    stopping = threading.Event()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
        udp.bind(("::1", 0))
        udp.settimeout(0.05)
        thread = threading.Thread(target=_serve, args=(udp, stopping))
        thread.start()
        try:
            yield f"udp://[::1]:{udp.getsockname()[1]}/announce"
        finally:
            stopping.set()
            thread.join(10)
