"""The DHT node of a session: `protocol.Dht` with a port, a clock, names and a file.

All torrents share it. Datagrams come and go through the session's UDP port, which it shares with
uTP. Nodes that answered are kept in a file for the next start, and our ids for the same port, by
which others know who we are. It is written now and then and at the end, whole or not at all;
several processes may share the file, the last one to end wins.

Nobody is asked before a torrent needs it: a session whose torrents are all private takes no part.
Names of bootstrap nodes are looked up only when the kept nodes are not enough to begin with, and
again, ever more rarely, while no node is known: a laptop may be without a line for a while.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import TYPE_CHECKING, Literal, Protocol

import trio

from torrentfs.discovery.dht.items import is_genuine, target_of_publisher
from torrentfs.discovery.dht.kept import MAX_BYTES, Own, pack_kept, unpack_kept, unpack_own
from torrentfs.discovery.dht.protocol import Dht
from torrentfs.discovery.dht.routing import BUCKET_SIZE
from torrentfs.discovery.udp import resolve_datagram
from torrentfs.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from pathlib import Path
    from random import Random

    from torrentfs.discovery.dht.search import OnPeers, Search
    from torrentfs.discovery.udp import Place
    from torrentfs.transports.base import Address
    from torrentfs.wire.krpc import Contact, Item

    Resolve = Callable[[str, int], Awaitable[list[tuple[int, Place]]]]

log = logging.getLogger(__name__)

SAVE_EVERY = 600.0
"""Seconds."""
LAST_SAVE = 1.0
"""Seconds that the end waits for the last one: a disk may hang."""

PATIENCE = 1.0
"""Seconds that kept nodes have to answer before names of others are looked up."""

ITEM_RETRY = 1.0
"""Seconds until an item is looked for again that nobody had, or nobody could be asked for."""

FIRST_RETRY, LONGEST_RETRY = 10.0, 600.0
"""Seconds until names are looked up again while no node is known."""


class Datagrams(Protocol):
    """What is needed of the session's UDP port."""

    @property
    def port(self) -> int: ...
    @property
    def families(self) -> frozenset[int]: ...
    def register(
        self, kind: Literal["dht"], handler: Callable[[memoryview, Address], None]
    ) -> None: ...
    def send(self, datagram: bytes, address: Address) -> bool: ...


@dataclass(frozen=True, slots=True)
class DhtStatistics:
    """The node at one moment."""

    nodes: int
    """In the IPv4 table."""
    nodes6: int
    stored_peers: int
    """That others announced to us."""
    searches: int
    """Under way or waiting."""
    answered: int
    """Questions of others."""
    refused: int
    malformed: int
    unasked: int


