"""The npm tracker over WebSocket, with announcers of ours on both sides of it."""

from __future__ import annotations

import random
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import wsproto
from wsproto.events import AcceptConnection, Request, TextMessage

from tests.discovery.websockets import FakeSignaller
from tests.interop.copying import MIB, copy_equals
from tests.swarm.certificates import make_certificate
from tests.swarm.child import ChildFailed
from tests.swarm.mounted import MountFailed, mounted
from tests.swarm.payload import write_file
from tests.swarm.seeder import seed
from tests.swarm.torrents import make_torrent
from tests.swarm.tracker import Tracker, tracker
from torrentfs.discovery import websocket, websocket_announcer, websocket_connection
from torrentfs.discovery.trackers import Totals, TrackerTiers
from torrentfs.discovery.websocket import open_websocket_trackers
from torrentfs.discovery.websocket_announcer import RtcAnnouncer
from torrentfs.transports.http import HttpClient
from torrentfs.wire.ws_tracker import (
    Message,
    Offer,
    PeerOffer,
    Scrape,
    Scraped,
    encode_message,
    encode_request,
)

pytestmark = pytest.mark.real

HASH = bytes(range(236, 256))
PATIENCE = 20.0


class Signaller(FakeSignaller):
    """Ids of all bytes, descriptions of a size as browsers make them."""

    def _offer(self) -> Offer:
        number = len(self.made)
        self.made.append(b"")
        offer_id = bytes([number, *range(128, 147)])
        return Offer(offer_id, f'v=0\r\no={self.name} "\\é\r\n' + "a=candidate:x\r\n" * 150)


async def until(fact: Callable[[], object]) -> None:
    """Wait for a fact, within a bound."""
    with trio.fail_after(PATIENCE):
        while not fact():  # noqa: ASYNC110
            await trio.sleep(0.01)


class Peer:
    """An announcer with its sockets and its signaller."""

    def __init__(self, announcer: RtcAnnouncer, signaller: Signaller) -> None:
        self.announcer = announcer
        self.signaller = signaller

    @property
    def error(self) -> str | None:
        (row,) = self.announcer.statistics()
        return row.last_error


@asynccontextmanager
async def peer(
    url: str,
    name: str = "a",
    hashes: tuple[bytes, ...] = (HASH,),
    tls: Callable[[], ssl.SSLContext] | None = None,
    bind: str | None = None,
) -> AsyncIterator[Peer]:
    signaller = Signaller(name)
    rng = random.Random(name)
    async with (
        HttpClient(bind=bind) as client,
        open_websocket_trackers(client, rng=rng, tls=tls) as sockets,
        trio.open_nursery() as nursery,
    ):
        announcer = RtcAnnouncer(
            [[url]],
            hashes,
            rng.randbytes(20),
            sockets=sockets,
            signaller=signaller,
            totals=lambda: Totals(0, 0, 1),
            rng=rng,
        )
        nursery.start_soon(announcer.run)
        yield Peer(announcer, signaller)
        nursery.cancel_scope.cancel()
    signaller.check()


async def exchange(url: str, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
    """Two peers find each other; the second's offer is answered by the first."""
    async with peer(url, "a", tls=tls) as a:
        await until(lambda: a.announcer.statistics()[0].seeders is not None)
        async with peer(url, "b", tls=tls) as b:
            await until(lambda: b.signaller.answered)
            ((_, offer),) = a.signaller.offered
            (answer,) = b.signaller.answered
            assert offer.sdp.startswith('v=0\r\no=b "\\é\r\n')
            assert answer.sdp == f"answer of a to {offer.sdp}"
            assert (answer.info_hash, answer.offer_id) == (HASH, offer.offer_id)
            assert {answer.peer_id, offer.peer_id} == {each.announcer.peer_id for each in (a, b)}


async def announced(server: Tracker, event: str) -> str:
    """Wait for an announce in a thread, since the child's pipe is read by blocking calls."""
    return await trio.to_thread.run_sync(server.wait_announce, event)


async def test_descriptions_go_through_the_tracker(tmp_path: Path) -> None:
    with tracker(tmp_path) as server:
        await exchange(server.websocket)


async def test_the_tracker_is_told_when_we_come_finish_and_go(tmp_path: Path) -> None:
    with tracker(tmp_path) as server:
        async with peer(server.websocket) as a:
            assert await announced(server, "start") == a.announcer.peer_id.hex()
            await until(lambda: a.announcer.statistics()[0].leechers == 1)
            a.announcer.announce_completed()
            await announced(server, "complete")
        assert await announced(server, "stop") == a.announcer.peer_id.hex()


async def test_both_hashes_of_a_hybrid_over_one_socket(tmp_path: Path) -> None:
    other = b"\0" * 20
    with tracker(tmp_path) as server:
        async with peer(server.websocket, "a", (HASH, other)) as a:
            await announced(server, "start")
            await announced(server, "start")
            await until(lambda: a.announcer.statistics()[0].seeders is not None)
            async with peer(server.websocket, "b", (other,)) as b:
                await until(lambda: b.signaller.answered)
                assert b.signaller.answered[0].info_hash == other
        await announced(server, "stop")
        await announced(server, "stop")


async def test_a_tracker_that_refuses_is_quoted(tmp_path: Path) -> None:
    with tracker(tmp_path, refuse="not registered here") as server:
        async with peer(server.websocket) as a:
            await until(lambda: a.error == "not registered here")


async def test_a_tracker_that_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "FIRST_BACKOFF", 0.2)
    with tracker(tmp_path) as server:
        async with peer(server.websocket) as a:
            await announced(server, "start")
            server.kill()
            await until(lambda: a.error is not None)
            with tracker(tmp_path / "again", port=server.ports["ws"]) as again:
                await announced(again, "start")
                await until(lambda: a.error is None)
                async with peer(again.websocket, "b") as b:
                    await until(lambda: b.signaller.answered)


