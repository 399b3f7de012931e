"""A torrent alive in memory and virtual time: no sockets, no disk, no threads.

`rig()` runs a real `Torrent` and `Swarm` over a `FakeStore`; `Rig.connect()` joins a `FakePeer`,
which speaks the wire protocol from the other side, as the test tells it or as a whole seeder
(`serve`).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, TypeVar, cast

import trio
import trio.testing

from tests.streams import MemoryStream, memory_stream_pair
from tests.transports.torrents import Sample, sample
from torrentfs.engine.config import SessionConfig
from torrentfs.engine.dialling import exchange_hello
from torrentfs.engine.limits import Limits
from torrentfs.engine.swarm import Places, Swarm
from torrentfs.engine.torrent import Torrent
from torrentfs.errors import TransportError
from torrentfs.metainfo.bitfield import Bitfield
from torrentfs.metainfo.torrent_file import Metainfo
from torrentfs.storage.base import PieceLost, StoreStatistics
from torrentfs.wire import messages as m
from torrentfs.wire.connection import Connection
from torrentfs.wire.extension import OUR_EXTENSIONS
from torrentfs.wire.handshake import Handshake

KIB = 1024
PIECE = 32 * KIB
OUR_ID = b"-TF0000-us us us us!"

T = TypeVar("T")


class FakeStore:
    """Verified pieces in a dict; `capacity` pieces at most, the oldest goes."""

    def __init__(self, num_pieces: int, capacity: int | None = None) -> None:
        self.have = Bitfield(num_pieces)
        self.pieces: dict[int, bytearray] = {}
        self.capacity = capacity
        self.on_evicted: Callable[[Sequence[int]], None] = lambda pieces: None
        self.slow: set[int] = set()
        """Pieces that only `read` gives."""
        self.damaged: set[int] = set()
        """Pieces found to be damaged when `read`."""
        self.gate: trio.Event | None = None
        """While set, `put` waits for it: a slow disk."""
        self.trouble: str | None = None

    def read_nowait(self, piece: int, begin: int, length: int) -> memoryview | None:
        if piece in self.slow or piece in self.damaged or piece not in self.pieces:
            return None
        return memoryview(self.pieces[piece])[begin : begin + length]

    async def read(self, piece: int, begin: int, length: int) -> memoryview:
        await trio.lowlevel.checkpoint()
        if piece in self.damaged or piece not in self.pieces:
            self.damaged.discard(piece)
            self.evict(piece)
            raise PieceLost(f"piece {piece} is damaged")
        return memoryview(self.pieces[piece])[begin : begin + length]

    async def put(self, piece: int, data: bytearray) -> None:
        self.pieces[piece] = data
        self.have.add(piece)
        while self.capacity is not None and len(self.pieces) > self.capacity:
            self.evict(next(iter(self.pieces)))
        if self.gate is not None:
            await self.gate.wait()

    def statistics(self) -> StoreStatistics:
        have = self.have.count
        return StoreStatistics(have, have, 0, 0, 0, 0, 0, 0, self.trouble)

    def evict(self, piece: int) -> None:
        self.pieces.pop(piece, None)
        if self.have.discard(piece):
            self.on_evicted([piece])

    def fill(self, of: Sample, pieces: Sequence[int] | None = None) -> None:
        """Have these pieces (default: all) from the start."""
        size = of.metainfo.geometry.piece_length
        for piece in range(self.have.size) if pieces is None else pieces:
            self.pieces[piece] = bytearray(of.space[piece * size : (piece + 1) * size])
            self.have.add(piece)


class FakePeer:
    """The other end of a connection; `sent` holds every message that came from us."""

    def __init__(self, stream: MemoryStream, metainfo: Metainfo, space: bytes) -> None:
        self.stream = stream
        self.metainfo = metainfo
        self.space = space
        self.connection = Connection()
        self.sent: list[Any] = []
        self.requests: deque[m.Request] = deque()
        self.served = 0

    async def hello(
        self,
        *,
        fast: bool = True,
        extensions: bool = True,
        peer_id: bytes,
        info_hash: bytes | None = None,
        v2: bool = False,
        dht: bool = False,
    ) -> None:
        info_hash = info_hash or self.metainfo.hashes.wire[0]
        ours = Handshake(
            info_hash=info_hash,
            peer_id=peer_id,
            fast=fast,
            extensions=extensions,
            v2=v2,
            dht=dht,
        )
        await self.stream.send_all(self.connection.send(ours))

    async def say(self, *messages: Any) -> None:
        """Send messages; what `pieces=...` means is a bitfield of them."""
        await self.stream.send_many([self.connection.send(message) for message in messages])

    async def meet(self) -> None:
        """Read the engine's handshake: only then is known what may be said."""
        while self.connection.theirs is None:
            if self.connection.next_event() is None:
                received = await self.stream.receive_into(self.connection.get_buffer())
                if not received:
                    raise TransportError("the engine closed the connection")
                self.connection.buffer_updated(received)

    async def have(self, pieces: Sequence[int] | None = None) -> None:
        """Say which pieces we have (default: all)."""
        total = self.metainfo.geometry.num_pieces
        field = Bitfield.full(total) if pieces is None else Bitfield(total, pieces)
        await self.say(m.BitfieldMessage(bytes(field)))

    async def next(self) -> Any:
        """The next message from the engine; `TransportError` at the end."""
        while True:
            event = self.connection.next_event()
            if event is not None:
                if isinstance(event, Handshake):
                    continue
                self.sent.append(_kept(event))
                return self.sent[-1]
            received = await self.stream.receive_into(self.connection.get_buffer())
            if not received:
                raise TransportError("the engine closed the connection")
            self.connection.buffer_updated(received)

    async def expect(self, kind: type[T], **fields: Any) -> T:
        """Wait for a message of that kind (and those fields); others are passed over."""
        while True:
            event = await self.next()
            if isinstance(event, kind) and all(
                getattr(event, name) == value for name, value in fields.items()
            ):
                return event

    async def settle(self) -> list[Any]:
        """Everything that the engine has said until it waits for something."""
        begin = len(self.sent)
        with trio.move_on_after(0.001):
            while True:
                await self.next()
        return self.sent[begin:]

    async def closed(self) -> None:
        """Wait until the engine has closed the connection and done what follows from it."""
        with contextlib.suppress(TransportError):
            while True:
                await self.next()
        await trio.testing.wait_all_tasks_blocked()

    def block(self, request: m.Request) -> m.Piece:
        """The right answer to a request."""
        start = request.piece * self.metainfo.geometry.piece_length + request.begin
        return m.Piece(request.piece, request.begin, self.space[start : start + request.length])

    async def serve(
        self,
        *,
        lie: Callable[[m.Request], bool] = lambda request: False,
        delay: float = 0.0,
        most: float = float("inf"),
    ) -> None:
        """Be a seeder until the connection ends, or `most` blocks were served."""
        try:
            while self.served < most:
                event = await self.next()
                if isinstance(event, m.Interested):
                    await self.say(m.Unchoke())
                elif isinstance(event, m.Request):
                    if delay:
                        await trio.sleep(delay)
                    answer = self.block(event)
                    if lie(event):
                        answer = m.Piece(*answer[:2], bytes(len(answer.data)))
                    await self.say(answer)
                    self.served += 1
        except TransportError:
            return
        self.stream.abort()


