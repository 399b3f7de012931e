"""A WebSocket tracker that is an enemy, and strangers who are, against a whole mount.

Neither a read from another source nor the memory of the mount may suffer, and a page that comes
by another tracker is served. That the mount has taken notice of all of it is seen from its own
counts, and from its answer to a ping that comes last.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import wsproto
from wsproto.events import AcceptConnection, Ping, Pong, Request, TextMessage

from tests.interop.copying import MIB, assert_same, cp, wait_until
from tests.swarm.browser import Browser, browser
from tests.swarm.mounted import Mounted, mounted
from tests.swarm.payload import sha256_file, write_file
from tests.swarm.seeder import seed
from tests.swarm.torrents import make_torrent
from tests.swarm.tracker import tracker
from torrentfs.wire.ws_tracker import PeerAnswer, PeerOffer, encode_message

pytestmark = pytest.mark.real

SDP = (
    "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n"
    "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n"
    "a=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\n"
    "a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n"
)
"""A description in good order, of somebody who is not there."""


OFFERS = 10_000


def evil(info_hash: bytes) -> Iterator[str]:
    """What must be harmless; some 10 MB."""
    rng = random.Random(1)
    peer, offer_id = b"-WW0303-somebody----", b"o" * 20
    yield from ["", "{", "null", "[]" * 1000, "[" * 50_000, '"', '{"action": 7}', "\x00" * 1000]
    yield rng.randbytes(50_000).decode("latin-1")
    offer = json.loads(encode_message(PeerOffer(info_hash, peer, offer_id, SDP)))
    for key in offer:
        for value in (None, 0, -1e400, "", "x" * 100_000, [], {}, {"sdp": {}}, [[[]]] * 100):
            yield json.dumps({**offer, key: value})
    yield encode_message(PeerOffer(b"?" * 20, peer, offer_id, SDP))
    for sdp in ("v=0", SDP + "a=x:" + "y" * 40_000, SDP * 20, "\r\n" * 20_000, SDP[:300], "\ud800"):
        with contextlib.suppress(UnicodeEncodeError):
            yield encode_message(PeerOffer(info_hash, peer, offer_id, sdp))
            yield encode_message(PeerAnswer(info_hash, peer, offer_id, sdp))
    for number in range(2_000):
        yield encode_message(PeerAnswer(info_hash, peer, number.to_bytes(20), SDP))
    for number in range(OFFERS):
        yield encode_message(PeerOffer(info_hash, number.to_bytes(20), number.to_bytes(20), SDP))


class EvilTracker:
    """Says all of `texts` to who connects, from `begin` on, and answers nothing."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.begin = threading.Event()
        self.heard = threading.Event()
        """Set when a ping that came after all of it was answered."""
        self._texts = texts
        self._said = bytearray()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.sent = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._listening.getsockname()[1]}/"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connected, _ = self._listening.accept()
            with connected:
                self._talk(connected)

    def _talk(self, connected: socket.socket) -> None:
        protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        is_open = False
        while not is_open:
            protocol.receive_data(connected.recv(65536))
            for event in protocol.events():
                if isinstance(event, Request):
                    connected.sendall(protocol.send(AcceptConnection()))
                    is_open = True
        reader = threading.Thread(target=self._read, args=(connected,), daemon=True)
        reader.start()  # or what is said to us would be in the way
        self.begin.wait()
        for text in self._texts:
            connected.sendall(protocol.send(TextMessage(text)))
            self.sent += 1
        connected.sendall(protocol.send(Ping(b"over")))
        while reader.is_alive() and not self.heard.is_set():
            said, self._said = self._said, bytearray()
            protocol.receive_data(bytes(said))
            if any(isinstance(event, Pong) for event in protocol.events()):
                self.heard.set()
            reader.join(0.02)
        reader.join()

    def _read(self, connected: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connected.recv(65536):
                self._said += data

    def close(self) -> None:
        """End it; the mount is gone, or it ends the connection."""
        self.begin.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)


@contextmanager
def evil_tracker(texts: Iterable[str]) -> Iterator[EvilTracker]:
    running = EvilTracker(texts)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


def memory(mount: Mounted) -> float:
    """MiB of the mount and of what is below it."""
    this = psutil.Process(mount.pid)
    processes = [this, *this.children(recursive=True)]
    return sum(process.memory_info().rss for process in processes) / MIB


def test_a_tracker_says_everything_that_it_should_not(tmp_path: Path, chromium: Browser) -> None:
    file = write_file(tmp_path / "payload" / "film.mkv", 3, 4 * MIB + 1)
    made = make_torrent(file, tmp_path / "t.torrent")
    assert made.v1 is not None
    with (
        tracker(tmp_path) as server,
        evil_tracker(evil(bytes.fromhex(made.v1))) as enemy,
        seed(made.torrent, file, tmp_path) as seeder,
        mounted(
            made.torrent,
            tmp_path,
            *("--bind-interface", "127.0.0.1", "--peer", seeder.address, "-v"),
            *("--tracker", server.websocket, "--tracker", enemy.url),
        ) as mount,
        chromium.page() as page,
    ):
        assert page.visit(made.magnet(tr=server.websocket)) < 15  # so the worker is there
        before = memory(mount)
        enemy.begin.set()
        wait_until(lambda: enemy.sent > 100)
        page.add(made.magnet(tr=server.websocket))
        assert_same(cp(mount / file.name, tmp_path / "copy"), file)
        page.wait("done", 40)
        assert page.digests() == {file.name: sha256_file(file)}
        most = 0.0
        while not enemy.heard.wait(0.2):
            most = max(most, memory(mount))
        assert max(most, memory(mount)) < before + 32
        counts = mount.status()["webrtc"]["signalling"]
        assert counts["offers_received"] + counts["dropped"] > OFFERS
        assert len(psutil.Process(mount.pid).children(recursive=True)) <= 1
        assert "Traceback" not in mount.log()
        assert " ERROR " not in mount.log()
        assert mount.end() == 0
