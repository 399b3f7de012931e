"""Peers that lie, stall, babble and die: each a TCP server in a thread, on loopback.

They speak just enough of BEP 3 with `struct` alone, on purpose not with this project's own codecs:
an error there must not cancel out here.  A peer knows the payload in piece space, so the same
class is also a slow but honest one, the control of an experiment.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

UNCHOKE, BITFIELD, REQUEST, PIECE = 1, 5, 6, 7
POLL = 0.1  # how soon a thread sees that the test is over


class Payload(NamedTuple):
    """What a peer pretends to have: the bytes of piece space, and how they are cut."""

    data: bytes
    piece_length: int

    @classmethod
    def of_file(cls, path: Path, piece_length: int) -> Payload:
        """The payload of a single-file torrent."""
        return cls(path.read_bytes(), piece_length)

    @property
    def pieces(self) -> int:
        """How many pieces there are."""
        return -(-len(self.data) // self.piece_length)

    def block(self, piece: int, begin: int, length: int) -> bytes:
        """The right bytes of a block."""
        start = piece * self.piece_length + begin
        return self.data[start : start + length]


class Ended(Exception):
    """The other side closed the connection, or the test is over."""


class Connection:
    """One accepted connection, after both handshakes; what a behaviour works with."""

    def __init__(self, stream: socket.socket, payload: Payload, stopping: threading.Event) -> None:
        self.stream = stream
        self.payload = payload
        self.stopping = stopping
        self.blocks = 0

    def receive(self, size: int) -> bytes:
        """Exactly `size` bytes; Ended if they cannot come any more."""
        data = b""
        while len(data) < size:
            if self.stopping.is_set():
                raise Ended
            try:
                part = self.stream.recv(size - len(data))
            except TimeoutError:
                continue
            except OSError as error:
                raise Ended from error
            if not part:
                raise Ended
            data += part
        return data

    def send(self, data: bytes) -> None:
        """Send all; Ended if the other side is gone."""
        view = memoryview(data)
        while view:
            if self.stopping.is_set():
                raise Ended
            try:
                view = view[self.stream.send(view) :]
            except TimeoutError:
                continue
            except OSError as error:
                raise Ended from error

    def message(self, kind: int, body: bytes = b"") -> None:
        """Send one message."""
        self.send(struct.pack(">IB", 1 + len(body), kind) + body)

    def block(self, piece: int, begin: int, data: bytes) -> None:
        """Send one block."""
        self.blocks += 1
        self.message(PIECE, struct.pack(">II", piece, begin) + data)

    def seed_ready(self) -> None:
        """Claim everything and unchoke."""
        size = self.payload.pieces
        bits = (((1 << size) - 1) << (-size % 8)).to_bytes(-(-size // 8))
        self.message(BITFIELD, bits)
        self.message(UNCHOKE)

    def requests(self) -> Iterator[tuple[int, int, int]]:
        """Each request as it comes, until Ended."""
        while True:
            (length,) = struct.unpack(">I", self.receive(4))
            body = self.receive(length) if length else b""
            if body[:1] == bytes([REQUEST]):
                piece, begin, size = struct.unpack(">III", body[1:13])
                yield piece, begin, size

    def reset(self) -> None:
        """Close with a TCP reset, as a crashed machine's router would."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Ended

    def idle(self) -> None:
        """Read and ignore everything until Ended."""
        while True:
            self.receive(1)


Behaviour = Callable[[Connection], None]


def honest(delay: float = 0.0) -> Behaviour:
    """Serves every request rightly, `delay` seconds each."""

    def behave(peer: Connection) -> None:
        peer.seed_ready()
        for piece, begin, length in peer.requests():
            time.sleep(delay)
            peer.block(piece, begin, peer.payload.block(piece, begin, length))

    return behave


