"""The sockets of one port: one of each address family, all of the same number.

Without `bind` they are on every address of the machine, and one without IPv6 does with IPv4 alone.
With `bind` (see `binding`) there is one for each address that stands behind it; when that changes
(a VPN's device is made anew, its address is another), `follow` says which sockets are done with,
and opens others. Port 0 is any port that is free in all families, chosen once.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, NamedTuple

from torrentfs.errors import ConfigError
from torrentfs.transports.binding import look, show

if TYPE_CHECKING:
    from collections.abc import Callable

    Open = Callable[[int, str, int], socket.socket]
    """A bound socket of a family, at an address and a port; `OSError`."""

_PORT_TRIES = 16
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class Moved(NamedTuple):
    """What `follow` did."""

    gone: list[socket.socket]
    """No more of this port; the caller closes them."""
    come: list[socket.socket]
    trouble: str
    """Why not all could be opened: `follow` once more later."""


class PortSockets:
    """Opens the sockets of a port at construction: `ConfigError`, "cannot `action` ...: why"."""

    def __init__(self, port: int, bind: str | None, open_one: Open, action: str) -> None:
        self._bind = bind
        self._open_one = open_one
        self._open: dict[int, socket.socket] = {}
        self._places = _places(bind)
        if bind is not None and not self._places:
            raise ConfigError(f"cannot {action} {show(bind)}: {look(bind).trouble}")
        for _ in range(_PORT_TRIES):
            try:
                self._open = self._open_all(port)
                break
            except OSError as error:
                if port or error.errno != errno.EADDRINUSE:
                    where = f"{show(bind) if bind is not None else '*'}:{port}"
                    reason = os.strerror(error.errno or 0).lower()
                    raise ConfigError(f"cannot {action} {where}: {reason}") from error
        else:
            raise ConfigError(f"cannot {action} *: no port is free in both IPv4 and IPv6")
        self.port: int = next(iter(self._open.values())).getsockname()[1]

    @property
    def sockets(self) -> list[socket.socket]:
        """Those that are open now; IPv4 first."""
        return list(self._open.values())

    def _open_all(self, port: int) -> dict[int, socket.socket]:
        opened: dict[int, socket.socket] = {}
        try:
            for family, (_, host) in self._places.items():
                try:
                    opened[family] = self._open_one(family, host, port)
                except OSError as error:
                    absent = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
                    if host == "::" and opened and error.errno in absent:
                        break  # a machine without IPv6
                    raise
                port = opened[family].getsockname()[1]
        except BaseException:
            for one in opened.values():
                one.close()
            raise
        return opened

    def follow(self) -> Moved:
        """Be where `bind` stands now, on the same port. Sockets whose place is the same stay."""
        if self._bind is None:
            return Moved([], [], "")
        places = _places(self._bind)
        gone = [
            self._open.pop(family)
            for family in tuple(self._open)
            if places.get(family) != self._places[family]
        ]
        self._places = places
        moved = Moved(gone, [], "")
        for family, (_, host) in places.items():
            if family in self._open:
                continue
            try:
                one = self._open_one(family, host, self.port)
            except OSError as error:
                moved = moved._replace(trouble=(error.strerror or str(error)).lower())
                continue
            self._open[family] = one
            moved.come.append(one)
        return moved

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()

    def __repr__(self) -> str:
        return f"<PortSockets {self.port} {[host for _, host in self._places.values()]}>"


def _places(bind: str | None) -> dict[int, tuple[int, str]]:
    """Number of the device and address, by family."""
    if bind is None:
        return {socket.AF_INET: (0, "0.0.0.0"), socket.AF_INET6: (0, "::")}
    footing = look(bind)
    return {
        family: (footing.number, address)
        for family in _FAMILIES
        if (address := footing.address(family)) is not None
    }
