"""A WebSocket tracker without a network, as `bittorrent-tracker` behaves; and who signals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from torrentfs.errors import TransportError
from torrentfs.wire.announce import AnnounceReply, TrackerFailure
from torrentfs.wire.ws_tracker import (
    Announce,
    Announced,
    Answer,
    Message,
    Offer,
    PeerAnswer,
    PeerOffer,
    Refused,
    Request,
    Scrape,
    Scraped,
    encode_message,
    parse_request,
)


class FakeConnection:
    """A `websocket.Connection` to a `FakeTracker`."""

    def __init__(self, tracker: FakeTracker, url: str) -> None:
        self.heard = trio.current_time()
        self.url = url
        self.closed_at: float | None = None
        self.pings = 0
        self.peers: set[tuple[bytes, bytes]] = set()  # info-hash and peer id
        self.tracker = tracker
        self._send, self._receive = trio.open_memory_channel[str | bytes](100_000)

    async def receive(self) -> str | bytes:
        try:
            data = await self._receive.receive()
        except trio.EndOfChannel:
            raise TransportError("closed by the tracker") from None
        self.heard = trio.current_time()
        return data

    async def send(self, text: str) -> None:
        await trio.sleep(self.tracker.send_time)
        if self.closed_at is not None:
            raise TransportError("the connection broke")
        self.tracker.on_request(self, parse_request(text))

    async def ping(self) -> None:
        self.pings += 1
        await trio.lowlevel.checkpoint()
        if not self.tracker.silent:
            self.heard = trio.current_time()

    async def aclose(self) -> None:
        if self.closed_at is None:
            self.closed_at = trio.current_time()
        with trio.CancelScope(shield=True):
            await trio.sleep(self.tracker.close_time)

    def say(self, data: Message | str | bytes) -> None:
        self._send.send_nowait(data if isinstance(data, str | bytes) else encode_message(data))

    def hang_up(self) -> None:
        self.closed_at = trio.current_time()
        self._send.close()


@dataclass
class FakeTracker:
    """Answers announces and passes offers and answers on; notes what it is told."""

    reply: AnnounceReply = field(default_factory=lambda: AnnounceReply(interval=60))
    refusal: str | None = None
    down: str | None = None
    silent: bool = False
    counts: tuple[int, int, int] = (1, 2, 3)
    send_time: float = 0.01
    close_time: float = 0.0
    connections: list[FakeConnection] = field(default_factory=list)
    attempts: list[tuple[float, str]] = field(default_factory=list)
    seen: list[tuple[float, str, Request]] = field(default_factory=list)

    async def connect(self, url: str) -> FakeConnection:
        self.attempts.append((trio.current_time(), url))
        await trio.sleep(0.1)
        if self.down is not None:
            raise TransportError(self.down)
        connection = FakeConnection(self, url)
        self.connections.append(connection)
        return connection

    @property
    def open(self) -> list[FakeConnection]:
        return [each for each in self.connections if each.closed_at is None]

    def on_request(self, sender: FakeConnection, request: Request) -> None:
        self.seen.append((trio.current_time(), sender.url, request))
        if self.silent:
            return
        if isinstance(request, Announce):
            announce = request.request
            sender.peers.add((announce.info_hash, announce.peer_id))
            if self.refusal is not None:
                sender.say(Refused(announce.info_hash, TrackerFailure(self.refusal.encode())))
                return
            sender.say(Announced(announce.info_hash, self.reply))
            for offer, other in zip(request.offers, self._others(sender, announce.info_hash)):  # noqa: B905
                offer_id, sdp = offer.offer_id, offer.sdp
                other.say(PeerOffer(announce.info_hash, announce.peer_id, offer_id, sdp))
        elif isinstance(request, Scrape):
            for info_hash in request.info_hashes:
                sender.say(Scraped(info_hash, *self.counts))
        elif isinstance(request, Answer):
            for other in self._others(sender, request.info_hash, request.to_peer_id):
                info_hash, peer_id = request.info_hash, request.peer_id
                other.say(PeerAnswer(info_hash, peer_id, request.offer_id, request.sdp))

    def _others(
        self, sender: FakeConnection, info_hash: bytes, peer_id: bytes | None = None
    ) -> list[FakeConnection]:
        return [
            each
            for each in self.open
            if each is not sender
            and any(h == info_hash and peer_id in (None, p) for h, p in each.peers)
        ]

    def announces(self) -> list[tuple[float, str, int]]:
        """When, which event, how many offers."""
        return [
            (round(at, 1), request.request.event, len(request.offers))
            for at, _, request in self.seen
            if isinstance(request, Announce)
        ]


class FakeSignaller:
    """Makes offers of nothing, answers offers at once, and counts that each offer ends once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.begun = 0
        self.made: list[bytes] = []
        self.answered: list[PeerAnswer] = []
        self.forgotten: list[bytes] = []
        self.offered: list[tuple[str, PeerOffer]] = []
        self.replies: list[Callable[[str], None]] = []
        self.wanted = 100
        self.takes = True
        self.answers_at_once = True
        self.make_time = 0.05
        self.trouble: TransportError | None = None
        self.got_answer = trio.Event()
        self.got_offer = trio.Event()

    def on_begin(self) -> None:
        self.begun += 1

    def on_end(self) -> None:
        self.begun -= 1

    async def make_offers(self, count: int) -> Sequence[Offer]:
        await trio.sleep(self.make_time)
        if self.trouble is not None:
            raise self.trouble
        made = [self._offer() for _ in range(min(count, self.wanted))]
        self.made += [offer.offer_id for offer in made]
        return made

    def _offer(self) -> Offer:
        number = len(self.made)
        self.made.append(b"")  # a number of its own
        return Offer(f"{self.name} {number}".encode().ljust(20, b"\xff"), f"offer of {self.name}")

    def on_offer(self, url: str, offer: PeerOffer, reply: Callable[[str], None]) -> bool:
        self.offered.append((url, offer))
        self.got_offer.set()
        if self.answers_at_once:
            reply(f"answer of {self.name} to {offer.sdp}")
        self.replies.append(reply)
        return self.takes

    def on_answer(self, url: str, answer: PeerAnswer) -> None:
        self.answered.append(answer)
        self.got_answer.set()

    def forget_offers(self, offer_ids: Sequence[bytes]) -> None:
        self.forgotten += offer_ids

    def check(self) -> None:
        """Each offer ended once: with an answer, or forgotten."""
        made = sorted(offer_id for offer_id in self.made if offer_id)
        assert sorted([*self.forgotten, *(a.offer_id for a in self.answered)]) == made
