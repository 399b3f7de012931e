"""WebRTC peers: descriptions for the trackers that pass them on, open channels for the swarm.

Browsers cannot be dialled. A WebSocket tracker hands an offer of one peer to another and the
answer back; then both have a data channel, which is a stream of bytes like any other. So a
torrent has a `RtcPeers` between its trackers' signalling and its `Swarm`: it makes offers when an
announce is due, answers those of others, and gives each open channel to the swarm.

Channels are opened for the session, and go to the swarm that has their info-hash once they are
open, as a stream from the listener does. A magnet's metadata search is often over while channels
to others are on their way, or offers wait for an answer; they are the torrent's. If they were given
up, those peers, who know nothing of it, would take no other offer of ours until they give up too
(WebTorrent: 25 s).

A peer found so has no address that anybody could dial again: it is never put in the peer book.
How many may be on their way or connected is the swarm's to say; no offer is made or answered for
which there would be no place. How many offers of ours may wait for an answer is for `OfferShares`
to say, which has those of all torrents: one that a read waits for may end those of others.

When a worker process dies its offers do, too. Nobody counts them any more, and as soon as there may
be another worker new ones go out, as early as the trackers allow.

`Rtc` is what a session shares: one bridge to the worker process, one socket to each tracker.
Nothing is started, and no packet sent, before a torrent with a WebSocket tracker announces.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from torrentfs.discovery.websocket_announcer import RtcAnnouncer
from torrentfs.discovery.websocket_statistics import Tally
from torrentfs.engine.succession import SUCCESSION
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.scheduling.offers import OfferShares
from torrentfs.transports.webrtc.sdp import without_candidates
from torrentfs.wire.ws_tracker import Offer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from random import Random

    from torrentfs.discovery.trackers import Totals
    from torrentfs.discovery.websocket import WebSocketTrackers
    from torrentfs.engine.swarm import Met, Swarm
    from torrentfs.transports.base import PeerStream
    from torrentfs.transports.webrtc.bridge import Answer, OnLost
    from torrentfs.transports.webrtc.bridge import Offer as MadeOffer
    from torrentfs.wire.ws_tracker import PeerAnswer, PeerOffer

    Opening = Callable[[], Awaitable[PeerStream]]

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until an offer that could not be made is tried once more: a worker that died may be
started again after half of that."""

MAX_OPENING = 8
"""Channels that are being opened at once by way of one tracker: who makes up peers by the dozen
takes no place from those that another tracker knows."""


class Bridge(Protocol):
    """What is needed of a `WebRtc`."""

    on_lost: OnLost
    """Set by us: told that a worker has died."""

    async def offer(self) -> MadeOffer:
        """A new offer for one peer; `TransportError` when none can be made now."""

    async def accept(self, connection: int, answer_sdp: str) -> PeerStream:
        """The channel of an offer that was answered; `TransportError` when it does not open."""

    async def answer(self, offer_sdp: str) -> Answer:
        """Our answer to a peer's offer."""

    def forget(self, connection: int) -> None:
        """Nobody wants this connection any more."""


class Announcing(Protocol):
    """Who sends the offers: an `RtcAnnouncer`."""

    def announce_soon(self) -> None:
        """More peers are wanted."""

    def on_room(self) -> None:
        """More offers can be made than the last time."""

    def on_offers_lost(self, offer_ids: Sequence[bytes]) -> None:
        """Nobody can answer these any more."""