async def test_a_tracker_that_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up after a while, and no reason to leave late; when it wakes up it is used again."""
    monkeypatch.setattr(websocket, "FIRST_BACKOFF", 0.2)
    monkeypatch.setattr(websocket, "MAX_BACKOFF", 0.2)
    monkeypatch.setattr(websocket, "PING_AFTER", 0.5)
    monkeypatch.setattr(websocket, "PONG_TIMEOUT", 0.5)
    monkeypatch.setattr(websocket_connection, "CONNECT_TIMEOUT", 1.0)
    with tracker(tmp_path) as server:
        async with peer(server.websocket) as a:
            await until(lambda: a.announcer.statistics()[0].leechers == 1)
            server.freeze()
            await until(lambda: a.error == "silent for 1 s")
            await until(lambda: a.error == "no answer within 1 s")
            server.thaw()
            await until(lambda: a.error is None)
            server.freeze()
            start = trio.current_time()
        bound = websocket_announcer.STOP_TIME + websocket_connection.CLOSE_TIMEOUT
        assert trio.current_time() - start < bound + 2.0


async def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A self-made authority is trusted when the machine's owner says so, and only then."""
    made = make_certificate(tmp_path / "certificates")
    with tracker(tmp_path, certificate=made) as server:
        url = server.secure_websocket
        async with peer(url) as a:
            await until(lambda: a.error)
            assert a.error is not None
            assert a.error.startswith("cannot connect: the certificate is not trusted: ")
            assert "\n" not in a.error
        with monkeypatch.context() as patched:
            patched.setenv("SSL_CERT_FILE", str(made.authority))
            await exchange(url)

        def trusting() -> ssl.SSLContext:
            return ssl.create_default_context(cafile=str(made.authority))

        await exchange(url, trusting)
        async with peer(url.replace("127.0.0.1", "localhost"), tls=trusting) as a:
            await until(lambda: a.error)
            assert a.error is not None
            assert "not valid for 'localhost'" in a.error
        async with peer(server.websocket.replace("ws:", "wss:"), tls=trusting) as a:
            await until(lambda: a.error)
            assert a.error is not None
            assert a.error.startswith("cannot connect: no TLS with this server")


async def test_scrape(tmp_path: Path) -> None:
    class Ear:
        def __init__(self) -> None:
            self.heard: list[Message] = []
            self.open = trio.Event()

        def on_open(self) -> None:
            self.open.set()

        def on_lost(self) -> None:
            pass

        def on_message(self, message: Message) -> None:
            self.heard.append(message)

    with tracker(tmp_path) as server:
        async with peer(server.websocket) as a:
            await until(lambda: a.announcer.statistics()[0].leechers == 1)
            ear = Ear()
            async with open_websocket_trackers(None, rng=random.Random()) as sockets:
                with sockets.listening(server.websocket, HASH, ear) as socket:
                    with trio.fail_after(PATIENCE):
                        await ear.open.wait()
                    await socket.send(encode_request(Scrape((HASH, b"\xff" * 20))))
                    await until(lambda: ear.heard)
            assert ear.heard == [Scraped(HASH, 0, 1, 0)]
            with trio.fail_after(PATIENCE):
                await a.announcer.scrape()
            (row,) = a.announcer.statistics()
            assert (row.seeders, row.leechers, row.downloaded) == (0, 1, 0)


