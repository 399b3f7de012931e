"""The trackers of one torrent, in tiers (BEP 12), asked as a viewer needs it.

BEP 12 asks tier after tier, in each tier one tracker after the other, until one answers, and
moves that one to the front of its tier. Asking *all* at once would find peers a little sooner,
but costs every tracker of the world an announce per viewer; libtorrent does not do so by default
either. Asking strictly in turn has the opposite fault: a tracker that swallows packets (UDP: 15 s
to the first repetition) stands between a viewer and the film. So a *round* goes in the order of
BEP 12, with three changes, each because somebody is waiting:

* the next tracker is asked at once when one fails, and after `HEDGE` seconds of silence too,
  while the silent one keeps its chance;
* an answer without a single usable peer does not end the round: such a tracker is up but knows
  nobody (small private instances in front of public tiers do this);
* after the first useful answer those still under way get `GRACE` seconds more, then the round
  ends.

A tracker in its back-off or within its `min interval` is passed over. When a whole round found no
peer, the next comes after the minimum and then ever more rarely, not after the full interval.

A private torrent uses a *single* tracker (BEP 27): the first that answers, with peers or without,
is the one until it fails, and nobody else is asked meanwhile. One that is silent has failed after
`PATIENCE` seconds, if there is another. Its peers stay when another takes over, as in libtorrent:
the trackers of such a torrent are mostly doors of one and the same, and who reads would pay for it.

Each info-hash of a hybrid torrent is announced; their swarms are distinct for the tracker.
Events: `started` goes with the first announce to each tracker that it answers, `completed` when
the torrent says so, `stopped` to all that may know us when `run` is cancelled. That last one is
shielded from the cancellation and bounded by `STOP_TIME`.

WebSocket trackers are no part of the rounds: they know browsers, the others know everybody else.
Where there is WebRTC, `beside` announces to them at the same time; here they keep their place in
the statistics.

A tracker that wants never to be asked again for an info-hash (BEP 31) is not, until the next start;
its own sight of our address (BEP 24) is passed on.

Only trackers named by the torrent or the user are ever contacted.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import trio

from torrentfs.discovery.base import clean_peers
from torrentfs.discovery.http import HttpTrackers
from torrentfs.discovery.tracker import Tracker, TrackerStatistics
from torrentfs.discovery.udp import open_udp_trackers
from torrentfs.errors import RemoteProtocolError, TransportError
from torrentfs.wire.announce import AnnounceRequest, TrackerFailure, is_websocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from random import Random

    from torrentfs.discovery.base import OnPeers
    from torrentfs.discovery.websocket_announcer import RtcAnnouncer
    from torrentfs.discovery.websocket_statistics import SignallingStatistics
    from torrentfs.transports.base import Address
    from torrentfs.transports.http import HttpClient
    from torrentfs.wire.announce import AnnounceEvent, AnnounceReply, SwarmCounts

log = logging.getLogger(__name__)

HEDGE = 3.0
"""Seconds of silence after which the next tracker is asked too. A living tracker answers in well
under one, TLS and one lost packet with TCP's 1 s repetition included."""
PATIENCE = 20.0
"""Seconds of silence after which the single tracker has failed: one lost packet (UDP: 15 s to the
repetition) is no failure."""
GRACE = 5.0
"""Seconds that others have to answer after the first useful answer."""
STOP_TIME = 2.0
"""Seconds that `stopped` may take at most when everything shuts down."""
NUM_WANT = 100
"""Peers asked for. Trackers cap it as they like (50 to 200)."""
MAX_STARVED = 5
"""Rounds without a peer after which the full interval is kept."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Bytes uploaded and downloaded in this session, and still missing, as announced (BEP 3)."""

    uploaded: int
    downloaded: int
    left: int


class Announcer(Protocol):
    """One way to talk to trackers: HTTP, UDP."""

    async def announce(
        self, url: str, request: AnnounceRequest, on_reply: Callable[[AnnounceReply], None]
    ) -> None:
        """Announce over each address family that the tracker has; an answer is told at once.

        Returns when no more answers can come; raises `TransportError` or `RemoteProtocolError`
        when there was none at all.
        """

    async def scrape(self, url: str, info_hashes: Sequence[bytes]) -> Mapping[bytes, SwarmCounts]:
        """How many peers the tracker knows (BEP 48), of those torrents that it knows.

        Raises as `announce`, also where a tracker cannot be asked that.
        """


