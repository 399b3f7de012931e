"""What is gathered ahead, for how long, and servers that do not answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from torrentfs.errors import TransportError
from torrentfs.transports.webrtc import gathering
from torrentfs.transports.webrtc.bound_loop import BoundLoop
from torrentfs.transports.webrtc.config import RtcConfig
from torrentfs.transports.webrtc.gathering import READY, Gatherings

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


def test_a_silent_server_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "STUN_WAIT", 0.2)

    async def scene(gatherings: Gatherings) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await (await gatherings.take()).ice.close()
        assert loop.time() - began >= 0.2
        began = loop.time()
        await filled(gatherings)
        assert loop.time() - began < 0.2
        gatherings._silent_until = 0.0
        await gatherings.aclose()

    play(RtcConfig(bind="127.0.0.1", stun=("stun:127.0.0.1:9",)), scene)


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