def _kept(event: Any) -> Any:
    if isinstance(event, m.Piece):  # its data is a view that does not last
        return m.Piece(event.piece, event.begin, bytes(event.data))
    return event


@dataclass
class Rig:
    """A running torrent and what is around it."""

    sample: Sample
    torrent: Torrent
    swarm: Swarm
    store: FakeStore
    nursery: trio.Nursery
    numbers: Any = field(default_factory=lambda: count(1))

    async def read(self, offset: int, size: int, file: int = 0) -> bytes:
        return bytes(await self.torrent.read(file, offset, size))

    def reading(self, offset: int, size: int, file: int = 0) -> Reading:
        """Start a read in the background."""
        return Reading(self, offset, size, file)

    async def connect(
        self,
        *,
        have: Sequence[int] | bool | None = None,
        fast: bool = True,
        extensions: bool = False,
        unchoke: bool = False,
        host: str | None = None,
        peer_id: bytes | None = None,
        info_hash: bytes | None = None,
        v2: bool = False,
        dht: bool = False,
        capacity: int = 1024 * KIB,
        kind: str = "memory",
        port: int | None = None,
    ) -> FakePeer:
        """An incoming peer; `have`: its pieces, None for all, False to say nothing.

        `kind` is that of its stream, `port` the one that it calls from.
        """
        number = next(self.numbers)
        remote = (host or f"10.0.0.{number}", port or 40_000 + number)
        mine, theirs = memory_stream_pair(other=remote, capacity=capacity)
        mine.kind = kind
        peer = FakePeer(theirs, self.sample.metainfo, self.sample.space)
        await peer.hello(
            fast=fast,
            extensions=extensions,
            peer_id=peer_id or b"-XX0000-%012d" % number,
            info_hash=info_hash,
            v2=v2,
            dht=dht,
        )
        connection = Connection()
        hello = await exchange_hello(mine, connection, None)
        if not self.swarm.accept(mine, connection, hello):
            mine.abort()
            return peer
        if have is False and not extensions and not unchoke:
            return peer
        await peer.meet()
        if extensions:
            await peer.say(m.ExtensionHandshake(extensions=OUR_EXTENSIONS))
        if have is not False:
            await peer.have(cast("Sequence[int] | None", have))
        if unchoke:
            await peer.say(m.Unchoke())
        await trio.testing.wait_all_tasks_blocked()
        return peer

    async def seeder(self, **options: Any) -> FakePeer:
        """A peer that has everything and serves it; see `FakePeer.serve`."""
        serving = {k: options.pop(k) for k in ("lie", "delay", "most") if k in options}
        peer = await self.connect(**options)

        async def serve() -> None:
            await peer.serve(**serving)

        self.nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        return peer