class DhtNode:
    """A node on `port`; `run` it. `keep` is the file for the next start, None for none.

    `bootstrap` are hosts (names or addresses) and ports of nodes to begin with. Nothing is sent to,
    or taken from, an IP address that `blocks`.
    """

    def __init__(
        self,
        port: Datagrams,
        *,
        bootstrap: Sequence[Address] = (),
        keep: Path | None = None,
        read_only: bool = False,
        blocks: Callable[[str], bool] | None = None,
        rng: Random | None = None,
        resolve: Resolve = resolve_datagram,
    ) -> None:
        self._port = port
        self._bootstrap = tuple(bootstrap)
        self._keep = keep
        self._resolve = resolve
        self._due_at = float("-inf")
        self._due = trio.Event()
        self._kept: list[Contact] = []
        self._needed = trio.Event()
        self._again = trio.Event()
        self.on_nodes: set[Callable[[], None]] = set()
        """Called when there is somebody to ask: bootstrap nodes, or a first node."""
        self.dht = Dht(
            rng=rng or SystemRandom(),
            now=trio.current_time(),
            families=[family == socket.AF_INET6 for family in sorted(port.families)],
            read_only=read_only,
            blocks=blocks,
        )
        port.register("dht", self._on_datagram)

    @property
    def port(self) -> int:
        """The UDP port."""
        return self._port.port

    @property
    def has_bootstrap(self) -> bool:
        """Whether there are nodes to begin with, from the last time or the user."""
        return bool(self._bootstrap or self._kept)

    # -- life ---------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until cancelled; what is known then is kept."""
        data = await trio.to_thread.run_sync(self._read_kept)
        self._kept = unpack_kept(data)
        own = unpack_own(data)
        if own.port == self.port:
            self.dht.take_ids(own.ids)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._timer_loop)
                nursery.start_soon(self._save_loop)
                nursery.start_soon(self._bootstrap_loop)
                task_status.started()
        finally:
            with trio.move_on_after(LAST_SAVE, shield=True):
                await self._save()

    async def _timer_loop(self) -> None:
        while True:
            now = trio.current_time()
            if self.dht.next_time() <= now:
                self._guarded(lambda now: self.dht.on_time(now))
            self._due_at = max(self.dht.next_time(), now + 0.01)
            with trio.move_on_at(self._due_at):
                await self._due.wait()
            self._due = trio.Event()

    def begin_again(self) -> None:
        """We are on another network, or on ours again: nodes may have been given up meanwhile."""
        self._again.set()

    async def _bootstrap_loop(self) -> None:
        await self._needed.wait()
        if self._kept:
            await trio.sleep(PATIENCE)
        while True:
            self._again = trio.Event()
            await self._bootstrap_once()
            await self._again.wait()
            self.dht.remember(self.dht.contacts() or self._kept, trio.current_time())
            self._flush()

    async def _bootstrap_once(self) -> None:
        retry = FIRST_RETRY
        while self.dht.nodes < BUCKET_SIZE:
            async with trio.open_nursery() as nursery:
                for host, port in self._bootstrap:
                    nursery.start_soon(self._add_router, host, port)
            with trio.move_on_after(retry) as rest:
                await self._again.wait()
            if self.dht.nodes:
                break
            retry = min(2 * retry, LONGEST_RETRY) if rest.cancelled_caught else FIRST_RETRY
            self._again = trio.Event()

    async def _add_router(self, host: str, port: int) -> None:
        addresses = await self.addresses_of([(host, port)])
        self.dht.add_routers(addresses, trio.current_time())
        self._flush()
        self._tell_nodes()

    async def addresses_of(self, places: Iterable[Address]) -> list[Address]:
        """The IP addresses of hosts, one of each family; none of those that have no name."""
        found: list[Address] = []
        for host, port in places:
            try:
                places_found = await self._resolve(host, port)
            except TransportError as error:
                log.debug("DHT node %s: %s", host, error)
                continue
            first = dict(reversed(places_found))
            found += [(place[0], place[1]) for place in first.values()]
        return found

    # -- datagrams ----------------------------------------------------------------------------

    def _on_datagram(self, data: memoryview, sender: Address) -> None:
        self._guarded(lambda now: self.dht.receive(bytes(data), sender, now))

    def _guarded(self, act: Callable[[float], None]) -> None:
        """Do something that may have found the first node, and send what it wants to be sent."""
        had_nodes = self.dht.nodes
        try:
            act(trio.current_time())
        except Exception:  # a bug of ours must cost this datagram, not the mount
            log.exception("a bug in the DHT")
        self._flush()
        if not had_nodes and self.dht.nodes:
            self._tell_nodes()

    def _tell_nodes(self) -> None:
        for call in tuple(self.on_nodes):
            call()

    def _flush(self) -> None:
        for datagram, address in self.dht.take_datagrams():
            self._port.send(datagram, address)
        if self.dht.next_time() < self._due_at:
            self._due.set()

    # -- for torrents -------------------------------------------------------------------------

    def search(
        self,
        info_hash: bytes,
        on_peers: OnPeers,
        *,
        announce_port: int | None,
        on_done: Callable[[Search], None],
        routers: Iterable[Address] = (),
        urgent: bool = False,
    ) -> Search:
        """See `protocol.Dht.search`."""
        self.take_part()
        search = self.dht.search(
            info_hash,
            on_peers,
            trio.current_time(),
            announce_port=announce_port,
            on_done=lambda search, now: on_done(search),
            routers=routers,
            urgent=urgent,
        )
        self._flush()
        return search

    async def newest_item(self, key: bytes, salt: bytes, known: Item | None = None) -> Item:
        """The newest item of a publisher (BEP 44), once one is found; the caller has a timeout.

        Who has one (`known`) gets it back when there is no newer one. The newest is put again at
        the nodes that are to keep it, who forget it otherwise: so what a publisher said outlives
        his line (BEP 46 asks for that).
        """
        target = target_of_publisher(key, salt)
        found: list[Item] = [] if known is None else [known]

        def on_item(item: Item) -> None:
            item = replace(item, salt=salt)
            if item.key == key and item not in found and is_genuine(item):
                found.append(item)

        def newest() -> Item:
            return max(found, key=lambda item: item.sequence or 0)

        self.take_part()
        while True:
            done = trio.Event()

            def on_done(search: Search, now: float, done: trio.Event = done) -> None:
                done.set()

            search = self.dht.search_item(
                target,
                on_item,
                trio.current_time(),
                on_done=on_done,
                to_put=newest if known is not None else None,
            )
            self._flush()
            try:
                await done.wait()
            finally:
                search.cancel()
            if found and (search.answers or known is None):
                return newest()
            await trio.sleep(ITEM_RETRY)

    def on_told(self, address: Address) -> None:
        """Somebody says that there is a node at this address (PORT message)."""
        self.take_part()
        self.dht.ping(address, trio.current_time())
        self._flush()

    def take_part(self) -> None:
        """A torrent wants the DHT: from now on we ask others."""
        if not self._needed.is_set():
            self._needed.set()
            self.dht.remember(self._kept, trio.current_time())
            self._flush()

    # -- the file -----------------------------------------------------------------------------

    async def _save_loop(self) -> None:
        while True:
            await trio.sleep(SAVE_EVERY)
            await self._save()

    def _read_kept(self) -> bytes:
        if self._keep is None:
            return b""
        try:
            with self._keep.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return b""
        except OSError as error:
            log.info("cannot read the DHT nodes of the last time: %s", error)
            return b""

    async def _save(self) -> None:
        """Write the file anew, in a thread: a disk that hangs holds up nothing but this."""
        contacts = self.dht.contacts()
        if self._keep is not None and contacts:
            data = pack_kept(contacts, Own(self.port, self.dht.own_ids))
            await trio.to_thread.run_sync(_write, self._keep, data, abandon_on_cancel=True)

    # -- words --------------------------------------------------------------------------------

    def statistics(self) -> DhtStatistics:
        """Everything worth knowing at this moment."""
        tables, answers = self.dht.tables, self.dht.answers
        return DhtStatistics(
            nodes=len(tables.get(False, ())),
            nodes6=len(tables.get(True, ())),
            stored_peers=answers.storage.peers,
            searches=self.dht.searching,
            answered=answers.answered,
            refused=answers.throttle.refused,
            malformed=self.dht.malformed,
            unasked=self.dht.unasked,
        )

    def __repr__(self) -> str:
        return f"<DhtNode {self.dht.nodes} nodes, {self.dht.searching} searches>"


def _write(keep: Path, data: bytes) -> None:
    """Make a file appear whole, or not at all."""
    aside = keep.with_name(f"{keep.name}.{secrets.token_hex(4)}")
    try:
        try:
            aside.write_bytes(data)
            os.replace(aside, keep)
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink()
            raise
    except OSError as error:
        log.info("cannot keep the DHT nodes for the next time: %s", error)
