"""What follows when the interface, or the port that others reach, is another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from torrentfs.engine import whereabouts
from torrentfs.engine.whereabouts import RETRY, SHORT, Whereabouts
from torrentfs.transports.binding import Footing

HOME = Footing(3, "10.0.0.2", "fd00::2", "")
FOUR, SIX = "192.0.2.1", "2001:db8::1"
GONE = Footing(0, None, None, "the interface vpn0 is gone")


class Changes:
    """Instead of the kernel."""

    def __init__(self, net: Net) -> None:
        self._net = net

    async def wait(self) -> None:
        await self._net.changed.wait()
        self._net.changed = trio.Event()

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class Part:
    """A port, or the like."""

    def __init__(self) -> None:
        self.port = 6881
        self.followed = 0
        self.trouble = ""

    def follow(self) -> str:
        self.followed += 1
        return self.trouble


class FakeSwarm:
    def __init__(self, note: list[Any]) -> None:
        self._note = note
        self.connected = {
            (host, 1): SimpleNamespace(abort=lambda host=host: note.append(host))
            for host in (FOUR, SIX)
        }
        tracker = lambda: note.append(f"tracker {self.trackers.announced_port}")  # noqa: E731
        self.trackers = SimpleNamespace(announced_port=6881, announce_anew=tracker)
        self.dht = SimpleNamespace(announced_port=6881, search_anew=lambda: note.append("search"))

    def start_over(self) -> None:
        self._note.append("start over")


class Net:
    """A session, and the interface that it is held to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.changed = trio.Event()
        self.footing = HOME
        self.note: list[Any] = []
        self.listener = Part()
        self.breaker = SimpleNamespace(on_progress=lambda: self.note.append("reads wait"))
        torrent = SimpleNamespace(
            listen_port=6881,
            reader=SimpleNamespace(breaker=self.breaker),
            web_seeds=[SimpleNamespace(retry_soon=lambda: self.note.append("web seed"))],
        )
        self.host = SimpleNamespace(
            config=SimpleNamespace(bind="%vpn0"),
            client=SimpleNamespace(drop_connections=self.drop),
            listener=self.listener,
            udp=None,
            lsd=None,
            dht=SimpleNamespace(begin_again=lambda: self.note.append("dht")),
            signalling=None,
            swarms=[FakeSwarm(self.note)],
            torrents={"a": torrent},
            volumes={},
        )
        self.torrent = torrent
        self.about = Whereabouts(self.host)  # type: ignore[arg-type]
        monkeypatch.setattr(whereabouts, "look", lambda bind: self.footing)
        monkeypatch.setattr(whereabouts, "DeviceChanges", lambda: Changes(self))

    async def drop(self) -> None:
        await trio.lowlevel.checkpoint()
        self.note.append("http")

    async def change(self, footing: Footing, after: float = 0) -> list[Any]:
        """What happens when the interface is another, after a while."""
        await trio.sleep(after)
        self.note.clear()
        self.footing = footing
        self.changed.set()
        await trio.sleep(0.5)
        return list(self.note)

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.about.follow)
            await trio.sleep(0.5)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> Net:
    return Net(monkeypatch)


ANEW = ["dht", "start over", "tracker 6881", "search", "reads wait", "web seed"]


@pytest.mark.expect_log("the interface vpn0 is gone")
async def test_a_device_that_is_made_anew(net: Net, autojump_clock: MockClock) -> None:
    async with net.followed():
        assert net.note == []
        assert await net.change(GONE) == []
        assert net.about.trouble == "the interface vpn0 is gone"
        back = await net.change(HOME._replace(number=4))
        assert back == [FOUR, SIX, "http", *ANEW]
        assert net.about.trouble == ""
        assert net.listener.followed == 3


async def test_another_address_ends_connections_of_its_family(
    net: Net, autojump_clock: MockClock
) -> None:
    async with net.followed():
        assert await net.change(HOME._replace(ipv4="10.0.0.7")) == [FOUR, "http", *ANEW]
        assert await net.change(HOME._replace(ipv4="10.0.0.7")) == []  # a change of somebody else's


async def test_a_family_that_comes_ends_nothing(net: Net, autojump_clock: MockClock) -> None:
    net.footing = HOME._replace(ipv6=None)
    async with net.followed():
        assert await net.change(HOME) == ANEW


@pytest.mark.expect_log("the interface vpn0 is down")
@pytest.mark.parametrize("away", [SHORT / 2, SHORT * 2])
async def test_connections_outlive_a_short_while(
    net: Net, autojump_clock: MockClock, away: float
) -> None:
    down = HOME._replace(trouble="the interface vpn0 is down")
    async with net.followed():
        assert await net.change(down) == []
        lost = [FOUR, SIX, "http"] if away > SHORT else []
        assert await net.change(HOME, away) == [*lost, *ANEW]


@pytest.mark.expect_log("cannot reach us at vpn0: address already in use: tried again")
async def test_a_port_that_is_taken_is_tried_again(net: Net, autojump_clock: MockClock) -> None:
    async with net.followed():
        net.listener.trouble = "address already in use"
        assert await net.change(HOME._replace(number=4)) == []
        assert "address already in use" in net.about.trouble
        net.listener.trouble = ""
        await trio.sleep(RETRY)
        assert net.about.trouble == ""
        assert "start over" in net.note


@pytest.mark.expect_log("the interface vpn0 is down")
async def test_an_interface_that_is_down_at_first(net: Net, autojump_clock: MockClock) -> None:
    net.footing = HOME._replace(trouble="the interface vpn0 is down")
    async with net.followed():
        assert net.about.trouble == "the interface vpn0 is down"
        assert await net.change(HOME) == ANEW


async def test_nothing_is_watched_without_a_device(net: Net, autojump_clock: MockClock) -> None:
    for bind in (None, "127.0.0.1"):
        net.host.config = SimpleNamespace(bind=bind)
        await Whereabouts(net.host).follow()  # type: ignore[arg-type]


def test_another_port_outside_is_announced_once(net: Net) -> None:
    net.about.announced_port = 6881
    net.about.on_port_mapped("udp", 7001)
    net.about.on_port_mapped("tcp", 6881)
    assert net.note == []
    net.about.on_port_mapped("tcp", 7000)
    net.about.on_port_mapped("tcp", 7000)
    assert net.note == ["tracker 7000", "search"]
    assert net.host.swarms[0].dht.announced_port == 7000
    assert net.torrent.listen_port == net.about.announced_port == 7000
    net.host.listener = None  # over uTP alone that is the port
    net.about.on_port_mapped("udp", 7001)
    assert net.about.announced_port == 7001
