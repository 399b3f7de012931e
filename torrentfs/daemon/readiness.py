"""What the service manager is told: sd_notify(3), and sd_watchdog_enabled(3).

systemd gives a service of `Type=notify` the address of a datagram socket in `NOTIFY_SOCKET`. It
hears `READY=1` when the mount can be listed, so that what is ordered after the unit finds it there,
and `STOPPING=1` at the end. With `WatchdogSec=` a sign of life is due, which comes from the loop
that answers the kernel: if that hangs, so do the mount's users, and systemd starts it anew.

Nothing here fails: a manager that does not listen is no reason to be without the mount.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import MutableMapping

log = logging.getLogger(__name__)

_MICROSECONDS = 1_000_000


class Readiness:
    """Tells the service manager, if there is one; of a process without it every call does nothing.

    The variables are taken out of `environment`, so that no program started by us speaks for us.
    """

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        address = environment.pop("NOTIFY_SOCKET", "")
        # an abstract address is written with @ in front
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.interval = _interval(environment)

    def __repr__(self) -> str:
        return f"<Readiness {'told' if self._address else 'of no interest'}>"

    def tell(self, *states: str) -> None:
        """Send assignments, e.g. `tell("READY=1", "STATUS=mounted")`; a line break ends each."""
        if not self._address:
            return
        words = "\n".join(" ".join(state.splitlines()) for state in states)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(words.encode("utf-8", "replace"), self._address)
        except (OSError, ValueError) as error:
            log.debug("the service manager was not told %r: %s", words, error)

    async def live(self) -> None:
        """Give signs of life until cancelled; returns at once if none are asked for."""
        if not self._address or self.interval is None:
            return
        while True:
            self.tell("WATCHDOG=1")
            await trio.sleep(self.interval)


def _interval(environment: MutableMapping[str, str]) -> float | None:
    """Seconds between two signs of life: a third of the time allowed."""
    allowed = environment.pop("WATCHDOG_USEC", "")
    meant = environment.pop("WATCHDOG_PID", "")
    if meant and meant != str(os.getpid()):
        return None
    if not allowed.isascii() or not allowed.isdigit() or int(allowed) == 0:
        return None
    return int(allowed) / _MICROSECONDS / 3
