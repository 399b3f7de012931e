"""What every source of peers has in common, and which addresses from outside are believed.

A source runs as a task of its torrent, tells peers by a callback as they come, and shows itself
by `statistics()`. What a stranger names is filtered here, once: an address that cannot be a peer
(port 0, multicast, unspecified, broadcast, not an IP address at all) or that is ourselves is
dropped, duplicates too, and one answer counts for at most `MAX_PEERS` peers.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, TypeVar

import trio

from torrentfs.errors import RemoteProtocolError, TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from torrentfs.transports.base import Address

    OnPeers = Callable[[Sequence[Address], str], None]

MAX_PEERS = 500
"""Peers taken of one answer. Trackers give 50 to 200; a torrent connects to some dozens."""


Answer = TypeVar("Answer")


def clean_peers(peers: Iterable[Address], *, own_port: int = 0) -> list[Address]:
    """The addresses worth connecting to, in order, each once, at most `MAX_PEERS`.

    `own_port` is the port that we listen on: at a loopback address it is ourselves. Other own
    addresses are not known here; connecting there ends at the handshake, by our own peer id.
    """
    kept: dict[Address, None] = {}
    for host, port in peers:
        address = _usable(host, port)
        if address is None:
            continue
        host = str(address)
        if port == own_port and address.is_loopback:
            continue
        kept[host, port] = None
        if len(kept) >= MAX_PEERS:
            break
    return list(kept)


def _usable(host: str, port: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if not 0 < port < 65536:
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # host names of the original BEP 3 form are not resolved for a stranger
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        return None
    return address


async def ask_all(
    asks: Sequence[Callable[[], Awaitable[Answer]]], on_answer: Callable[[Answer], None]
) -> None:
    """Run all at once (one per address family) and tell each answer when it comes.

    Raises the first of their `TransportError` or `RemoteProtocolError` when none answered.
    """
    errors: list[TransportError | RemoteProtocolError] = []
    answers = 0

    async def run(ask: Callable[[], Awaitable[Answer]]) -> None:
        nonlocal answers
        try:
            answer = await ask()
        except (TransportError, RemoteProtocolError) as error:
            errors.append(error)
        else:
            answers += 1
            on_answer(answer)

    async with trio.open_nursery() as nursery:
        for ask in asks:
            nursery.start_soon(run, ask)
    if errors and not answers:
        # what a tracker says is worth more than that its other address is not routed
        raise next((e for e in errors if isinstance(e, RemoteProtocolError)), errors[0])
