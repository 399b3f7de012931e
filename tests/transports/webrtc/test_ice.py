"""Questions to STUN and TURN servers: candidates, who is silent, and why a server was of no use."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable

import pytest
from aioice import stun

from tests.transports.webrtc.stun_server import StunServer, stun_server
from torrentfs.transports.webrtc.bound_loop import BoundLoop
from torrentfs.transports.webrtc.config import server_place
from torrentfs.transports.webrtc.ice import IceConnection, failure_of
from torrentfs.transports.webrtc.servers import SILENT, Failure, Server

HOSTS = ["127.0.0.1", "127.0.0.2"]


def play(scene: Callable[[IceConnection, StunServer, Server], Awaitable[None]]) -> None:
    """Run a scene with an agent of two addresses; no descriptor and no task may be left."""

    async def run() -> None:
        ice = IceConnection(relay_only=False)
        async with asyncio.timeout(20), stun_server() as server:
            await ice.open(HOSTS)
            await scene(ice, server, Server(server.url, server_place(server.url), "me", "secret"))
            await ice.close()
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    before = len(os.listdir("/proc/self/fd"))
    with asyncio.Runner(loop_factory=BoundLoop) as runner:
        runner.run(run())
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.real
def test_a_candidate_for_each_address_that_got_an_answer() -> None:
    async def scene(ice: IceConnection, server: StunServer, known: Server) -> None:
        assert ice.hosts == HOSTS
        assert await ice.ask_stun(known, HOSTS, wait=20, grace=20) == (set(), None)
        related = {each.related_address for each in ice.local_candidates if each.type == "srflx"}
        assert related == set(HOSTS)

    play(scene)


@pytest.mark.real
def test_who_got_none_is_told() -> None:
    async def scene(ice: IceConnection, server: StunServer, known: Server) -> None:
        server.mute = {"127.0.0.2"}
        assert await ice.ask_stun(known, HOSTS, wait=20, grace=0) == ({"127.0.0.2"}, None)
        server.mute = HOSTS
        silent, failure = await ice.ask_stun(known, HOSTS, wait=0.05, grace=0)
        assert (silent, failure) == (set(HOSTS), Failure(SILENT))

    play(scene)


@pytest.mark.real
def test_only_the_addresses_that_are_wanted_ask() -> None:
    async def scene(ice: IceConnection, server: StunServer, known: Server) -> None:
        await ice.ask_stun(known, HOSTS[:1], wait=20, grace=20)
        assert set(server.asked) == {HOSTS[0]}

    play(scene)


@pytest.mark.real
def test_no_question_outlives_who_asked() -> None:
    async def scene(ice: IceConnection, server: StunServer, known: Server) -> None:
        server.mute = HOSTS
        for question in (
            ice.ask_stun(known, HOSTS, wait=1000, grace=0),
            ice.ask_turn(known, wait=1000),
        ):
            before = server.asked.total()
            asking = asyncio.create_task(question)
            while server.asked.total() == before:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            asking.cancel()
            await asyncio.wait([asking])

    play(scene)


@pytest.mark.real
def test_a_relay_that_is_silent_or_refuses() -> None:
    async def scene(ice: IceConnection, server: StunServer, known: Server) -> None:
        server.mute = HOSTS
        assert await ice.ask_turn(known, wait=0.05) == Failure(SILENT)
        server.mute = ()
        server.error = 486
        failure = await ice.ask_turn(known, wait=20)
        assert failure is not None
        assert failure.refused
        assert "(486)" in failure.reason
        server.error = 0  # an answer without any relay in it
        nonsense = await ice.ask_turn(known, wait=20)
        assert nonsense == Failure("does not answer as such a server should")

    play(scene)


def error_response(code: int | None) -> stun.TransactionFailed:
    response = stun.Message(message_method=stun.Method.ALLOCATE, message_class=stun.Class.ERROR)
    if code is not None:
        response.attributes["ERROR-CODE"] = (code, "\x1b[31mthe server's own words")
    return stun.TransactionFailed(response)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (error_response(401), "refuses the credentials (401)"),
        (error_response(None), "answers with an error (0)"),
        (stun.TransactionTimeout(), "does not answer"),
        (socket.gaierror(-2, "Name or service not known"), "is not found by its name"),
        (ssl.SSLError(1, "wrong version number"), "speaks no TLS"),
        (ConnectionRefusedError(111, "Connection refused"), "refuses connections"),
        (OSError(101, "Network is unreachable"), "cannot be reached: Network is unreachable"),
        (KeyError("XOR-MAPPED-ADDRESS"), "does not answer as such a server should"),
    ],
    ids=["401", "no code", "silent", "no name", "no tls", "refused", "unreachable", "nonsense"],
)
def test_why(error: Exception, reason: str) -> None:
    assert failure_of(error).reason == reason
    assert failure_of(error).refused == isinstance(error, stun.TransactionFailed)
