"""The one place where the system's resolver is asked for a host's addresses.

It asks its own servers in its own way: neither a device nor a proxy holds it (see `binding`,
`outgoing`). So while nothing may leave from where we are bound, it is not asked at all.
"""

from __future__ import annotations

import socket
from typing import Any

import trio

from torrentfs.transports.binding import look, require

FAMILIES = (socket.AF_INET, socket.AF_INET6)


async def look_up(
    host: str, port: int, kind: socket.SocketKind, bind: str | None
) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    """Family and socket address of each address of `host`, in the resolver's order.

    With `bind` only those of families that we have, unless none is: then connecting tells why.
    `OSError` where there is none, or `bind` stands on nothing; `UnicodeError` of what is no name.
    """
    require(bind)
    answers = await trio.socket.getaddrinfo(host, port, type=kind)
    found: list[tuple[socket.AddressFamily, tuple[Any, ...]]] = [
        (answer[0], answer[4]) for answer in answers if answer[0] in FAMILIES
    ]
    if bind is None:
        return found
    footing = look(bind)
    return [one for one in found if footing.address(one[0]) is not None] or found