def liar(share: float = 1.0, seed: int = 1) -> Behaviour:
    """Answers a `share` of the requests with a flipped byte in the middle."""
    dice = random.Random(seed)

    def behave(peer: Connection) -> None:
        peer.seed_ready()
        for piece, begin, length in peer.requests():
            data = bytearray(peer.payload.block(piece, begin, length))
            if data and dice.random() < share:
                data[len(data) // 2] ^= 0x55
            peer.block(piece, begin, bytes(data))

    return behave


def staller(after: int = 0) -> Behaviour:
    """Serves `after` blocks, then keeps the connection open and sends nothing any more."""

    def behave(peer: Connection) -> None:
        peer.seed_ready()
        for piece, begin, length in peer.requests():
            if peer.blocks >= after:
                peer.idle()
            peer.block(piece, begin, peer.payload.block(piece, begin, length))

    return behave


def mid_block_death(after: int = 0, *, reset: bool = False) -> Behaviour:
    """Serves `after` blocks, then half of one, and closes (or resets) the connection."""

    def behave(peer: Connection) -> None:
        peer.seed_ready()
        for piece, begin, length in peer.requests():
            data = peer.payload.block(piece, begin, length)
            if peer.blocks >= after:
                header = struct.pack(">IBII", 9 + length, PIECE, piece, begin)
                peer.send(header + data[: length // 2])
                if reset:
                    peer.reset()
                return
            peer.block(piece, begin, data)

    return behave


def garbage(after: int = 0, seed: int = 1) -> Behaviour:
    """Serves `after` blocks, then random bytes without end."""
    dice = random.Random(seed)

    def behave(peer: Connection) -> None:
        peer.seed_ready()
        if after:
            for piece, begin, length in peer.requests():
                peer.block(piece, begin, peer.payload.block(piece, begin, length))
                if peer.blocks >= after:
                    break
        while True:
            peer.send(dice.randbytes(4096))

    return behave


def boundless(peer: Connection) -> None:
    """Announces a message of 4 GiB and trickles it."""
    peer.seed_ready()
    peer.send(struct.pack(">IB", 0xFFFF_FFFF, PIECE))
    while True:
        peer.send(bytes(65536))
        time.sleep(0.01)


def unasked(peer: Connection) -> None:
    """Answers every request with another block than the one asked for, past the end included."""
    peer.seed_ready()
    for piece, begin, length in peer.requests():
        peer.block(piece + peer.payload.pieces, begin, bytes(length))


def choker(peer: Connection) -> None:
    """Has everything, never unchokes."""
    size = peer.payload.pieces
    peer.message(BITFIELD, (((1 << size) - 1) << (-size % 8)).to_bytes(-(-size // 8)))
    peer.idle()


HELLO = b"\x13BitTorrent protocol"


class HostilePeer:
    """A listening peer with one behaviour for every connection, and what it has seen."""

    def __init__(self, payload: Payload, behaviour: Behaviour, *, shake: bool = True) -> None:
        self.payload = payload
        self.connections = 0
        """Connections accepted so far."""
        self.open = 0
        """Connections open now."""
        self.dropped = 0
        """Conversations, after the handshake if there is one, that are over. Who is dropped may be
        called again."""
        self.blocks = 0
        """Blocks sent on connections that are over."""
        self._behaviour = behaviour
        self._shake = shake
        self._stopping = threading.Event()
        self._counting = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(POLL)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def address(self) -> str:
        """HOST:PORT, as `--peer` takes it."""
        return f"127.0.0.1:{self.port}"

    def wait_dropped(self, timeout: float) -> bool:
        """Wait until somebody has talked to us and is gone."""
        deadline = time.monotonic() + timeout
        while not self.dropped:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def close(self) -> None:
        """End every connection and thread."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, name=f"hostile-{self.port}")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                stream, _ = self._listener.accept()
            except TimeoutError:
                continue
            with self._counting:
                self.connections += 1
                self.open += 1
            self._start(self._serve, stream)

    def _serve(self, stream: socket.socket) -> None:
        talked = not self._shake
        with stream:
            stream.settimeout(POLL)
            peer = Connection(stream, self.payload, self._stopping)
            with contextlib.suppress(Ended):
                if self._shake:
                    theirs = peer.receive(68)
                    if not theirs.startswith(HELLO):
                        raise Ended  # encrypted: as most who do not encrypt, it hangs up
                    # Their info-hash comes back, no extension is offered.
                    # Two of one id would be taken for one peer: the port tells them apart.
                    name = b"-XX0001-hostile%05d" % self.port
                    answer = theirs[:20] + bytes(8) + theirs[28:48] + name
                    peer.send(answer)
                    talked = True
                self._behaviour(peer)
        with self._counting:
            self.dropped += talked
            self.blocks += peer.blocks
            self.open -= 1


@contextmanager
def hostile_peer(
    payload: Payload, behaviour: Behaviour, *, shake: bool = True
) -> Iterator[HostilePeer]:
    """Run a peer; ``shake=False`` leaves even the handshake to `behaviour` (see `garbage`)."""
    peer = HostilePeer(payload, behaviour, shake=shake)
    try:
        yield peer
    finally:
        peer.close()
