"""The worker's side of the control socket, with a fake library."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from tests.transports.webrtc.fake_backend import FakeBackend, FakeChannel
from torrentfs.errors import TransportError
from torrentfs.transports.webrtc.config import RtcConfig
from torrentfs.transports.webrtc.process import COMMAND
from torrentfs.transports.webrtc.protocol import (
    AcceptAnswer,
    AnswerMade,
    AnswerOffer,
    Configure,
    Ended,
    Failed,
    Forget,
    MakeOffer,
    Message,
    OfferMade,
    Opened,
    decode,
    encode,
)
from torrentfs.transports.webrtc.worker import Worker

pytestmark = pytest.mark.real


class Stage:
    """A worker, its library and the other end of its control socket."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(False)
        self.backend = FakeBackend()
        self.worker = Worker(theirs, lambda config, report: self.backend)
        self.running = asyncio.create_task(self.worker.run())
        self.descriptors: list[int] = []

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.control.send(encode(message))

    async def hear(self) -> Message:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self.control, 70_000, 4)
            except BlockingIOError:
                await asyncio.sleep(0.002)
                continue
            self.descriptors += descriptors
            return decode(data)

    def take_stream(self) -> socket.socket:
        taken = socket.socket(fileno=self.descriptors.pop())
        taken.setblocking(False)
        return taken

    async def end(self) -> None:
        self.control.close()
        await self.running
        assert self.backend.closed or not self.backend.made
        assert all(connection.closed == 1 for connection in self.backend.made)
        assert not self.worker.connections
        assert not self.descriptors


def on_stage(scene: Callable[[Stage], Awaitable[None]]) -> Callable[[], None]:
    @functools.wraps(scene)
    def test() -> None:
        async def run() -> None:
            stage = Stage()
            async with asyncio.timeout(20):
                stage.say(Configure(RtcConfig(max_connections=3)))
                await scene(stage)
                await stage.end()

        before = len(os.listdir("/proc/self/fd"))
        asyncio.run(run())
        assert len(os.listdir("/proc/self/fd")) == before

    del test.__wrapped__  # type: ignore[attr-defined]
    return test


@on_stage
async def test_an_offer_of_ours(stage: Stage) -> None:
    stage.say(MakeOffer(1))
    assert await stage.hear() == OfferMade(1, "an offer")
    stage.say(AcceptAnswer(1, "yes"), AcceptAnswer(1, "again"))
    channel = FakeChannel()
    stage.backend.made[0].channel.set_result(channel)
    assert await stage.hear() == Opened(1, "192.0.2.9", 4000)
    assert stage.backend.made[0].accepted == "yes"
    stream = stage.take_stream()
    loop = asyncio.get_running_loop()
    channel.arrives(b"hello")
    assert await loop.sock_recv(stream, 10) == b"hello"
    await loop.sock_sendall(stream, b"bye")
    stream.close()
    while channel.buffered != 3:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    channel.take()
    assert await stage.hear() == Ended(1)


@on_stage
async def test_an_offer_of_theirs(stage: Stage) -> None:
    stage.say(AnswerOffer(5, "theirs"))
    assert await stage.hear() == AnswerMade(5, "the answer to theirs")
    stage.backend.made[0].channel.set_exception(TransportError("the DTLS handshake failed"))
    assert await stage.hear() == Failed(5, "the DTLS handshake failed")
    assert await stage.hear() == Ended(5)


@on_stage
async def test_bad_descriptions(stage: Stage) -> None:
    stage.say(AnswerOffer(1, "bad"))
    assert await stage.hear() == Failed(1, "a bad offer")
    assert await stage.hear() == Ended(1)
    stage.say(MakeOffer(2))
    await stage.hear()
    stage.say(AcceptAnswer(2, "bad"))
    assert await stage.hear() == Failed(2, "a bad answer")
    assert await stage.hear() == Ended(2)