async def test_beside_the_tiers_of_a_torrent(tmp_path: Path) -> None:
    """HTTP, UDP and WebSocket at once: rows of all, and the silent one holds up nobody."""
    with tracker(tmp_path / "silent") as silent, tracker(tmp_path) as server:
        silent.freeze()
        tiers = [[silent.websocket], [server.http], [server.udp, server.websocket]]
        signaller = Signaller("t")
        rng = random.Random(1)
        async with (
            HttpClient() as client,
            open_websocket_trackers(client, rng=rng) as sockets,
            trio.open_nursery() as nursery,
        ):
            identity = rng.randbytes(20)
            totals = Totals(0, 0, 1)
            announcer = RtcAnnouncer(
                tiers,
                (HASH,),
                identity,
                sockets=sockets,
                signaller=signaller,
                totals=lambda: totals,
                rng=rng,
            )
            trackers = TrackerTiers(
                tiers,
                (HASH,),
                identity,
                6881,
                client=client,
                totals=lambda: totals,
                rng=rng,
                beside=announcer,
            )
            nursery.start_soon(trackers.run)
            seen = {await announced(server, "start") for _ in range(3)}
            assert seen >= {identity.hex(), "127.0.0.1:6881"}
            await until(lambda: sum(row.leechers is not None for row in trackers.statistics()) == 3)
            assert [row.tier for row in trackers.statistics()] == [0, 1, 2, 2]
            nursery.cancel_scope.cancel()
        signaller.check()
        silent.thaw()


@asynccontextmanager
async def hostile(
    answer: Callable[[trio.SocketStream], object],
) -> AsyncIterator[str]:
    """A server on loopback that accepts the WebSocket and then does as `answer` says."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        yield f"ws://127.0.0.1:{port}/"
        nursery.cancel_scope.cancel()
    await listener.aclose()


async def accept(stream: trio.SocketStream) -> wsproto.WSConnection:
    protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    while True:
        protocol.receive_data(await stream.receive_some())
        for event in protocol.events():
            if isinstance(event, Request):
                await stream.send_all(protocol.send(AcceptConnection()))
                return protocol


async def test_ten_thousand_offers(tmp_path: Path) -> None:
    """30 MB of offers at once: few are passed on, the rest costs no memory and keeps nobody."""
    sent = 0

    async def flood(stream: trio.SocketStream) -> None:
        nonlocal sent
        protocol = await accept(stream)
        sdp = "v=0\r\n" + "a=candidate:x\r\n" * 190
        for n in range(10_000):
            offer = PeerOffer(HASH, n.to_bytes(20), b"o" * 20, sdp)
            text = TextMessage(encode_message(offer))
            try:
                await stream.send_all(protocol.send(text))
            except trio.BrokenResourceError:
                return
            sent += 1

    tracemalloc.start()
    try:
        async with hostile(flood) as url, peer(url) as a:
            await until(lambda: a.announcer.signalling().dropped > 1200)
            counts = a.announcer.signalling()
            peak = tracemalloc.get_traced_memory()[1]
            (row,) = a.announcer.statistics()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert counts.offers_received < 40
    assert sent < 10_000  # the others wait where they come from
    assert row.last_error is None


async def test_connections_leave_from_the_bound_address() -> None:
    seen: list[str] = []

    async def note(stream: trio.SocketStream) -> None:
        seen.append(stream.socket.getpeername()[0])

    async with hostile(note) as url, peer(url, bind="127.0.0.7"):
        await until(lambda: seen)
    assert seen[0] == "127.0.0.7"


def test_a_mount_tells_the_tracker_when_it_comes_finishes_and_goes(tmp_path: Path) -> None:
    film = write_file(tmp_path / "payload" / "film.mkv", 9, 2 * MIB + 9)
    with tracker(tmp_path) as server:
        made = make_torrent(film, tmp_path / "t.torrent")
        with (
            seed(made.torrent, made.path, tmp_path) as seeder,
            mounted(
                made.torrent, tmp_path, "--peer", seeder.address, "--tracker", server.websocket
            ) as mount,
        ):
            identity = server.wait_announce("start")
            copy_equals(mount / made.path.name, made.path, tmp_path)
            assert server.wait_announce("complete") == identity
            assert mount.end() == 0
            assert server.wait_announce("stop") == identity


def test_without_webrtc_the_tracker_is_not_asked(tmp_path: Path) -> None:
    film = write_file(tmp_path / "payload" / "film.mkv", 9, 2 * MIB + 9)
    with tracker(tmp_path) as server:
        made = make_torrent(film, tmp_path / "t.torrent")
        link = made.magnet(tr=server.websocket)
        with (
            pytest.raises(MountFailed, match=r"ended with 3:[^$]*needs WebRTC"),
            mounted(link, tmp_path, "--no-webrtc", "--metadata-timeout", "2s"),
        ):
            pytest.fail("mounted without metadata")
        with pytest.raises(ChildFailed, match="no answer in 0"):
            server.wait_announce("start", timeout=0.1)
