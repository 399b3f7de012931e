"""Peer exchange for one torrent (BEP 11): peers are told of each other, and name more to us.

Passed on are peers that can be dialled: those that we dialled, and those that called us and said
where they listen. Never a WebRTC peer, whose address is of one connection only, and nothing at all
of a private torrent, where the extension is not even offered (`privacy`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torrentfs.discovery.base import clean_peers
from torrentfs.wire.extension import OUR_EXTENSIONS
from torrentfs.wire.pex import HOLEPUNCH, REACHABLE, SEED, UTP, may_be_told

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torrentfs.engine.peer import Peer
    from torrentfs.engine.swarm import Swarm
    from torrentfs.transports.base import Address
    from torrentfs.wire import messages as m

log = logging.getLogger(__name__)

KINDS = ("tcp", "utp")
"""Kinds of connections whose peers are passed on."""

ORIGIN = "pex"


def extensions(*, exchange: bool, punching: bool) -> Mapping[str, int]:
    """What we offer to speak, with or without peer exchange and hole punching."""
    offered = {"ut_pex": exchange, "ut_holepunch": punching}
    return {name: number for name, number in OUR_EXTENSIONS.items() if offered.get(name, True)}


def take(message: m.PeerExchange, sender: Address, swarm: Swarm, own_port: int) -> None:
    """Note the peers that `sender` names; what has gone may still be there for us."""
    told = [address for address in message.added if may_be_told(address, sender)]
    peers = clean_peers(told, own_port=own_port)
    if peers:
        log.debug("%s: %d peers from %s:%d", swarm.hashes, len(peers), *sender)
        swarm.add_peers(peers, ORIGIN)


def dialled_at(peer: Peer) -> Address | None:
    """Where others can dial a connected peer."""
    if peer.kind not in KINDS:
        return None
    if peer.outgoing:
        return peer.remote
    return (peer.remote[0], peer.listen_port) if peer.listen_port else None


def tell(peers: Iterable[Peer], now: float) -> None:
    """Tell each who else is here, those that want to know and whose turn it is."""
    peers = list(peers)
    known: dict[Address, int] = {}
    for peer in peers:
        address = dialled_at(peer)
        if address is not None:
            flags = SEED * peer.pieces.complete | REACHABLE * peer.outgoing
            flags |= HOLEPUNCH * peer.punches | UTP * (peer.punches or peer.kind == "utp")
            known[address] = flags
    for peer in peers:
        if peer.wants_peers(now):
            own = dialled_at(peer)
            peer.tell_peers(
                {
                    address: flags
                    for address, flags in known.items()
                    if address != own and may_be_told(address, peer.remote)
                },
                now,
            )
