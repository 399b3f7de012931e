"""What is gathered ahead, for how long, and servers that do not answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.transports.webrtc.stun_server import StunServer, stun_server
from torrentfs.errors import TransportError
from torrentfs.transports.webrtc import gathering
from torrentfs.transports.webrtc.bound_loop import BoundLoop
from torrentfs.transports.webrtc.config import RtcConfig, TurnServer
from torrentfs.transports.webrtc.gathering import READY, Gathered, Gatherings

pytestmark = pytest.mark.real

LOOPBACK = RtcConfig(bind="127.0.0.1")


def play(config: RtcConfig, scene: Callable[[Gatherings], Awaitable[None]]) -> None:
    """Run a scene; no descriptor and no task may be left."""

    async def run() -> None:
        gatherings = Gatherings(config)
        async with asyncio.timeout(20):
            await scene(gatherings)
            await gatherings.aclose()
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    before = len(os.listdir("/proc/self/fd"))
    with asyncio.Runner(loop_factory=lambda: BoundLoop(config.bind)) as runner:
        runner.run(run())
    assert len(os.listdir("/proc/self/fd")) == before


async def filled(gatherings: Gatherings, count: int = READY) -> None:
    while len(gatherings._ready) != count:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def test_a_few_are_ready() -> None:
    async def scene(gatherings: Gatherings) -> None:
        assert not gatherings._ready  # nothing before it is asked for
        first = await gatherings.take()
        await filled(gatherings)
        waiting = set(map(id, gatherings._ready))
        taken = [await gatherings.take() for _ in range(READY + 2)]
        assert {id(each) for each in taken} > waiting
        await filled(gatherings)
        for each in [first, *taken]:
            (candidate,) = each.candidates
            assert (candidate.host, candidate.kind) == ("127.0.0.1", "host")
            assert each.certificate is not None
            await each.ice.close()
        ports = {each.candidates and each.candidates[0].port for each in [first, *taken]}
        assert len(ports) >= 1

    play(LOOPBACK, scene)


def test_what_nobody_asks_for_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "LIFE", 0.2)

    async def scene(gatherings: Gatherings) -> None:
        await (await gatherings.take()).ice.close()
        await filled(gatherings)
        await filled(gatherings, 0)
        await asyncio.sleep(0.3)
        assert not gatherings._ready
        await (await gatherings.take()).ice.close()
        await filled(gatherings)

    play(LOOPBACK, scene)


def test_what_was_gathered_at_another_place_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A VPN came back with another address: offers with the old one would lead nowhere."""

    async def scene(gatherings: Gatherings) -> None:
        await (await gatherings.take()).ice.close()
        await filled(gatherings)
        monkeypatch.setattr(gathering, "host_addresses", lambda bind: ["127.0.0.2"])
        for _ in range(READY + 1):
            taken = await gatherings.take()
            assert [each.host for each in taken.candidates] == ["127.0.0.2"]
            await taken.ice.close()

    play(RtcConfig(bind="lo"), scene)


class Stage:
    """Gatherings that know STUN servers, and what they say of them; `server` is the last one."""

    def __init__(self, servers: list[StunServer]) -> None:
        self.servers = servers
        self.server = servers[-1]
        self.told: list[tuple[str, str]] = []
        self.gatherings: Gatherings

    def report(self, url: str, reason: str) -> None:
        self.told.append((url, reason))


