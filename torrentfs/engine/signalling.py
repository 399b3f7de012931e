"""WebRTC for a session, from the first torrent on that has a WebSocket tracker.

Most torrents name none, and what speaks to browsers takes a twentieth of the time that a mount
needs to start: it is imported and made when it is asked for. `Rtc` says what it does.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from torrentfs.engine.stats import WebRtcStatistics
from torrentfs.transports.binding import show
from torrentfs.wire.announce import is_websocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from random import Random

    from torrentfs.discovery.trackers import Totals
    from torrentfs.discovery.websocket import WebSocketTrackers
    from torrentfs.discovery.websocket_announcer import RtcAnnouncer
    from torrentfs.engine.config import SessionConfig
    from torrentfs.engine.rtc import Rtc
    from torrentfs.engine.swarm import Swarm
    from torrentfs.transports.http import HttpClient
    from torrentfs.transports.webrtc.bridge import WebRtc
    from torrentfs.transports.webrtc.config import RtcConfig


class Signalling:
    """What finds browsers for the torrents of a session. Made by `open_signalling`."""

    def __init__(
        self,
        settings: RtcConfig,
        client: HttpClient,
        rng: Random,
        *,
        bridging: trio.Nursery,
        talking: trio.Nursery,
    ) -> None:
        """`bridging` is for the worker process, `talking` for all that needs it."""
        self.swarms: Mapping[bytes, Swarm] = {}
        """The running swarms by info-hash; the session's own table."""
        self._settings = settings
        self._client = client
        self._rng = rng
        self._bridging = bridging
        self._talking = talking
        self._rtc: Rtc | None = None
        self._bridge: WebRtc | None = None
        self._sockets: WebSocketTrackers | None = None

    def announcer(
        self, tiers: Sequence[Sequence[str]], swarm: Swarm, totals: Callable[[], Totals]
    ) -> RtcAnnouncer | None:
        """Finds peers for `swarm` at the WebSocket trackers of `tiers`; None: there is none."""
        if not any(is_websocket(url) for tier in tiers for url in tier):
            return None
        if self._rtc is None:
            self._rtc = self._begin()
        return self._rtc.announcer(tiers, swarm, totals)

    def _begin(self) -> Rtc:
        from torrentfs.discovery.websocket import websocket_trackers
        from torrentfs.engine.rtc import Rtc
        from torrentfs.transports.webrtc.bridge import WebRtc

        self._bridge = WebRtc(self._settings, self._bridging)
        self._sockets = websocket_trackers(self._client, self._talking, rng=self._rng)
        return Rtc(
            self._bridge,
            self._sockets,
            self._talking,
            self._rng,
            self.swarms,
            self._settings.max_offers,
        )

    def statistics(self) -> WebRtcStatistics | None:
        """What there is, and what was said; None while it is unused."""
        if self._bridge is None or self._rtc is None:
            return None
        return WebRtcStatistics(self._bridge.statistics(), self._rtc.tally.statistics())

    def reconnect(self) -> None:
        """We are at another place: trackers must see us there."""
        if self._sockets is not None:
            self._sockets.reconnect()

    def stop_talking(self) -> None:
        """End all that needs the worker; the trackers' sockets are closed in good order."""
        if self._sockets is not None:
            self._sockets.close()
        self._talking.cancel_scope.cancel()

    def stop_bridging(self) -> None:
        """End the worker; after that."""
        if self._bridge is not None:
            self._bridge.close()
        self._bridging.cancel_scope.cancel()

    def __repr__(self) -> str:
        return f"<Signalling {self._sockets or 'unused'}>"


@asynccontextmanager
async def open_signalling(
    config: SessionConfig, client: HttpClient, rng: Random
) -> AsyncIterator[Signalling | None]:
    """WebRTC for a session, or None where the user wants none. It must outlive the torrents."""
    if config.rtc is None:
        yield None
        return
    settings = replace(config.rtc, bind=show(config.bind) if config.bind is not None else None)
    async with trio.open_nursery() as bridging:
        try:
            async with trio.open_nursery() as talking:
                made = Signalling(settings, client, rng, bridging=bridging, talking=talking)
                try:
                    yield made
                finally:
                    made.stop_talking()
        finally:
            made.stop_bridging()
