"""Sockets shared by torrents: opened when needed, kept, made again, closed; in virtual time."""

from __future__ import annotations

import itertools
import logging
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.discovery.websockets import FakeTracker
from torrentfs.discovery.websocket import (
    FIRST_BACKOFF,
    LASTED,
    LINGER,
    MAX_BACKOFF,
    MAX_QUEUED,
    PING_AFTER,
    PONG_TIMEOUT,
    TrackerSocket,
    WebSocketTrackers,
    open_websocket_trackers,
)
from torrentfs.errors import TransportError
from torrentfs.wire.announce import AnnounceReply, AnnounceRequest, TrackerFailure
from torrentfs.wire.ws_tracker import (
    Announce,
    Announced,
    Message,
    Refused,
    Scrape,
    Scraped,
    encode_request,
)

URL = "ws://t.example/"
A, B = b"a" * 20, b"b" * 20
HELLO = encode_request(Announce(AnnounceRequest(A, B, 0)))


class Ear:
    """A listener that notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[str | Message] = []
        self.lost = trio.Event()

    def on_open(self) -> None:
        self.heard.append("open")

    def on_lost(self) -> None:
        self.heard.append("lost")
        self.lost.set()

    def on_message(self, message: Message) -> None:
        self.heard.append(message)


@asynccontextmanager
async def trackers(fake: FakeTracker) -> AsyncIterator[WebSocketTrackers]:
    async with open_websocket_trackers(None, rng=random.Random(3), connect=fake.connect) as sockets:
        yield sockets


async def test_one_socket_for_all_torrents(autojump_clock: MockClock) -> None:
    fake = FakeTracker()
    one, two, other = Ear(), Ear(), Ear()
    async with trackers(fake) as sockets:
        with (
            sockets.listening(URL, A, one) as first,
            sockets.listening(URL, B, two) as second,
            sockets.listening("ws://other.example/", A, other) as third,
        ):
            await trio.sleep(1)
            assert first is second
            assert third is not first
            (line,) = (each for each in fake.open if each.url == URL)
            for info_hash in (A, B, b"c" * 20):
                line.say(Announced(info_hash, AnnounceReply(interval=9)))
            line.say(Refused(None, TrackerFailure(b"invalid")))
            line.say(Scraped(B, 1, 2, 3))
            line.say("{")
            line.say(b"\xff")
            await trio.sleep(1)
        assert [type(each).__name__ for each in one.heard] == ["str", "Announced", "Refused"]
        assert [type(each).__name__ for each in two.heard] == [
            "str",
            "Announced",
            "Refused",
            "Scraped",
        ]
        assert other.heard == ["open"]
        assert first.dropped == 3
        assert len(fake.connections) == 2


async def test_it_is_closed_when_nobody_needs_it(autojump_clock: MockClock) -> None:
    fake = FakeTracker()
    async with trackers(fake) as sockets:
        assert fake.attempts == []
        with sockets.listening(URL, A, Ear()):
            await trio.sleep(100)
        await trio.sleep(LINGER - 1)
        with sockets.listening(URL, B, Ear()) as socket:
            await trio.sleep(100)
            assert socket.is_open
            assert len(fake.connections) == 1
        await trio.sleep(LINGER + 1)
        assert fake.open == []
        assert sockets.sockets == {}
        with sockets.listening(URL, B, Ear()) as again:
            await trio.sleep(1)
            assert again is not socket
            assert again.is_open
        assert "listeners" in repr(again)
        assert URL in repr(sockets)
    assert fake.open == []


async def test_a_newcomer_never_gets_a_socket_that_is_ending(autojump_clock: MockClock) -> None:
    fake = FakeTracker(close_time=0.5)
    async with trackers(fake) as sockets:
        with sockets.listening(URL, A, Ear()) as first:
            await trio.sleep(1)
        await trio.sleep(LINGER + 0.2)
        assert sockets.sockets == {URL: first}
        with sockets.listening(URL, A, Ear()) as second:
            await trio.sleep(1)
            assert second.is_open
            assert sockets.sockets == {URL: second}


async def test_the_newest_listener_counts(autojump_clock: MockClock) -> None:
    fake = FakeTracker()
    old, new = Ear(), Ear()
    async with trackers(fake) as sockets:
        with sockets.listening(URL, A, old):
            await trio.sleep(1)
            with sockets.listening(URL, A, new):
                fake.open[0].say(Scraped(A, 1, 2, 3))
                await trio.sleep(1)
        with sockets.listening(URL, A, old), sockets.listening(URL, A, new) as socket:
            socket.leave(A, old)
            assert socket.listeners == {A: new}
    assert old.heard == ["open"]
    assert new.heard[0] == Scraped(A, 1, 2, 3)


async def test_failures_back_off(autojump_clock: MockClock) -> None:
    fake = FakeTracker(down="cannot connect: connection refused")
    ear = Ear()
    async with trackers(fake) as sockets:
        with sockets.listening(URL, A, ear) as socket:
            await trio.sleep(2 * 3600)
            assert socket.last_error == "cannot connect: connection refused"
            assert not socket.send_nowait("x")
            with pytest.raises(TransportError, match="connection refused"):
                await socket.send("x")
    times = [at for at, _ in fake.attempts]
    for n, gap in enumerate(b - a for a, b in itertools.pairwise(times)):
        assert 0.5 <= (gap - 0.1) / min(MAX_BACKOFF, FIRST_BACKOFF * 2**n) <= 1.5
    assert set(ear.heard) == {"lost"}


async def test_who_drops_everybody_at_once_keeps_its_back_off(autojump_clock: MockClock) -> None:
    fake = FakeTracker()

    async def connect(url: str) -> object:
        connection = await fake.connect(url)
        connection.hang_up()
        return connection

    async with open_websocket_trackers(
        None,
        rng=random.Random(3),
        connect=connect,  # type: ignore[arg-type]
    ) as sockets:
        with sockets.listening(URL, A, Ear()):
            await trio.sleep(3600)
    assert len(fake.attempts) < 15


async def test_a_connection_that_lasted_starts_anew(autojump_clock: MockClock) -> None:
    fake = FakeTracker()
    ear = Ear()
    async with trackers(fake) as sockets:
        with sockets.listening(URL, A, ear) as socket:
            for _ in range(10):
                await trio.sleep(LASTED + 3 * FIRST_BACKOFF)
                assert socket.is_open
                fake.open[0].hang_up()
            assert socket.connections == 10
            await trio.sleep(0.01)
            assert (socket.failures, socket.last_error) == (1, "closed by the tracker")
    assert ear.heard == ["open", "lost"] * 10


async def test_a_quiet_tracker_is_pinged(autojump_clock: MockClock) -> None:
    fake = FakeTracker()
    async with trackers(fake) as sockets:
        with sockets.listening(URL, A, Ear()) as socket:
            await trio.sleep(10 * PING_AFTER + 5)
            assert fake.open[0].pings == pytest.approx(7, abs=3)
            assert socket.connections == 1
            before = fake.open[0].pings
            for _ in range(20):
                await trio.sleep(PING_AFTER / 2)
                fake.open[0].say(Scraped(A, 1, 2, 3))
            assert fake.open[0].pings - before <= 1


async def test_a_dead_tracker_is_given_up(autojump_clock: MockClock) -> None:
    fake = FakeTracker(silent=True)
    async with trackers(fake) as sockets:
        with sockets.listening(URL, A, Ear()) as socket:
            await trio.sleep(PING_AFTER + PONG_TIMEOUT + 0.2)
            assert not socket.is_open
            assert socket.last_error == "silent for 60 s"


async def test_what_waits_is_bounded_and_told_of_its_end(autojump_clock: MockClock) -> None:
    fake = FakeTracker(send_time=1000)
    failed: list[str] = []

    async def send(socket: TrackerSocket) -> None:
        try:
            await socket.send(HELLO)
        except TransportError as error:
            failed.append(str(error))

    async with trackers(fake) as sockets, trio.open_nursery() as nursery:
        with sockets.listening(URL, A, Ear()) as socket:
            with pytest.raises(TransportError, match="not connected yet"):
                await socket.send(HELLO)
            await trio.sleep(1)
            nursery.start_soon(send, socket)
            await trio.sleep(1)
            taken = [socket.send_nowait(HELLO) for _ in range(2 * MAX_QUEUED)]
            assert taken.count(True) == MAX_QUEUED - 1
            nursery.start_soon(send, socket)  # an announce may always wait
            await trio.sleep(1)
            fake.open[0].hang_up()
            await trio.sleep(1)
    assert failed == ["closed by the tracker"] * 2


async def test_a_cancelled_sender_leaves_no_half_message(autojump_clock: MockClock) -> None:
    fake = FakeTracker(send_time=5)
    async with trackers(fake) as sockets:
        with sockets.listening(URL, A, Ear()) as socket:
            await trio.sleep(1)
            with trio.move_on_after(1):
                await socket.send(HELLO)
            await trio.sleep(10)
            assert len(fake.seen) == 1
            assert socket.connections == 1


async def test_the_sockets_outlive_a_cancellation_until_the_context_ends(
    autojump_clock: MockClock,
) -> None:
    fake = FakeTracker()
    with trio.CancelScope() as scope:
        async with trackers(fake) as sockets:
            with sockets.listening(URL, A, Ear()) as socket:
                await trio.sleep(1)
                scope.cancel()
                with trio.move_on_after(2, shield=True):
                    await socket.send(HELLO)
                assert socket.is_open
    assert [type(request) for _, _, request in fake.seen] == [Announce]
    assert fake.open == []


@pytest.mark.expect_log("is given up")
async def test_a_bug_costs_a_tracker_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Ear):
        def on_message(self, message: Message) -> None:
            raise RuntimeError("a bug")

    fake = FakeTracker()
    ear = Ear()
    async with trackers(fake) as sockets:
        with sockets.listening(URL, A, Broken()), sockets.listening("ws://good/", A, ear):
            await trio.sleep(1)
            for line in fake.open:
                line.say(Scraped(A, 1, 2, 3))
            await trio.sleep(1)
            assert len(ear.heard) == 2
            assert URL not in sockets.sockets
    assert any(record.levelno == logging.ERROR for record in caplog.records)


async def test_scrape(autojump_clock: MockClock) -> None:
    fake = FakeTracker()
    async with trackers(fake) as sockets:
        with sockets.listening(URL, A, Ear()) as socket:
            await trio.sleep(1)
            await socket.send(encode_request(Scrape((A,))))
    assert [request for _, _, request in fake.seen] == [Scrape((A,))]


async def test_the_way_out_can_be_another(autojump_clock: MockClock) -> None:
    """A proxy will be a stream of its own, handed in; roots are asked for `wss` only, and once."""
    opened: list[tuple[str, int]] = []
    asked = 0

    async def opener(host: str, port: int) -> trio.abc.Stream:
        opened.append((host, port))
        raise OSError("the proxy is down")

    def tls() -> ssl.SSLContext:
        nonlocal asked
        asked += 1
        return ssl.create_default_context()

    async with open_websocket_trackers(
        None, rng=random.Random(1), open_stream=opener, tls=tls
    ) as sockets:
        ear = Ear()
        with sockets.listening("wss://t.example/", A, ear) as socket:
            await ear.lost.wait()
            assert socket.last_error == "cannot connect: the proxy is down"
    assert opened[0] == ("t.example", 443)
    assert asked == 0


async def test_on_another_network_a_connection_is_made_anew_at_once(
    autojump_clock: MockClock,
) -> None:
    fake = FakeTracker()
    ear = Ear()
    async with trackers(fake) as sockets:
        with sockets.listening(URL, A, ear) as socket:
            await trio.sleep(1)
            sockets.reconnect()
            await trio.sleep(1)
            assert socket.is_open
            assert len(fake.connections) == 2
            assert len(fake.open) == 1
            assert ear.heard == ["open", "lost", "open"]