def play_with_stun(
    scene: Callable[[Stage], Awaitable[None]],
    servers: int = 1,
    bind: str | None = "127.0.0.1",
    turn: tuple[TurnServer, ...] = (),
    *,
    relay_only: bool = False,
) -> None:
    """Run a scene; relay-only, the STUN server poses as the relay if there is no other."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            stage = Stage([await stack.enter_async_context(stun_server()) for _ in range(servers)])
            urls = [each.url for each in stage.servers]
            if relay_only:
                posing = TurnServer(urls[0].replace("stun:", "turn:"), "me", "secret")
                config = RtcConfig(turn=turn or (posing,), relay_only=True, bind=bind)
            else:
                config = RtcConfig(tuple(urls), turn, bind=bind)
            stage.gatherings = Gatherings(config, stage.report)
            async with asyncio.timeout(20):
                await scene(stage)
                await stage.gatherings.aclose()
            await asyncio.sleep(0.01)
            assert asyncio.all_tasks() == {asyncio.current_task()}

    before = len(os.listdir("/proc/self/fd"))
    with asyncio.Runner(loop_factory=lambda: BoundLoop(bind)) as runner:
        runner.run(run())
    assert len(os.listdir("/proc/self/fd")) == before


def kinds(gathered: Gathered) -> list[str]:
    return sorted(each.kind for each in gathered.candidates)


async def taken(gatherings: Gatherings) -> list[str]:
    """The kinds of the candidates of the next one."""
    gathered = await gatherings.take()
    found = kinds(gathered)
    await gathered.ice.close()
    return found


def test_a_stun_server_tells_where_it_sees_us() -> None:
    async def scene(stage: Stage) -> None:
        gathered = await stage.gatherings.take()
        assert kinds(gathered) == ["host", "srflx"]
        (seen,) = (each for each in gathered.candidates if each.kind == "srflx")
        (host,) = (each for each in gathered.candidates if each.kind == "host")
        assert (seen.host, seen.port) == ("198.51.100.7", host.port)
        assert seen.related == ("127.0.0.1", host.port)
        await gathered.ice.close()

    play_with_stun(scene)


def test_a_silent_server_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "STUN_WAIT", 0.5)

    async def scene(stage: Stage) -> None:
        stage.server.mute = {"127.0.0.1"}
        assert await taken(stage.gatherings) == ["host"]
        asked = stage.server.asked.total()
        assert asked
        await filled(stage.gatherings)
        for _ in range(READY + 2):
            assert await taken(stage.gatherings) == ["host"]
        assert stage.server.asked.total() == asked
        # it is back, and has rested
        stage.server.mute = ()
        monkeypatch.setattr(stage.gatherings._stun, "_rests", {})
        async with asyncio.timeout(10):
            while await taken(stage.gatherings) != ["host", "srflx"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert stage.told == [(stage.server.url, "does not answer"), (stage.server.url, "")]

    play_with_stun(scene)


def test_an_address_that_a_server_does_not_answer_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "host_addresses", lambda bind: ["127.0.0.1", "127.0.0.2"])
    monkeypatch.setattr(gathering, "STUN_WAIT", 1000)
    monkeypatch.setattr(gathering, "ASKING", 2000)

    async def scene(stage: Stage) -> None:
        stage.server.mute = {"127.0.0.2"}
        for _ in range(3):
            assert await taken(stage.gatherings) == ["host", "host", "srflx"]

    play_with_stun(scene, bind=None)

    async def learn(stage: Stage) -> None:
        """What is gathered ahead waits for all of them, once."""
        stage.server.mute = {"127.0.0.2"}
        assert await taken(stage.gatherings) == ["host", "host", "srflx"]
        await filled(stage.gatherings)
        asked = stage.server.asked["127.0.0.2"]
        for _ in range(READY + 2):
            assert await taken(stage.gatherings) == ["host", "host", "srflx"]
        assert stage.server.asked["127.0.0.2"] == asked
        assert stage.told == []

    monkeypatch.setattr(gathering, "STUN_WAIT", 0.5)
    play_with_stun(learn, bind=None)


def test_a_slow_answer_is_waited_for_where_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "host_addresses", lambda bind: ["127.0.0.1", "127.0.0.2"])
    monkeypatch.setattr(gathering, "STUN_WAIT", 5)
    monkeypatch.setattr(gathering, "GRACE", 0.0)

    async def scene(stage: Stage) -> None:
        stage.server.late["127.0.0.2"] = 0.3
        assert await taken(stage.gatherings) == ["host", "host", "srflx"]
        await filled(stage.gatherings)
        assert await taken(stage.gatherings) == ["host", "host", "srflx", "srflx"]

    play_with_stun(scene, bind=None)


def test_the_next_server_is_asked_when_one_is_silent_or_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "STUN_WAIT", 0.5)

    async def scene(stage: Stage) -> None:
        silent, refuses, _ = stage.servers
        silent.mute = {"127.0.0.1"}
        refuses.error = 500
        assert await taken(stage.gatherings) == ["host", "srflx"]
        asked = [each.asked.total() for each in (silent, refuses)]
        assert all(asked)
        await filled(stage.gatherings)
        assert await taken(stage.gatherings) == ["host", "srflx"]
        assert [each.asked.total() for each in (silent, refuses)] == asked
        assert stage.told == [
            (silent.url, "does not answer"),
            (refuses.url, "has a fault (500)"),
        ]

    play_with_stun(scene, servers=3)


def test_a_dead_relay_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "TURN_WAIT", 0.2)

    async def scene(stage: Stage) -> None:
        assert await taken(stage.gatherings) == ["host", "srflx"]
        monkeypatch.setattr(gathering, "TURN_WAIT", 1000)
        monkeypatch.setattr(gathering, "ASKING", 2000)
        for _ in range(READY + 2):
            assert await taken(stage.gatherings) == ["host", "srflx"]
        assert stage.told == [(relay.url, "does not answer")]

    relay = TurnServer("turn:127.0.0.1:9", "me", "secret")
    play_with_stun(scene, turn=(relay,))


def test_a_relay_that_refuses_is_not_waited_for() -> None:
    async def scene(stage: Stage) -> None:
        stage.server.error = 508
        with pytest.raises(TransportError, match=r"no candidate: turn:.*nothing left to give"):
            await stage.gatherings.take()
        asked = stage.server.asked.total()
        with pytest.raises(TransportError, match="nothing left to give"):
            await stage.gatherings.take()
        assert stage.server.asked.total() == asked

    play_with_stun(scene, relay_only=True)


def test_a_relay_that_accepts_no_connection() -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(TransportError, match=r"turn:127.0.0.1:9\S* refuses connections"):
            await stage.gatherings.take()

    play_with_stun(
        scene, relay_only=True, turn=(TurnServer("turn:127.0.0.1:9?transport=tcp", "a", "b"),)
    )


def test_closing_while_it_gathers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(gatherings: Gatherings) -> None:
        taking = asyncio.create_task(gatherings.take())
        await asyncio.sleep(0.05)
        taking.cancel()
        await asyncio.wait([taking])

    play(RtcConfig(bind="127.0.0.1", stun=("stun:127.0.0.1:9",)), scene)


def test_nowhere_to_gather() -> None:
    async def scene(gatherings: Gatherings) -> None:
        with pytest.raises(TransportError, match="none0 has no address"):
            await gatherings.take()

    play(RtcConfig(bind="none0"), scene)

    async def foreign(gatherings: Gatherings) -> None:
        with pytest.raises(TransportError, match="no socket could be bound"):
            await gatherings.take()

    play(RtcConfig(bind="192.0.2.77"), foreign)