class RtcPeers:
    """The WebRTC peers of one swarm; the `Signaller` of its trackers."""

    def __init__(self, rtc: Rtc, swarm: Swarm) -> None:
        self.announcer: Announcing | None = None
        self._rtc = rtc
        self._swarm = swarm
        self._opening: Counter[str] = Counter()
        """Channels that are being opened, by tracker."""
        self._offers: dict[bytes, int] = {}
        """Offers of ours that live, and their connections."""

    def on_begin(self) -> None:
        """See `Signaller`."""
        self._rtc.shares.join(self)

    def on_end(self) -> None:
        """See `Signaller`."""
        self._rtc.shares.leave(self)

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for what these peers could give."""
        return self._swarm.is_awaited()

    def _welcomes(self, url: str, peer_id: bytes) -> bool:
        """Whether a channel to this peer would be of use, and there is a place for it."""
        return (
            not self._swarm.is_connected(peer_id)
            and self._opening[url] < MAX_OPENING
            and self._opening.total() < self._swarm.free_places
        )

    async def make_offers(self, count: int) -> Sequence[Offer]:
        """At most `count` offers, no more than there would be places, and no more than its share
        of all; made at the same time."""
        shares = self._rtc.shares
        places = self._swarm.free_places - self._opening.total() - shares.number(self)
        grant = shares.ask(self, min(count, places), trio.current_time())
        for taken in grant.taken:
            taken.owner.lose_offers([taken.offer_id])
        if grant.allowed < count:
            log.debug("%s: %d of %d offers: %r", self._swarm.hashes, grant.allowed, count, shares)
        made: list[Offer] = []
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(grant.allowed):
                    nursery.start_soon(self._make_offer, made)
        except BaseException:
            self.forget_offers([offer.offer_id for offer in made])
            raise
        # some may have ended while the others were made: taken for somebody else, or with a worker
        return [offer for offer in made if offer.offer_id in self._offers]

    async def _make_offer(self, made: list[Offer]) -> None:
        bridge, shares = self._rtc.bridge, self._rtc.shares
        is_made = False
        try:
            try:
                connection, sdp = await bridge.offer()
            except TransportError:
                await trio.sleep(RETRY)
                connection, sdp = await bridge.offer()
            is_made = True
        except TransportError as error:
            self._swarm.last_failure = str(error)
            log.debug("%s: no offer: %s", self._swarm.hashes, error)
            return
        finally:
            if not is_made:
                shares.on_not_made(self)
                self._rtc.tell_of_room()
        offer = Offer(self._rtc.rng.randbytes(20), sdp)
        self._offers[offer.offer_id] = connection
        shares.on_made(self, offer.offer_id, trio.current_time())
        made.append(offer)

    def on_answer(self, url: str, answer: PeerAnswer) -> None:
        """A peer took an offer of ours: open its channel, unless we talk to it already."""
        connection = self._pop_offer(answer.offer_id)
        if connection is None:
            return
        sdp = self._wanted(answer.sdp)
        if sdp and self._welcomes(url, answer.peer_id):
            opening = partial(self._rtc.bridge.accept, connection, sdp)
            self._open(url, opening, answer.info_hash, outgoing=True)
        else:
            self._rtc.bridge.forget(connection)

    def on_offer(self, url: str, offer: PeerOffer, reply: Callable[[str], None]) -> bool:
        """A peer offers a connection: answer, unless we talk to it already or there is no place."""
        sdp = self._wanted(offer.sdp)
        if not sdp or not self._welcomes(url, offer.peer_id):
            return False
        opening = partial(self._answer, sdp, reply)
        self._open(url, opening, offer.info_hash, outgoing=False)
        return True

    def _wanted(self, sdp: str) -> str:
        """A peer's description without addresses that are banned or filtered, to which no packet
        may go; empty when no other is left."""
        try:
            return without_candidates(sdp, self._swarm.book.is_banned)
        except RemoteProtocolError as error:
            log.debug("%s: %s", self._swarm.hashes, error)
            return ""

    async def _answer(self, sdp: str, reply: Callable[[str], None]) -> PeerStream:
        answer = await self._rtc.bridge.answer(sdp)
        reply(answer.sdp)
        return await answer.stream()

    def forget_offers(self, offer_ids: Sequence[bytes]) -> None:
        """Nobody can answer these any more."""
        for offer_id in offer_ids:
            connection = self._pop_offer(offer_id)
            if connection is not None:
                self._rtc.bridge.forget(connection)

    def lose_offers(self, offer_ids: Sequence[bytes]) -> None:
        """These end before their time; the announcer does not know that yet."""
        self.forget_offers(offer_ids)
        if self.announcer is not None:
            self.announcer.on_offers_lost(offer_ids)

    def on_worker_lost(self, connections: frozenset[int]) -> None:
        """Offers that were of these connections are over."""
        lost = [offer for offer, number in self._offers.items() if number in connections]
        if lost:
            self.lose_offers(lost)

    def _pop_offer(self, offer_id: bytes) -> int | None:
        """The connection of an offer that ends now, None if it did already."""
        connection = self._offers.pop(offer_id, None)
        if connection is not None:
            self._rtc.shares.on_end(self, offer_id)
            self._rtc.tell_of_room()
        return connection

    def _open(self, url: str, opening: Opening, info_hash: bytes, *, outgoing: bool) -> None:
        self._opening[url] += 1
        self._rtc.nursery.start_soon(self._until_open, url, opening, info_hash, outgoing)

    async def _until_open(
        self, url: str, opening: Opening, info_hash: bytes, outgoing: bool
    ) -> None:
        """Wait for a channel, shake hands, and give it to the swarm that there is then."""
        try:
            stream = await opening()
        except TransportError as error:
            self._swarm.last_failure = str(error)
            log.debug("%s: %s", self._swarm.hashes, error)
            return
        except Exception:  # a bug of ours must cost this peer, not the mount
            log.exception("%s: a bug while opening a channel", self._swarm.hashes)
            return
        finally:
            self._opening[url] -= 1
        met: Met | None = None
        taken = False
        try:
            swarm = await self._rtc.swarm_of(info_hash)
            if swarm is not None:
                met = await swarm.meet(stream, info_hash, outgoing=outgoing)
            if met is not None and (swarm := await self._rtc.swarm_of(info_hash)) is not None:
                taken = swarm.take(met)
        except Exception:  # as above
            log.exception("%s: a bug while shaking hands", self._swarm.hashes)
        finally:
            if not taken:
                stream.abort()

    def __repr__(self) -> str:
        return f"<RtcPeers {len(self._offers)} offers, {self._opening.total()} opening>"


class Rtc:
    """What the torrents of a session share. Made by `signalling`, when it is needed."""

    def __init__(
        self,
        bridge: Bridge,
        sockets: WebSocketTrackers,
        nursery: trio.Nursery,
        rng: Random,
        swarms: Mapping[bytes, Swarm],
        max_offers: int,
    ) -> None:
        self.bridge = bridge
        self.sockets = sockets
        self.nursery = nursery
        self.rng = rng
        self.swarms = swarms
        """The running swarms by info-hash; the session's own table."""
        self.shares: OfferShares[RtcPeers] = OfferShares(max_offers, _is_awaited)
        self.tally = Tally()
        """What went through all trackers."""
        bridge.on_lost = self.on_lost

    def on_lost(self, connections: Sequence[int], pause: float) -> None:
        """A worker has died, and with it these; another can be asked after `pause` seconds."""
        numbers = frozenset(connections)
        for peers in self.shares.owners:
            peers.on_worker_lost(numbers)
        self.nursery.start_soon(self._announce_again, pause)

    async def _announce_again(self, pause: float) -> None:
        await trio.sleep(pause)
        for peers in self.shares.joined:
            if peers.announcer is not None:
                peers.announcer.announce_soon()

    def tell_of_room(self) -> None:
        """An offer has ended: who got none before may make one."""
        peers = self.shares.next_in_line()
        if peers is not None and peers.announcer is not None:
            peers.announcer.on_room()

    async def swarm_of(self, info_hash: bytes) -> Swarm | None:
        """The swarm that has this info-hash, which may follow on one that has just ended."""
        with trio.move_on_after(SUCCESSION):
            while info_hash not in self.swarms:  # noqa: ASYNC110
                await trio.sleep(SUCCESSION / 100)
        return self.swarms.get(info_hash)

    def announcer(
        self,
        tiers: Sequence[Sequence[str]],
        swarm: Swarm,
        totals: Callable[[], Totals],
    ) -> RtcAnnouncer:
        """Finds peers for `swarm` at the WebSocket trackers of `tiers`."""
        peers = RtcPeers(self, swarm)
        peers.announcer = announcer = RtcAnnouncer(
            tiers,
            swarm.hashes.wire,
            swarm.peer_id,
            sockets=self.sockets,
            signaller=peers,
            totals=totals,
            rng=self.rng,
            tally=self.tally,
        )
        return announcer


def _is_awaited(peers: RtcPeers) -> bool:
    return peers.is_awaited
