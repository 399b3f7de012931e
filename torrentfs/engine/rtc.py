"""WebRTC peers: descriptions for the trackers that pass them on, open channels for the swarm.

Browsers cannot be dialled. A WebSocket tracker hands an offer of one peer to another and the
answer back; then both have a data channel, which is a stream of bytes like any other. So a
torrent has a `RtcPeers` between its trackers' signalling and its `Swarm`: it makes offers when an
announce is due, answers those of others, and gives each channel to `Swarm.admit` to wait for,
shake hands over and talk.

A peer found so has no address that anybody could dial again: it is never put in the peer book.
How many may be on their way or connected is the swarm's to say; no offer is made or answered for
which there would be no place.

`Rtc` is what a session shares: one bridge to the worker process, one socket to each tracker.
Nothing is started, and no packet sent, before a torrent with a WebSocket tracker announces.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from torrentfs.discovery.websocket import open_websocket_trackers
from torrentfs.discovery.websocket_announcer import RtcAnnouncer
from torrentfs.errors import TransportError
from torrentfs.transports.webrtc.bridge import open_webrtc
from torrentfs.wire.ws_tracker import Offer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from random import Random

    from torrentfs.discovery.trackers import Totals
    from torrentfs.discovery.websocket import WebSocketTrackers
    from torrentfs.engine.config import SessionConfig
    from torrentfs.engine.swarm import Swarm
    from torrentfs.transports.base import PeerStream
    from torrentfs.transports.http import HttpClient
    from torrentfs.transports.webrtc.bridge import Answer, WebRtc
    from torrentfs.transports.webrtc.bridge import Offer as MadeOffer
    from torrentfs.wire.ws_tracker import PeerAnswer, PeerOffer

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until an offer that could not be made is tried once more: a worker that died may be
started again after half of that."""


class Bridge(Protocol):
    """What is needed of a `WebRtc`."""

    async def offer(self) -> MadeOffer:
        """A new offer for one peer; `TransportError` when none can be made now."""

    async def accept(self, connection: int, answer_sdp: str) -> PeerStream:
        """The channel of an offer that was answered; `TransportError` when it does not open."""

    async def answer(self, offer_sdp: str) -> Answer:
        """Our answer to a peer's offer."""

    def forget(self, connection: int) -> None:
        """Nobody wants this connection any more."""


class RtcPeers:
    """The WebRTC peers of one swarm; the `Signaller` of its trackers."""

    def __init__(self, bridge: Bridge, swarm: Swarm, rng: Random) -> None:
        self._bridge = bridge
        self._swarm = swarm
        self._rng = rng
        self._offers: dict[bytes, int] = {}
        """Offers of ours that live, and their connections."""

    async def make_offers(self, count: int) -> Sequence[Offer]:
        """At most `count` offers, no more than there would be places; made at the same time."""
        wanted = min(count, self._swarm.free_places - len(self._offers))
        made: list[Offer] = []
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(wanted):
                    nursery.start_soon(self._make_offer, made)
        except BaseException:
            self.forget_offers([offer.offer_id for offer in made])
            raise
        return made

    async def _make_offer(self, made: list[Offer]) -> None:
        try:
            try:
                connection, sdp = await self._bridge.offer()
            except TransportError:
                await trio.sleep(RETRY)
                connection, sdp = await self._bridge.offer()
        except TransportError as error:
            log.debug("%s: no offer: %s", self._swarm.hashes, error)
            return
        offer = Offer(self._rng.randbytes(20), sdp)
        self._offers[offer.offer_id] = connection
        made.append(offer)

    def on_answer(self, url: str, answer: PeerAnswer) -> None:
        """A peer took an offer of ours: wait for its channel, unless we talk to it already."""
        connection = self._offers.pop(answer.offer_id, None)
        if connection is None:
            return
        opening = partial(self._bridge.accept, connection, answer.sdp)
        if not self._swarm.admit(opening, answer.info_hash, answer.peer_id, outgoing=True):
            self._bridge.forget(connection)

    def on_offer(self, url: str, offer: PeerOffer, reply: Callable[[str], None]) -> bool:
        """A peer offers a connection: answer, unless we talk to it already or there is no place."""
        opening = partial(self._answer, offer.sdp, reply)
        return self._swarm.admit(opening, offer.info_hash, offer.peer_id, outgoing=False)

    async def _answer(self, sdp: str, reply: Callable[[str], None]) -> PeerStream:
        answer = await self._bridge.answer(sdp)
        reply(answer.sdp)
        return await answer.stream()

    def forget_offers(self, offer_ids: Sequence[bytes]) -> None:
        """Nobody can answer these any more."""
        for offer_id in offer_ids:
            connection = self._offers.pop(offer_id, None)
            if connection is not None:
                self._bridge.forget(connection)

    def __repr__(self) -> str:
        return f"<RtcPeers {len(self._offers)} offers>"


class Rtc(NamedTuple):
    """What the torrents of a session share. Made by `open_rtc`."""

    bridge: WebRtc
    sockets: WebSocketTrackers
    rng: Random

    def announcer(
        self,
        tiers: Sequence[Sequence[str]],
        swarm: Swarm,
        totals: Callable[[], Totals],
    ) -> RtcAnnouncer:
        """Finds peers for `swarm` at the WebSocket trackers of `tiers`."""
        return RtcAnnouncer(
            tiers,
            swarm.hashes.wire,
            swarm.peer_id,
            sockets=self.sockets,
            signaller=RtcPeers(self.bridge, swarm, self.rng),
            totals=totals,
            rng=self.rng,
        )


@asynccontextmanager
async def open_rtc(
    config: SessionConfig, client: HttpClient, rng: Random
) -> AsyncIterator[Rtc | None]:
    """WebRTC for a session, or None where the user wants none. It must outlive the torrents."""
    if config.rtc is None:
        yield None
        return
    settings = replace(config.rtc, bind=config.bind)
    async with (
        open_webrtc(settings) as bridge,
        open_websocket_trackers(client, rng=rng) as sockets,
    ):
        yield Rtc(bridge, sockets, rng)