class _Round:
    """One pass over the trackers; `ended` is set when nobody needs to be asked any more."""

    def __init__(self) -> None:
        self.asked: list[Tracker] = []
        self.answered: list[Tracker] = []
        self.found_peers = False
        self.step = trio.Event()  # set when an attempt ends or the round is satisfied

    def wake(self) -> None:
        self.step.set()


class TrackerTiers:
    """Announces one torrent to its trackers; a `PeerSource`.

    `info_hashes` are the 20-byte forms (`InfoHashes.wire`), `port` is where we accept peers.
    `on_peers(addresses, url)` may be set later as an attribute, and so may
    `on_own_address(address, host)`, which is told where the tracker at a host sees us. `beside`
    announces to the WebSocket trackers of the same tiers, if there is WebRTC. `single`: one tracker
    at a time (private torrents). `announcers` replaces the ways to talk to trackers, by URL scheme
    (tests).
    """

    def __init__(
        self,
        tiers: Iterable[Iterable[str]],
        info_hashes: Sequence[bytes],
        peer_id: bytes,
        port: int,
        *,
        client: HttpClient,
        totals: Callable[[], Totals],
        rng: Random,
        on_peers: OnPeers | None = None,
        num_want: int = NUM_WANT,
        beside: RtcAnnouncer | None = None,
        announcers: Mapping[str, Announcer] | None = None,
        single: bool = False,
    ) -> None:
        self.on_peers: OnPeers = on_peers or (lambda addresses, url: None)
        self.on_own_address: Callable[[Address, str], None] = lambda own, host: None
        self.info_hashes = tuple(info_hashes)
        self.beside = beside
        self.is_running = False
        """Whether there is anything to ask trackers with."""
        self._peer_id = peer_id
        self.announced_port = port
        """Where peers reach us from outside: another than ours behind some gateways."""
        self._port = port
        self._client = client
        self._totals = totals
        self._rng = rng
        self._num_want = num_want
        self._says_stopped = True
        self._proxied = False
        self._key = rng.getrandbits(32)
        self.announcers = dict(announcers or {})
        self._own_announcers = announcers is None
        self._tiers = _shuffled(tiers, rng)
        self._single = single
        self._current: Tracker | None = None
        """The one that a private torrent uses, since it answered and until it fails."""
        self._starved = 0
        self._due = float("-inf")
        self._soon = False
        self._completed = False
        self._anew = False
        self._asking = trio.CancelScope()
        self._wakeup = trio.Event()

    async def run(self) -> None:
        """Announce until cancelled; then say `stopped`, within `STOP_TIME`.

        May be run again later: what trackers said of their intervals still holds then.
        """
        async with AsyncExitStack() as stack:
            if self._own_announcers:
                http = HttpTrackers(self._client)
                self.announcers = {"http": http, "https": http}
                self._proxied = self._client.outgoing.proxy is not None
                if not self._proxied:
                    udp = open_udp_trackers(bind=self._client.outgoing.bind)
                    self.announcers["udp"] = await stack.enter_async_context(udp)
            async with trio.open_nursery() as nursery:
                if self.beside is not None:
                    nursery.start_soon(self.beside.run)
                self.is_running = True
                try:
                    await self._announce_forever()
                finally:
                    self.is_running = False
                    if self.says_stopped:
                        with trio.move_on_after(STOP_TIME, shield=True):
                            await self._announce_event("stopped")
                    for tracker in self.ordered():
                        tracker.on_stopped()

    @property
    def says_stopped(self) -> bool:
        """False when somebody else goes on announcing for us: then `run` ends at once."""
        return self._says_stopped

    @says_stopped.setter
    def says_stopped(self, value: bool) -> None:
        self._says_stopped = value
        if self.beside is not None:
            self.beside.says_stopped = value

    def announce_soon(self) -> None:
        """More peers are wanted: announce as early as the trackers allow."""
        self._soon = True
        self._wake()
        if self.beside is not None:
            self.beside.announce_soon()

    def announce_anew(self) -> None:
        """Others reach us at another place now, or we them again: tell the trackers soon.

        Announces that are under way are given up.
        """
        self._anew = True
        self._asking.cancel()
        self._wake()

    def announce_completed(self) -> None:
        """The torrent has just become whole by downloading: tell the trackers once (BEP 3)."""
        self._completed = True
        self._wake()
        if self.beside is not None:
            self.beside.announce_completed()

    def statistics(self) -> tuple[TrackerStatistics, ...]:
        """All trackers, in the order in which they are asked."""
        now = trio.current_time()
        beside = self.beside.statistics() if self.beside is not None else ()
        rows = {row.url: row for row in beside}
        return tuple(
            replace(rows[tracker.url], tier=tracker.tier)
            if tracker.url in rows
            else tracker.statistics(now)
            for tracker in self.ordered()
        )

    def signalling(self) -> SignallingStatistics | None:
        """What went to browsers and came from them; None: no WebSocket tracker is asked."""
        return self.beside.signalling() if self.beside is not None else None

    def __repr__(self) -> str:
        return f"<TrackerTiers {[[t.url for t in tier] for tier in self._tiers]}>"

    # -- when ---------------------------------------------------------------------------------

    async def _announce_forever(self) -> None:
        while True:
            self._soon = False
            if self._anew:
                self._anew = False
                for tracker in self.ordered():
                    tracker.ask_anew(trio.current_time())
            with trio.CancelScope() as self._asking:
                await self._announce_round()
            while not self._anew:
                if self._completed:
                    self._completed = False
                    await self._announce_event("completed")
                due = self._next_time()
                if due <= trio.current_time():
                    break
                with trio.move_on_at(due):
                    await self._wakeup.wait()

    def _next_time(self) -> float:
        if not self._soon:
            return self._due
        return min(self._due, min((t.not_before for t in self._in_turn()), default=self._due))

    def _wake(self) -> None:
        self._wakeup.set()
        self._wakeup = trio.Event()

    def ordered(self) -> list[Tracker]:
        """The trackers, in the order in which they are asked."""
        return [tracker for tier in self._tiers for tracker in tier]

    # -- a round ----------------------------------------------------------------------------------

    async def _announce_round(self) -> None:
        """Ask trackers in order until one gave peers; then set when to come again."""
        now = trio.current_time()
        trackers = [t for t in self._in_turn() if t.not_before <= now and self._supported(t)]
        this = _Round()
        ask = self._ask_singly if self._single else self._ask_hedged
        await ask(trackers, this)
        now = trio.current_time()
        for tracker in this.asked:
            tracker.on_round_end(now, self._rng)
        self._plan(this, now)

    def _in_turn(self) -> list[Tracker]:
        """Those that a round may ask, in order: of a private torrent the one that it uses."""
        return [self._current] if self._current is not None else self.ordered()

    async def _ask_singly(self, trackers: Sequence[Tracker], this: _Round) -> None:
        for tracker in trackers:
            this.asked.append(tracker)
            others = [t for t in self.ordered() if t is not tracker and t.not_before < float("inf")]
            with trio.move_on_after(PATIENCE if others else float("inf")) as scope:
                await self._attempt(tracker, this, scope)
            self._current = tracker if this.answered else None
            if this.answered:
                break

    async def _ask_hedged(self, trackers: Sequence[Tracker], this: _Round) -> None:
        async with trio.open_nursery() as nursery:
            for tracker in trackers:
                this.step = trio.Event()
                this.asked.append(tracker)
                nursery.start_soon(self._attempt, tracker, this, nursery.cancel_scope)
                with trio.move_on_after(HEDGE):
                    await this.step.wait()
                if this.found_peers:
                    break

    def _plan(self, this: _Round, now: float) -> None:
        known = [t for t in self._in_turn() if t.scheme in self.announcers]
        if this.found_peers:
            self._starved = 0
            self._due = min(t.due for t in this.answered)
        elif this.answered:
            self._starved += 1
            early = now + 60.0 * 2.0 ** min(MAX_STARVED, self._starved - 1)
            least = min(t.not_before for t in this.answered)
            self._due = min(max(early, least), min(t.due for t in this.answered))
        else:
            self._due = min((t.not_before for t in known), default=float("inf"))
        if this.answered:  # those in back-off get their chance when it is over, if peers lack
            log.debug("announced to %s, next in %.0f s", this.answered, self._due - now)

    def _supported(self, tracker: Tracker) -> bool:
        if tracker.scheme in self.announcers:
            return True
        if is_websocket(tracker.url):
            told = "WebRTC cannot go through the proxy" if self._proxied else "needs WebRTC"
            tracker.last_error = told
        elif tracker.scheme == "udp":
            tracker.last_error = "UDP cannot go through the proxy"
        else:
            tracker.last_error = f"{tracker.scheme or 'malformed'} URLs are not supported"
        tracker.give_up()
        return False

    async def _attempt(self, tracker: Tracker, this: _Round, scope: trio.CancelScope) -> None:
        """Announce every info-hash to one tracker, as a part of a round."""

        def on_answer(peers: int) -> None:
            if tracker not in this.answered:
                this.answered.append(tracker)
                self._promote(tracker)
            if peers:
                if not this.found_peers:
                    scope.deadline = trio.current_time() + GRACE
                this.found_peers = True
                this.wake()

        async with trio.open_nursery() as nursery:
            for info_hash in tracker.wanted(self.info_hashes):
                nursery.start_soon(self._announce, tracker, info_hash, "", on_answer)
        this.wake()

    def _promote(self, tracker: Tracker) -> None:
        """BEP 12: the tracker that answered is asked first in its tier next time."""
        tier = self._tiers[tracker.tier]
        tier.remove(tracker)
        tier.insert(0, tracker)

    # -- one announce ------------------------------------------------------------------------------

    async def _announce_event(self, event: AnnounceEvent) -> None:
        """Tell all trackers that may know us, at the same time."""
        async with trio.open_nursery() as nursery:
            for tracker in self.ordered() if event == "stopped" else self._in_turn():
                for info_hash in tracker.contacted if event == "stopped" else tracker.started:
                    nursery.start_soon(self._announce, tracker, info_hash, event, None)
        current = self._current
        if current is not None and (current.failures or not current.wanted(self.info_hashes)):
            self._current, self._soon = None, True  # another takes over now, not when it is due

    async def _announce(
        self,
        tracker: Tracker,
        info_hash: bytes,
        event: AnnounceEvent,
        on_answer: Callable[[int], None] | None,
    ) -> None:
        if not event and info_hash not in tracker.started:
            event = "started"
        request = self._request(tracker, info_hash, event)
        tracker.on_announce(info_hash)

        def on_reply(reply: AnnounceReply) -> None:
            peers = clean_peers(reply.peers, own_port=self._port)
            tracker.on_reply(reply, info_hash, len(peers), trio.current_time())
            if reply.external_ip is not None:
                self.on_own_address((reply.external_ip, self.announced_port), tracker.host)
            if reply.warning:
                log.info("tracker %s warns: %s", tracker.url, reply.warning)
            if peers and event != "stopped":
                self.on_peers(peers, tracker.url)
            if on_answer is not None:
                on_answer(len(peers))

        try:
            await self.announcers[tracker.scheme].announce(tracker.url, request, on_reply)
        except (TransportError, RemoteProtocolError) as error:
            log.debug("tracker %s: %s", tracker.url, error)
            retry_in = error.retry_in if isinstance(error, TrackerFailure) else None
            now = trio.current_time()
            tracker.on_failure(info_hash, str(error), now, self._rng, retry_in)
            if not tracker.wanted(self.info_hashes):
                tracker.give_up()

    def _request(self, tracker: Tracker, info_hash: bytes, event: AnnounceEvent) -> AnnounceRequest:
        totals = self._totals()
        return AnnounceRequest(
            info_hash=info_hash,
            peer_id=self._peer_id,
            # trackers refuse port 0, and nobody who does not listen is reached at port 1
            port=self.announced_port or 1,
            uploaded=totals.uploaded,
            downloaded=totals.downloaded,
            left=totals.left,
            event=event,
            num_want=0 if event == "stopped" else self._num_want,
            key=self._key,
            tracker_id=tracker.ids.get(info_hash),
        )


def _shuffled(tiers: Iterable[Iterable[str]], rng: Random) -> list[list[Tracker]]:
    """BEP 12: the trackers of each tier in random order; each URL counts where it comes first."""
    seen: set[str] = set()
    result: list[list[Tracker]] = []
    for tier in tiers:
        urls = [url for url in dict.fromkeys(tier) if url not in seen]
        if urls:
            seen.update(urls)
            rng.shuffle(urls)
            result.append([Tracker(url, len(result)) for url in urls])
    return result
