"""WebRTC of a session: nothing of it exists before a torrent names a WebSocket tracker."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, cast

from trio.testing import MockClock

from tests.engine.kit import rig
from torrentfs.discovery.trackers import Totals
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.signalling import open_signalling
from torrentfs.transports.webrtc.bridge import RtcStatistics
from torrentfs.transports.webrtc.config import RtcConfig

NO_CLIENT = cast("Any", None)
HTTP = [["http://t.example/announce"], ["udp://t.example:80"]]


def totals() -> Totals:
    return Totals(0, 0, 1)


def config(**fields: Any) -> SessionConfig:
    return SessionConfig(cache_dir=Path("/nonexistent"), **fields)


async def test_the_user_wants_none() -> None:
    async with open_signalling(config(rtc=None), NO_CLIENT, Random(1)) as signalling:
        assert signalling is None


async def test_it_begins_with_the_first_websocket_tracker(autojump_clock: MockClock) -> None:
    async with (
        rig() as r,
        open_signalling(config(rtc=RtcConfig()), NO_CLIENT, Random(1)) as signalling,
    ):
        assert signalling is not None
        assert signalling.announcer(HTTP, r.swarm, totals) is None
        assert repr(signalling) == "<Signalling unused>"
        assert signalling.statistics() is None
        first = signalling.announcer([*HTTP, ["wss://t.example"]], r.swarm, totals)
        second = signalling.announcer([["ws://t.example"]], r.swarm, totals)
        assert first is not None
        assert second is not None
        assert [row.url for row in first.statistics()] == ["wss://t.example"]
        assert first.sockets is second.sockets
        assert "unused" not in repr(signalling)
        first.tally.count("offers_sent", 3)
        second.tally.count("offers_sent", 2)
        now = signalling.statistics()
        assert now is not None
        assert now.signalling.offers_sent == 5
        assert now.bridge == RtcStatistics((), 0, 0, 0, 0)
