"""What the DHT is to one torrent: a source of peers, asked again at times.

The first search begins at once. While it finds nobody it is repeated soon and then ever more
rarely; when it found somebody, every `REGULAR` seconds, because that also renews our own entry. A
reader who waits in vain may have it sooner (`search_soon`), but never within `LEAST_PAUSE` of one
that found somebody, or `FIRST_PAUSE` of one that did not.
While the node knows nobody to ask, a search waits for the first node.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from torrentfs.discovery.base import clean_peers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torrentfs.discovery.base import OnPeers
    from torrentfs.discovery.dht.node import DhtNode
    from torrentfs.discovery.dht.search import Search
    from torrentfs.transports.base import Address

log = logging.getLogger(__name__)

REGULAR = 15 * 60.0
"""Seconds between announces, as libtorrent."""

FIRST_PAUSE, LEAST_PAUSE = 5.0, 10.0
"""Seconds after the first search in vain (doubles up to `REGULAR`), and the least after another."""

MAX_ROUTERS = 8
"""Nodes of a torrent file that are used."""

ORIGIN = "dht"


class DhtSource:
    """Searches for one torrent. `info_hashes` are its 20-byte forms; `run` until cancelled.

    `port` is where we accept peers, None where we do not; `nodes` are those of the torrent file.
    `on_peers(addresses, "dht")` is told of peers as they come. An `urgent` one does not wait for
    the searches of others, because somebody waits for it.
    """

    def __init__(
        self,
        node: DhtNode,
        info_hashes: Sequence[bytes],
        *,
        port: int | None,
        on_peers: OnPeers,
        nodes: Sequence[Address] = (),
        urgent: bool = False,
    ) -> None:
        self.on_peers = on_peers
        self.peers = 0
        """Peers that the last round found."""
        self.rounds = 0
        """Rounds that are over."""
        self._node = node
        self._info_hashes = tuple(info_hashes)
        self.announced_port = port
        """Where peers reach us from outside; None: nowhere."""
        self._port = port
        self._nodes = tuple(nodes)[:MAX_ROUTERS]
        self._routers: list[Address] = []
        self._searches: list[Search] = []
        self._wakeup = trio.Event()
        self._earliest = float("-inf")
        self._is_wanted = urgent

    async def run(self) -> None:
        """Search until cancelled."""
        self._node.on_nodes.add(self._on_nodes)
        try:
            if self._nodes:
                self._routers = await self._node.addresses_of(self._nodes)
            pause = FIRST_PAUSE
            while True:
                await self._round()
                if self.peers:
                    pause = FIRST_PAUSE
                    await self._rest(REGULAR, LEAST_PAUSE)
                else:
                    await self._rest(pause, FIRST_PAUSE)
                    pause = min(2 * pause, REGULAR)
        finally:
            self._node.on_nodes.discard(self._on_nodes)
            for search in self._searches:
                search.cancel()

    def search_soon(self) -> None:
        """More peers are wanted."""
        self._is_wanted = True
        self._wakeup.set()

    def search_anew(self) -> None:
        """We are at another place, or on the network again: search and announce, without rest."""
        self._earliest = float("-inf")
        self.search_soon()

    def _on_nodes(self) -> None:
        """The node has just become able to search: if we failed before, this is the moment."""
        if self.rounds and not self.peers:
            self._is_wanted = True
            self._earliest = float("-inf")
            self._wakeup.set()

    async def _rest(self, pause: float, least: float) -> None:
        """Wait so long; where more is wanted, at least so long."""
        ended = trio.current_time()
        self._earliest = ended + least
        while (due := self._earliest if self._is_wanted else ended + pause) > trio.current_time():
            self._wakeup = trio.Event()
            with trio.move_on_at(due):
                await self._wakeup.wait()

    async def _round(self) -> None:
        """Search for every form of the info-hash at once."""
        urgent, self._is_wanted = self._is_wanted, False
        found: dict[Address, None] = {}

        def on_peers(peers: Sequence[Address]) -> None:
            new = [p for p in clean_peers(peers, own_port=self._port or 0) if p not in found]
            found.update(dict.fromkeys(new))
            self.peers = max(self.peers, len(found))
            if new:
                self.on_peers(new, ORIGIN)

        async def search(info_hash: bytes) -> None:
            done = trio.Event()
            self._searches.append(
                self._node.search(
                    info_hash,
                    on_peers,
                    announce_port=self.announced_port,
                    on_done=lambda search: done.set(),
                    routers=self._routers,
                    urgent=urgent,
                )
            )
            await done.wait()

        self._searches = []
        async with trio.open_nursery() as nursery:
            for info_hash in self._info_hashes:
                nursery.start_soon(search, info_hash)
        self.rounds += 1
        self.peers = len(found)

    @property
    def announced(self) -> int:
        """Nodes that took our announce in the last round."""
        return sum(search.announced for search in self._searches)

    @property
    def node_port(self) -> int:
        """The UDP port of our node, to be told to peers (BEP 5 PORT)."""
        return self._node.port

    def on_node(self, host: str, port: int) -> None:
        """A peer says that it has a node at its port."""
        self._node.on_told((host, port))

    @property
    def has_hope(self) -> bool:
        """Whether there is anybody to ask, now or later."""
        return bool(self._node.dht.nodes or self._node.has_bootstrap or self._nodes)

    def words(self) -> str:
        """How it stands, for the person who waits."""
        nodes = self._node.dht.nodes
        if not nodes:
            return "DHT: no node answers" if self.rounds else "DHT: looking for nodes"
        peers = f"{self.peers} peers" if self.peers else "no peers"
        if not self.rounds and not self.peers:
            peers = "searching"
        return f"DHT: {nodes} nodes, {peers}"

    def __repr__(self) -> str:
        return f"<DhtSource {self.words()}>"