class Reading:
    """A read under way."""

    def __init__(self, rig: Rig, offset: int, size: int, file: int) -> None:
        self.data: bytes | None = None
        self.error: Exception | None = None
        self.seconds: float | None = None
        self.scope = trio.CancelScope()
        self._done = trio.Event()
        rig.nursery.start_soon(self._run, rig, offset, size, file)

    async def _run(self, rig: Rig, offset: int, size: int, file: int) -> None:
        began = trio.current_time()
        with self.scope:
            try:
                self.data = await rig.read(offset, size, file)
            except Exception as error:
                self.error = error
        self.seconds = trio.current_time() - began
        self._done.set()

    async def wait(self) -> bytes:
        await self._done.wait()
        if self.error is not None:
            raise self.error
        assert self.data is not None
        return self.data


@asynccontextmanager
async def rig(
    of: Sample | int = 10 * PIECE,
    *,
    have: Sequence[int] | bool | None = False,
    capacity: int | None = None,
    limits: Limits | None = None,
    web_seeds: Sequence[Any] = (),
    **settings: Any,
) -> AsyncIterator[Rig]:
    """Run a torrent over `of`; `have`: pieces in the store from the start (None: all)."""
    content = sample(of, piece_length=PIECE) if isinstance(of, int) else of
    settings = {"readahead": 0, "cache_dir": Path("/nonexistent"), "tcp": False, **settings}
    config = SessionConfig(**settings)
    store = FakeStore(content.metainfo.geometry.num_pieces, capacity)
    if have is not False:
        store.fill(content, cast("Sequence[int] | None", have))
    torrent = Torrent(
        content.metainfo,
        cast("Any", store),
        config=config,
        limits=limits or Limits(),
        added=0.0,
        rng=Random(1),
        client_version="torrentfs/test",
        listen_port=6881,
    )
    store.on_evicted = torrent.on_evicted
    swarm = Swarm(
        content.metainfo.hashes,
        torrent.talk,
        peer_id=OUR_ID,
        config=config,
        places=Places(config.max_connections),
    )
    torrent.attach_swarm(swarm, web_seeds)
    async with trio.open_nursery() as nursery:
        await nursery.start(torrent.run)
        yield Rig(content, torrent, swarm, store, nursery)
        nursery.cancel_scope.cancel()
