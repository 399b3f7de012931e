"""The bridge's promises, with a worker of paper and virtual time."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.webrtc.paper import SDP, PaperWorkers
from torrentfs.errors import TransportError
from torrentfs.transports.base import PeerStream
from torrentfs.transports.webrtc.bridge import (
    BUSY,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    MAKE_TIME,
    OFFER_TIME,
    OPEN_TIME,
    STEADY,
    Offer,
    WebRtc,
    open_webrtc,
)
from torrentfs.transports.webrtc.config import RtcConfig, TurnServer
from torrentfs.transports.webrtc.protocol import (
    AcceptAnswer,
    AnswerOffer,
    Ended,
    Failed,
    Forget,
    MakeOffer,
    Opened,
    ServerTold,
)


@pytest.fixture
def workers() -> PaperWorkers:
    return PaperWorkers()


@pytest.fixture
async def rtc(workers: PaperWorkers) -> AsyncIterator[WebRtc]:
    async with open_webrtc(RtcConfig(max_connections=4, max_offers=2), workers) as opened:
        yield opened


async def test_no_worker_before_it_is_needed(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    await trio.sleep(1000)
    assert workers.made == []
    assert rtc.statistics().workers == ()
    assert await rtc.offer() == Offer(1, "offer 1")
    assert await rtc.offer() == Offer(2, "offer 2")
    assert len(workers.made) == 1
    assert rtc.statistics().workers == (42,)
    assert rtc.statistics().offers == 2


async def test_offers_are_limited(rtc: WebRtc, autojump_clock: MockClock) -> None:
    first = await rtc.offer()
    await rtc.offer()
    with pytest.raises(TransportError, match="too many offers"):
        await rtc.offer()
    rtc.forget(first.connection)
    await rtc.offer()


async def test_connections_are_limited(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    for _ in range(4):
        await rtc.answer(SDP)
    with pytest.raises(TransportError, match="too many connections"):
        await rtc.answer(SDP)
    with pytest.raises(TransportError, match="too many connections"):
        await rtc.offer()
    workers.last.say(Ended(1), -1)
    await rtc.answer(SDP)


async def test_an_offer_is_over_after_its_time(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    offer = await rtc.offer()
    await trio.sleep(OFFER_TIME - 1)
    assert rtc.statistics().offers == 1
    await trio.sleep(2)
    assert rtc.statistics().connections == 0
    assert Forget(offer.connection) in workers.last.asked
    with pytest.raises(TransportError, match="no offer of ours"):
        await rtc.accept(offer.connection, SDP)


async def test_an_answer_that_nobody_waits_for_is_over_too(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    answer = await rtc.answer(SDP)
    assert answer.sdp == "answer 1"
    await trio.sleep(2 * OPEN_TIME + 1)
    assert rtc.statistics().connections == 0
    with pytest.raises(TransportError, match="given up"):
        await answer.stream()


async def test_a_bad_answer_does_not_use_up_the_offer(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    offer = await rtc.offer()
    for garbage in ("", "v=0", "\ud800", "x" * 100_000, SDP.replace("sha-256", "md5")):
        with pytest.raises(TransportError):
            await rtc.accept(offer.connection, garbage)
        with pytest.raises(TransportError):
            await rtc.answer(garbage)
    assert not any(isinstance(each, AcceptAnswer) for each in workers.last.asked)
    assert rtc.statistics().offers == 1
    assert rtc.statistics().connections == 1


async def test_an_answer_to_nothing(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    for connection in (0, 7, -1):
        with pytest.raises(TransportError):
            await rtc.accept(connection, SDP)
        rtc.forget(connection)
    assert workers.made == []


async def test_an_offer_is_answered_once(rtc: WebRtc, autojump_clock: MockClock) -> None:
    offer = await rtc.offer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fails, rtc, offer, "not open within")
        await wait_all_tasks_blocked()
        with pytest.raises(TransportError, match="no offer of ours"):
            await rtc.accept(offer.connection, SDP)


async def _fails(rtc: WebRtc, offer: Offer, words: str) -> None:
    with pytest.raises(TransportError, match=words):
        await rtc.accept(offer.connection, SDP)


@pytest.mark.expect_log("turn:relay refuses the credentials")
async def test_what_a_worker_learns_of_a_server_is_told_once_and_explains_failures(
    workers: PaperWorkers, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    config = RtcConfig(("stun:a",), (TurnServer("turn:relay", "me", "secret"),))
    caplog.set_level("INFO")
    async with open_webrtc(config, workers) as rtc:
        offer = await rtc.offer()
        for _ in range(3):  # each worker finds out for itself
            workers.last.say(ServerTold("turn:relay", "refuses the credentials (401)"), -1)
        workers.last.say(ServerTold("turn:somebody else", "is not ours"), -1)
        await _fails(rtc, offer, "30 s; turn:relay refuses the credentials")
        workers.last.say(ServerTold("turn:relay", ""), -1)
        workers.last.say(ServerTold("stun:a", ""), -1)
        assert rtc.troubles == {}
        await _fails(rtc, await rtc.offer(), "30 s$")
        workers.last.say(ServerTold("turn:relay", "refuses the credentials (401)"), -1)
        assert rtc.statistics().trouble == "turn:relay refuses the credentials (401)"
    assert [record.getMessage() for record in caplog.records if "turn:" in record.getMessage()] == [
        "WebRTC: turn:relay refuses the credentials (401)",
        "WebRTC: turn:relay answers again",
    ]


@pytest.mark.expect_log("stun:a does not answer", "the WebRTC worker ended with signal 9")
async def test_what_a_worker_said_of_a_server_is_forgotten_with_it(
    workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    """Another one finds out for itself, and has nothing to take back where it finds it well."""
    async with open_webrtc(RtcConfig(("stun:a",), max_workers=2), workers) as rtc:
        for _ in range(BUSY + 1):
            await rtc.answer(SDP)
        for worker in workers.made:
            worker.say(ServerTold("stun:a", "does not answer"), -1)
        workers.made[0].dies.set()
        await wait_all_tasks_blocked()
        assert rtc.statistics().trouble == "stun:a does not answer"
        workers.made[1].dies.set()
        await wait_all_tasks_blocked()
        assert rtc.statistics().trouble == ""


async def test_a_channel_that_does_not_open_is_given_up(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    offer = await rtc.offer()
    began = trio.current_time()
    await _fails(rtc, offer, "not open within 30 s")
    assert trio.current_time() - began == pytest.approx(OPEN_TIME)
    assert workers.last.asked[-1] == Forget(offer.connection)
    assert rtc.statistics().connections == 0


async def test_the_worker_says_why(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    offer = await rtc.offer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fails, rtc, offer, "the DTLS handshake failed")
        await wait_all_tasks_blocked()
        workers.last.say(Failed(offer.connection, "the DTLS handshake failed"), -1)
        workers.last.say(Ended(offer.connection), -1)
    assert rtc.statistics().connections == 0


async def test_the_reason_waits_for_who_asks_later(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    answer = await rtc.answer(SDP)
    workers.last.say(Failed(answer.connection, "no route"), -1)
    workers.last.say(Ended(answer.connection), -1)
    with pytest.raises(TransportError, match="no route"):
        await answer.stream()


async def test_giving_up_forgets(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    offer = await rtc.offer()
    with trio.move_on_after(3) as scope:
        await rtc.accept(offer.connection, SDP)
    assert scope.cancelled_caught
    assert workers.last.asked[-1] == Forget(offer.connection)
    assert rtc.statistics().connections == 0


async def test_a_silent_worker(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    workers.silent = True
    with pytest.raises(TransportError, match=f"within {MAKE_TIME:.0f} s"):
        await rtc.offer()
    assert isinstance(workers.last.asked[0], MakeOffer)
    assert workers.last.asked[1] == Forget(1)


async def test_a_stuck_worker(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    offer = await rtc.offer()
    workers.last.stuck = True
    with pytest.raises(TransportError, match="does not answer"):
        await rtc.offer()
    with pytest.raises(TransportError, match="does not answer"):
        await rtc.accept(offer.connection, SDP)
    rtc.forget(offer.connection)


@pytest.mark.expect_log("the WebRTC worker ended with signal 9")
async def test_a_death_is_told_and_another_is_started_after_a_pause(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    offer = await rtc.offer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_fails, rtc, offer, "the worker is gone")
        await wait_all_tasks_blocked()
        workers.last.dies.set()
    assert rtc.statistics().connections == 0
    assert rtc.statistics().workers == ()
    with pytest.raises(TransportError, match="starts again in"):
        await rtc.offer()
    assert len(workers.made) == 1
    await trio.sleep(FIRST_PAUSE)
    assert (await rtc.offer()).connection > offer.connection  # no number is used twice
    assert rtc.statistics().restarts == 1


@pytest.mark.expect_log("the WebRTC worker ended with signal 9")
async def test_what_died_with_a_worker_is_told_and_when_to_ask_again(
    workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    told: list[tuple[list[int], float]] = []
    async with open_webrtc(RtcConfig(max_workers=2), workers) as rtc:
        rtc.on_lost = lambda connections, pause: told.append((list(connections), pause))
        offer = await rtc.offer()
        answers = [(await rtc.answer(SDP)).connection for _ in range(BUSY + 1)]
        workers.last.dies.set()
        await wait_all_tasks_blocked()
        assert told == [([answers[-1]], 0)]  # the other lives
        workers.made[0].dies.set()
        await wait_all_tasks_blocked()
        assert told[1:] == [([offer.connection, *answers[:-1]], 2 * FIRST_PAUSE)]
        await trio.sleep(told[1][1])
        await rtc.offer()


@pytest.mark.expect_log("the WebRTC worker ended with signal 9")
async def test_the_pause_grows_with_each_death(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    pauses = []
    for _ in range(12):
        await rtc.offer()
        workers.last.dies.set()
        await wait_all_tasks_blocked()
        began = trio.current_time()
        while True:
            try:
                await rtc.offer()
                break
            except TransportError:
                await trio.sleep(0.1)
        pauses.append(round(trio.current_time() - began, 1))
        workers.last.dies.set()
        await wait_all_tasks_blocked()
        await trio.sleep(LONGEST_PAUSE)
    assert pauses[0] == pytest.approx(FIRST_PAUSE, abs=0.11)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE, abs=0.11)


@pytest.mark.expect_log("the WebRTC worker ended with signal 9")
async def test_a_long_life_forgives(
    rtc: WebRtc, workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    for _ in range(5):
        await rtc.offer()
        await trio.sleep(STEADY + 1)
        workers.last.dies.set()
        await wait_all_tasks_blocked()
        await trio.sleep(FIRST_PAUSE)
    await rtc.offer()


@pytest.mark.expect_log("the WebRTC worker ended with signal 9")
async def test_more_workers_where_the_load_asks_for_them(
    workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    async with open_webrtc(RtcConfig(max_workers=2), workers) as rtc:
        for _ in range(20):
            await rtc.offer()  # offers are no load
        assert len(workers.made) == 1
        answers = [await rtc.answer(SDP) for _ in range(BUSY)]
        assert len(workers.made) == 1
        answers += [await rtc.answer(SDP) for _ in range(BUSY + 5)]
        assert len(workers.made) == 2
        one, other = [
            [each.connection for each in made.asked if isinstance(each, AnswerOffer)]
            for made in workers.made
        ]
        assert len(one) - len(other) in (0, 1)
        workers.last.dies.set()
        await wait_all_tasks_blocked()
        assert rtc.statistics().connections == 20 + len(one)
        await rtc.answer(SDP)  # by the one that is left
        assert workers.made[0].asked[-1] == AnswerOffer(answers[-1].connection + 1, SDP)
        await trio.sleep(FIRST_PAUSE)
        await rtc.answer(SDP)
        assert len(workers.made) == 3


async def test_nothing_is_asked_after_the_end(
    workers: PaperWorkers, autojump_clock: MockClock
) -> None:
    async with open_webrtc(RtcConfig(), workers) as rtc:
        pass
    with pytest.raises(TransportError, match="closed"):
        await rtc.offer()
    assert "0 connections" in repr(rtc)


class TestDescriptors:
    """What comes with `Opened`; these tests make socket pairs."""

    pytestmark = pytest.mark.real

    async def test_the_stream_of_an_open_channel(self, workers: PaperWorkers) -> None:
        async with open_webrtc(RtcConfig(), workers) as rtc:
            answer = await rtc.answer(SDP)
            ours, theirs = socket.socketpair()
            with ours:
                workers.last.say(Opened(answer.connection, "192.0.2.1", 99), theirs.detach())
                stream = await answer.stream()
                assert (stream.kind, stream.remote) == ("webrtc", ("192.0.2.1", 99))
                ours.sendall(b"hello")
                assert await _receive(stream) == b"hello"
                assert rtc.statistics().open == 1
                rtc.forget(answer.connection)  # it has an owner now
                await stream.send_all(b"thanks")
                assert ours.recv(100) == b"thanks"
                with pytest.raises(TransportError, match="given up"):
                    await answer.stream()
                await stream.aclose()

    @pytest.mark.parametrize("how", ["unknown", "forgotten", "twice", "unasked"])
    async def test_a_descriptor_that_nobody_takes_is_closed(
        self, workers: PaperWorkers, how: str
    ) -> None:
        ours, theirs = socket.socketpair()
        with ours:
            async with open_webrtc(RtcConfig(), workers) as rtc:
                connection = (await rtc.answer(SDP)).connection
                if how == "unknown":
                    connection += 1
                elif how == "forgotten":
                    rtc.forget(connection)
                elif how == "twice":
                    other, more = socket.socketpair()
                    workers.last.say(Opened(connection, "192.0.2.1", 99), more.detach())
                workers.last.say(Opened(connection, "192.0.2.1", 99), theirs.detach())
                if how == "unasked":
                    rtc.forget(connection)
                ours.settimeout(5)
                assert ours.recv(1) == b""
                if how == "twice":
                    rtc.forget(connection)
                    with other:
                        assert other.recv(1) == b""

    async def test_a_descriptor_with_another_message_is_closed(self, workers: PaperWorkers) -> None:
        async with open_webrtc(RtcConfig(), workers) as rtc:
            await rtc.answer(SDP)
            reading, writing = os.pipe()
            workers.last.say(Failed(1, "x"), writing)
            assert os.read(reading, 1) == b""
            os.close(reading)

    @pytest.mark.expect_log("the WebRTC worker ended with signal 9")
    async def test_an_open_stream_outlives_nothing_but_its_worker(
        self, workers: PaperWorkers
    ) -> None:
        async with open_webrtc(RtcConfig(), workers) as rtc:
            answer = await rtc.answer(SDP)
            ours, theirs = socket.socketpair()
            workers.last.say(Opened(answer.connection, "192.0.2.1", 99), theirs.detach())
            stream = await answer.stream()
            workers.last.dies.set()
            ours.close()
            with pytest.raises(TransportError, match="worker is gone"):
                await _receive(stream)
            stream.abort()


async def _receive(stream: PeerStream) -> bytes:
    room = bytearray(1000)
    return bytes(room[: await stream.receive_into(memoryview(room))])
