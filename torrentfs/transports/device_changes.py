"""When network devices or addresses of this machine change: the kernel tells, by rtnetlink(7).

A device that comes gets its addresses one after the other, and a change makes several messages: all
that come within `SETTLE` seconds are one. Where nobody may listen, there is a change every `LOOK`
seconds: who asks looks for himself what there is (`devices`).
"""

from __future__ import annotations

import contextlib
import socket

import trio

LOOK = 2.0
SETTLE = 0.25

_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_MAX_BYTES = 1 << 16


class DeviceChanges:
    """Tells when devices or addresses of this machine may have changed. Close it."""

    def __init__(self) -> None:
        self._link: socket.socket | None = None
        with contextlib.suppress(OSError):
            self._link = _open()

    async def wait(self) -> None:
        """Until something changed since the last call, and for `SETTLE` more."""
        if self._link is None:
            await trio.sleep(LOOK)
            return
        await trio.lowlevel.wait_readable(self._link)
        await trio.sleep(SETTLE)
        try:
            while True:
                self._link.recv(_MAX_BYTES)
        except OSError:  # no more of them, or more than it could keep: then all is looked at anyway
            pass

    def close(self) -> None:
        """Listen no more."""
        if self._link is not None:
            self._link.close()

    def __enter__(self) -> DeviceChanges:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<DeviceChanges {'told' if self._link is not None else 'looked for'}>"


def _open() -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        link.setblocking(False)
        link.bind((0, _GROUPS))
    except BaseException:
        link.close()
        raise
    return link
