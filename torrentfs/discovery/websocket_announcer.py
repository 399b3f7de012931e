"""One torrent at its WebSocket trackers: announces with offers, and what comes of them.

WebSocket trackers know browsers, the others know everybody else, so they are announced to beside
the tiers of BEP 12 and all at the same time, as libtorrent and WebTorrent do. Each info-hash of a
hybrid torrent is announced: browsers know the first form only.

The engine makes the session descriptions, as a `Signaller`; this module says when, and passes
them on:

* An announce carries up to `MAX_OFFERS` offers; fewer where the torrent has many trackers or the
  tracker told that fewer peers are there, while earlier ones still wait, and each time that none of
  the last was answered, until somebody wants peers again: an offer costs CPU time, and newcomers
  make offers themselves. Under the second form of a hybrid's hash there is one, and only where the
  tracker counts others: browsers do not know it, and who does is mostly there under both. The
  tracker hands each to one peer. Each ends once: with an answer, by `forget_offers`, or because the
  signaller says so (`on_offers_lost`).
* Where the signaller made fewer offers than it was asked for, since others have them, the next
  announce comes when it has some again (`on_room`).
* Offers of others come at any time after an announce and are passed to the signaller within the
  limits of `TheirOffers`. Our own, handed back to us, are dropped.
* The next announce comes after the tracker's interval, but after `MAX_INTERVAL` at the latest:
  trackers drop who is silent, and offers live no longer. When more peers are wanted it comes at
  once, but not within `MIN_GAP` or the tracker's `min interval`.
* A tracker that refuses, or that is connected and says nothing, is asked again ever more rarely.
* Who is told that somebody else goes on for us (`says_stopped` is False: a magnet's metadata search
  has ended, its torrent follows) leaves the offers that live behind, at the socket: a peer that
  is slow to answer is the torrent's. Were it forgotten, it would refuse us for half a minute.
* `started` goes over each new connection first (the tracker forgot us with the old one),
  `completed` when the torrent says so, `stopped` when `run` is cancelled, within `STOP_TIME`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

import trio

from torrentfs.discovery.tracker import SCRAPE_GAP
from torrentfs.discovery.websocket_left import LeftOffers
from torrentfs.discovery.websocket_offers import OurOffers, TheirOffers
from torrentfs.discovery.websocket_statistics import MAX_TRACKERS, Tally, tracker_statistics
from torrentfs.errors import TransportError
from torrentfs.wire.announce import AnnounceRequest, SwarmCounts, is_websocket
from torrentfs.wire.ws_tracker import (
    Announce,
    Announced,
    Answer,
    Offer,
    PeerAnswer,
    PeerOffer,
    Refused,
    Scrape,
    Scraped,
    encode_request,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

    from torrentfs.discovery.tracker import TrackerStatistics
    from torrentfs.discovery.trackers import Totals
    from torrentfs.discovery.websocket import TrackerSocket, WebSocketTrackers
    from torrentfs.discovery.websocket_statistics import SignallingStatistics
    from torrentfs.wire.announce import AnnounceEvent
    from torrentfs.wire.ws_tracker import Message

log = logging.getLogger(__name__)

MAX_OFFERS = 5
"""Offers that live at a time at one tracker: as in WebTorrent."""
MOST_OFFERS = 10
"""Offers that live at a time at all trackers of a torrent; one at each, though."""
MAKE_TIME = 10.0
"""Seconds that an announce waits for its offers; then it goes without."""
MIN_INTERVAL, MAX_INTERVAL = 20.0, 60.0
"""Bounds in seconds of what a tracker may set as interval."""
MAX_WAIT = 3600.0
"""Seconds that a tracker may have us wait by its `min interval`."""
MIN_GAP = 15.0
"""Seconds between two announces when more peers are wanted."""
REPLY_TIME = 30.0
"""Seconds without a reply after which an announce has failed."""
FIRST_BACKOFF, MAX_BACKOFF = 30.0, 1800.0
"""Seconds to the next announce after a first refusal or silence, and after very many."""
STOP_TIME = 2.0
"""Seconds that `stopped` may take."""


class Signaller(Protocol):
    """Who makes WebRTC connections for one torrent. The synchronous methods may not block."""

    def on_begin(self) -> None:
        """We announce from now on."""

    def on_end(self) -> None:
        """No longer; offers that we left behind may still be answered."""

    async def make_offers(self, count: int) -> Sequence[Offer]:
        """At most `count` offers to be handed to peers; none when no peers are wanted.

        May raise `TransportError`; is cancelled after `MAKE_TIME`.
        """

    def on_offer(self, url: str, offer: PeerOffer, reply: Callable[[str], None]) -> bool:
        """A peer wants to connect: False declines, True promises `reply(answer)`.

        A reply later than `websocket_offers.ANSWER_TIME` is dropped.
        """

    def on_answer(self, url: str, answer: PeerAnswer) -> None:
        """A peer took an offer of ours that still lives."""

    def forget_offers(self, offer_ids: Sequence[bytes]) -> None:
        """Nobody can answer these offers any more."""


class RtcAnnouncer:
    """Announces one torrent to the WebSocket trackers among `tiers`.

    `info_hashes` are the 20-byte forms (`InfoHashes.wire`); `peer_id` is that of the session, the
    same for all torrents on one socket.
    """

    def __init__(
        self,
        tiers: Iterable[Iterable[str]],
        info_hashes: Sequence[bytes],
        peer_id: bytes,
        *,
        sockets: WebSocketTrackers,
        signaller: Signaller,
        totals: Callable[[], Totals],
        rng: Random,
        tally: Tally | None = None,
    ) -> None:
        """`tally` is that of the session, which outlives the torrent."""
        self.says_stopped = True
        """False when somebody else goes on announcing for us: then `run` ends at once."""
        self.peer_id = peer_id
        self.sockets = sockets
        self.signaller = signaller
        self.totals = totals
        self.rng = rng
        self.tally = Tally(tally)
        urls: dict[str, int] = {}
        for tier, names in enumerate(tiers):
            for url in names:
                if is_websocket(url):
                    urls.setdefault(url, tier)
        asked = list(urls)[:MAX_TRACKERS]
        most = max(1, min(MAX_OFFERS, MOST_OFFERS // max(1, len(asked))))
        self._tiers = urls
        self._posts = {
            url: [
                Post(self, url, info_hash, most, is_second=number > 0)
                for number, info_hash in enumerate(dict.fromkeys(info_hashes))
            ]
            for url in asked
        }

    async def run(self) -> None:
        """Announce until cancelled; then say `stopped`, within `STOP_TIME`."""
        self.signaller.on_begin()
        try:
            async with trio.open_nursery() as nursery:
                for post in self._all():
                    nursery.start_soon(post.run)
        finally:
            self.signaller.on_end()

    def on_room(self) -> None:
        """More offers can be made now than the last time."""
        for post in self._all():
            post.on_room()

    def on_offers_lost(self, offer_ids: Sequence[bytes]) -> None:
        """Nobody can answer these any more; the signaller has forgotten them."""
        for post in self._all():
            post.on_offers_lost(offer_ids)

    def announce_soon(self) -> None:
        """More peers are wanted: announce as early as the trackers allow."""
        for post in self._all():
            post.announce_soon()

    async def scrape(self) -> None:
        """Ask the trackers that we are connected to for their counts (BEP 48's numbers), and wait.

        For ever, if one does not answer: the caller has a bound.
        """
        for answered in [_ask_for_counts(posts) for posts in self._posts.values()]:
            await answered.wait()

    def announce_completed(self) -> None:
        """The torrent has just become whole by downloading."""
        for post in self._all():
            post.announce_completed()

    def statistics(self) -> tuple[TrackerStatistics, ...]:
        """All WebSocket trackers, in the order of the torrent."""
        now = trio.current_time()
        return tuple(
            tracker_statistics(url, tier, self._posts.get(url, ()), now)
            for url, tier in self._tiers.items()
        )

    def signalling(self) -> SignallingStatistics:
        """What went through these trackers so far."""
        return self.tally.statistics()

    @property
    def unanswered(self) -> int:
        """Offers of others that wait for our answer."""
        return sum(len(post.unanswered) for post in self._all())

    def _all(self) -> list[Post]:
        return [post for posts in self._posts.values() for post in posts]

    def __repr__(self) -> str:
        return f"<RtcAnnouncer {list(self._tiers)}>"


class Post:
    """One info-hash at one tracker; a `Listener` of its socket.

    `most` offers live at a time. `is_second`: it is the second form of a hybrid torrent's hash.
    """

    def __init__(
        self, announcer: RtcAnnouncer, url: str, info_hash: bytes, most: int, *, is_second: bool
    ) -> None:
        self.socket: TrackerSocket | None = None
        self.announces = 0
        self.failures = 0
        self.last_error: str | None = None
        self.warning: str | None = None
        self.peers = 0
        self.counts = SwarmCounts()
        self.counted = float("-inf")
        """When it last told a count."""
        self.scraped = trio.Event()
        """Set when the last scrape was answered, or cannot be."""
        self.due = float("-inf")
        self._announcer = announcer
        self._url = url
        self.info_hash = info_hash
        self._most = most
        self._is_second = is_second
        self._is_short = False  # the last announce had fewer offers than it should have had
        self._offers = OurOffers()
        self.unanswered = TheirOffers()
        """Of this tracker alone: one that floods us takes nothing from the others."""
        self._sent_at = float("-inf")
        self._not_before = float("-inf")
        self._soon = False
        self._completed = False
        self._told = False  # an announce went over this connection
        self._answered = False  # the tracker replied to one
        self._reply_by = float("inf")  # when the announce under way has failed
        self._tracker_id: bytes | None = None
        self._appetite = MAX_OFFERS  # for offers; it goes when nobody answers them
        self._scraped_at = float("-inf")
        self._wakeup = trio.Event()

    def may_scrape(self, now: float) -> bool:
        """Whether the tracker may be asked for counts: it is there, and was not asked lately."""
        is_open = self.socket is not None and self.socket.is_open
        return is_open and now >= self._scraped_at + SCRAPE_GAP

    def on_scrape(self, now: float, answered: trio.Event) -> None:
        """It is being asked for counts; who waits for them is to be told."""
        self._scraped_at = now
        self.scraped = answered

    async def run(self) -> None:
        """Announce until cancelled, then say `stopped`."""
        with self._announcer.sockets.listening(self._url, self.info_hash, self) as socket:
            self.socket = socket
            if socket.is_open:
                self.on_open()
            try:
                while True:
                    await self._wait_until_due(socket)
                    await self._announce(socket)
            finally:
                self._reply_by = float("inf")  # it may be run again
                if self._announcer.says_stopped:
                    if self._told and socket.is_open:
                        with trio.move_on_after(STOP_TIME, shield=True):
                            await self._say(socket, "stopped")
                    self._forget(self._offers.clear())
                else:
                    left = LeftOffers(self._offers, self._url, self._announcer.signaller)
                    socket.leave_behind(self.info_hash, left)
                    self._offers = OurOffers()

    def announce_soon(self) -> None:
        """See `RtcAnnouncer`."""
        self._soon = True
        self._appetite = MAX_OFFERS
        if self.socket is not None:
            self.socket.connect_soon()
        self._wake()

    def on_room(self) -> None:
        """See `RtcAnnouncer`."""
        if self._is_short:
            self._soon = True
            self._wake()

    def on_offers_lost(self, offer_ids: Sequence[bytes]) -> None:
        """See `RtcAnnouncer`."""
        self._offers.drop(offer_ids)

    def announce_completed(self) -> None:
        """See `RtcAnnouncer`."""
        self._completed = True
        self._wake()

    # -- when ---------------------------------------------------------------------------------

    async def _wait_until_due(self, socket: TrackerSocket) -> None:
        while True:
            now = trio.current_time()
            self._forget(self._offers.expire(now))
            if now >= self._reply_by:
                self._on_failure(f"no answer within {REPLY_TIME:.0f} s", now)
            when = self._next_time() if socket.is_open else float("inf")
            if when <= now:
                return
            with trio.move_on_at(min(when, self._reply_by, self._offers.next_end)):
                await self._wakeup.wait()

    def _next_time(self) -> float:
        if self._completed and self._answered:
            return float("-inf")
        return min(self.due, self._not_before) if self._soon else self.due

    def _wake(self) -> None:
        self._wakeup.set()
        self._wakeup = trio.Event()

    def _on_failure(self, reason: str, now: float) -> None:
        log.debug("tracker %s: %s", self._url, reason)
        self.last_error = reason
        self.failures += 1
        self._reply_by = float("inf")
        wait = min(MAX_BACKOFF, FIRST_BACKOFF * 2.0 ** min(16, self.failures - 1))
        self.due = self._not_before = now + wait * self._announcer.rng.uniform(0.75, 1.25)

    # -- an announce ----------------------------------------------------------------------------

    async def _announce(self, socket: TrackerSocket) -> None:
        if self._completed and self._answered:
            self._completed = False
            await self._say(socket, "completed")
            return
        connection = socket.connections
        offers = await self._make_offers()
        if not socket.is_open or socket.connections != connection:
            self._forget([offer.offer_id for offer in offers])
            return
        now = trio.current_time()
        self._soon = False
        self.peers = 0
        self._sent_at = now
        self._reply_by = now + REPLY_TIME
        self.due = self._not_before = float("inf")  # until it replies, or fails
        # before they are sent: answers may be back before we are
        self._offers.add([offer.offer_id for offer in offers], now)
        if offers:
            self._appetite = max(1, self._appetite // 2)
        if await self._say(socket, "" if self._answered else "started", offers):
            self._announcer.tally.count("offers_sent", len(offers))
        else:
            now = trio.current_time()
            unsent = [offer.offer_id for offer in offers]
            self._forget([each for each in unsent if self._offers.take(each, now)])

    async def _make_offers(self) -> Sequence[Offer]:
        count = self._offers_wanted()
        made: tuple[Offer, ...] = ()
        if count > 0:
            try:
                with trio.move_on_after(MAKE_TIME):
                    made = tuple(await self._announcer.signaller.make_offers(count))
                    self._forget([offer.offer_id for offer in made[count:]])
            except TransportError as error:
                log.debug("no offers for %s: %s", self._url, error)
        self._is_short = len(made) < count
        return made[: max(0, count)]

    def _offers_wanted(self) -> int:
        others = 0 if self._is_second else MAX_OFFERS
        seeders, leechers = self.counts.seeders, self.counts.leechers
        if seeders is not None and leechers is not None:
            # at least one, since counts are old when they are used, and some trackers' are wrong
            others = max(1, seeders + leechers - 1)
            if self._is_second:
                others = min(1, seeders + leechers - 1)
        return min(self._appetite, self._most, others) - len(self._offers)

    async def _say(
        self, socket: TrackerSocket, event: AnnounceEvent, offers: Sequence[Offer] = ()
    ) -> bool:
        """Send an announce: whether it left."""
        totals = self._announcer.totals()
        request = AnnounceRequest(
            info_hash=self.info_hash,
            peer_id=self._announcer.peer_id,
            port=0,
            uploaded=totals.uploaded,
            downloaded=totals.downloaded,
            left=totals.left,
            event=event,
            tracker_id=self._tracker_id,
        )
        self.announces += 1
        self._told = True
        try:
            await socket.send(encode_request(Announce(request, tuple(offers))))
        except TransportError as error:  # the socket says why, and calls on_lost
            log.debug("tracker %s: %s", self._url, error)
            return False
        return True

    def _forget(self, offer_ids: Sequence[bytes]) -> None:
        if offer_ids:
            self._announcer.signaller.forget_offers(offer_ids)

    # -- what comes -------------------------------------------------------------------------------

    def on_open(self) -> None:
        """See `Listener`."""
        self._told = self._answered = False
        self.counts = SwarmCounts()
        self.counted = float("-inf")
        self._appetite = MAX_OFFERS
        self.due = float("-inf")
        self._wake()

    def on_lost(self) -> None:
        """See `Listener`. Offers may still be answered when we are back: they end by themselves."""
        self._reply_by = float("inf")
        self.scraped.set()
        self._wake()

    def on_message(self, message: Message) -> None:
        """See `Listener`."""
        now = trio.current_time()
        match message:
            case Announced():
                self._on_reply(message, now)
            case Refused():
                if self._reply_by < float("inf"):
                    self._on_failure(str(message.failure), now)
                    self._wake()
            case Scraped():
                told = SwarmCounts(message.seeders, message.leechers, message.downloads)
                self._on_counts(told, now)
                self.scraped.set()
            case PeerOffer():
                self._on_offer(message, now)
            case PeerAnswer():
                self._on_answer(message, now)

    def _on_reply(self, message: Announced, now: float) -> None:
        reply = message.reply
        self._on_counts(SwarmCounts(reply.seeders, reply.leechers), now)
        if reply.tracker_id is not None:
            self._tracker_id = reply.tracker_id
        if self._reply_by == float("inf"):  # nobody asked: it may not put off the next announce
            return
        if reply.warning and reply.warning != self.warning:
            log.info("tracker %s warns: %s", self._url, reply.warning)
        self.warning = reply.warning
        self._reply_by = float("inf")
        self._answered = True
        self.failures = 0
        self.last_error = None
        least = max(MIN_GAP, min(MAX_WAIT, float(reply.min_interval or 0)))
        self._not_before = self._sent_at + least
        interval = max(MIN_INTERVAL, min(MAX_INTERVAL, float(reply.interval)))
        self.due = max(self._not_before, now + interval)
        self._wake()

    def _on_counts(self, told: SwarmCounts, now: float) -> None:
        if told != SwarmCounts():
            self.counts = told.over(self.counts)
            self.counted = now

    def _on_offer(self, offer: PeerOffer, now: float) -> None:
        announcer = self._announcer
        if offer.peer_id == announcer.peer_id:
            return
        key = (offer.info_hash, offer.peer_id, offer.offer_id)
        if not self.unanswered.admit(key, now):
            announcer.tally.count("dropped")
            return
        announcer.tally.count("offers_received")
        self.peers += 1

        def reply(sdp: str) -> None:
            self._reply(key, sdp)

        if not announcer.signaller.on_offer(self._url, offer, reply):
            self.unanswered.end(key, now)

    def _reply(self, key: tuple[bytes, bytes, bytes], sdp: str) -> None:
        info_hash, to_peer_id, offer_id = key
        announcer = self._announcer
        if not self.unanswered.end(key, trio.current_time()) or self.socket is None:
            return
        answer = Answer(info_hash, announcer.peer_id, to_peer_id, offer_id, sdp)
        if self.socket.send_nowait(encode_request(answer)):
            announcer.tally.count("answers_sent")

    def _on_answer(self, answer: PeerAnswer, now: float) -> None:
        announcer = self._announcer
        if answer.peer_id == announcer.peer_id or not self._offers.take(answer.offer_id, now):
            announcer.tally.count("dropped")
            return
        announcer.tally.count("answers_received")
        self.peers += 1
        self._appetite = MAX_OFFERS
        announcer.signaller.on_answer(self._url, answer)

    def __repr__(self) -> str:
        return f"<Post {self._url} {self.last_error or f'{self.peers} peers'}>"


def _ask_for_counts(posts: Sequence[Post]) -> trio.Event:
    """Ask one tracker, for all of them in one message; set when it answers, or cannot be asked.

    The answer is one message, too, and leaves out what the tracker does not know.
    """
    now, answered = trio.current_time(), trio.Event()
    asked = [post for post in posts if post.may_scrape(now)]
    socket = next((post.socket for post in asked), None)
    question = encode_request(Scrape(tuple(post.info_hash for post in asked)))
    if socket is None or not socket.send_nowait(question):
        answered.set()
    else:
        for post in asked:
            post.on_scrape(now, answered)
    return answered
