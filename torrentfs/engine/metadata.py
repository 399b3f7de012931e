"""From a magnet to its info dictionary: ask every peer at once, believe only the hash (BEP 9).

Each peer that speaks `ut_metadata` is asked for all of it, into an assembler of its own, so a
peer that lies about the size or sends rubbish spoils nothing but its own attempt; the first
whose bytes hash to the info-hash wins. For a v2-only torrent the piece layers are fetched from
the same peer by BEP 52 hash requests, so that whoever gets the metainfo can verify every piece.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from torrentfs.engine.swarm import Swarm
from torrentfs.errors import RemoteProtocolError
from torrentfs.metainfo.torrent_file import parse_info
from torrentfs.wire import messages as m
from torrentfs.wire.extension import OUR_EXTENSIONS
from torrentfs.wire.hash_exchange import LayerFetch
from torrentfs.wire.metadata import MetadataAssembler

if TYPE_CHECKING:
    from collections.abc import Callable

    from torrentfs.discovery.trackers import TrackerTiers
    from torrentfs.engine.config import SessionConfig
    from torrentfs.engine.swarm import Address, Places
    from torrentfs.metainfo.hashes import InfoHashes
    from torrentfs.metainfo.torrent_file import Metainfo
    from torrentfs.transports.base import PeerStream
    from torrentfs.wire.connection import Connection

log = logging.getLogger(__name__)


class MetadataFetch:
    """Gets the metainfo that hashes to `hashes` from a swarm; `run` until `result` is set."""

    def __init__(
        self,
        hashes: InfoHashes,
        *,
        peer_id: bytes,
        config: SessionConfig,
        places: Places,
        trackers: TrackerTiers | None,
        client_version: str,
        listen_port: int,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        self.hashes = hashes
        self.result: Metainfo | None = None
        self.giver: Address | None = None
        self._client_version = client_version
        self._listen_port = listen_port
        self._on_progress = on_progress
        self._done = trio.Event()
        self.swarm = Swarm(
            hashes, self._talk, peer_id=peer_id, config=config, places=places, trackers=trackers
        )

    async def run(self) -> Metainfo:
        """Return the verified metainfo, as soon as one peer has given it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.swarm.run)
            if self._on_progress is not None:
                nursery.start_soon(self._report)
            await self._done.wait()
            nursery.cancel_scope.cancel()
        assert self.result is not None
        return self.result

    def words(self) -> str:
        """How it goes, in words for the person who waits."""
        trackers = self.swarm.trackers
        complaints = [
            f"tracker {tracker.url}: {tracker.last_error}"
            for tracker in (trackers.statistics() if trackers is not None else ())
            if tracker.last_error
        ]
        if self.swarm.last_failure is not None:
            complaints.append(f"last peer {self.swarm.last_failure}")
        connected = len(self.swarm.connected)
        known = len(self.swarm.book)
        if trackers is None and not known and not connected:
            return "no tracker and no peer is known: name one with --tracker or --peer"
        return "; ".join([f"{connected} of {known} known peers connected", *complaints])

    async def _report(self) -> None:
        assert self._on_progress is not None
        while True:
            self._on_progress(self.words())
            await trio.sleep(0.5)

    async def _talk(
        self, stream: PeerStream, connection: Connection, address: Address, *, outgoing: bool
    ) -> bool:
        if not connection.extensions:
            raise RemoteProtocolError("cannot give metadata (no BEP 10)")
        hello = [connection.send(m.HaveNone())] if connection.fast else []
        hello.append(
            connection.send(
                m.ExtensionHandshake(
                    extensions=OUR_EXTENSIONS,
                    version=self._client_version,
                    port=self._listen_port or None,
                )
            )
        )
        await stream.send_many(hello)
        assembler: MetadataAssembler | None = None
        layers: LayerFetch | None = None
        metainfo: Metainfo | None = None
        while self.result is None:
            answers: list[bytes | memoryview] = []
            for event in connection.events():
                if isinstance(event, m.ExtensionHandshake) and assembler is None:
                    if event.metadata_size and "ut_metadata" in event.extensions:
                        assembler = MetadataAssembler(event.metadata_size, self.hashes)
                        answers += [connection.send(r) for r in assembler.requests()]
                elif isinstance(event, m.MetadataData) and assembler is not None:
                    assembler.on_data(event.piece, event.total_size, event.data)
                    if assembler.result is not None and metainfo is None:
                        metainfo = parse_info(assembler.result, self.hashes)
                        layers = LayerFetch(metainfo) if not metainfo.has_v1 else None
                        if layers is not None:
                            connection.set_num_pieces(metainfo.geometry.num_pieces)
                            answers += [connection.send(r) for r in layers.requests()]
                    elif assembler.result is None:
                        answers += [connection.send(r) for r in assembler.requests()]
                elif isinstance(event, m.MetadataReject):
                    raise RemoteProtocolError("does not have the metadata either")
                elif isinstance(event, m.Hashes) and layers is not None:
                    layers.on_hashes(event)
                    answers += [connection.send(r) for r in layers.requests()]
                elif isinstance(event, m.HashReject) and layers is not None:
                    raise RemoteProtocolError("does not have the piece layers")
            if metainfo is not None and (layers is None or layers.done):
                if layers is not None:
                    metainfo = metainfo.with_piece_layers(layers.layers)
                self._finish(metainfo, address if outgoing else None)
            if answers:
                await stream.send_many(answers)
            if self.result is None:
                received = await stream.receive_into(connection.get_buffer())
                if not received:
                    raise RemoteProtocolError("closed before it gave the metadata")
                connection.buffer_updated(received)
        return True

    def _finish(self, metainfo: Metainfo, address: Address | None) -> None:
        if self.result is None:
            self.result = metainfo
            self.giver = address
            self._done.set()
