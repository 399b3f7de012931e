"""Hole punching for one torrent (BEP 55): peers behind NAT meet, with the help of a third one.

A NAT box lets in what comes from where its host has just sent to. So two hosts behind two of them
can connect if both send at the same time, over uTP, and a peer that both are connected to tells
them when. Each of us may play each part:

*Initiator.* A peer cannot be dialled, over TCP or uTP, or does not answer for some seconds; peer
exchange named it as one that speaks BEP 55. Then whoever named it is asked for a `Rendezvous`, and
if that fails the next.

*Relay.* A peer asks for another one of ours: both are told to `Connect`, or it is told why not.
The address of one that is connected over uTP is as we see it: that is what its NAT made of it. Of
one that is connected over TCP we know only where it listens; many NATs do not change the port.

*Either end.* At `Connect` we dial (`Swarm.punch`). Often both ends succeed: `Swarm` keeps one.

Strangers tell us whom to dial and whom to write to, so all of it is bounded: each peer has `Shares`
of what it may ask for and of how often others may trouble it. A relay can make us dial not more,
and no other places, than peer exchange can (`may_be_told`, the IP filter). A target is told the
address of who asks for it, who cannot choose the host. An answer is as long as its question.
Private torrents, peers over WebRTC and sessions without uTP have no part in it (`Ways`,
`Peer.punches`): there the extension is not even offered.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from torrentfs.discovery.base import clean_peers
from torrentfs.discovery.dht.throttle import Allowance
from torrentfs.engine.exchange import KINDS, dialled_at
from torrentfs.transports.tcp import show_address
from torrentfs.wire import messages as m
from torrentfs.wire.holepunch import (
    NO_SELF,
    NO_SUCH_PEER,
    NO_SUPPORT,
    NOT_CONNECTED,
    failure_words,
)
from torrentfs.wire.pex import may_be_told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torrentfs.engine.peer import Peer
    from torrentfs.engine.swarm import Swarm
    from torrentfs.transports.base import Address

log = logging.getLogger(__name__)

AGAIN = 30.0
"""Seconds until an address is asked for again; the peer book tries one less often."""

MAX_ASKED = 256
"""Addresses remembered that were asked for."""


class Shares:
    """What one peer may make us do, and how often we ask it and others trouble it."""

    __slots__ = ("asked", "connects", "introductions", "rendezvous")

    def __init__(self, now: float) -> None:
        self.asked = Allowance(0.5, 10.0, now)
        """Our questions to it: fewer than a relay like us would answer."""
        self.rendezvous = Allowance(1.0, 20.0, now)
        """Its questions to us."""
        self.introductions = Allowance(1.0, 20.0, now)
        """Others that ask for it."""
        self.connects = Allowance(1.0, 20.0, now)
        """Peers that it tells us to dial."""


class HolePunching:
    """The three parts, for a torrent of which `peers()` are connected; we listen at `own_port`."""

    def __init__(self, swarm: Swarm, peers: Callable[[], Sequence[Peer]], own_port: int) -> None:
        self._swarm = swarm
        self._peers = peers
        self._own_port = own_port
        self._asked: dict[Address, float] = {}

    # -- initiator ----------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Once a second: ask for those that could not be reached."""
        for address in self._swarm.take_unreached(now):
            asked = self._asked.get(address, float("-inf"))
            if now - asked >= AGAIN and not self._swarm.book.is_ourselves(address):
                self._ask(address, now)

    def _ask(self, address: Address, now: float) -> None:
        for peer in self._peers():
            if (
                peer.punches
                and peer.gossip.can_introduce(address)
                and peer.shares.asked.take(1, now)
            ):
                self._asked.pop(address, None)
                self._asked[address] = now
                if len(self._asked) > MAX_ASKED:
                    del self._asked[next(iter(self._asked))]
                log.debug("asking %s for %s", show_address(*peer.remote), show_address(*address))
                peer.sender.send(m.Rendezvous(address))
                return

    def on_failed(self, peer: Peer, event: m.RendezvousFailed, now: float) -> None:
        """It cannot introduce us; somebody else may."""
        if event.address not in self._asked or not peer.gossip.can_introduce(event.address):
            return
        peer.gossip.on_cannot_introduce(event.address)
        words = failure_words(event.code)
        log.debug("%s: %s: %s", show_address(*peer.remote), show_address(*event.address), words)
        if event.address not in self._swarm.connected:
            self._ask(event.address, now)

    # -- relay --------------------------------------------------------------------------------

    def on_rendezvous(self, peer: Peer, address: Address, now: float) -> None:
        """It wants to meet the peer of ours at `address`."""
        if not peer.punches or not peer.shares.rendezvous.take(1, now):
            return
        code = self._introduce(peer, address, now)
        if code is not None:
            peer.sender.send(m.RendezvousFailed(address, code))

    def _introduce(self, peer: Peer, address: Address, now: float) -> int | None:
        """Tell both; or the code of what is wrong."""
        if not _is_possible(address):
            return NO_SUCH_PEER
        if _is_at(peer, address) or self._swarm.book.is_ourselves(address):
            return NO_SELF
        target = self._peer_at(address)
        if target is None:
            return NOT_CONNECTED
        if not target.punches:
            return NO_SUPPORT
        here, there = _meeting_place(peer), _meeting_place(target)
        if here is None or there is None or (":" in here[0]) != (":" in there[0]):
            return NOT_CONNECTED
        if not may_be_told(here, target.remote) or not may_be_told(there, peer.remote):
            return NOT_CONNECTED
        if target.shares.introductions.take(1, now):
            log.debug("introducing %s to %s", show_address(*here), show_address(*there))
            target.sender.send(m.Connect(here))
            peer.sender.send(m.Connect(there))
        return None

    # -- either end ---------------------------------------------------------------------------

    def on_connect(self, peer: Peer, address: Address, now: float) -> None:
        """Somebody dials us from `address` now: do the same."""
        if (
            peer.punches
            and may_be_told(address, peer.remote)
            and clean_peers([address], own_port=self._own_port) == [address]
            and self._peer_at(address) is None
            and peer.shares.connects.take(1, now)
            and self._swarm.punch(address)
        ):
            log.debug("%s brings us to %s", show_address(*peer.remote), show_address(*address))

    def _peer_at(self, address: Address) -> Peer | None:
        return next((peer for peer in self._peers() if _is_at(peer, address)), None)

    def __repr__(self) -> str:
        return f"<HolePunching {len(self._asked)} asked for>"


def _is_possible(address: Address) -> bool:
    return clean_peers([address]) == [address]


def _is_at(peer: Peer, address: Address) -> bool:
    return peer.kind in KINDS and address in (peer.remote, dialled_at(peer))


def _meeting_place(peer: Peer) -> Address | None:
    """Where a connected peer can be reached over uTP while it sends, as far as we can tell."""
    return peer.remote if peer.kind == "utp" else dialled_at(peer)