@on_stage
async def test_what_is_forgotten_is_closed_once(stage: Stage) -> None:
    stage.say(MakeOffer(1), MakeOffer(2))
    await stage.hear()
    await stage.hear()
    stage.say(Forget(1), Forget(1), Forget(99))
    assert await stage.hear() == Ended(1)
    stage.say(AcceptAnswer(2, "bad"))
    assert await stage.hear() == Failed(2, "a bad answer")
    stage.say(Forget(2))  # while it is being closed
    assert await stage.hear() == Ended(2)
    stage.say(MakeOffer(3), Forget(3))  # before it could begin
    heard = [await stage.hear()]
    if heard[0] == OfferMade(3, "an offer"):
        heard = [await stage.hear()]
    assert heard == [Ended(3)]


@on_stage
async def test_connections_are_limited(stage: Stage) -> None:
    stage.say(*(MakeOffer(number) for number in range(1, 5)))
    heard = [await stage.hear() for _ in range(5)]
    assert Failed(4, "too many WebRTC connections") in heard
    assert Ended(4) in heard
    stage.say(Forget(1))
    assert await stage.hear() == Ended(1)
    stage.say(MakeOffer(5))
    assert await stage.hear() == OfferMade(5, "an offer")


@on_stage
async def test_a_fault_costs_one_connection(stage: Stage) -> None:
    stage.backend.fault = ZeroDivisionError("in the library")
    stage.say(MakeOffer(1))
    failed = await stage.hear()
    assert isinstance(failed, Failed)
    assert "ZeroDivisionError" in failed.reason
    assert await stage.hear() == Ended(1)
    stage.backend.fault = None
    stage.say(MakeOffer(2))
    assert await stage.hear() == OfferMade(2, "an offer")


test_a_fault_costs_one_connection = pytest.mark.expect_log("a fault in connection 1")(
    test_a_fault_costs_one_connection
)


@on_stage
async def test_all_is_closed_with_the_control_socket(stage: Stage) -> None:
    stage.say(MakeOffer(1), AnswerOffer(2, "theirs"))
    await stage.hear()
    await stage.hear()
    stage.backend.made[1].channel.set_result(FakeChannel())
    assert isinstance(await stage.hear(), Opened)
    stream = stage.take_stream()
    with stream:
        await stage.end()
        assert stream.recv(1) == b""


@on_stage
async def test_a_side_that_does_not_listen(stage: Stage) -> None:
    """What cannot be sent now waits, and comes in order, descriptors too."""
    for number in range(1, 2000):
        stage.say(AnswerOffer(number, "bad"))
        for _ in range(5):
            await asyncio.sleep(0)
    heard = []
    while len(heard) < 2 * 1999:
        heard.append(await stage.hear())
    assert heard.count(Ended(1999)) == 1
    assert {each.connection for each in heard if isinstance(each, Ended)} == set(range(1, 2000))


@pytest.mark.expect_log("does not speak this version")
def test_garbage_ends_it() -> None:
    async def run() -> None:
        for garbage in (encode(Ended(1)), b"garbage", encode(MakeOffer(1))):
            stage = Stage()
            stage.control.send(garbage)
            async with asyncio.timeout(10):
                await stage.running
            stage.control.close()

    asyncio.run(run())


def test_the_process_ends_with_its_control_socket() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen([*COMMAND, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    theirs.close()
    with ours:
        ours.settimeout(20)
        ours.send(encode(Configure(RtcConfig(bind="127.0.0.1"))))
        ours.send(encode(MakeOffer(1)))
        assert isinstance(decode(ours.recv(70_000)), OfferMade)
        for signal in (2, 15, 1):  # those of a terminal and of a service manager
            process.send_signal(signal)
        ours.send(encode(MakeOffer(2)))
        assert isinstance(decode(ours.recv(70_000)), OfferMade)
    assert process.wait(10) == 0


def test_it_imports_no_trio() -> None:
    script = "import sys, torrentfs.transports.webrtc.worker as w; sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
