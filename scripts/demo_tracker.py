"""A tracker for the demo: the server's side of our own UDP tracker codec (BEP 15), on loopback."""

from __future__ import annotations

import secrets

import trio

from torrentfs.errors import RemoteProtocolError
from torrentfs.wire import udp_tracker as codec
from torrentfs.wire.announce import AnnounceReply, AnnounceRequest, SwarmCounts

INTERVAL = 60
MAX_PEERS = 50


class Tracker:
    """Who is in which swarm; every announce within its reach is believed, it is a demo."""

    def __init__(self, port: int) -> None:
        self.url = f"udp://127.0.0.1:{port}/announce"
        self._swarms: dict[bytes, dict[tuple[str, int], bool]] = {}
        self._connections: set[int] = set()
        self._announced = trio.Event()

    async def wait_announced(self, timeout: float = 20.0) -> None:
        """Wait until somebody has announced."""
        with trio.fail_after(timeout):
            await self._announced.wait()

    def answer(self, data: bytes, host: str) -> bytes:
        """The answer to a datagram; RemoteProtocolError if it is none of the protocol."""
        asked = codec.parse_request(data)
        if isinstance(asked, codec.ConnectRequest):
            connection = secrets.randbits(63)
            self._connections.add(connection)
            return codec.connect_reply(asked.transaction, connection)
        if asked.connection not in self._connections:
            return codec.error_reply(asked.transaction, "connect first")
        if isinstance(asked, codec.UdpScrape):
            return codec.scrape_reply(
                asked.transaction, [self._count(h) for h in asked.info_hashes]
            )
        return codec.announce_reply(asked.transaction, self._announce(asked.request, host))

    def _count(self, info_hash: bytes) -> SwarmCounts:
        members = self._swarms.get(info_hash, {})
        return SwarmCounts(sum(members.values()), len(members) - sum(members.values()))

    def _announce(self, request: AnnounceRequest, host: str) -> AnnounceReply:
        members = self._swarms.setdefault(request.info_hash, {})
        own = (host, request.port)
        members.pop(own, None)
        peers = tuple(members)[-MAX_PEERS:]
        if request.event != "stopped":
            members[own] = request.left == 0
        self._announced.set()
        seeders = sum(members.values())
        return AnnounceReply(INTERVAL, None, seeders, len(members) - seeders, peers)


async def serve_tracker(
    task_status: trio.TaskStatus[Tracker] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer datagrams on a free port of 127.0.0.1 until cancelled."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))
        tracker = Tracker(socket.getsockname()[1])
        task_status.started(tracker)
        while True:
            data, address = await socket.recvfrom(2048)
            try:
                reply = tracker.answer(data, address[0])
            except RemoteProtocolError:
                continue
            await socket.sendto(reply, address)
